"""Books to read: bids on the left, asks on the right, the best on top."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import IO, Any, Final

from kitelake.views.values import aligned_floats
from queries.lake import Result
from storage.clock import IST

NONE: Final = "–"
_HEAD: Final = ("orders", "quantity", "bid", "ask", "quantity", "orders")
_COUNTS: Final = ("bid_orders", "bid_quantity", "ask_quantity", "ask_orders")
_MIDDLE: Final = 2
"""How many of the columns are left of the bid's price."""


def write_book(result: Result, sink: IO[bytes]) -> int:
    """All books of a result as `Lake.book` gives it, with a line above each that says whose it is and as of when."""
    text, rows = book_text(result)
    sink.write(text.encode())
    return rows


def book_text(result: Result) -> tuple[str, int]:
    """The same as text, and how many rows it is made of."""
    rows = result.arrow().to_pylist()
    books = [
        list(rows) for _, rows in groupby(rows, lambda row: (row["symbol"], row["instrument_token"], row["moment"]))
    ]
    texts = ["\n".join(_lines(levels)) for levels in books] or ["no book was received on that day up to then"]
    return "\n\n".join(texts) + "\n", len(rows)


def _lines(levels: Sequence[dict[str, Any]]) -> Iterator[str]:
    best = levels[0]
    received = best["received_at"].astimezone(IST)
    spread = ""
    if best["bid_price"] is not None and best["ask_price"] is not None:
        spread = f"   spread {round(best['ask_price'] - best['bid_price'], 6):g}"
    name = best["symbol"] or f"token {best['instrument_token']}"
    yield f"{name}   {received:%Y-%m-%d %H:%M:%S}.{received.microsecond // 1000:03}{spread}"
    prices = aligned_floats([level[f"{side}_price"] for side in ("bid", "ask") for level in levels])
    counts = [[NONE if level[name] is None else f"{level[name]:,}" for level in levels] for name in _COUNTS]
    totals = [
        "" if not sum(filled) else f"{sum(filled):,}"
        for filled in ([level[name] or 0 for level in levels] for name in ("bid_quantity", "ask_quantity"))
    ]
    shown = [NONE if price is None else price for price in prices]
    columns = [*counts[:_MIDDLE], shown[: len(levels)], shown[len(levels) :], *counts[_MIDDLE:]]
    cells = [_HEAD, *zip(*columns, strict=True), ("", totals[0], "", "", totals[1], "")]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        left, right = (
            "  ".join(f"{cell:>{width}}" for cell, width in zip(row[part], widths[part], strict=True))
            for part in (slice(0, _MIDDLE + 1), slice(_MIDDLE + 1, None))
        )
        yield f"{left} │ {right}".rstrip()
