"""Widths as people write them."""

import datetime as dt

import pytest

from queries.errors import WidthError
from queries.history.widths import DAY_US, Measure, Width, width_of

SECOND_US = 1_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1s", Width(Measure.TIME, SECOND_US)),
        ("30 seconds", Width(Measure.TIME, 30 * SECOND_US)),
        ("1m", Width(Measure.TIME, 60 * SECOND_US)),
        (" 15min ", Width(Measure.TIME, 900 * SECOND_US)),
        ("1.5 hours", Width(Measure.TIME, 5400 * SECOND_US)),
        ("1D", Width(Measure.TIME, DAY_US)),
        (dt.timedelta(minutes=5), Width(Measure.TIME, 300 * SECOND_US)),
        ("100 ticks", Width(Measure.TICKS, 100)),
        ("1 tick", Width(Measure.TICKS, 1)),
        ("50000 volume", Width(Measure.VOLUME, 50_000)),
        ("1e7 value", Width(Measure.VALUE, 10_000_000)),
    ],
)
def test_mean_what_they_say(text: str | dt.timedelta, expected: Width) -> None:
    assert width_of(text) == expected


@pytest.mark.parametrize(
    "text", ["", "1", "m", "0s", "0.5s", "1.5s", "2d", "-1m", "1 week", "0 ticks", "1.5 ticks", dt.timedelta(0)]
)
def test_that_are_none_are_refused(text: str | dt.timedelta) -> None:
    with pytest.raises(WidthError, match="width: got "):
        width_of(text)
