"""A query is given the files of the partitions alone that it asks for, and answers as if it had all."""

import datetime as dt
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from queries.errors import QueryError
from queries.lake import views
from queries.lake.lake import SqlLake
from queries.lake.restricted import RESTRICTED
from tests.support.lake import CRUDE, DAY_NS, INFY, NIFTY_FUT, Feed, ToyDecoder, ToyWriter
from tests.support.lake_queries import STREAM, rows

DAYS = [dt.date(2026, 11, 23) + dt.timedelta(days=ahead) for ahead in range(5)]
COUNTED = "select count(*), sum(last_price) from {} where {}"


def captured(feed: Feed, writer: ToyWriter, segments: int = 3) -> None:
    """So many segments on each of four days, committed, and a fifth day that is partly in the journal."""
    for day in range(len(DAYS)):
        for segment in range(segments):
            price = 100 * day + segment
            for tick in ((INFY, price), (NIFTY_FUT, 7 * price + 5), (CRUDE, 3 * price)):
                feed.now_ns += 1_000_000  # so that the nearest one is one
                feed.tick(tick)
            feed.event("connected")
            feed.order(f"order {price}")
            feed.order("the same")
            feed.roll()
        feed.now_ns += DAY_NS * (day < len(DAYS) - 1)
    writer.commit_all()
    for tick in ((INFY, 900), (NIFTY_FUT, 901)):
        feed.now_ns += 1_000_000
        feed.tick(tick)
    feed.order("the same")
    feed.flush()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("days")
    with Feed(root, STREAM) as feed:
        captured(feed, ToyWriter(root))
        yield root


@pytest.fixture(scope="module")
def choosing(root: Path) -> Iterator[SqlLake]:
    with SqlLake(root, ToyDecoder()) as lake:
        yield lake


@pytest.fixture(scope="module")
def plain(root: Path) -> Iterator[SqlLake]:
    """One that has all files, since there may be anything of the user's in its database."""
    with SqlLake(root, ToyDecoder()) as lake:
        lake.sql("create temp table anything as select 1")
        yield lake


@pytest.fixture(scope="module")
def of_all(plain: SqlLake) -> Callable[[str], pa.Table]:
    """What it gives; each query is asked once."""
    return functools.cache(lambda query: plain.sql(query).arrow())


def files_read(lake: SqlLake, query: str) -> int:
    """How many files of ticks the query was given."""
    return sum(len(each.paths) for each in lake.look().fixed(query).files if each.variable.startswith("ticks_files"))


def answer(lake: SqlLake, query: str) -> list[str]:
    """Its rows, in no order, or its error."""
    try:
        return sorted(map(repr, rows(lake, query)))
    except QueryError as error:
        return [str(error)]


NSE = "one.exchange = 'NSE'"
days = st.sampled_from([*map(str, DAYS), "2026-11-20", "2026-12-01"])
day = (
    days.map(lambda day: f"DATE '{day}'")
    | days.map(repr)
    | st.sampled_from(["current_date", "(select max(date) from events)"])
)
exchange = st.sampled_from(["'NSE'", "'NFO'", "'MCX'", "'BSE'", "upper('nse')"])
operator = st.sampled_from(["=", "<", "<=", ">", ">=", "<>"])
qualifier = st.sampled_from(["one.", "one.", "one.", ""])  # without, most joins are wrong


@st.composite
def conditions(draw: st.DrawFn, depth: int = 2) -> str:
    kind = draw(st.sampled_from(["date", "in", "between", "exchange", "others", *["and", "or", "not"] * (depth > 0)]))
    column = draw(qualifier) + ("exchange" if kind == "exchange" else "date")
    if kind == "date":
        left, right = draw(st.permutations([column, draw(day)]))
        return f"{left} {draw(operator)} {right}"
    if kind == "in":
        return f"{column} in ({', '.join(draw(st.lists(day, min_size=1, max_size=3)))})"
    if kind == "between":
        return f"{column} between {draw(day)} and {draw(day)}"
    if kind == "exchange":
        some = draw(st.lists(exchange, min_size=1, max_size=2))
        return f"{column} in ({', '.join(some)})" if len(some) > 1 else f"{column} = {some[0]}"
    if kind == "others":
        return draw(st.sampled_from(["true", "one.stream = 'x'", "one.received_at > '2026-11-24'", "null"]))
    if kind == "not":
        return f"not ({draw(conditions(depth - 1))})"
    return f" {kind} ".join(f"({each})" for each in draw(st.lists(conditions(depth - 1), min_size=2, max_size=3)))


sources = st.sampled_from(
    [
        "ticks as one", "ticks_all as one", "orders as one", "events as one", "quotes as one", "(from ticks) as one",
        "(from ticks where date > '2026-11-24') as one", "ticks as one join events as other using (date)",
        "ticks as one left join orders as other on one.date = other.date and other.date > '2026-11-24'",
        "orders as other left join ticks as one on one.date = other.date",
        "ticks as one asof join events as other on one.received_at >= other.received_at",
        "events as other asof join ticks as one on other.received_at >= one.received_at",
        "ticks as one anti join (from ticks where date = '2026-11-25') as other using (exchange)",
        "ticks as one, (select 1 as seq)",
    ]
)  # fmt: skip
shapes = st.sampled_from(
    [
        "select count(*), count(distinct one.date) from {source} where {where}",
        "select one.date::varchar, count(*) from {source} where {where} group by all",
        "select one.* exclude (received_at) from {source} where {where} union all "
        "select one.* exclude (received_at) from {source} where {other}",
        "with ours as (select one.date from {source} where {where}) "
        "select date::varchar, count(*) from ours where date > '2026-11-23' group by all",
        "select count(*) from events where date in (select one.date from {source} where {where})",
        "select one.date::varchar, row_number() over (partition by one.date order by one.received_at, one.stream) "
        "from {source} where {where}",
    ]
)


@pytest.mark.slow
@given(shapes, sources, conditions(), conditions())
@example("from {source} where {where}", "events as other asof join ticks as one using (received_at)", NSE, "true")
@example("from {source} where {where}", "events as other asof left join ticks as one using (received_at)", NSE, "true")
@example("from {source} where {where}", "events as other left join ticks as one using (date)", NSE, "true")
@example("from {source} where {where}", "events as other full join ticks as one using (date)", NSE, "true")
@example("from {source} where {where}", "events as other positional join ticks as one", NSE, "true")
@example("from {source} where {where}", "ticks as one positional join events as other", NSE, "true")
def test_answers_are_those_of_all_files(
    choosing: SqlLake, plain: SqlLake, shape: str, source: str, where: str, other: str
) -> None:
    query = shape.format(source=source, where=where, other=other)
    assert answer(choosing, query) == answer(plain, query)


@pytest.mark.parametrize(
    "query",
    [
        "with d as (select DATE '2026-11-24' as today) select count(*) from ticks, d where ticks.date = today",
        "select count(*) from (select DATE '2026-11-24' as \"Current_Date\", * from ticks where date = current_date)",
        "from (values (DATE '2026-11-24')) v(today) where exists (from ticks where date = today)",
        "select count(*) from ticks, unnest([{'today': DATE '2026-11-24'}]) u(v), lateral (select unnest(v)) "
        "where ticks.date = today",
        "from histogram(ticks, last_price)",
        "from histogram_values('Ticks', last_price)",
    ],
)
def test_what_only_looks_like_today_or_names_a_table_as_an_argument(
    choosing: SqlLake, plain: SqlLake, query: str
) -> None:
    assert answer(choosing, query) == answer(plain, query)


def test_todays_files_are_chosen_by_a_word(choosing: SqlLake) -> None:
    assert files_read(choosing, "from ticks where date < current_date - 0") == 45
    for query in ("from ticks where date = today()", "with t as (from ticks where date = current_date) from t"):
        assert files_read(choosing, query) < 45


def test_duckdb_has_no_other_macros_that_read_a_table_by_its_name() -> None:
    """See queries.partitions."""
    with duckdb.connect() as con:
        found = con.execute(
            "select distinct function_name from duckdb_functions() where function_type = 'table_macro' "
            "and not starts_with(function_name, 'duckdb_') order by all"
        ).fetchall()
    assert found == [("histogram",), ("histogram_values",)]


def test_a_query_is_given_the_files_of_its_partitions(choosing: SqlLake) -> None:
    assert files_read(choosing, "from ticks") == 45
    assert files_read(choosing, "from ticks where date = '2026-11-23'") == 9
    assert files_read(choosing, "from quotes where date = '2026-11-23' and exchange = 'NSE'") == 3
    assert files_read(choosing, "select count(*) as ticks from events") == 3  # there must be some
    nothing = "from ticks where date = '2027-01-01'"
    assert files_read(choosing, nothing) == 3
    assert rows(choosing, nothing) == []


def test_what_users_have_made_may_read_anything(root: Path) -> None:
    """Names in a macro are what the query that calls it has them lead to."""
    with SqlLake(root, ToyDecoder()) as lake:
        everything = rows(lake, "select count(*) from ticks")
        lake.sql("create macro every() as table (select count(*) as found from ticks)")
        asked = "select found from every(), (select 1 from ticks where date = '2026-11-23' limit 1)"
        assert rows(lake, asked) == everything


@pytest.mark.slow
@pytest.mark.parametrize("least", [0, 1000])
def test_partitions_of_many_files_are_the_same(
    root: Path, of_all: Callable[[str], pa.Table], monkeypatch: pytest.MonkeyPatch, least: int
) -> None:
    monkeypatch.setattr(views, "MANY_IN_EACH", least)
    with SqlLake(root, ToyDecoder()) as lake, SqlLake(root, ToyDecoder(), restricted=True, limits=RESTRICTED) as shut:
        for table in ("ticks", "ticks_all", "orders", "events"):
            for where in ("true", "date = '2026-11-27'", "date in ('2026-11-23', '2026-11-27')"):
                query = f"from {table} where {where} order by all"
                expected, found = of_all(query), lake.sql(query)
                assert found.columns == expected.column_names
                assert found.arrow().equals(expected)
                assert shut.sql(query).arrow().equals(expected)
                read = list(lake.look().read([query, query], many=True))
                assert [each.equals(expected) for each in read] == [True, True]


def test_many_small_files_are_read_page_by_page(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the setting, which a restricted lake may not change: it answers as well. A day has one list of three files of
    each of three exchanges, and what was found of its events."""
    setting = "current_setting('disable_parquet_prefetching')"
    asked = f"select {setting}, count(*) from ticks where date = DATE '{DAYS[0]}'"
    with SqlLake(root, ToyDecoder()) as lake, SqlLake(root, ToyDecoder(), restricted=True, limits=RESTRICTED) as shut:
        for least, by_page in ((4, False), (3, True), (4, False)):
            monkeypatch.setattr(views, "SMALL_FILES", least)
            ((said, count),) = rows(lake, asked)
            assert said is by_page
            assert rows(shut, asked.replace(setting, "1")) == [(1, count)]


@pytest.mark.slow
def test_a_result_reads_what_was_there_when_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "CHOICES", 2)
    with Feed(tmp_path, STREAM) as feed, SqlLake(tmp_path, ToyDecoder()) as lake:
        writer = ToyWriter(tmp_path)
        captured(feed, writer, segments=1)
        query = f"select count(*) from ticks where date = '{DAYS[-1]}'"
        before = lake.sql(query)
        feed.tick((INFY, 1))
        feed.roll()
        writer.commit_all()
        assert rows(lake, query) == [(6,)]
        for _ in range(views.CHOICES + 1):  # as many other choices as are kept
            for day in DAYS:
                rows(lake, f"select count(*) from ticks where date <= '{day}' and exchange = 'NSE'")
            feed.tick((INFY, 1))
            feed.roll()
            writer.commit_all()
        assert before.arrow().to_pylist() == [{"count_star()": 5}]
        with duckdb.connect() as con:
            assert con.from_arrow(before.arrow()).fetchall() == [(5,)]


def test_lists_of_files_are_kept_of_partitions_without_a_commit_and_go_with_what_is_read_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "MANY_IN_EACH", 0)
    with Feed(tmp_path, STREAM) as feed, SqlLake(tmp_path, ToyDecoder()) as lake:
        writer = ToyWriter(tmp_path)
        captured(feed, writer, segments=1)
        feed.roll()
        writer.commit_all()

        def lists() -> set[str]:
            """Of ticks, those that the user's connection was given."""
            lake.sql("from ticks order by all").arrow()
            found = rows(lake, "select name from duckdb_variables() where starts_with(name, 'ticks_files')")
            return {str(name) for (name,) in found}

        before = lists()
        assert len(before) == 3 * len(DAYS)
        for _ in range(3):
            feed.tick((INFY, 1))
            feed.roll()
            writer.commit_all()
            after = lists()
            assert len(after - before) == len(before - after) == 1
            before = after
