"""A restricted lake: what it refuses, that it reads nothing outside and writes nothing, and that analysis works."""

from pathlib import Path

import duckdb
import pytest

from queries.errors import QueryError, RestrictedError
from queries.lake.lake import SqlLake
from queries.lake.restricted import REFUSED_FUNCTIONS
from tests.support.lake import CRUDE, INFY, Feed, ToyDecoder, ToyWriter
from tests.support.lake_queries import STREAM, TICKS, rows
from tests.support.restricted import AROUND, EXPRESSIONS, SOURCES, STATEMENTS, OurLake, files_of


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
    for made in ("1::variant", "try_cast('[1]'::json as struct(a variant[]))", "variant '1'"):
        with pytest.raises(RestrictedError, match="the type VARIANT; in a restricted lake use JSON"):
            shut.sql(f"select {made}")
    with pytest.raises(RestrictedError, match="the function variant_typeof"):
        shut.sql("select variant_typeof(1)")
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


def test_volatile_functions_are_known() -> None:
    """Whatever a newer DuckDB has beside these has to be looked at."""
    harmless = {
        *("current_connection_id", "current_query", "current_query_id", "current_transaction_id"),
        *("error", "gen_random_uuid", "random", "uuid", "uuidv4", "uuidv7"),
    }
    query = "select distinct function_name from duckdb_functions() where stability = 'VOLATILE'"
    found = duckdb.execute(query).fetchall()
    assert {name for (name,) in found} <= REFUSED_FUNCTIONS | harmless
