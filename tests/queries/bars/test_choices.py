"""Words of which one is chosen."""

import duckdb
import pytest

import kitelake
from queries.bars.choices import check, checked_sql
from queries.errors import QueryError
from tests.support.captured import INFY, Captured, Line


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("clock", ["exchange", "received"]),
        ("sessions", ["continuous", "all"]),
        ("fill", ["none", "null", "previous"]),
        ("label", ["open", "close"]),
    ],
)
def test_are_these_and_no_other(name: str, words: list[str]) -> None:
    value = f"SELECT {checked_sql(name)} FROM (SELECT $value AS {name})"
    for word in words:
        check(name, word)
        assert duckdb.execute(value, {"value": word}).fetchall() == [(word,)]
    for other in ("moon", None):
        with pytest.raises(QueryError, match=rf"^{name}: got .*, expected one of {', '.join(words)}$"):
            check(name, other)
        with pytest.raises(duckdb.Error, match=rf"{name}: got .*, expected one of {', '.join(words)}$"):
            duckdb.execute(value, {"value": other}).fetchall()


@pytest.mark.parametrize(
    "said",
    [
        "bars('NSE:INFY', clock := 'moon')",
        "bars('NSE:INFY', sessions := 'moon')",
        "bars('NSE:INFY', label := 'moon')",
        "trades('NSE:INFY', clock := 'moon')",
        "bars('NSE:INFY', width := '0 minutes')",
        "bars('NSE:INFY', width := '-1 minutes')",
        "bars('NSE:INFY', width := '3 days')",
        "bars('NSE:INFY', width := '500 milliseconds')",
        "bars('NSE:INFY', width := NULL)",
    ],
)
def test_macros_refuse_what_their_methods_do(line: Line, captured: Captured, said: str) -> None:
    line.full("09:15:01.2", INFY, 100, volume=10)
    captured.flush()
    with (
        kitelake.open(captured.root) as lake,
        pytest.raises(QueryError, match=r"(clock|sessions|label|width): got .*, ex"),
    ):
        lake.sql(f"FROM {said}").arrow()


def test_trades_refuse_another_clock(line: Line, captured: Captured) -> None:
    captured.flush()
    with kitelake.open(captured.root) as lake, pytest.raises(QueryError, match="clock: got 'moon', expected"):
        lake.trades("NSE:INFY", clock="moon")  # type: ignore[arg-type]
