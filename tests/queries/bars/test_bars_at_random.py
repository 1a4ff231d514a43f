"""Bars and trades of days at random: the method, the macro and a slow computation of its own say the same."""

import datetime as dt
import math
import tempfile
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import kitelake
from tests.support.captured import INFY, NIFTY_50, NIFTY_FUT, SECOND_US, TINY, Captured, moment, us_of
from tests.support.plain_bars import Asking, Row, bars_of, rows_of, trades_of
from tests.support.random_days import FIRST_DAY, TOKENS, RandomDays
from tests.support.scaled import scaled

pytestmark = pytest.mark.slow

SYMBOLS = {INFY: "NSE:INFY", TINY: "NSE:TINY", NIFTY_50: "NSE:NIFTY 50", NIFTY_FUT: "NFO:NIFTY26NOVFUT"}
CLOSES = {INFY: "15:15", TINY: "15:30", NIFTY_50: "15:30", NIFTY_FUT: "15:40"}
WIDTHS = {"1s": "1 second", "30s": "30 seconds", "1m": "1 minute", "10h": "10 hours", "1d": "1 day"}
NAMES = list(SYMBOLS.values())


def expected_rows(
    captured: Captured, token: int, day: dt.date, clock: str, stop: int | None
) -> tuple[Asking, list[Row]]:
    opens, closes = us_of(day, "09:15"), us_of(day, CLOSES[token])
    asking = Asking(token, us_of(day, "00:00"), opens, closes, clock, stop)
    return asking, rows_of(asking, captured.packets, captured.events)


def same(got: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    for one, other in zip(got, expected, strict=False):
        for name, value in other.items():
            if isinstance(value, float) and math.isnan(value):
                assert one[name] is None, (name, one, other)
            elif isinstance(value, float):
                assert one[name] is not None, (name, one, other)
                assert math.isclose(one[name], value, rel_tol=1e-9, abs_tol=1e-3), (name, one, other)
            else:
                assert one[name] == value, (name, one, other)
    assert len(got) == len(expected), (got[len(expected) :], expected[len(got) :])


def check(lake: kitelake.Lake, captured: Captured, days: int, rng: Random) -> None:
    clock, sessions = rng.choice(["exchange", "received"]), rng.choice(["continuous", "all"])
    width, label = rng.choice(list(WIDTHS)), rng.choice(["open", "close"])
    first = FIRST_DAY + dt.timedelta(days=rng.randrange(days))
    start = us_of(first, rng.choice(["00:00", "09:15", "10:00:05"]))
    last = FIRST_DAY + dt.timedelta(days=days - 1)
    stop = rng.choice([None, us_of(last, "15:30"), us_of(last, "09:15:02"), us_of(last, "12:00:01")])
    range_ = (moment(start), None if stop is None else max(moment(stop), moment(start)))
    end = None if range_[1] is None else max(stop or 0, start)
    bars, trades = [], []
    for token in sorted(TOKENS, key=SYMBOLS.__getitem__):
        for number in range(days):
            day = FIRST_DAY + dt.timedelta(days=number)
            if day < first or (end is not None and us_of(day, "00:00") >= end):
                continue
            asking, rows = expected_rows(captured, token, day, clock, end)
            for bar in bars_of(asking, rows, int(width_us(width)), sessions):
                if start <= bar["begin_us"] and (end is None or bar["begin_us"] < end):
                    time = bar["end_us"] if label == "close" else bar["begin_us"]
                    rest = {name: value for name, value in bar.items() if not name.endswith("_us")}
                    bars.append({"symbol": SYMBOLS[token], "time": moment(time), **rest})
            for trade in trades_of(rows):
                if start <= trade["at_us"]:
                    at_us = trade.pop("at_us")
                    trades.append({"symbol": SYMBOLS[token], "time": moment(at_us), **trade})
    asked: dict[str, Any] = {"clock": clock, "sessions": sessions, "label": label}
    got = lake.bars(NAMES, width, *range_, **asked).arrow().to_pylist()
    same(got, bars)
    params = {"names": NAMES, "start": range_[0], "stop": range_[1], "width": WIDTHS[width], **asked}
    text = "start := $start, stop := $stop, clock := $clock"
    macro = lake.sql(
        f"FROM bars($names, width := $width, {text}, sessions := $sessions, label := $label)", params
    ).arrow()
    same(macro.to_pylist(), got)
    del params["width"], params["sessions"], params["label"]
    found = lake.trades(NAMES, *range_, clock=asked["clock"]).arrow().to_pylist()
    same(found, trades)
    same(lake.sql(f"FROM trades($names, {text})", params).arrow().to_pylist(), found)


def width_us(width: str) -> int:
    return {"1s": 1, "30s": 30, "1m": 60, "10h": 36_000, "1d": 86400}[width] * SECOND_US


@settings(max_examples=scaled(1, 150))
@given(seed=st.integers(0, 1 << 32))
@example(seed=5)  # quotes that began on the day before
@example(seed=10)  # two sources over midnight
@example(seed=86200)  # a gap ended by a packet of another day
@example(seed=7)  # runs that lie in pieces
def test_the_method_and_the_macro_give_what_the_definition_says(seed: int) -> None:
    rng = Random(seed)
    with tempfile.TemporaryDirectory() as folder, Captured(Path(folder), FIRST_DAY) as captured:
        days = rng.randrange(1, 4)
        RandomDays(captured, rng).put(days)
        # By parts and in blocks of any size, as rows by the million are read.
        read, block, long = ((1, 1, 1), (40, 20, 1000), (3_000_000, 1 << 17, 32), (3_000_000, 1 << 17, 0))[seed % 4]
        sizes: dict[str, Any] = {"_READ_ROWS": read, "_BLOCK_ROWS": block, "_LONG_PIECE": long}
        with patch.multiple("queries.history.blocks", **sizes), kitelake.open(folder) as lake:
            for _ in range(scaled(1, 4)):
                check(lake, captured, days, rng)
