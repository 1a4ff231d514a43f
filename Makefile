# Needs Python 3.11 or newer, make and a network for the first run; everything else goes into .venv.
.DEFAULT_GOAL := help
PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3 python,\
	$(shell $(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)))
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
FRAMEWORKS := backtesting vectorbt bt backtrader nautilus hftbacktest
PEERS := client picows
CODE := storage ingest queries kitelake tests benchmarks examples docs

# The tests' bytecode is kept: without it every worker compiles all of them, and every child process of theirs the code.
unexport PYTHONDONTWRITEBYTECODE
# Two workers more than there are processors: many tests mostly wait.
PYTEST = $(BIN)/python -m pytest -q -n $$(($$(getconf _NPROCESSORS_ONLN) + 2)) --dist worksteal --durations=10

# The static checks run beside the tests, and say what they found below them. Either's failure is the target's.
define tests_beside_static
@began=$$(date +%s); log=$$(mktemp); trap 'kill $$checks 2>/dev/null; rm -f $$log' EXIT; trap 'exit 130' INT TERM; \
	$(MAKE) --no-print-directory static >$$log 2>&1 & checks=$$!; \
	$(PYTEST) $(1); tests=$$?; \
	wait $$checks; static=$$?; checks=; cat $$log; \
	echo "tests $$([ $$tests = 0 ] && echo passed || echo failed)," \
		"static checks $$([ $$static = 0 ] && echo passed || echo failed), $$(($$(date +%s) - began)) s in all"; \
	[ $$tests = 0 ] && [ $$static = 0 ]
endef

.PHONY: help demo run test check static soak engines adapters clients bench docs lock clean

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: .venv/run.stamp ## capture a simulated market for 30 seconds, account for every tick, query it
	@$(BIN)/kitelake demo

run: .venv/run.stamp ## the service as config.yaml says, until Ctrl-C
	@$(BIN)/kitelake run

test: .venv/dev.stamp ## every check and every test
	$(call tests_beside_static,-m "not soak")

check: .venv/dev.stamp ## the quick checks: format, lint, types, fast tests
	$(call tests_beside_static,-m "not slow and not soak")

static: .venv/dev.stamp
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy

soak: .venv/dev.stamp engines adapters clients ## the long tests: kills, fuzz, load, other engines; and every other test at full scale
	HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest -m soak --timeout 3600
	HYPOTHESIS_PROFILE=soak $(PYTEST) -m "not soak" --timeout 3600

engines: .venv-engines/stamp ## Spark, Dask, Polars and pandas for the soak tests, in .venv-engines (Spark needs Java 17)

adapters: .venv/run.stamp ## backtest frameworks run over captured data, each in an environment of its own in .venv-adapters
	@$(BIN)/python -m tests.support.frameworks

clients: .venv/dev.stamp ## the broker's JavaScript and Go clients against our servers (needs Node.js and Go)
	@$(BIN)/python -m tests.support.clients

bench: .venv/dev.stamp ## every benchmark and its peers, into benchmarks/RESULTS.md (BENCH="--quick": seconds each)
	@$(BIN)/python -m benchmarks.suite $(BENCH)

docs: .venv/dev.stamp ## write docs/data-dictionary.md anew from the schema, and draw docs/pictures
	$(BIN)/python -m docs.generate

lock: ## resolve the dependencies anew (needs uv)
	uv lock --quiet --upgrade
	uv export --quiet --no-header --no-emit-project --format requirements-txt --no-dev --group build -o requirements/run.txt
	uv export --quiet --no-header --no-emit-project --format requirements-txt --dev -o requirements/dev.txt
	uv export --quiet --no-header --no-emit-project --format requirements-txt --only-group engines -o requirements/engines.txt
	for name in $(PEERS); do uv export --quiet --no-header --no-emit-project --format requirements-txt \
		--only-group $$name -o requirements/peers/$$name.txt || exit 1; done
	for name in $(FRAMEWORKS); do uv export --quiet --no-header --no-emit-project --format requirements-txt --no-dev \
		--group test --extra $$name -o requirements/adapters/$$name.txt || exit 1; done

clean: ## remove the virtual environment and all caches; captured data stays
	rm -rf .venv .venv-engines .venv-adapters .venv-peers .clients .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Kitelake needs Python 3.11 or newer: none of python3.13 … python is." >&2; exit 2; }
	@echo "Making the virtual environment .venv with $$($(PYTHON) --version) …"
	@$(PYTHON) -m venv .venv

.venv/run.stamp: requirements/run.txt pyproject.toml | .venv/bin/python
	@echo "Installing the locked dependencies (the first time takes a minute) …"
	@$(PIP) --require-hashes -r requirements/run.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: requirements/dev.txt .venv/run.stamp
	@echo "Installing what the tests need as well …"
	@$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

.venv-engines/stamp: requirements/engines.txt tests/support/engines.py | .venv/bin/python
	@command -v java >/dev/null || { echo "Spark needs Java 17 or newer: there is no java." >&2; exit 2; }
	@echo "Installing Spark and others into .venv-engines (half a gigabyte the first time) …"
	@.venv/bin/python -m venv .venv-engines
	@.venv-engines/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/engines.txt
	@.venv-engines/bin/python tests/support/engines.py jars 2>.venv-engines/jars.log || { cat .venv-engines/jars.log >&2; exit 1; }
	@touch $@
