"""Bars as candles over their volume. What was not received of an instrument is shaded behind them."""

from typing import Any, Final

import numpy as np
import pyarrow as pa

from queries.pictures.subject import Subject
from queries.pictures.table import Floats, Ints, microseconds_of, numbers_of, parts_of, texts_of, values_of
from queries.pictures.theme import WIDTH, Theme, TimeAxis, altair, clock_texts, nothing
from storage.clock import US_PER_DAY

PANELS: Final = 6
MOST: Final = 1_500
"""So many candles are drawn of an instrument; several bars are one where there are more."""
PRICE_HEIGHT: Final = 320
VOLUME_HEIGHT: Final = 80
SILENT: Final = "silent"
MISSED: Final = "not received"
_PRICES: Final = ("open", "high", "low", "close")


class Candles:
    """The bars of one instrument that have prices, in the order of time, merged into at most so many.

    `each` is how many bars one candle holds at most, `step` how long the shortest is, 0 where it is a day or unknown.
    `volume` is NaN where it is null.
    """

    def __init__(self, rows: pa.Table, most: int) -> None:
        rows = rows.sort_by("time").filter(pa.array(~np.isnan(_stacked(rows.sort_by("time"))).any(axis=0)))
        self.each = -(-len(rows) // most) or 1
        starts: Ints = np.arange(0, len(rows), self.each)
        ends = np.minimum(starts + self.each, len(rows)) - 1
        times = microseconds_of(rows.column("time"))
        prices = dict(zip(_PRICES, _stacked(rows), strict=True))
        step = int(np.diff(times).min()) if len(times) > 1 else 0
        self.step = step if step < US_PER_DAY else 0
        self.times: Ints = times[starts]
        self.last: Ints = times[ends]
        self.open: Floats = prices["open"][starts]
        self.close: Floats = prices["close"][ends]
        self.high: Floats = np.maximum.reduceat(prices["high"], starts) if len(rows) else prices["high"]
        self.low: Floats = np.minimum.reduceat(prices["low"], starts) if len(rows) else prices["low"]
        volume = numbers_of(rows.column("volume")) if "volume" in rows.column_names else np.full(len(rows), np.nan)
        self.volume: Floats = np.add.reduceat(volume, starts) if len(rows) else volume

    def __len__(self) -> int:
        return len(self.times)


def _stacked(rows: pa.Table) -> Floats:
    return np.stack([numbers_of(rows.column(name)) for name in _PRICES])


class Shades:
    """The stretches of gaps within the time from `first` to `last`, and the state in each."""

    def __init__(self, gaps: pa.Table | None, symbol: str, first: int, last: int) -> None:
        if gaps is None or "served_seconds" in gaps.column_names:
            self.start = self.stop = np.empty(0, np.int64)
            self.states: list[str] = []
            return
        start, stop = microseconds_of(gaps.column("start")), microseconds_of(gaps.column("stop"))
        states = np.array(texts_of(gaps.column("state")), str)
        inside = np.array(texts_of(gaps.column("symbol")), str) == symbol
        inside &= (start < last) & (stop > first) & (states != "served")
        self.start = np.maximum(start[inside], first)
        self.stop = np.minimum(stop[inside], last)
        self.states = states[inside].tolist()


def candles_chart(subject: Subject, theme: Theme) -> Any:
    """A panel of prices and one of volume for each instrument, of the first few."""
    alt = altair()
    parts = [(key[0], Candles(rows, MOST)) for key, rows in parts_of(subject.rows, "symbol")]
    shown = [(symbol, candles) for symbol, candles in parts if len(candles)][:PANELS]
    if not shown:
        return nothing(theme)
    panels = [_panel(symbol, candles, subject, theme, named=len(parts) > 1) for symbol, candles in shown]
    return alt.vconcat(*panels, spacing=28)


def _panel(symbol: str, candles: Candles, subject: Subject, theme: Theme, *, named: bool) -> Any:
    alt = altair()
    ends = candles.last + candles.step
    shades = Shades(subject.gaps, symbol, int(candles.times[0]), int(ends[-1]))
    axis = TimeAxis(np.concatenate([candles.times, ends]))
    middle = (candles.times + ends) // 2
    places = axis.places(middle)
    span = axis.places(ends[-1:])[0] - axis.places(candles.times[:1])[0]
    step = min(np.diff(places), default=span) or 1
    size = max(1.0, min(16.0, 0.7 * WIDTH * float(step) / max(span, float(step))))
    names = ("x", "when", "open", "high", "low", "close", "volume")
    arrays = (candles.open, candles.high, candles.low, candles.close, candles.volume)
    columns = [places, clock_texts(candles.times), *(values_of(each) for each in arrays)]
    values = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    for row in values:
        row["way"] = "up" if row["close"] >= row["open"] else "down"
    tooltip = [alt.Tooltip("when:N", title="time")] + [alt.Tooltip(f"{name}:Q", format=",") for name in names[2:]]
    color = alt.Color("way:N", scale=alt.Scale(domain=["up", "down"], range=[theme.up, theme.down]), legend=None)
    base = alt.Chart(alt.Data(values=values)).encode(x=axis.x(labels=False, title=None), color=color, tooltip=tooltip)
    scale = alt.Scale(zero=False, nice=True)
    wicks = base.mark_rule(strokeWidth=1).encode(
        y=alt.Y("low:Q", scale=scale, title="price, ₹", axis=alt.Axis(tickCount=7)),
        y2=alt.Y2("high:Q"),
        description=alt.value("wick"),
    )
    bodies = base.mark_bar(size=size, stroke=None, minBandSize=1).encode(
        y=alt.Y("open:Q", scale=scale), y2=alt.Y2("close:Q"), description=alt.value("candle")
    )
    # A body without a height has a line, or nothing would be seen of it.
    dashes = base.mark_tick(orient="horizontal", size=size, thickness=1).encode(y=alt.Y("close:Q", scale=scale))
    title = {"title": alt.TitleParams(symbol, anchor="start", fontSize=13, color=theme.text)} if named else {}
    shaded = _shaded(shades, axis, theme)
    prices = alt.layer(shaded.encode(x=axis.x(labels=False, title=None)), wicks, bodies, dashes).properties(
        width=WIDTH, height=PRICE_HEIGHT, **title
    )
    volume = (
        alt.Chart(alt.Data(values=[row for row in values if row["volume"] is not None]))
        .mark_bar(size=size, opacity=0.75)
        .encode(
            x=axis.x(),
            y=alt.Y("volume:Q", title="volume", axis=alt.Axis(tickCount=3, format="~s")),
            color=color,
            tooltip=tooltip,
            description=alt.value("volume"),
        )
    )
    below = alt.layer(shaded.encode(x=axis.x()), volume).properties(width=WIDTH, height=VOLUME_HEIGHT)
    return alt.vconcat(prices, below, spacing=6).resolve_scale(x="shared", color="independent")


def _shaded(shades: Shades, axis: TimeAxis, theme: Theme) -> Any:
    """The stretches as far as they are on the axis, to be set on it."""
    alt = altair()
    names = ("x", "x2", "why", "state", "from", "to")
    columns = (
        axis.places(shades.start),
        axis.places(shades.stop),
        [SILENT if state == SILENT else MISSED for state in shades.states],
        shades.states,
        clock_texts(shades.start),
        clock_texts(shades.stop),
    )
    values = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True) if row[0] < row[1]]
    there = sorted({str(row["why"]) for row in values})
    colors = [theme.silent if why == SILENT else theme.gap for why in there]
    return (
        alt.Chart(alt.Data(values=values))
        .mark_rect(opacity=0.55)
        .encode(
            x2=alt.X2("x2"),
            fill=alt.Fill("why:N", scale=alt.Scale(domain=there, range=colors), legend=alt.Legend() if there else None),
            tooltip=[alt.Tooltip(f"{name}:N") for name in ("state", "from", "to")],
            description=alt.value("gap"),
        )
    )
