"""What queries ask of tables, by DuckDB's own parse trees."""

import datetime as dt
import json

import duckdb
import pytest

from queries.partitions import EVERYTHING, Asked, asked_of, chosen

TODAY = dt.date(2026, 11, 13)
COLUMNS = ("date", "exchange")
PARTITIONS = [(f"2026-11-{day}", exchange) for day in range(10, 16) for exchange in ("MCX", "NFO", "NSE")]
EVERY_DAY = [10, 11, 12, 13, 14, 15]


def asked(query: str, params: object = None) -> dict[str, Asked]:
    ((text,),) = duckdb.execute("SELECT json_serialize_sql($query::VARCHAR)", {"query": query}).fetchall()
    return asked_of(json.loads(text)["statements"][0], {"ticks", "events"}, params, TODAY)


def days(query: str, params: object = None, name: str = "ticks") -> list[int]:
    """The days of which the query asks for rows of NSE."""
    found = chosen(asked(query, params)[name], COLUMNS, PARTITIONS)
    return [int(day[-2:]) for day, exchange in found if exchange == "NSE"]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("date = '2026-11-12'", [12]),
        ("DATE = date '2026-11-12'", [12]),
        ("'2026-11-12'::date = ticks.date", [12]),
        ("date in ('2026-11-12', DATE '2026-11-14')", [12, 14]),
        ("date between '2026-11-12' and '2026-11-13'", [12, 13]),
        ("date >= '2026-11-14'", [14, 15]),
        ("'2026-11-14' <= date", [14, 15]),
        ("date <= '2026-11-11' and date >= '2026-11-11' and last_price > 3", [11]),
        ("date < '2026-11-12'", [10, 11, 12]),  # wider than it need be, and never narrower
        ("date = current_date", [12, 13, 14]),
        ("date > today()", [12, 13, 14, 15]),
        ("exchange = 'NSE' and date = '2026-11-12'", [12]),
        ("exchange in ('NFO', 'MCX') and date = '2026-11-12'", []),
        ("date = '2026-11-20'", []),
        # What is said in another way is not known.
        ("date = '2026-11-12' or last_price > 3", EVERY_DAY),
        ("not date = '2026-11-12'", EVERY_DAY),
        ("date <> '2026-11-12'", EVERY_DAY),
        ("date = '2026-11-12 09:15'", EVERY_DAY),
        ("date = '2026-11-5'", EVERY_DAY),
        ("date = 'yesterday'", EVERY_DAY),
        ("date in ('2026-11-12', (select max(date) from events))", EVERY_DAY),
        ("date = current_date - 1", EVERY_DAY),
        ("date::varchar = '2026-11-12'", EVERY_DAY),
        ("date = timestamp '2026-11-12 00:00'", EVERY_DAY),
        ("symbol = '2026-11-12'", EVERY_DAY),
        ("other.date = '2026-11-12'", EVERY_DAY),
        ("exchange = date '2026-11-12'", EVERY_DAY),
        ("exists (select 1 where date = '2026-11-12')", EVERY_DAY),
    ],
)
def test_of_a_condition(condition: str, expected: list[int]) -> None:
    assert days(f"select last_price from ticks where {condition}") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from ticks where date = '2026-11-12' union all from ticks where date = '2026-11-14'", [12, 14]),
        ("with ours as (from ticks where date = '2026-11-12') from ours where date = '2026-11-11'", [12]),
        ("from (select * from ticks where date = '2026-11-12') as one", [12]),
        ("from (select * from ticks) as one where date = '2026-11-12'", EVERY_DAY),
        ("from ticks as t join events as e using (date) where date = '2026-11-12'", [12]),
        ("from ticks as t join events as e using (stream) where t.date = '2026-11-12'", [12]),
        ("from ticks as t join events as e using (stream) where e.date = '2026-11-12'", EVERY_DAY),
        ("from ticks as t join events as e using (stream) where date = '2026-11-12'", EVERY_DAY),
        ("from ticks as t, events as e where t.date = '2026-11-12'", [12]),
        ("from ticks as t left join events as e using (stream) where t.date = '2026-11-12'", [12]),
        ("from events as e left join ticks as t using (stream) where t.date = '2026-11-12'", EVERY_DAY),
        ("from ticks as t full join events as e using (stream) where t.date = '2026-11-12'", EVERY_DAY),
        ("from ticks as t semi join events as e using (stream) where t.date = '2026-11-12'", [12]),
        ("from ticks as t asof join events as e using (received_at) where t.date = '2026-11-12'", [12]),
        ("from events as e asof join ticks as t using (received_at) where t.date = '2026-11-12'", EVERY_DAY),
        ("from ticks as t positional join events as e where t.date = '2026-11-12'", EVERY_DAY),
        ("from ticks tablesample 50% where date = '2026-11-12'", EVERY_DAY),
        ("from ticks where date = '2026-11-12' using sample 3 rows", EVERY_DAY),
        ("from ticks as t(other, date) where date = '2026-11-12'", EVERY_DAY),
        ("from main.ticks where date = '2026-11-12'", EVERY_DAY),
        ("select (select max(date) from ticks) from ticks where date = '2026-11-12'", EVERY_DAY),
        ("from events where date = '2026-11-12' and 3 in (select seq from ticks where date = '2026-11-13')", [13]),
        ("with ticks as (select 1) from ticks where date = '2026-11-12'", EVERY_DAY),
        ("from (summarize ticks)", EVERY_DAY),
        ("select count(*) from ticks group by date having date = '2026-11-12'", EVERY_DAY),
        ("from ticks qualify date = '2026-11-12' and row_number() over () = 1", EVERY_DAY),
    ],
)  # fmt: skip
def test_of_a_query(text: str, expected: list[int]) -> None:
    assert days(text) == expected


def test_parameters_are_by_name_or_by_place() -> None:
    assert days("from ticks where date = $day", {"day": dt.date(2026, 11, 12)}) == [12]
    assert days("from ticks where stream = ? and date = ?", ["2026-11-10", "2026-11-12"]) == [12]
    assert days("from ticks where date = $2 and stream = $1", ("2026-11-10", "2026-11-12")) == [12]
    for other in (dt.datetime(2026, 11, 12, tzinfo=dt.UTC), None, 20261112):
        assert days("from ticks where date = $day", {"day": other}) == EVERY_DAY


def test_nothing_is_asked_of_what_is_not_read() -> None:
    assert asked("select last_price as events from ticks").keys() == {"ticks"}
    assert asked("select last_price from ticks")["ticks"] == EVERYTHING


def test_of_a_table_without_a_column_nothing_is_known_of_it() -> None:
    found = asked("from events where date = '2026-11-12' and exchange = 'NSE'")["events"]
    assert chosen(found, ("date",), [("2026-11-11",), ("2026-11-12",)]) == (("2026-11-12",),)
