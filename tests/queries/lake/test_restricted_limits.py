"""What a restricted lake's queries may use, and what the database itself opens, without the gate before it."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from queries.errors import QueryError, QueryTimeoutError, RestrictedError
from queries.lake.lake import SqlLake
from queries.lake.restricted import Limits, lock
from storage import schema
from storage.layout import DataLayout
from tests.support.lake import ToyDecoder
from tests.support.lake_queries import rows
from tests.support.restricted import (
    OUTSIDE,  # noqa: F401 - which a query might find as a name of Python's
    SOURCES,
    STATEMENTS,
    OurLake,
    files_of,
)

ENDLESS = "select sum(hash(a.range * b.range)) from range(1_000_000) a, range(1_000_000) b"


HUGE = [
    "repeat('x', 3000000000)",
    "'x'.repeat(3000000000)",
    "repeat('x'::blob, 3000000000)",
    "repeat([1, 2], 3000000000)",
    "repeat(repeat('x', 10000), 10000)",
    "repeat(mode, 30000000 + seq) from ticks",
    "repeat('x', $n)",
    "lpad('x', 2000000000, '-')",
    "rpad(mode, 2000000000, '-') from ticks",
    "range(300000000)",
    "range(5, 300000000)",
    "range(300000000, 5, -1)",
    "generate_series(1, 300000000, 2)",
    "generate_series(300000000 + seq) from ticks",
    "range(timestamp '2000-01-01', timestamp '2026-01-01', interval 1 second)",
    "generate_series(timestamptz '2000-01-01', timestamptz '2026-01-01', interval 1 second)",
    "list_resize([1], 300000000)",
    "array_resize([1], 300000000, 0)",
    "bitstring('1', 2000000000)",
    "replace(repeat('x', 10000), 'x', repeat('y', 10000))",
    "regexp_replace(repeat('x', 10000), '', repeat('y', 10000), 'g')",
    "regexp_replace(repeat('x', 10000), 'x', repeat('y', 10000))",
    "levenshtein(repeat('x', 10000), repeat('y', 10000))",
    "editdist3(repeat('x', 10000), repeat('y', 10000) || seq) from ticks",
    "damerau_levenshtein(repeat('x', 10000), repeat('y', 10000))",
    "format('{:>2000000000}', 'x')",
    "format('{:>{}}', 'x', 2000000000)",
    "format(a, 1) from (values ('{:2000000000}')) v(a)",
    "printf('%2000000000d', 1)",
    "printf('%*d', 2000000000, 1)",
    "list_reduce(range(40)::varchar[], lambda a, b: a || a)",
    "list_transform(range(9999), lambda x: range(9999))",
    "[range(9999) for x in range(9999)]",
    "system.main.repeat('x', 3000000000)",
]
"""Values that no interrupt would end, and no limit of memory keep."""
DOUBLING = "with recursive a as (select 'x' as s union all select s || s from a) select max(length(s)) from a"
ASKING = """
import json, resource, sys
from queries.errors import RestrictedError
from queries.lake.lake import SqlLake
from queries.lake.restricted import Limits
from tests.support.lake import ToyDecoder

with SqlLake(sys.argv[1], ToyDecoder(), restricted=True, limits=Limits("200MB", 2, 20.0)) as lake:
    lake.sql("select count(*) from ticks").arrow()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = []
    for value in json.loads(sys.argv[2]):
        try:
            lake.sql(f"select {value}", {"n": 3000000000} if "$n" in value else None).arrow()
        except RestrictedError:
            refused.append(value)
    print(json.dumps([refused, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""


class TestSizes:
    @pytest.mark.slow
    def test_a_huge_value_is_refused_before_it_is_made(self, root: Path) -> None:
        asked = subprocess.run(
            [sys.executable, "-c", ASKING, str(root), json.dumps(HUGE)], capture_output=True, text=True, check=True
        )
        refused, grown_kib = json.loads(asked.stdout)
        assert refused == HUGE
        assert grown_kib < 100 << 10

    def test_says_what_is_allowed(self, shut: OurLake) -> None:
        with pytest.raises(RestrictedError, match=r"^a restricted lake makes texts and lists of at most 10,000 bytes"):
            shut.sql("select repeat('x', 10_001)").arrow()
        with pytest.raises(RestrictedError, match=r"^a restricted lake makes texts and lists"):
            shut.sql("select range(seq * 10_001) from ticks").reader().read_all()
        with pytest.raises(RestrictedError, match="function range in a lambda"):
            shut.sql("select list_transform([1], lambda x: range(x))")
        with pytest.raises(RestrictedError, match="widths below 1000"):
            shut.sql("select format('{:1000}', 1)")

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("length(repeat('ab', 5_000))", 10_000),
            ("repeat('ab'::blob, 2)", b"abab"),
            ("repeat([1], 2)", [1, 1]),
            ("repeat(NULL, 2)", None),
            ("lpad('a', 3, '-') || rpad('a', 3, '-')", "--aa--"),
            ("replace('NSE:INFY', 'NSE:', '')", "INFY"),
            ("regexp_replace('NSE:INFY', '^NSE:', '') || regexp_replace('aba', '(a)', '[\\1]', 'g')", "INFY[a]b[a]"),
            ("levenshtein('INFY', 'INFI') + damerau_levenshtein('INFY', 'IFNY') + editdist3('a', 'b')", 3),
            ("regexp_replace('a', 'a', NULL)", None),
            ("range(3) || range(2, 4) || range(5, 1, -2)", [0, 1, 2, 2, 3, 5, 3]),
            ("generate_series(2)", [0, 1, 2]),
            ("len(generate_series(date '2026-11-01', date '2026-11-30', interval 1 day))", 30),
            ("len(range(timestamptz '2026-11-23', timestamptz '2026-11-24', interval 1 minute))", 1440),
            ("list_resize([1], 2) || array_resize([1], 2, 0)", [1, None, 1, 0]),
            ("bitstring('1', 3)::varchar", "001"),
            ("format('{:>6.2f} of {}', 1.5, 2)", "  1.50 of 2"),
            ("printf('%5d', 7)", "    7"),
            ("list_transform([1, 2], lambda x: x * 2)", [2, 4]),
            ("(select count(*) from range(1_000_000))", 1_000_000),
        ],
    )
    def test_others_are_as_ever(self, shut: OurLake, value: str, expected: object) -> None:
        assert rows(shut, f"select {value}") == [(expected,)]


class TestLimits:
    @pytest.mark.slow
    def test_end_a_query(self, root: Path) -> None:
        with SqlLake(root, ToyDecoder(), restricted=True, limits=Limits(seconds=0.2)) as lake:
            for query in (ENDLESS, f"explain analyze {ENDLESS}"):
                with pytest.raises(QueryTimeoutError, match=r"its limit of 0\.2 s"):
                    lake.sql(query, timeout=1000).arrow()
            assert rows(lake, "select count(*) from ticks") == [(6,)]

    @pytest.mark.slow
    def test_bound_memory_without_a_file(self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with SqlLake(root, ToyDecoder(), restricted=True, limits=Limits("50MB", 1)) as lake:
            for query in ("select count(*) from (select distinct hash(range) from range(20_000_000))", DOUBLING):
                with pytest.raises(QueryError, match=r"(?i)memory"):
                    lake.sql(query).arrow()
            assert rows(lake, "select count(*) from ticks") == [(6,)]
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "limits",
        [
            Limits(memory="much"),
            Limits(memory=2_000_000_000),  # type: ignore[arg-type]
            Limits(threads=0),
            Limits(threads="4x"),  # type: ignore[arg-type]
            Limits(threads=1 << 70),
            Limits(seconds=0),
            Limits(seconds=float("nan")),
        ],
    )
    def test_that_cannot_be_kept(self, root: Path, limits: Limits) -> None:
        with pytest.raises(QueryError):
            SqlLake(root, ToyDecoder(), limits=limits)


@contextlib.contextmanager
def locked(root: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        lock(con, [DataLayout(root).table(name) for name in schema.TABLES])
        yield con


@pytest.fixture(scope="module")
def con(root: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """For what is refused."""
    with locked(root) as con:
        yield con


class TestTheDatabaseItself:
    """The second layer, without the first."""

    @pytest.mark.parametrize(
        "source",
        [each for each in SOURCES if any(word in each for word in ("{out}", "OUTSIDE", "passwd", "secret."))],
    )
    def test_reads_nothing_outside(
        self, con: duckdb.DuckDBPyConnection, root: Path, outside: Path, source: str
    ) -> None:
        with pytest.raises(duckdb.Error):
            con.sql(f"from {source}".format(root=root, out=outside)).fetchall()

    @pytest.mark.parametrize("statement", [each for each in STATEMENTS if "{out}" in each or "set " in each])
    def test_writes_nothing_outside(self, root: Path, outside: Path, statement: str) -> None:
        before = files_of(outside)
        with locked(root) as con, contextlib.suppress(duckdb.Error):
            con.execute(statement.format(root=root / "nowhere", out=outside)).fetchall()
        assert files_of(outside) == before

    def test_is_locked(self, con: duckdb.DuckDBPyConnection) -> None:
        for statement in ("set threads = 8", "set enable_external_access = true", "reset lock_configuration"):
            with pytest.raises(duckdb.Error):
                con.execute(statement)
