"""Books as ladders, and option chains with their smile, in characters."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

import numpy as np
import pyarrow as pa
from rich.text import Text

from kitelake.drawing.chart import LEAST_HEIGHT, Points, plotted
from queries.pictures import Subject, clock_texts, levels_of, microseconds_of, numbers_of, parts_of, spread_of

PANELS: Final = 6
MARKERS: Final = {"call": "c", "put": "p"}


def ladder_lines(subject: Subject, width: int, _height: int) -> Iterator[Text]:
    """The books one below the other, the asks on top."""
    names = ["symbol", *(name for name in ("moment",) if name in subject.rows.column_names)]
    for place, (key, rows) in enumerate(islice(parts_of(subject.rows, *names), PANELS)):
        levels = levels_of(rows)
        if not levels:
            continue
        if place:
            yield Text()
        when = clock_texts(microseconds_of(rows.column("received_at"))[:1])[0]
        spread = spread_of(levels)
        yield Text(f"{key[0]}   received {when}" + ("" if spread is None else f"   spread {spread:g}"), "bold")
        yield from _ladder(levels, width)


def _ladder(levels: Sequence[tuple[str, float, float, float]], width: int) -> Iterator[Text]:
    prices = [f"{price:,.2f}" if round(price, 2) == price else f"{price:,.4f}" for _, price, _, _ in levels]
    counts = ["" if np.isnan(quantity) else f"{quantity:,.0f}" for _, _, quantity, _ in levels]
    price_width, count_width = (max(map(len, texts)) for texts in (prices, counts))
    room = max(1, width - price_width - count_width - 4)
    most = max((quantity for _, _, quantity, _ in levels if quantity > 0), default=1.0)
    for (side, _, quantity, _), price, count in zip(levels, prices, counts, strict=True):
        bar = "" if not quantity > 0 else ("█" if side == "bid" else "▒") * max(1, round(quantity / most * room))
        line = Text(no_wrap=True, overflow="crop")
        line.append(f"{price:>{price_width}} ").append(f"{count:>{count_width}} ", "dim")
        yield line.append(bar, "green" if side == "bid" else "red")


def chain_lines(subject: Subject, width: int, height: int) -> Iterator[Text]:
    """The smile, `c` a call's and `p` a put's, and below it the open interest at each strike."""
    for _, rows in islice(parts_of(subject.rows, "underlying", "moment"), PANELS):
        strikes = numbers_of(rows.column("strike"))
        yield from _smile(rows, strikes, width, max(LEAST_HEIGHT, height - len(rows) - 3))
        yield from _interest(rows, strikes, width)


def _smile(rows: pa.Table, strikes: np.ndarray, width: int, height: int) -> Iterator[Text]:
    series = []
    for side, marker in MARKERS.items():
        volatility = numbers_of(rows.column(f"{side}_iv")) * 100
        there = ~np.isnan(volatility)
        if there.any():
            series.append(Points(strikes[there].tolist(), volatility[there].tolist(), marker))
    if not series:
        yield Text("no implied volatility to draw", "dim")
        return
    yield Text("implied volatility, %: c of the call, p of the put", "bold")
    yield from map(Text, plotted(series, lambda mark: f"{mark:g}", width, height).splitlines())


def _interest(rows: pa.Table, strikes: np.ndarray, width: int) -> Iterator[Text]:
    calls, puts = (np.nan_to_num(numbers_of(rows.column(f"{side}_oi"))) for side in MARKERS)
    names = [f"{strike:g}" for strike in strikes.tolist()]
    middle = max(6, *map(len, names)) + 2
    room = max(1, (width - middle) // 2)
    most = max(float(calls.max()), float(puts.max())) or 1.0
    said = f"puts   open interest, most {most:,.0f}"
    yield Text(f"{'calls ':>{room}}{'strike':^{middle}} {said}", "bold", no_wrap=True, overflow="crop")
    for name, call, put in zip(names, calls.tolist(), puts.tolist(), strict=True):
        line = Text(no_wrap=True, overflow="crop")
        line.append(f"{'█' * round(call / most * room):>{room}}", "blue").append(f"{name:^{middle}}")
        yield line.append("▒" * round(put / most * room), "yellow")
