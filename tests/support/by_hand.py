"""Journals with rows of ticks at exact times, and lists of instruments, written by hand."""

import datetime as dt
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from ingest.instruments.listing import parse_instruments
from ingest.simulator.universe import HEADER
from ingest.wire import JournalDecoder
from storage.clock import IST, nanoseconds
from storage.commit import SegmentWriter
from storage.journal import JournalWriter
from storage.layout import DataLayout
from storage.schema import TICKS
from storage.tables import write_instruments
from tests.support.waiting_packets import WaitingPackets


def ist(text: str) -> dt.datetime:
    """A time as `2026-11-24 09:15:00.5`."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=IST)


def list_instruments(root: Path, day: str, *lines: str) -> None:
    """The day's list: lines of the broker's columns, as in `408065,1594,INFY,INFOSYS,0,,0,0.05,1,EQ,NSE,NSE`."""
    date = dt.date.fromisoformat(day)
    rows = parse_instruments("\n".join([HEADER, *lines, ""]).encode(), date=date)
    write_instruments(DataLayout(root), date, rows)


def commit(root: Path) -> None:
    """Commit what is complete of streams that were closed."""
    SegmentWriter(DataLayout(root), JournalDecoder()).run(poll_seconds=0.01, stop=threading.Event())


class Journal:
    """One stream of one connection. `rows` are those that were written, with their `received_at`, stream and seq."""

    def __init__(self, root: Path, stream: str) -> None:
        self.stream = stream
        self.rows: list[dict[str, Any]] = []
        self._writer = JournalWriter(DataLayout(root), stream, segment_bytes=1 << 20, segment_seconds=1e9)
        self._channel = self._writer.channel("asha", 1)
        self._waiting = WaitingPackets()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.append_to(self._writer, self._channel)
        self._writer.close()

    def tick(
        self, at: str | dt.datetime, token: int, last_price: float = 100.0, mode: str = "full", **values: Any
    ) -> None:
        """A packet. Values are by columns of ticks; what a packet of its kind carries and is not given is 0."""
        moment = ist(at) if isinstance(at, str) else at
        row = {"instrument_token": token, "last_price": last_price, "mode": mode} | values
        zero = {
            field.name: 0 for field in TICKS.schema if pa.types.is_integer(field.type) or field.type == pa.float64()
        }
        self._waiting.add(nanoseconds(moment), zero | {"price_change": None} | row)  # which only indices have
        self.rows.append(row | {"received_at": moment, "stream": self.stream, "seq": len(self.rows)})

    def flush(self) -> None:
        """From here on queries see what was written."""
        self._waiting.append_to(self._writer, self._channel)
        self._writer.flush()


def book(*bids: tuple[float, int, int], asks: tuple[tuple[float, int, int], ...] = ()) -> dict[str, Any]:
    """The columns of a book: (price, quantity, orders) of each side's levels, the best first; the others are empty."""
    found: dict[str, Any] = {}
    for side, levels in (("bid", bids), ("ask", asks)):
        for level, (price, quantity, orders) in enumerate(levels, 1):
            found |= {
                f"{side}_price_{level}": price,
                f"{side}_quantity_{level}": quantity,
                f"{side}_orders_{level}": orders,
            }
    return found


def quote(bid: float, ask: float, bid_quantity: int = 10, ask_quantity: int = 10) -> dict[str, Any]:
    """A book of one level."""
    return book((bid, bid_quantity, 1), asks=((ask, ask_quantity, 1),))
