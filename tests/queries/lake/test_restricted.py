"""A restricted lake: what it refuses, that it reads nothing outside and writes nothing, and that analysis works."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queries.errors import QueryError, QueryTimeoutError, RestrictedError
from queries.lake.lake import SqlLake
from queries.lake.restricted import REFUSED_FUNCTIONS, RESTRICTED, Limits, lock
from queries.lake.state import Macro, Relation
from storage import schema
from storage.layout import DataLayout
from tests.support.lake import CRUDE, DAY_NS, INFY, NIFTY_FUT, Feed, ToyDecoder, ToyWriter
from tests.support.lake_queries import STREAM, TICKS, rows

SECRET = "the secret of another folder"
ENDLESS = "select sum(hash(a.range * b.range)) from range(1_000_000) a, range(1_000_000) b"
OUTSIDE = pa.table({"secret": [SECRET]})
"""A table that a query might find as a name of Python's."""


class OurLake(SqlLake):
    """With a relation of rows, and a macro whose body names a table."""

    relations: ClassVar = (
        *SqlLake.relations,
        Relation("answers", lambda _: pa.table({"answer": [42], "symbol": ["NSE:INFY"]})),
    )
    macros: ClassVar = (
        Macro("above", [("price", "SELECT seq, last_price FROM ticks WHERE last_price > price ORDER BY seq")]),
    )


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the secret in every form."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret.csv").write_text(f"secret\n{SECRET}\n")
    (folder / "secret.json").write_text(f'{{"secret": "{SECRET}"}}\n')
    with duckdb.connect() as con:
        con.execute(f"copy (select '{SECRET}' as secret) to '{folder}/secret.parquet'")
    with duckdb.connect(folder / "secret.db") as con:
        con.execute(f"create table secrets as select '{SECRET}' as secret")
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, outside: Path) -> Iterator[Path]:
    """Six ticks, half of them committed, and links in the tables' folders that lead out."""
    root = tmp_path_factory.mktemp("lake") / "data"
    with Feed(root, STREAM) as feed:
        feed.tick((INFY, 150_000), (NIFTY_FUT, 2_600_005), (CRUDE, 500_000))
        feed.event("connected")
        feed.roll()
        ToyWriter(root).commit_all()
        feed.now_ns += DAY_NS
        feed.tick((INFY, 150_005), (NIFTY_FUT, 2_600_010), (CRUDE, 500_100))
        feed.flush()
        for name in ("secret.csv", "secret.parquet", "secret.db"):
            (root / "ticks" / name).symlink_to(outside / name)
        (root / "ticks" / "out").symlink_to(outside, target_is_directory=True)
        yield root


@pytest.fixture(scope="module")
def shut(root: Path) -> Iterator[OurLake]:
    with OurLake(root, ToyDecoder(), restricted=True, limits=RESTRICTED) as lake:
        yield lake


def files_of(*folders: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for folder in folders for path in folder.rglob("*")
    }


STATEMENTS = [
    "copy (select 1) to '{out}/new.csv'",
    "copy (select 1) to '{root}/ticks/new.csv' (use_tmp_file false)",
    "copy ticks to '{out}/secret.parquet' (format parquet, use_tmp_file false)",
    "copy (select 1 as a) to '{out}/new' (format parquet, partition_by (a))",
    "attach '{out}/secret.db' as other",
    "attach '{root}/ticks/secret.db' as other (read_only)",
    "export database '{out}/new'",
    "import database '{out}'",
    "install httpfs",
    "load httpfs",
    "force install spatial from community",
    "set memory_limit = '100GB'",
    "set variable x = 1",
    "reset lock_configuration",
    "use memory.kitelake",
    "pragma version",
    "pragma enable_profiling",
    "call pragma_version()",
    "call enable_logging(storage_path = '{out}/new')",
    "checkpoint",
    "vacuum",
    "begin",
    "create table mine as from ticks",
    "create or replace view ticks as select 1",
    "create macro getenv2(a) as a",
    "create secret (type s3)",
    "drop view ticks",
    "insert into ticks select 1",
    "prepare p as select 1",
    "execute p",
    "explain copy (select 1) to '{out}/new.csv'",
    "explain analyze copy (select 1) to '{out}/new.csv'",
    "explain analyze create table mine as from ticks",
    "select 1; select 2",
    "select 1; copy (select 1) to '{out}/new.csv'",
    "pivot ticks on exchange using count(*)",
    "with x as (insert into ticks select 1 returning *) from x",
    "show databases",
    "show variables",
    "show all tables",
    "describe '{out}/secret.csv'",
    "summarize '{out}/secret.parquet'",
]
SOURCES = [
    "read_text('/etc/passwd')",
    "read_text('{out}/secret.csv')",
    "read_blob('{out}/secret.csv')",
    "read_csv('{out}/secret.csv')",
    "read_json('{out}/secret.json')",
    "read_parquet('{out}/secret.parquet')",
    "read_parquet('{root}/ticks/secret.parquet')",
    "read_csv('{root}/ticks/out/secret.csv')",
    "parquet_scan(['{out}/secret.parquet'])",
    "parquet_metadata('{out}/secret.parquet')",
    "read_duckdb('{out}/secret.db')",
    "sniff_csv('{out}/secret.csv')",
    "glob('{out}/*')",
    "glob('{root}/*')",
    "'{out}/secret.csv'",
    '"{out}/secret.parquet"',
    "'{root}/ticks/secret.csv'",
    "OUTSIDE",
    "outside",
    "query('select 1')",
    "query_table('{out}/secret.csv')",
    "query_table('ticks')",
    "json_execute_serialized_sql(json_serialize_sql('select 1'))",
    "histogram('{out}/secret.csv', secret)",
    "python_arrow_scan(1, 2, 3)",
    "kitelake.ticks_1",
    "information_schema.tables",
    "pg_catalog.pg_class",
    "sqlite_master",
    "duckdb_settings()",
    "duckdb_views()",
    "duckdb_variables()",
    "duckdb_secrets()",
    "pragma_version()",
    "main.read_text('/etc/passwd')",
    "system.main.read_text('/etc/passwd')",
]
EXPRESSIONS = [
    "getenv('HOME')",
    "'HOME'.getenv()",
    "getvariable('ticks_files_1')",
    "GetVariable('x')",
    "current_setting('allowed_directories')",
    "write_log('x')",
    "json_serialize_plan('select 1')",
    "nextval('x')",
    "system.main.getvariable('x')",
    "pg_get_viewdef(1)",
    "__internal_compress_string_ubigint('x')",
    "sleep_ms(1)",
    "list_transform([1], lambda x: getenv('HOME'))",
    "(select count(*) from read_text('/etc/passwd'))",
    "exists (from '{out}/secret.csv')",
]
AROUND = [
    "from {0}",
    "select * from ticks where seq in (select 1 from {0})",
    "with a as (from {0}) from a",
    "with recursive a as (select 1 as i union all select i + 1 from a, {0} where i < 3) from a",
    "select (select count(*) from {0})",
    "from ticks, lateral (from {0})",
    "from ticks a left join {0} b on true",
    "from above((select count(*) from {0}))",
    "select 1 union all select 2 from {0}",
    "from (pivot {0} on a in (1) using count(*))",
    "explain from {0}",
    "explain analyze select * from {0}",
    "explain (analyze, format json) from {0}",
    "describe from {0}",
    "summarize from {0}",
    "select list_transform([1], lambda x: (select count(*) from {0}))",
    "select count(*) over (order by (select 1 from {0})) from ticks limit (select 1 from {0})",
    "from ticks qualify row_number() over () = (select 1 from {0})",
    "from (values ((select 1 from {0})))",
    "from unnest([(select 1 from {0})])",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_refuses_what_is_no_question(shut: OurLake, root: Path, outside: Path, statement: str) -> None:
    before = files_of(root, outside)
    with pytest.raises(RestrictedError):
        shut.sql(statement.format(root=root, out=outside))
    assert files_of(root, outside) == before


@pytest.mark.parametrize("source", SOURCES)
def test_refuses_what_is_not_ours_wherever_it_stands(shut: OurLake, root: Path, outside: Path, source: str) -> None:
    refused = 0
    for around in AROUND:
        with pytest.raises(QueryError) as caught:
            shut.sql(around.format(source).format(root=root, out=outside)).arrow()
        assert isinstance(caught.value, RestrictedError) or "Parser Error" in str(caught.value), around
        refused += isinstance(caught.value, RestrictedError)
    assert refused >= len(AROUND) - 3  # the others are no SQL with this name in them


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_refuses_functions_that_reach_outside(shut: OurLake, outside: Path, expression: str) -> None:
    for around in ("select {0}", "from above({0})", "from ticks order by {0}", "from range({0})", "explain select {0}"):
        with pytest.raises(RestrictedError):
            shut.sql(around.format(expression).format(out=outside))


def test_a_name_of_a_cte_is_one_only_where_it_is_in_scope(shut: OurLake, outside: Path) -> None:
    path = f'"{outside}/secret.csv"'
    for query in (
        f"with {path} as (from {path}) from {path}",
        f"from (with {path} as (select 1) from {path}), {path}",
        f"with a as (from {path}), {path} as (select 1) from a",
        f"with recursive {path} as (select * from {path} union all select 1 from {path}) from {path}",
    ):
        with pytest.raises(RestrictedError, match="as a table"):
            shut.sql(query)
    assert rows(shut, f"with {path} as (select 1) from {path}") == [(1,)]


def test_says_what_is_allowed(shut: OurLake) -> None:
    with pytest.raises(RestrictedError, match=r"got COPY; .*one SELECT, DESCRIBE, SUMMARIZE or EXPLAIN"):
        shut.sql("copy ticks to 'x.csv'")
    with pytest.raises(RestrictedError, match=r"got 'x.csv' as a table; a restricted lake has answers, depth, events"):
        shut.sql("from 'x.csv'")
    with pytest.raises(RestrictedError, match=r"got glob\(…\) as a table; of functions .* above, generate_series"):
        shut.sql("from glob('*')")
    with pytest.raises(RestrictedError, match=r"PIVOT without its values"):
        shut.sql("pivot ticks on exchange using count(*)")
    with pytest.raises(RestrictedError, match="not restricted"):
        shut.connect()
    with pytest.raises(RestrictedError, match=r"take arrow\(\)"):
        shut.sql("select 1").relation  # noqa: B018
    with pytest.raises(RestrictedError, match="function getvariable"):
        shut.sql("select 1").project("getvariable('x')")
    with pytest.raises(RestrictedError, match="as a table"):
        shut.look().sql("from 'x.csv'")
    with pytest.raises(QueryError, match="syntax error"):
        shut.sql("selec 1")
    with pytest.raises(QueryError, match="the query is empty"):
        shut.sql(" -- nothing")
    with pytest.raises(QueryError):
        shut.sql("select " + "(" * 5000 + "1" + ")" * 5000)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select count(*) from ticks -- all", [(6,)]),
        ("select count(*) from main.Ticks a join memory.main.ticks b using (stream, seq);", [(6,)]),
        ("with t as (from ticks), u as (from t) select count(*) from u", [(6,)]),
        (
            "with recursive n as (select 1 as i union all select i + 1 from n where i < 3) select sum(i)::int from n",
            [(6,)],
        ),
        ("select seq from ticks qualify row_number() over (partition by symbol order by seq desc) = 1", [(5,)]),
        ("select lag(seq) over w from ticks window w as (order by seq) order by 1 limit 1", [(0,)]),
        ("select list_transform([1, 2], lambda x: x + 1)", [([2, 3],)]),
        ("select unnest([1, 2]) as a order by a", [(1,), (2,)]),
        ("select b from (values (1)) v(a), lateral (select a + 1 as b)", [(2,)]),
        ("select answer, (select count(*) from events) from answers", [(42, 1)]),
        ("select seq from above(5000.5)", [(1,), (4,), (5,)]),
        ("select count(*) from range(3) a, generate_series(1, 2) b", [(6,)]),
        ("select count(*) from ticks a asof join ticks b on a.received_at >= b.received_at", [(6,)]),
        ("select \"NSE\" from (pivot ticks on exchange in ('NSE') using count(*) group by mode)", [(2,)]),
        ("select exchange from ticks group by rollup (exchange) having count(*) = 6", [(None,)]),
        ("select min(received_at)::varchar from ticks", [("2026-11-23 09:15:00+05:30",)]),
        ("select count(*) from (from quotes union all by name from depth)", [(0,)]),
        ("from (describe ticks) select column_name limit 1", [("date",)]),
        ("from (summarize select 1 as a) select min", [("1",)]),
        ("select count(*) > 5 from (show tables)", [(True,)]),
        ("select key from json_each('{\"a\": 1}')", [("a",)]),
        ("select columns('^seq$') from ticks where seq = 1", [(1,)]),
        ("table answers", [(42, "NSE:INFY")]),
    ],
)
def test_answers_questions(shut: OurLake, query: str, expected: list[tuple[object, ...]]) -> None:
    assert rows(shut, query) == expected


def test_shows_one_state_also_while_it_grows(tmp_path: Path) -> None:
    with Feed(tmp_path, STREAM) as feed, OurLake(tmp_path, ToyDecoder(), restricted=True) as lake:
        for _ in range(2):
            feed.tick((INFY, 1), (CRUDE, 2))
            feed.flush()
            early = lake.sql(TICKS)
            expected = list(feed.ticks)
            feed.roll()
            ToyWriter(tmp_path).commit_all()
            assert rows(lake, TICKS) == feed.ticks
            assert early.reader().read_all().num_rows == len(expected)


@pytest.mark.parametrize("query", ["explain {}", "EXPLAIN ANALYZE {}", "/* so */ explain (analyze, format json) {}"])
def test_explains(shut: OurLake, query: str) -> None:
    for text in ("select count(*) from ticks", "(select 1)", "with a as (from answers) from a", "from above(1)"):
        assert rows(shut, query.format(text))


def test_takes_parameters_and_every_form(shut: OurLake) -> None:
    result = shut.sql("select seq from ticks where seq < $n order by seq", {"n": 2})
    assert result.arrow()["seq"].to_pylist() == list(result.numpy()["seq"]) == list(result.df()["seq"]) == [0, 1]
    assert [frame["seq"].to_list() for frame in result.pl(count=1)] == [[0], [1]]
    assert result.reader().read_all().num_rows == result.count() == 2
    assert "seq" in repr(result)


@pytest.mark.parametrize("name", ["a=b", "[x]"])
def test_reads_a_folder_with_a_strange_name(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    with Feed(root, STREAM) as feed, SqlLake(root, ToyDecoder(), restricted=True) as lake:
        feed.tick((INFY, 1))
        feed.roll()
        ToyWriter(root).commit_all()
        assert rows(lake, TICKS) == feed.ticks


def test_a_folder_of_a_table_that_leads_out_is_not_read(tmp_path: Path) -> None:
    with Feed(tmp_path / "data", STREAM) as feed:
        feed.tick((INFY, 1))
        feed.roll()
        ToyWriter(tmp_path / "data").commit_all()
        (day,) = (tmp_path / "data" / "ticks").glob("date=*")
        day.rename(tmp_path / "moved")
        day.symlink_to(tmp_path / "moved", target_is_directory=True)
        with SqlLake(tmp_path / "data", ToyDecoder()) as lake:
            assert rows(lake, TICKS) == feed.ticks
        with (
            SqlLake(tmp_path / "data", ToyDecoder(), restricted=True) as lake,
            pytest.raises(QueryError, match="disabled"),
        ):
            rows(lake, TICKS)


class TestLimits:
    def test_end_a_query(self, root: Path) -> None:
        with SqlLake(root, ToyDecoder(), restricted=True, limits=Limits(seconds=0.2)) as lake:
            for query in (ENDLESS, f"explain analyze {ENDLESS}"):
                with pytest.raises(QueryTimeoutError, match=r"its limit of 0\.2 s"):
                    lake.sql(query, timeout=1000).arrow()
            assert rows(lake, "select count(*) from ticks") == [(6,)]

    def test_bound_memory_without_a_file(self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with SqlLake(root, ToyDecoder(), restricted=True, limits=Limits("50MB", 1)) as lake:
            with pytest.raises(QueryError, match=r"(?i)memory"):
                lake.sql("select count(*) from (select distinct hash(range) from range(20_000_000))").arrow()
            assert rows(lake, "select count(*) from ticks") == [(6,)]
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "limits", [Limits(memory="much"), Limits(threads=0), Limits(seconds=0), Limits(seconds=float("nan"))]
    )
    def test_that_cannot_be_kept(self, root: Path, limits: Limits) -> None:
        with pytest.raises(QueryError):
            SqlLake(root, ToyDecoder(), limits=limits)


class TestTheDatabaseItself:
    """The second layer, without the first."""

    @pytest.fixture
    def con(self, root: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        with duckdb.connect() as con:
            lock(con, [DataLayout(root).table(name) for name in schema.TABLES])
            yield con

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
    def test_writes_nothing_outside(
        self, con: duckdb.DuckDBPyConnection, root: Path, outside: Path, statement: str
    ) -> None:
        before = files_of(outside)
        with contextlib.suppress(duckdb.Error):
            con.execute(statement.format(root=root / "nowhere", out=outside)).fetchall()
        assert files_of(outside) == before

    def test_is_locked(self, con: duckdb.DuckDBPyConnection) -> None:
        for statement in ("set threads = 8", "set enable_external_access = true", "reset lock_configuration"):
            with pytest.raises(duckdb.Error):
                con.execute(statement)


def test_volatile_functions_are_known() -> None:
    """Whatever a newer DuckDB has beside these has to be looked at."""
    harmless = {
        *("current_connection_id", "current_query", "current_query_id", "current_transaction_id"),
        *("error", "gen_random_uuid", "random", "uuid", "uuidv4", "uuidv7"),
    }
    query = "select distinct function_name from duckdb_functions() where stability = 'VOLATILE'"
    found = duckdb.execute(query).fetchall()
    assert {name for (name,) in found} <= REFUSED_FUNCTIONS | harmless


PIECES = st.sampled_from([*SOURCES, "ticks", "answers", "range(3)", "a", "(from a)"])
WHOLE = st.one_of(
    st.sampled_from(STATEMENTS), PIECES.map("from {}".format), st.sampled_from(EXPRESSIONS).map("select {}".format)
)
NASTY = st.recursive(
    WHOLE,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(AROUND), PIECES).map(lambda pair: pair[0].replace("{0}", pair[1])),
        st.tuples(st.sampled_from(AROUND), inner).map(lambda pair: pair[0].replace("{0}", f"({pair[1]})")),
        st.tuples(inner, inner).map(lambda pair: f"{pair[0]}; {pair[1]}"),
        st.tuples(PIECES, inner).map(lambda pair: f"with a as ({pair[1]}) select * from {pair[0]}"),
        inner.map(lambda text: f"explain analyze {text}"),
        inner.map(lambda text: f"prepare p as {text}"),
    ),
    max_leaves=6,
)


@settings(max_examples=1000, deadline=None)
@given(query=NASTY)
def test_a_thousand_statements_change_nothing_and_see_nothing(
    shut: OurLake, root: Path, outside: Path, query: str
) -> None:
    text = query.replace("{root}", str(root)).replace("{out}", str(outside))
    before = files_of(root, outside)
    try:
        shown = str(shut.sql(text, timeout=5.0).arrow().slice(0, 100).to_pylist())
    except QueryError:
        shown = ""
    assert SECRET not in shown
    assert "root:" not in shown
    assert files_of(root, outside) == before
