"""Rows of characters, each with a style, and what stands below a row: times."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from rich.text import Text

from queries.pictures import TimeAxis, clock_texts
from storage.clock import US_PER_DAY, US_PER_SECOND, date_of_day

BARS: Final = " ▁▂▃▄▅▆▇█"
SPACING: Final = 8
MINUTE_US: Final = 60 * US_PER_SECOND
STEPS: Final = (1, 5, 15, 30, 60, 300, 900, 1800, 3600, 7200, 14_400, 43_200)
"""Seconds between the times below a picture."""


class Grid:
    """Characters of one width, with styles."""

    def __init__(self, rows: int, columns: int) -> None:
        self.characters = np.full((rows, columns), " ", dtype="<U1")
        self.styles = np.full((rows, columns), "", dtype="<U12")

    def put(self, rows: slice, column: int, character: str, style: str) -> None:
        """Fill a part of a column."""
        self.characters[rows, column] = character
        self.styles[rows, column] = style

    def line(self, row: int, label: str) -> Text:
        """A row as text, with its label before it."""
        line = Text(no_wrap=True, overflow="crop").append(label, "dim")
        for character, style in zip(self.characters[row], self.styles[row], strict=True):
            line.append(str(character), str(style) or None)
        line.rstrip()
        return line


class Columns:
    """In which of `count` columns a time is; of several days without the nights between."""

    def __init__(self, times: np.ndarray, count: int) -> None:
        self._axis = TimeAxis(times)
        self._times = np.unique(times)
        places = np.array(self._axis.places(self._times))
        self._first, self._span = float(places[0]), float(places[-1] - places[0]) or 1.0
        self.count = count

    def of(self, times: np.ndarray) -> np.ndarray:
        """The columns of some times."""
        share = (np.array(self._axis.places(times), float) - self._first) / self._span
        found: np.ndarray = np.clip((share * self.count).astype(int), 0, self.count - 1)
        return found

    def axis(self, indent: int) -> Text:
        """The times below the columns: round times of one day, else where each day begins."""
        first, last = int(self._times[0]), int(self._times[-1])
        days, begins = np.unique(self._times // US_PER_DAY, return_index=True)
        if len(days) > 1:
            at = self._times[begins]
            texts = [f"{date_of_day(day):%d %b}" for day in days.tolist()]
        else:
            least = (last - first) * SPACING // max(1, self.count)
            step = next(
                (each * US_PER_SECOND for each in STEPS if each * US_PER_SECOND >= least), STEPS[-1] * US_PER_SECOND
            )
            at = np.arange(-(-first // step) * step, last + 1, step)
            at = at if len(at) else self._times[:1]
            texts = [text[11:] if step < MINUTE_US else text[11:16] for text in clock_texts(at)]
        line = ""
        for column, text in zip(self.of(at).tolist(), texts, strict=True):
            if (not line or len(line) < column) and column + len(text) <= self.count:
                line = f"{line:<{column}}{text}"
        return Text(" " * indent + line, "dim", no_wrap=True, overflow="crop")


def levels(values: Sequence[float], most: float, rows: int) -> list[str]:
    """For each value the characters of its bar, from the bottom up."""
    eighths = [0 if not value > 0 else max(1, round(value / most * rows * 8)) for value in values]
    return ["".join(BARS[min(8, max(0, each - 8 * row))] for row in range(rows)) for each in eighths]
