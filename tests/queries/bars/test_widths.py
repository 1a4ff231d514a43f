"""Widths of bars as people write them."""

import datetime as dt
from typing import Any

import pytest

from queries.bars.widths import Measure, Width, width_of
from queries.errors import WidthError


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("30s", 30), ("1 second", 1), ("90sec", 90), ("1m", 60), ("5min", 300), ("15 minutes", 900), ("1h", 3600),
        ("2 hours", 7200), ("0.5h", 1800), ("1d", 86400), ("1 day", 86400), ("1M", 60),
        (dt.timedelta(minutes=3), 180),
    ],
)  # fmt: skip
def test_of_time(said: str | dt.timedelta, seconds: int) -> None:
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
def test_of_a_count(said: str, measure: Measure, size: int) -> None:
    assert width_of(said) == Width(measure, size)


@pytest.mark.parametrize(
    "said",
    [
        "", "1", "m", "-1m", "0s", "0.5s", "1.5s", "2d", "25h", "1w", "ten minutes", "0 ticks", "1.5 ticks",
        "1e400 value", None, 5,
    ],
)  # fmt: skip
def test_what_is_none_is_said(said: Any) -> None:
    with pytest.raises(WidthError, match=r"^width: got .*expected"):
        width_of(said)
