"""Numbers over time: latency, the spread, and the columns of any query that has times."""

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from queries.pictures.subject import Kind, Subject
from queries.pictures.table import Floats, Ints, microseconds_of, numbers_of, parts_of
from queries.pictures.theme import WIDTH, Theme, TimeAxis, altair, clock_texts, nothing

SERIES: Final = 8
PANELS: Final = 6
POINTS: Final = 2_000
"""So many stretches of time are told apart in a series."""
HEIGHT: Final = 190
UNITS: Final = {
    "spread": "spread, ₹",
    "price": "price, ₹",
    "p50_seconds": "median, s",
    "p90_seconds": "90 %, s",
    "p99_seconds": "99 %, s",
}

FROM_ZERO: Final = frozenset({"spread", "p50_seconds", "p90_seconds", "p99_seconds"})


class Series(NamedTuple):
    """One line: the panel that it is in, its name, and its points, without those that have no value."""

    panel: str
    name: str
    times: Ints
    values: Floats


def series_of(subject: Subject, points: int) -> list[Series]:
    """The lines of a subject, in order. Of more points than so many stretches of time, the extremes of each are left.

    The panels are a column each, or of the spread its own and one for both sides.
    """
    found = []
    for name, rows in _parts(subject):
        times = microseconds_of(rows.column(subject.time))
        order = np.argsort(times, kind="stable")
        for panel, column, said in _columns(subject, name):
            values = numbers_of(rows.column(column))[order]
            there = ~np.isnan(values)
            found.append(Series(panel, said, *_thinned(times[order][there], values[there], points)))
    panels = list(dict.fromkeys(each.panel for each in found))
    return sorted((each for each in found if len(each.times)), key=lambda each: panels.index(each.panel))


def _parts(subject: Subject) -> list[tuple[str, pa.Table]]:
    if subject.kind is Kind.LATENCY:
        parts = islice(parts_of(subject.rows, "account", "connection"), SERIES)
        return [(" ".join(key), rows) for key, rows in parts]
    by = "symbol" if subject.kind is Kind.SPREAD else subject.by
    if by is None:
        return [("", subject.rows)]
    return [(key[0], rows) for key, rows in islice(parts_of(subject.rows, by), SERIES)]


def _columns(subject: Subject, name: str) -> Sequence[tuple[str, str, str]]:
    """For the rows of that name: panel, column, and what the line is called."""
    if subject.kind is Kind.LATENCY:
        return [(each, each, name) for each in ("p50_seconds", "p90_seconds", "p99_seconds")]
    if subject.kind is Kind.SPREAD:
        return [("price", "bid", f"{name} bid"), ("price", "ask", f"{name} ask"), ("spread", "spread", name)]
    return [(column, column, name or column) for column in subject.values[:PANELS]]


def _thinned(times: Ints, values: Floats, points: int) -> tuple[Ints, Floats]:
    """Of each stretch the least and the greatest value, in the order of their times."""
    if len(times) <= 2 * points:
        return times, values
    span = max(1, int(times[-1] - times[0]))
    stretch = (times - times[0]) * (points - 1) // span
    starts = np.flatnonzero(np.diff(stretch, prepend=-1))
    by_value = np.lexsort((values, stretch))
    kept = np.unique(np.concatenate([by_value[starts], by_value[np.append(starts[1:], len(times)) - 1]]))
    return times[kept], values[kept]


def lines_chart(subject: Subject, theme: Theme) -> Any:
    """A panel a column, with a line for each of the first few instruments, connections or other names."""
    alt = altair()
    series = series_of(subject, POINTS)
    if not series:
        return nothing(theme)
    axis = TimeAxis(np.concatenate([each.times for each in series]))
    panels = list(dict.fromkeys(each.panel for each in series))
    charts, told = [], [""]
    for panel in panels:
        lines = [each for each in series if each.panel == panel]
        names = [each.name for each in lines]
        # What the panel above has said, or the title says, is not said again.
        says = names != told and (len(names) > 1 or subject.kind is Kind.LATENCY)
        told = names if says else told
        chart = _panel(lines, axis, theme, says=says, last=panel == panels[-1])
        charts.append(chart)
    return alt.vconcat(*charts, spacing=10).resolve_scale(x="shared", color="independent")


def _panel(series: Sequence[Series], axis: TimeAxis, theme: Theme, *, says: bool, last: bool) -> Any:
    alt = altair()
    values = [
        {"x": x, "y": y, "name": each.name, "when": when, "part": f"{each.name} {part}"}
        for each in series
        for x, y, when, part in zip(
            axis.places(each.times), each.values.tolist(), clock_texts(each.times), _stretches(each.times), strict=True
        )
    ]
    names = [each.name for each in series]
    color = alt.Color(
        "name:N",
        scale=alt.Scale(domain=names, range=[theme.series[at % len(theme.series)] for at in range(len(names))]),
        legend=alt.Legend(title=None) if says else None,
    )
    title = UNITS.get(series[0].panel, series[0].panel)
    few = max(len(each.times) for each in series) <= 60
    return (
        alt.Chart(alt.Data(values=values))
        .mark_line(strokeWidth=1.5, point=alt.OverlayMarkDef(size=22, filled=True) if few else False)
        .encode(
            x=axis.x() if last else axis.x(labels=False, title=None),
            y=alt.Y("y:Q", scale=alt.Scale(zero=series[0].panel in FROM_ZERO), title=title, axis=alt.Axis(tickCount=6)),
            color=color,
            detail="part:N",
            tooltip=[alt.Tooltip("name:N"), alt.Tooltip("when:N", title="time"), alt.Tooltip("y:Q", title=title)],
        )
        .properties(width=WIDTH, height=HEIGHT)
    )


def _stretches(times: Ints) -> list[int]:
    """Which day each time is of: no line goes over a night."""
    return list((times // (86_400 * 10**6)).tolist())
