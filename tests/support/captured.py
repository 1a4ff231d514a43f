"""Days captured by hand: packets with exact times of receipt, and connection events as the service journals them.

    with Captured(tmp_path, "2026-11-24") as captured:
        captured.instruments()
        line = captured.run("08:55").line()
        line.connected("08:56")
        line.subscribed("08:56:01", INFY)
        line.full("09:15:01", INFY, 1500.5, volume=10, traded="09:15:00")
        captured.commit()  # what came until now; the rest stays in the journal

A time is text of the day, or microseconds since the epoch. Whoever leaves out `traded`, when the last trade was, or
`stamped`, the exchange's time of the packet, gets the second of receipt.
"""

import datetime as dt
import functools
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from ingest.instruments.listing import parse_instruments
from ingest.simulator.universe import HEADER
from ingest.wire.encode import encode_frames
from ingest.wire.journal import JournalDecoder
from storage.clock import IST
from storage.commit.writer import SegmentWriter
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout
from storage.schema import DEPTH_LEVELS, TICKS
from storage.tables.symbols import write_instruments

When = str | int
SECOND_US = 1_000_000

INFY, TINY, NIFTY_50, NIFTY_FUT, CALL, CRUDE = 408065, 225537, 256265, 12345602, 12345858, 100_000_007
LISTED = """\
408065,1594,INFY,INFOSYS,0,,0,0.05,1,EQ,NSE,NSE
225537,881,TINY,TINY,0,,0,0.05,1,EQ,NSE,NSE
256265,1001,NIFTY 50,NIFTY 50,0,,0,0,0,EQ,INDICES,NSE
12345602,48225,NIFTY26NOVFUT,NIFTY,0,2026-11-24,0,0.05,75,FUT,NFO-FUT,NFO
12345858,48226,NIFTY26NOV24000CE,NIFTY,0,2026-11-24,24000,0.05,75,CE,NFO-OPT,NFO
12346114,48227,INFY26NOVFUT,INFY,0,2026-11-24,0,0.05,75,FUT,NFO-FUT,NFO
100000007,390625,CRUDEOIL26DECFUT,CRUDEOIL,0,2026-12-18,0,1,1,FUT,MCX-FUT,MCX
"""
"""INFY has derivatives, TINY has none."""


def us_of(day: dt.date, when: When) -> int:
    """Microseconds since the epoch; text is a time of the day, in IST."""
    if isinstance(when, int):
        return when
    time = dt.time.fromisoformat(when)
    return round(dt.datetime.combine(day, time, IST).timestamp() * SECOND_US)


def moment(us: int) -> dt.datetime:
    """The instant, in UTC."""
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=us)


@functools.cache
def _listed(rows: str, day: dt.date) -> pa.Table:
    """The same list is wanted by many tests."""
    return parse_instruments(f"{HEADER}\n{rows}".encode(), date=day)


@dataclass(frozen=True)
class Packet:
    """What was received, as rows of ticks have it. `received_us` and the other times are since the epoch."""

    received_us: int
    source: tuple[str, str, int]
    values: dict[str, Any]


@dataclass(frozen=True)
class Noted:
    """An event, and whom it is of: the stream, and the account and connection unless it is the service's."""

    at_us: int
    stream: str
    connection: tuple[str, int] | None
    event: str
    data: dict[str, Any]


@dataclass
class Captured:
    """A data folder. `packets` and `events` are what was put into it."""

    root: Path
    today: str | dt.date = "2026-11-24"
    packets: list[Packet] = field(default_factory=list)
    events: list[Noted] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layout = DataLayout(self.root)
        self.day = dt.date.fromisoformat(str(self.today))
        self.runs: list[Run] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for run in self.runs:
            run.flush()
            run.journal.close()

    def on(self, day: str | dt.date) -> Self:
        """From now on times are of this day."""
        self.day = dt.date.fromisoformat(str(day))
        return self

    def instruments(self, rows: str = LISTED) -> None:
        """The instrument list of the day, in the broker's form."""
        write_instruments(self.layout, self.day, _listed(rows, self.day))

    def record(self, exchange: str, **sessions: Sequence[tuple[str, str]]) -> None:
        """The day's record: of an exchange the sessions of each kind, as `share=[("continuous", "09:15-15:30")]`."""
        path = self.root / "days" / f"{self.day}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        noted = {"why": "", "sure": True, "sessions": {kind.replace("_", " "): each for kind, each in sessions.items()}}
        path.write_text(json.dumps({"date": str(self.day), "lists": [], "exchanges": {exchange: noted}}))

    def simulated(self) -> None:
        """What is captured into the folder is of a simulator."""
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "kitelake.json").write_text('{"source": "simulator"}')

    def replayed(self, day: str) -> None:
        """What is captured into the folder is of a replay of that day."""
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "kitelake.json").write_text(json.dumps({"source": "replay", "replayed": day}))

    def run(self, at: When | None = None) -> "Run":
        """A run of the service, which notes that it has started; with None, one of which that is not known."""
        run = Run(self, f"{self.day:%Y%m%d}T{len(self.runs):06}-aaaaaa")
        self.runs.append(run)
        if at is not None:
            run.note(at, None, "started", lists=[])
        return run

    def commit(self) -> None:
        """Have what came until now in the tables; what comes then is in the journal."""
        for run in self.runs:
            run.roll()
            writer = SegmentWriter(self.layout, JournalDecoder(), run.stream)
            with writer.hold(stop := threading.Event(), 0.01):
                writer.advance(stop)
            writer._forget_loaded()  # it would go on

    def flush(self) -> None:
        """Have what came until now in the journal, for a lake to see."""
        for run in self.runs:
            run.flush()


class Run:
    """One run of the service: a stream of the journal."""

    def __init__(self, captured: Captured, stream: str) -> None:
        self.captured = captured
        self.stream = stream
        self.journal = JournalWriter(captured.layout, stream, segment_bytes=1 << 30, segment_seconds=1e9)
        self.waiting: list[tuple[int, int, bytes | dict[str, Any]]] = []  # channel, time, event or packet

    def line(self, account: str = "asha", number: int = 1) -> "Line":
        """A connection."""
        return Line(self, (account, number))

    def stopped(self, at: When) -> None:
        self.note(at, None, "stopped")

    def note(self, at: When, connection: tuple[str, int] | None, event: str, **data: object) -> None:
        """Journal an event."""
        at_us = us_of(self.captured.day, at)
        channel = 0 if connection is None else self.journal.channel(*connection)
        payload = json.dumps({"event": event, "message": event, "data": data}).encode()
        self.waiting.append((channel, at_us, payload))
        self.captured.events.append(Noted(at_us, self.stream, connection, event, data))

    def roll(self) -> None:
        """Begin a new segment."""
        self.flush()
        size, self.journal.segment_bytes = self.journal.segment_bytes, 0
        self.journal.flush()
        self.journal.segment_bytes = size

    def flush(self) -> None:
        """Have what came until now in the journal."""
        packets = [each for _, _, each in self.waiting if isinstance(each, dict)]
        frames = iter(encode_frames(_table(packets), 1) if packets else [])
        for channel, at_us, each in self.waiting:
            kind, payload = (Kind.EVENT, each) if isinstance(each, bytes) else (Kind.BINARY, next(frames))
            self.journal.append(kind, channel, at_us * 1000, payload)
        self.waiting.clear()
        self.journal.flush()


class Line:
    """A connection: its events, and the packets that come on it."""

    def __init__(self, run: Run, connection: tuple[str, int]) -> None:
        self.run = run
        self.connection = connection
        self.channel = run.journal.channel(*connection)

    def connected(self, at: When) -> None:
        self.run.note(at, self.connection, "connected", opening=1)

    def subscribed(self, at: When, *tokens: int) -> None:
        self.run.note(at, self.connection, "subscribed", tokens=list(tokens))

    def unsubscribed(self, at: When, *tokens: int) -> None:
        self.run.note(at, self.connection, "unsubscribed", tokens=list(tokens))

    def mode(self, at: When, mode: str, *tokens: int) -> None:
        self.run.note(at, self.connection, "mode", tokens=list(tokens), mode=mode)

    def closed(self, at: When) -> None:
        """The peer closed; an attempt follows."""
        self.run.note(at, self.connection, "closed", by="peer", clean=False, reason="lost", code=1006)

    def silent(self, at: When, seconds: float) -> None:
        """Nothing came for so long, so it is given up."""
        self.run.note(at, self.connection, "silent", silent_seconds=seconds)

    def begin(self, at: When, *tokens: int) -> None:
        """Connected, and subscribed a hundredth of a second after."""
        at_us = us_of(self.run.captured.day, at)
        self.connected(at_us - 10_000)
        self.subscribed(at_us, *tokens)

    def full(
        self,
        at: When,
        token: int,
        price: float,
        *,
        volume: int = 0,
        average: float | None = None,
        traded: When | None = "",
        stamped: When | None = "",
        high: float | None = None,
        low: float | None = None,
        oi: int = 0,
    ) -> None:
        """A full packet; of an index, if its token is one. `average` is the price if it is not said."""
        more = {"last_trade_time": self._time(at, traded), "oi": oi, "exchange_timestamp": self._time(at, stamped)}
        if token & 0xFF == 9:
            more = {"exchange_timestamp": more["exchange_timestamp"]}
        self._put(at, token, "full", price, volume, average, high, low, more)

    def quote(
        self,
        at: When,
        token: int,
        price: float,
        *,
        volume: int = 0,
        average: float | None = None,
        high: float | None = None,
        low: float | None = None,
    ) -> None:
        """A quote packet; of an index, if its token is one."""
        self._put(at, token, "quote", price, volume, average, high, low, {})

    def ltp(self, at: When, token: int, price: float) -> None:
        """A packet that has nothing but the price."""
        self._append(at, {"instrument_token": token, "mode": "ltp", "last_price": price})

    def _time(self, at: When, said: When | None) -> int | None:
        if said is None:
            return None
        return us_of(self.run.captured.day, at if said == "" else said) // SECOND_US * SECOND_US

    def _put(
        self,
        at: When,
        token: int,
        mode: str,
        price: float,
        volume: int,
        average: float | None,
        high: float | None,
        low: float | None,
        more: dict[str, int | None],
    ) -> None:
        prices = {
            "instrument_token": token,
            "mode": mode,
            "last_price": price,
            "open": price,
            "high": price if high is None else high,
            "low": price if low is None else low,
            "close": price,
        }
        if token & 0xFF == 9:
            self._append(at, {**prices, "price_change": 0.0, **more})
            return
        average = (price if volume else 0.0) if average is None else average
        counts = {"average_traded_price": average, "volume_traded": volume}
        zeros = dict.fromkeys(("last_traded_quantity", "total_buy_quantity", "total_sell_quantity"), 0)
        self._append(at, {**prices, **counts, **zeros, **more})

    def _append(self, at: When, values: dict[str, Any]) -> None:
        at_us = us_of(self.run.captured.day, at)
        self.run.waiting.append((self.channel, at_us, values))
        self.run.captured.packets.append(Packet(at_us, (self.run.stream, *self.connection), values))


_KINDS = {field.name: field.type for field in TICKS.schema}
_NO_BOOK = {
    f"{side}_{what}_{level}"
    for side in ("bid", "ask")
    for what in ("price", "quantity", "orders")
    for level in range(1, DEPTH_LEVELS + 1)
} | {"oi_day_high", "oi_day_low"}


def _table(packets: Sequence[dict[str, Any]]) -> pa.Table:
    """The packets as rows; none of them has a book."""
    names = {name for packet in packets for name in packet}
    said = {name: pa.array([packet.get(name) for packet in packets], _KINDS[name]) for name in names}
    return pa.table(said | {name: pa.repeat(pa.scalar(0, _KINDS[name]), len(packets)) for name in _NO_BOOK - names})
