"""Words of which one is chosen, and widths of bars as people write them."""

import datetime as dt
from typing import Any

import duckdb
import numpy as np
import pytest

import kitelake
from queries.bars.bars import WIDTH_US
from queries.bars.choices import Measure, Width, check, checked_sql, width_of
from queries.errors import QueryError, WidthError
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
    with pytest.raises(QueryError, match=rf"^{name}: got "):
        check(name, np.array(words))


REFUSED = [
    "bars('NSE:INFY', clock := 'moon')",
    "bars('NSE:INFY', sessions := 'moon')",
    "bars('NSE:INFY', label := 'moon')",
    "trades('NSE:INFY', clock := 'moon')",
    "bars('NSE:INFY', width := '3 days')",
]
WIDTHS = ["0 minutes", "-1 minutes", "86401 seconds", "500 milliseconds", None]
"""What is refused of the width in the same way: all that the macro knows of it is this expression."""


@pytest.mark.slow
def test_macros_refuse_what_their_methods_do(line: Line, captured: Captured) -> None:
    line.full("09:15:01.2", INFY, 100, volume=10)
    captured.flush()
    with kitelake.open(captured.root) as lake:
        for said in REFUSED:
            with pytest.raises(QueryError, match=r"(clock|sessions|label|width): got .*, ex"):
                lake.sql(f"FROM {said}").arrow()
    for width in WIDTHS:
        with pytest.raises(duckdb.Error, match=r"width: got .*, expected whole seconds"):
            duckdb.execute(f"SELECT {WIDTH_US} FROM (SELECT $value::VARCHAR AS width)", {"value": width}).fetchall()


def test_trades_refuse_another_clock(line: Line, captured: Captured) -> None:
    captured.flush()
    with kitelake.open(captured.root) as lake, pytest.raises(QueryError, match="clock: got 'moon', expected"):
        lake.trades("NSE:INFY", clock="moon")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("30s", 30), ("1 second", 1), ("90sec", 90), ("1m", 60), ("5min", 300), ("15 minutes", 900), ("1h", 3600),
        ("2 hours", 7200), ("0.5h", 1800), ("1d", 86400), ("1 day", 86400), ("1M", 60),
        (dt.timedelta(minutes=3), 180),
    ],
)  # fmt: skip
def test_widths_of_time(said: str | dt.timedelta, seconds: int) -> None:
    assert width_of(said) == Width(Measure.TIME, seconds * 1_000_000)


@pytest.mark.parametrize(
    ("said", "measure", "size"),
    [
        ("100 ticks", Measure.TICKS, 100),
        ("1t", Measure.TICKS, 1),
        ("50000 volume", Measure.VOLUME, 50_000),
        ("5e4v", Measure.VOLUME, 50_000),
        ("1e7 value", Measure.VALUE, 10_000_000),
    ],
)
def test_widths_of_a_count(said: str, measure: Measure, size: int) -> None:
    assert width_of(said) == Width(measure, size)


@pytest.mark.parametrize(
    "said",
    [
        "", "1", "m", "-1m", "0s", "0.5s", "1.5s", "2d", "25h", "1w", "ten minutes", "0 ticks", "1.5 ticks",
        "1e400 value", None, 5, b"1m",
    ],
)  # fmt: skip
def test_widths_what_is_none_is_said(said: Any) -> None:
    with pytest.raises(WidthError, match=r"^width: got .*expected"):
        width_of(said)
