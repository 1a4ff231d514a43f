"""Lines and points in characters: of numbers over time, and of a smile. Without colour."""

import datetime as dt
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from rich.text import Text

from kitelake.views import to_ist
from queries.pictures import UNITS, Subject, series_of

LEAST_HEIGHT: Final = 5
CHARTS: Final = 6


class Points(NamedTuple):
    """One series. `marker` is a character, or `braille` for a line."""

    x: Sequence[float]
    y: Sequence[float]
    marker: str


def draw(times: Sequence[dt.datetime], prices: Sequence[float | None], *, width: int = 80, height: int = 15) -> str:
    """A line chart of prices over time, `width` x `height` characters, without colour.

    Times with a zone are shown in IST, others as they are. Points without a price are left out.
    """
    points = [(to_ist(t), p) for t, p in zip(times, prices, strict=True) if p is not None and math.isfinite(p)]
    if not points:
        return "no prices to draw"
    first = points[0][0]
    seconds = [(time - first).total_seconds() for time, _ in points]
    clock = "%H:%M:%S" if first.date() == points[-1][0].date() else "%d %b %H:%M"
    line = Points(seconds, [price for _, price in points], "braille")
    return plotted([line], lambda mark: (first + dt.timedelta(seconds=mark)).strftime(clock), width, height)


def plotted(series: Sequence[Points], named: Callable[[float], str], width: int, height: int) -> str:
    """The series on one plane; `named` is what stands below a number of the x axis."""
    import plotext

    numbers = [x for each in series for x in each.x]
    marks = np.linspace(min(numbers), max(numbers), max(2, min(6, width // 16))).tolist()
    plotext.terminal.limit(False, False)  # the size is the caller's, whatever terminal there is
    figure = plotext.figure
    figure.clear()
    try:
        figure.plot_size(width, height)
        for each in series:
            line = figure.signal(list(each.x), list(each.y), marker=each.marker)
            line.lines(each.marker == "braille")
            figure.draw(line)
        lowest, highest = (find(y for each in series for y in each.y) for find in (min, max))
        if lowest == highest:  # it would name other values beside the line
            figure.ruler("y").lim(lowest - 1, highest + 1)
            figure.ruler("y").ticks([lowest], [f"{lowest:g}"])
        figure.ruler("x").ticks(marks, [named(mark) for mark in marks])
        return str(figure.build().string(colorless=True))
    finally:
        figure.clear()


def line_charts(subject: Subject, width: int, height: int) -> Iterator[Text]:
    """A chart for each line of the subject, of the first few, with its name above."""
    series = series_of(subject, max(2, width))[:CHARTS]
    each_height = max(LEAST_HEIGHT, height // max(1, len(series)) - 1)
    for each in series:
        unit = UNITS.get(each.panel, each.panel)
        yield Text(unit if each.name in ("", each.panel) else f"{each.name}: {unit}", "bold")
        times = [dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=us) for us in each.times.tolist()]  # noqa: DTZ001
        yield from map(Text, draw(times, each.values.tolist(), width=width, height=each_height).splitlines())
