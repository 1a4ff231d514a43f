"""A day's coverage in characters: a row an instrument, a column some minutes, by the worst state in them."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from rich.text import Text

from kitelake.drawing.grid import Columns, Grid
from queries.pictures import STATES, Subject, minutes_of
from storage.clock import US_PER_SECOND

CHARACTERS: Final = {
    "served": ("█", "green"),
    "silent": ("░", "dim"),
    "cached packet only": ("▒", "yellow"),
    "not yet served": ("-", "yellow"),
    "disconnected": ("×", "bold red"),
    "not subscribed": ("·", "dim"),
}
AROUND: Final = 3
"""Lines that are no instrument's: the axis, and the legend."""
MINUTE_US: Final = 60 * US_PER_SECOND


def heat_lines(subject: Subject, width: int, height: int) -> Iterator[Text]:
    """Those instruments that were served least, as many as fit; and below them what the characters mean."""
    minutes = minutes_of(subject.rows, max(1, height - AROUND))
    count = minutes.states.shape[1]
    if not count:
        return
    label = min(max(map(len, minutes.symbols)), max(4, width // 4))
    times = minutes.first_us + np.arange(count + 1) * MINUTE_US
    columns = Columns(times, max(1, min(count, width - label - 1)))
    at = columns.of(times[:-1])
    grid = Grid(len(minutes.symbols), columns.count)
    for row, states in enumerate(minutes.states):
        worst = np.full(columns.count, -1)
        np.maximum.at(worst, at, states)
        for column, state in enumerate(worst.tolist()):
            if state >= 0:
                grid.put(slice(row, row + 1), column, *CHARACTERS[STATES[state]])
        name = minutes.symbols[row]
        yield grid.line(row, f"{name if len(name) <= label else name[: label - 1] + '…':<{label}} ")
    yield columns.axis(label + 1)
    legend = Text(overflow="fold")
    for state in (STATES[place] for place in np.unique(minutes.states).tolist() if place >= 0):
        legend.append(CHARACTERS[state][0], CHARACTERS[state][1]).append(f" {state}  ", "dim")
    if minutes.of > len(minutes.symbols):
        legend.append(f"{len(minutes.symbols)} of {minutes.of:,} instruments, those served least", "dim")
    legend.rstrip()
    yield legend
