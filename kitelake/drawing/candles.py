"""Bars as candles over their volume, in characters.

`█` is the body of a candle that closed no lower than it opened, `▒` that of another, `│` the rest of its range. `░` is
where nothing was received. Several bars that fall into one column are one candle.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from rich.text import Text

from kitelake.drawing.grid import Columns, Grid, levels
from queries.pictures import Candles, Shades, Subject, parts_of

PANELS: Final = 4
VOLUME_ROWS: Final = 3
LEAST_ROWS: Final = 4
LEAST_COLUMNS: Final = 8
UP, DOWN, WICK, GAP = "█", "▒", "│", "░"


def candle_lines(subject: Subject, width: int, height: int) -> Iterator[Text]:
    """A panel for each instrument, of the first few."""
    parts = [(key[0], Candles(rows, max(1, len(rows)))) for key, rows in parts_of(subject.rows, "symbol")]
    shown = [(symbol, candles) for symbol, candles in parts if len(candles)][:PANELS]
    for symbol, candles in shown:
        if len(parts) > 1:
            yield Text(symbol, "bold")
        shades = Shades(subject.gaps, symbol, int(candles.times[0]), int(candles.last[-1] + candles.step))
        yield from _panel(candles, shades, width, height // len(shown) - (len(parts) > 1))


def _panel(candles: Candles, shades: Shades, width: int, height: int) -> Iterator[Text]:
    lowest, highest = float(candles.low.min()), float(candles.high.max())
    label = max(len(f"{price:,.2f}") for price in (lowest, highest)) + 1
    label = label if width >= label + LEAST_COLUMNS else 0
    columns = Columns(np.concatenate([candles.times, candles.last + candles.step]), max(LEAST_COLUMNS, width - label))
    rows = max(LEAST_ROWS, height - VOLUME_ROWS - 1)
    grid = Grid(rows + VOLUME_ROWS, columns.count)
    for start, stop in zip(columns.of(shades.start).tolist(), columns.of(shades.stop).tolist(), strict=True):
        for column in range(start, max(stop, start + 1)):
            grid.put(slice(None), column, GAP, "dim")
    at = columns.of(candles.times)
    firsts = np.flatnonzero(np.diff(at, prepend=-1))
    lasts = np.append(firsts[1:], len(at)) - 1
    span = highest - lowest or 1.0

    def row_of(price: float) -> int:
        return round((highest - price) / span * (rows - 1))

    volumes = np.nan_to_num(np.add.reduceat(candles.volume, firsts)).tolist()
    bars = levels(volumes, max(volumes) or 1.0, VOLUME_ROWS)
    lows, highs = np.minimum.reduceat(candles.low, firsts), np.maximum.reduceat(candles.high, firsts)
    for place, (first, last) in enumerate(zip(firsts.tolist(), lasts.tolist(), strict=True)):
        column = int(at[first])
        opened, closed = float(candles.open[first]), float(candles.close[last])
        style, body = ("green", UP) if closed >= opened else ("red", DOWN)
        grid.put(slice(row_of(float(highs[place])), row_of(float(lows[place])) + 1), column, WICK, style)
        grid.put(slice(row_of(max(opened, closed)), row_of(min(opened, closed)) + 1), column, body, style)
        for row, character in enumerate(bars[place]):
            if character != " ":
                grid.put(slice(rows + VOLUME_ROWS - 1 - row, rows + VOLUME_ROWS - row), column, character, "cyan")
    every = max(1, rows // 4)
    for row in range(rows + VOLUME_ROWS):
        price = f"{highest - row / max(1, rows - 1) * span:,.2f} " if row < rows and row % every == 0 else ""
        text = price or (f"{max(volumes):,.0f} "[:label] if row == rows else "")
        yield grid.line(row, f"{text:>{label}}" if label else "")
    yield columns.axis(label)
