"""A data folder made by hand: instruments of one's choice, and packets of theirs at exact times."""

import datetime as dt
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

import kitelake
from ingest.wire import JournalDecoder
from storage.clock import IST
from storage.commit import SegmentWriter
from storage.journal import JournalWriter
from storage.layout import DataLayout
from storage.market import EXCHANGE_BY_SEGMENT
from storage.schema import INSTRUMENTS, TICKS
from storage.tables import write_instruments
from tests.support.waiting_packets import WaitingPackets

STREAM = "20200101T034500-aaaaaa"
SEGMENTS = {exchange: segment for segment, exchange in EXCHANGE_BY_SEGMENT.items()}
_NUMBERS = [field.name for field in TICKS.schema if field.type in (pa.int64(), pa.float64())]
_LEFT_OUT = ("seq", "connection", "instrument_token", "price_change")


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=IST)


class HandMade:
    """Instruments are added, then listed for days; ticks are journalled, and committed when it is said."""

    def __init__(self, root: Path) -> None:
        self.layout = DataLayout(root)
        self.rows: list[dict[str, Any]] = []
        self.tokens: dict[str, int] = {}
        self._journal = JournalWriter(self.layout, STREAM, segment_bytes=1 << 20, segment_seconds=1e9)
        self._channel = self._journal.channel("asha", 1)
        self._waiting = WaitingPackets()
        self._asked: kitelake.Lake | None = None

    def add(self, symbol: str, *, token: int | None = None, segment: str | None = None, **values: Any) -> int:
        """An instrument, by its EXCHANGE:TRADINGSYMBOL. `segment` as INDICES for an index."""
        exchange, _, tradingsymbol = symbol.partition(":")
        token = token or (1000 + len(self.rows)) << 8 | SEGMENTS[segment or exchange]
        row = {
            "instrument_token": token,
            "exchange_token": token >> 8,
            "tradingsymbol": tradingsymbol,
            "symbol": symbol,
        }
        kind = {"instrument_type": "EQ", "segment": segment or exchange, "exchange": exchange, "name": tradingsymbol}
        self.rows.append(row | kind | {"tick_size": 0.05, "lot_size": 1} | values)
        self.tokens[symbol] = token
        return token

    def future(self, symbol: str, name: str, expiry: dt.date, **values: Any) -> int:
        return self.add(symbol, name=name, expiry=expiry, strike=0.0, instrument_type="FUT", **values)

    def options(self, stem: str, name: str, expiry: dt.date, strikes: Sequence[float], **values: Any) -> None:
        """Calls and puts: `stem` is what their symbols begin with, as in NFO:NIFTY26NOV."""
        for strike in strikes:
            for kind in ("CE", "PE"):
                symbol = f"{stem}{strike:g}{kind}"
                self.add(symbol, name=name, expiry=expiry, strike=float(strike), instrument_type=kind, **values)

    def listed(self, *days: dt.date) -> None:
        """Everything that was added is the list of these days."""
        rows = [{"date": None} | row for row in self.rows]
        for day in days:
            write_instruments(self.layout, day, pa.Table.from_pylist(rows, INSTRUMENTS.schema))

    def tick(
        self,
        when: str | dt.datetime,
        symbol: str | int,
        last: float,
        bid: float | None = None,
        ask: float | None = None,
        *,
        mode: str = "full",
        stamp: dt.datetime | bool | None = True,
        **values: Any,
    ) -> None:
        """A packet received at that time (IST), stamped by the exchange in that second unless it is said otherwise."""
        moment = at(when) if isinstance(when, str) else when
        token = symbol if isinstance(symbol, int) else self.tokens[symbol]
        row: dict[str, Any] = {name: 0 for name in _NUMBERS if name not in _LEFT_OUT}
        row |= {"instrument_token": token, "mode": mode, "last_price": last}
        if token & 0xFF == SEGMENTS["INDICES"]:
            row["price_change"] = 0.0
        row["exchange_timestamp"] = moment.replace(microsecond=0) if stamp is True else stamp or None
        for side, price in (("bid", bid), ("ask", ask)):
            if price is not None:
                row |= {f"{side}_price_1": price, f"{side}_quantity_1": 75, f"{side}_orders_1": 1}
        received_ns = (moment - dt.datetime.fromtimestamp(0, dt.UTC)) // dt.timedelta(microseconds=1) * 1000
        self._waiting.add(received_ns, row | values)

    def lake(self) -> kitelake.Lake:
        """A lake over all that was journalled until now."""
        self._flush()
        return kitelake.open(self.layout.root)

    def asked(self) -> kitelake.Lake:
        """One that stays open, to ask about all that was journalled until now."""
        self._flush()
        if self._asked is None:
            self._asked = kitelake.open(self.layout.root)
        return self._asked

    def _flush(self) -> None:
        self._waiting.append_to(self._journal, self._channel)
        self._journal.flush()

    def commit(self) -> None:
        """What was journalled comes into the tables; nothing can be journalled after it."""
        self.close()
        SegmentWriter(self.layout, JournalDecoder()).run(poll_seconds=0.01, stop=threading.Event())

    def close(self) -> None:
        self._waiting.append_to(self._journal, self._channel)
        self._journal.close()
        if self._asked is not None:
            self._asked.close()
            self._asked = None
