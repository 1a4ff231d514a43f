"""Lines in characters."""

import datetime as dt
import math
from typing import Final

from kitelake.drawing.chart import draw, line_charts
from queries.pictures import subject_of
from tests.support.pictured import latency

START: Final = dt.datetime(2026, 11, 23, 3, 45, tzinfo=dt.UTC)


def test_has_the_size_asked_for_and_ist_below() -> None:
    times = [START + dt.timedelta(seconds=i) for i in range(60)]
    chart = draw(times, [1500 + math.sin(i / 9) for i in range(60)], width=70, height=12)
    lines = chart.splitlines()
    assert len(lines) == 12
    assert all(len(line) <= 70 for line in lines)
    assert "09:15:00" in lines[-1]
    assert "09:15:59" in lines[-1]
    assert "1501.0" in chart
    assert "\x1b" not in chart
    assert any("⠀" < c <= "⣿" for c in chart)


def test_over_days_shows_the_day() -> None:
    chart = draw([START, START + dt.timedelta(days=2)], [1.0, 2.0])
    assert "23 Nov 09:15" in chart.splitlines()[-1]


def test_one_price_is_enough() -> None:
    assert "09:15:00" in draw([START], [1500.0])


def test_leaves_out_what_is_no_price() -> None:
    times = [START + dt.timedelta(seconds=i) for i in range(4)]
    assert "1502" in draw(times, [1500.0, None, math.nan, 1502.0])
    assert draw(times[:2], [None, math.inf]) == "no prices to draw"
    assert draw([], []) == "no prices to draw"


def test_draws_each_chart_on_its_own() -> None:
    times = [START, START + dt.timedelta(seconds=9)]
    first = draw(times, [1.0, 2.0])
    draw(times, [100.0, 900.0], width=40, height=9)
    assert draw(times, [1.0, 2.0]) == first


def test_values_that_are_all_alike_have_their_own_number_beside_them() -> None:
    chart = draw([START, START + dt.timedelta(seconds=9)], [0.25, 0.25], height=9)
    assert [line.split("┤")[0].strip() for line in chart.splitlines() if "┤" in line] == ["0.25"]


def test_each_line_of_a_subject_has_a_chart_with_its_name() -> None:
    rows = latency((1, "09:15", 0.2), (1, "09:30", 0.3), (2, "09:15", 0.1))
    lines = [line.plain for line in line_charts(subject_of(rows), 60, 20)]
    names = [line for line in lines if line.startswith("mine")]
    assert names == [f"mine {number}: {unit}, s" for unit in ("median", "90 %", "99 %") for number in (1, 2)]
    assert sum("09:15:00" in line for line in lines) == 6
