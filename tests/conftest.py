"""How much the tests do; what several test files compare with; and logs left as they were.

There are two scales, profiles of hypothesis: "default", which `make test` and `make check` run, and "soak", which
`make soak` runs and HYPOTHESIS_PROFILE=soak (or `--hypothesis-profile soak`) chooses. A property that says nothing has
the profile's number of examples. A test that needs another number, of examples or of anything else, takes it from
`tests.support.scaled`: `@settings(max_examples=scaled(10, 200))`, `fuzz(scaled(5_000, 50_000))`. What has no small
scale is marked `soak`, and runs in `make soak` alone.
"""

import contextlib
import gc
import importlib
import logging
import os
import signal
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog

from kitelake.telemetry.logs import CHATTY

# How long an example takes, or drawing one, says how busy the machine is.
PATIENT = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("default", PATIENT, max_examples=12)
hypothesis.settings.register_profile("soak", PATIENT, max_examples=100)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# What is started in the background ignores Ctrl-C, and so would every process that a test starts to press it there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ZONES = ("UTC", "Asia/Kolkata", "America/New_York", "Pacific/Kiritimati")
LOG_LEVEL = logging.getLogger().level
TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the whole system begin first: they mostly wait, and would at the end of a run wait alone."""
    items.sort(key=lambda item: "system" not in item.path.parts)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """What is collected stays until the end: no collection of garbage has to look at it, then or ever after."""
    gc.disable()
    try:
        worker = getattr(session.config, "workerinput", None)
        if worker is not None and session.config.args_source is pytest.Config.ArgsSource.TESTPATHS:
            _import_share(worker)
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def _import_share(worker: dict[str, Any]) -> None:
    """In a worker of pytest-xdist, import its share of the test modules, before all of them are collected.

    In a new checkout there is no bytecode yet: so each module is compiled by one worker, and not by every one. What
    cannot be imported, the collection says.
    """
    for path in sorted(TESTS.rglob("test_*.py"))[int(worker["workerid"][2:]) :: worker["workercount"]]:
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(".".join(path.relative_to(TESTS.parent).with_suffix("").parts))


def pytest_unconfigure() -> None:
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A service in the process of a test sets the logs of the process up, and so would those of the tests after it.

    That of a module may have been set up already, and says more than usual; less than usual was left by another test.
    """
    root = logging.getLogger()
    root.setLevel(min(root.level, LOG_LEVEL))
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def official() -> Any:
    from kiteconnect import KiteTicker

    return KiteTicker("key", "token")


@pytest.fixture(params=ZONES)
def host_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()
