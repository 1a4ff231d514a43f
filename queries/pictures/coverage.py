"""The states of instruments by minutes, from the intervals of a day's coverage, as a heat map."""

from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from queries.pictures.subject import Subject
from queries.pictures.table import Ints, microseconds_of, texts_of
from queries.pictures.theme import WIDTH, Theme, TimeAxis, altair, clock_texts, nothing
from storage.clock import US_PER_SECOND

STATES: Final = (
    "served",
    "silent",
    "cached packet only",
    "not yet served",
    "disconnected",
    "not subscribed",
)
"""From good to bad."""
MINUTE_US: Final = 60 * US_PER_SECOND
LEAST_US: Final = 1_000_000
MOST: Final = 60
ROW_HEIGHT: Final = 16


class Minutes(NamedTuple):
    """`states` has a row an instrument of `symbols`, a column a minute from `first_us` on: the place in STATES, or -1
    where nothing is said. `of` is how many instruments there are."""

    symbols: list[str]
    of: int
    first_us: int
    states: NDArray[np.int8]


def minutes_of(rows: pa.Table, most: int) -> Minutes:
    """Of rows as `Lake.intervals` or `Lake.gaps` gives them, at most so many instruments: those that were served least.

    A minute has the worst state that it holds for a second or more.
    """
    names, who = np.unique(np.array(texts_of(rows.column("symbol")), object).astype(str), return_inverse=True)
    start, stop = microseconds_of(rows.column("start")), microseconds_of(rows.column("stop"))
    states = np.array([STATES.index(each) if each in STATES else -1 for each in texts_of(rows.column("state"))], int)
    served = np.bincount(who, np.where(states == 0, stop - start, 0), len(names))
    shown = np.sort(np.argsort(served, kind="stable")[:most])
    place = np.full(len(names), -1)
    place[shown] = np.arange(len(shown))
    kept = (place[who] >= 0) & (stop > start)
    who, start, stop, states = place[who][kept], start[kept], stop[kept], states[kept]
    if not len(start):
        return Minutes(list(names[shown]), len(names), 0, np.empty((len(shown), 0), np.int8))
    first = int(start.min()) // MINUTE_US
    count = -(-int(stop.max()) // MINUTE_US) - first
    found = np.full((len(shown), count), -1, np.int8)
    for state in range(len(STATES)):
        of = states == state
        lasted = _lasted(who[of], start[of] - first * MINUTE_US, stop[of] - first * MINUTE_US, found.shape)
        found[(lasted >= LEAST_US) | ((found < 0) & (lasted > 0))] = state
    return Minutes(list(names[shown]), len(names), first * MINUTE_US, found)


def _lasted(who: Ints, start: Ints, stop: Ints, shape: tuple[int, int]) -> Ints:
    """How much of each minute the intervals have, in microseconds."""
    whole = np.zeros((shape[0], shape[1] + 1), np.int64)
    parts = np.zeros((shape[0], shape[1] + 1), np.int64)
    begin, end = start // MINUTE_US, stop // MINUTE_US
    # All of the minutes from that of the start up to that of the stop; less what of the first is before the start.
    np.add.at(whole, (who, begin), MINUTE_US)
    np.add.at(whole, (who, end), -MINUTE_US)
    np.add.at(parts, (who, begin), begin * MINUTE_US - start)
    np.add.at(parts, (who, end), stop - end * MINUTE_US)
    lasted: Ints = np.cumsum(whole, axis=1)[:, :-1] + parts[:, :-1]
    return lasted


def coverage_chart(subject: Subject, theme: Theme) -> Any:
    """A row an instrument, of those that were served least, and a cell for the minutes in a row of one state."""
    alt = altair()
    minutes = minutes_of(subject.rows, MOST)
    count = minutes.states.shape[1]
    if not count:
        return nothing(theme)
    values, ends = [], []
    for symbol, states in zip(minutes.symbols, minutes.states, strict=True):
        begins = np.flatnonzero(np.diff(states, prepend=-2))
        for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), count], strict=True):
            if states[begin] >= 0:
                values.append({"symbol": symbol, "state": STATES[states[begin]], "minutes": end - begin})
                ends.append((begin, end))
    times = minutes.first_us + np.array(ends, np.int64) * MINUTE_US
    axis = TimeAxis(times.ravel())
    for at, name in enumerate(("x", "x2")):
        for row, place, text in zip(values, axis.places(times[:, at]), clock_texts(times[:, at]), strict=True):
            row |= {name: place, ("from", "to")[at]: text}
    there = [state for state in STATES if any(row["state"] == state for row in values)]
    colors = [theme.states[STATES.index(state)] for state in there]
    chart = (
        alt.Chart(alt.Data(values=values))
        .mark_rect()
        .encode(
            x=axis.x(),
            x2=alt.X2("x2"),
            y=alt.Y("symbol:N", sort=minutes.symbols, axis=alt.Axis(title=None, labelLimit=220, grid=False)),
            color=alt.Color("state:N", scale=alt.Scale(domain=there, range=colors), legend=alt.Legend(title=None)),
            tooltip=[alt.Tooltip(f"{name}:N") for name in ("symbol", "state", "from", "to", "minutes")],
        )
        .properties(width=WIDTH, height=ROW_HEIGHT * len(minutes.symbols))
    )
    if minutes.of == len(minutes.symbols):
        return chart
    said = f"the {len(minutes.symbols)} of {minutes.of:,} instruments that were served least"
    return chart.properties(title=alt.TitleParams(said, anchor="start", fontSize=12, color=theme.muted))
