"""What all pictures have in common: colours, sizes, and the axis of times, which is in IST.

Times are drawn on a scale of UTC as a clock in IST shows them, so that a reader in any zone sees IST.
"""

import datetime as dt
import json
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import numpy as np

from queries.errors import MissingLibraryError
from queries.pictures.table import Ints
from storage.clock import EPOCH, US_PER_DAY, date_of_day

WIDTH: Final = 900
TIMES_IN: Final = "time, IST"
PAD: Final = 0.02
EDGE: Final = 12
LEAST_MINUTES_US: Final = 600_000_000
"""Within less, seconds are told."""


@dataclass(frozen=True)
class Theme:
    """Colours. `series` are those of lines, `states` those of `coverage.STATES`."""

    background: str
    text: str
    muted: str
    grid: str
    up: str
    down: str
    gap: str
    silent: str
    series: tuple[str, ...]
    states: tuple[str, ...]


LIGHT: Final = Theme(
    background="#ffffff",
    text="#1f2328",
    muted="#656d76",
    grid="#e6e8eb",
    up="#138a72",
    down="#cf3a4a",
    gap="#a3abb5",
    silent="#dfe3e8",
    series=("#2f6fd0", "#d9730d", "#138a72", "#cf3a4a", "#7d56c2", "#8a6d1f", "#0e7f9b", "#b0418b"),
    states=("#7cc4b3", "#dbe9e5", "#f2d680", "#eda24e", "#cf3a4a", "#8d96a1"),
)
DARK: Final = Theme(
    background="#14181d",
    text="#e6e9ec",
    muted="#9aa4ae",
    grid="#2a3037",
    up="#2fb89a",
    down="#f0616d",
    gap="#5d6772",
    silent="#2f363e",
    series=("#6ba4f5", "#f0994c", "#2fb89a", "#f0616d", "#ab8be6", "#cbb05c", "#45b7d1", "#dd7dbb"),
    states=("#2b8f7b", "#28433f", "#b39a3f", "#c97a2b", "#e0525f", "#5d6772"),
)


def needed(library: str) -> Any:
    """The library, which the extra `plot` installs. Raises MissingLibraryError, with what to do."""
    try:
        return import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:  # it is there, and itself misses something
            raise
        raise MissingLibraryError(
            f"{library}, which draws pictures, is not installed for {sys.executable}; to install it: "
            "pip install 'kitelake[plot]'"
        ) from None


def altair() -> Any:
    """The library that makes the pictures. Raises MissingLibraryError."""
    return needed("altair")


class TimeAxis:
    """Where times stand on the axis. Of several days, the hours in which there is nothing are left out."""

    def __init__(self, times: Ints) -> None:
        """`times` are all that are drawn, as `table.microseconds_of` has them."""
        days = times // US_PER_DAY
        self._days = np.unique(days)
        self._first = np.array([times[days == day].min() for day in self._days], np.int64)
        last = np.array([times[days == day].max() for day in self._days], np.int64)
        spans = last - self._first
        self.is_cut = len(self._days) > 1 and bool(spans.any())
        pad = int(spans.sum() * PAD / max(1, len(self._days) - 1))
        self._begin = np.concatenate([[0], np.cumsum(spans + pad)[:-1]]).astype(np.int64) if self.is_cut else spans
        self._spans = spans
        self._by_day = len(self._days) > 1 and not self.is_cut

    def places(self, times: Ints) -> list[float]:
        """The numbers that are drawn for times, each of a day that was named at first."""
        if not self.is_cut:
            return list((times / 1000).tolist())
        which = np.clip(np.searchsorted(self._days, times // US_PER_DAY), 0, len(self._days) - 1)
        inside = np.clip(times - self._first[which], 0, self._spans[which])
        return list(((self._begin[which] + inside) / 1e6).tolist())

    def x(self, field: str = "x", *, title: str | None = TIMES_IN, labels: bool = True) -> Any:
        """The encoding of that field."""
        alt = altair()
        hidden: dict[str, Any] = {} if labels else {"labels": False, "ticks": False}
        if self.is_cut:
            starts = dict(zip((self._begin / 1e6).tolist(), self._days.tolist(), strict=True))
            names = {f"{start:g}": f"{date_of_day(day):%d %b}" for start, day in starts.items()}
            marks = [float(f"{start:g}") for start in starts]
            shown = marks[:: -(-len(marks) // 12)]
            axis = alt.Axis(title=title, values=shown, labelExpr=f"{json.dumps(names)}[datum.value]", **hidden)
            return alt.X(f"{field}:Q", scale=alt.Scale(nice=False, zero=False), axis=axis)
        form = "%d %b" if self._by_day else "%H:%M"
        ticks: dict[str, Any] = {"tickCount": 10}
        if self._by_day:
            ticks = {"values": (self._first / 1000).tolist()[:: -(-len(self._first) // 12)]}
        elif len(self._spans) and self._spans.max() < LEAST_MINUTES_US:
            form = "%H:%M:%S"
        # By `utcFormat`: a `format` would be of the zone of whoever looks at it.
        text = f"utcFormat(datum.value, '{form}')"
        axis = alt.Axis(title=title, labelExpr=text, labelOverlap=True, **ticks, **hidden)
        return alt.X(f"{field}:T", scale=alt.Scale(type="utc", nice=False, padding=EDGE * self._by_day), axis=axis)


def clock_texts(times: Ints) -> list[str]:
    """Times to read."""
    return [
        f"{EPOCH + dt.timedelta(microseconds=us):%Y-%m-%d %H:%M:%S}".removesuffix(" 00:00:00") for us in times.tolist()
    ]


def finished(chart: Any, theme: Theme, title: str, definition: str) -> Any:
    """The chart with its title, in the theme's colours."""
    alt = altair()
    return chart.properties(
        title=alt.TitleParams(title, subtitle=definition, anchor="start", offset=14, fontSize=16, subtitlePadding=5),
        background=theme.background,
        padding=18,
        config={
            "view": {"stroke": None},
            "font": "Inter, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif",
            "title": {"color": theme.text, "subtitleColor": theme.muted, "subtitleFontSize": 12},
            "header": {"labelColor": theme.text, "titleColor": theme.text},
            "axis": {
                "labelColor": theme.muted,
                "titleColor": theme.muted,
                "titleFontWeight": "normal",
                "gridColor": theme.grid,
                "domainColor": theme.grid,
                "tickColor": theme.grid,
                "labelFontSize": 11,
            },
            "legend": {"labelColor": theme.text, "titleColor": theme.muted, "orient": "top", "title": None},
        },
    )


def nothing(theme: Theme) -> Any:
    """What is drawn where there are no rows."""
    alt = altair()
    words = alt.Chart(alt.Data(values=[{"text": "nothing to draw"}]), width=WIDTH, height=120)
    return words.mark_text(fontSize=14, color=theme.muted).encode(text="text:N")
