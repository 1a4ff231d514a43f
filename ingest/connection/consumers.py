"""What consumers get: Arrow batches, typed ticks, raw frames, order updates, events.

Each function here turns records of the hub into items of one kind; `Consumers` offers them under the names that a
manager and a single connection have in common.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest.connection.hub import BATCH_BYTES, Consumer, Hub, Record
from ingest.errors import WireError
from ingest.settings import BufferSettings
from ingest.wire import Order, decode_batch, frame_views, read_text, ticks_in
from storage.journal import Kind
from storage.memory import Tick

TICK_BYTES: Final = 1 << 18
"""At most so much is taken for ticks at once: it waits outside of the buffer, where the bounds do not reach."""
REMEMBERED_ORDERS: Final = 10_000
_BINARY: Final = frozenset({Kind.BINARY})


@dataclass(frozen=True, slots=True)
class Frame:
    """A binary frame as it came, heartbeats (one byte) included. `received_at_ns` is wall clock since the epoch."""

    account: str
    connection: int
    received_at_ns: int
    data: bytes

    @property
    def is_heartbeat(self) -> bool:
        """Whether it holds nothing, and says only that the server lives."""
        return len(self.data) == 1

    def views(self) -> list[NDArray[Any]]:
        """The packets as structured arrays over the frame's own bytes: nothing is copied; see `frame_views`."""
        return frame_views(self.data)


@dataclass(frozen=True, slots=True)
class OrderUpdate:
    """An order update (postback). `data` is the update as it came, its times IST; `update_id` tells it from others."""

    account: str
    connection: int
    received_at_ns: int
    update_id: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ConnectionEvent:
    """Something happened to a connection: `event` is one of `storage.events.Event`, `message` says it in words."""

    account: str
    connection: int
    received_at_ns: int
    event: str
    message: str
    data: dict[str, Any]


def read_batch(records: list[Record]) -> Iterator[pa.RecordBatch]:
    """All packets of some frames in the schema of the ticks table, in the order in which they came; or nothing.

    `stream`, `seq` and `symbol` are null: they belong to the journal.
    """
    _, accounts, connections, received_at_ns, _, frames, _ = zip(*records, strict=True)
    counts = [len(some) for some in frames]
    names = tuple(dict.fromkeys(accounts))
    batch, _ = decode_batch(
        list(chain.from_iterable(frames)),
        np.array(received_at_ns).repeat(counts),
        np.array(connections).repeat(counts),
        (names, np.array([names.index(account) for account in accounts]).repeat(counts) if len(names) > 1 else None),
    )
    if batch.num_rows:
        yield batch


def read_ticks(records: list[Record]) -> Iterator[Tick]:
    """One tick a packet. Packets that will not decode are left out; `Frame` has their bytes."""
    return chain.from_iterable(
        ticks_in(record.payloads, (record.account, record.connection, record.received_at_ns)) for record in records
    )


def read_frames(records: list[Record]) -> Iterator[Frame]:
    """The frames as they came."""
    for record in records:
        for frame in record.payloads:
            yield Frame(record.account, record.connection, record.received_at_ns, frame)


def read_events(records: list[Record]) -> Iterator[ConnectionEvent]:
    """What happened to connections."""
    for record in records:
        (payload,) = record.payloads
        event = json.loads(payload)
        yield ConnectionEvent(
            record.account,
            record.connection,
            record.received_at_ns,
            event["event"],
            event["message"] or "",
            event["data"] or {},
        )


class OrderReader:
    """Order updates, each once, though every socket of an account brings it. Remembers the last ten thousand."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, None] = OrderedDict()

    def __call__(self, records: list[Record]) -> Iterator[OrderUpdate]:
        for record in records:
            (payload,) = record.payloads
            try:
                read = read_text(payload)
            except WireError:
                continue
            if not isinstance(read, Order):
                continue
            update_id = read.update_id(record.account)
            known = update_id in self._seen
            self._seen[update_id] = None
            self._seen.move_to_end(update_id)
            if len(self._seen) > REMEMBERED_ORDERS:
                self._seen.popitem(last=False)
            if not known:
                data = json.loads(read.data)
                yield OrderUpdate(record.account, record.connection, record.received_at_ns, update_id, data)


class Consumers:
    """The ways to read from a hub. Every iterator collects from the moment it is made, in a buffer of its own."""

    def __init__(self, hub: Hub, settings: BufferSettings) -> None:
        self._hub = hub
        self._buffer_settings = settings

    def batches(self, *, account: str | None = None, connection: int | None = None) -> Consumer[pa.RecordBatch]:
        """Arrow record batches in the schema of the ticks table, rows in the order of receipt.

        Whatever has come since the last batch is in the next one: one frame when it is quiet, thousands under load,
        and not more than one batch each `batch_seconds`. `stream`, `seq` and `symbol` are null. Of all accounts and
        connections, or of those named.
        """
        return self._consumer(
            _BINARY, read_batch, account, connection, BATCH_BYTES, self._buffer_settings.batch_seconds
        )

    def ticks(self, *, account: str | None = None, connection: int | None = None) -> Consumer[Tick]:
        """Typed objects, one a packet, each of which reads its fields when it is asked for them.

        What came together is handed out together: at once when it is quiet, else each `batch_seconds`.
        """
        seconds = self._buffer_settings.batch_seconds
        return self._consumer(_BINARY, read_ticks, account, connection, TICK_BYTES, seconds)

    def frames(self, *, account: str | None = None, connection: int | None = None) -> Consumer[Frame]:
        """Raw frames with receive time, account and connection; nothing is decoded."""
        return self._consumer(_BINARY, read_frames, account, connection)

    def order_updates(self, *, account: str | None = None) -> Consumer[OrderUpdate]:
        """Order updates, each once, whichever sockets bring it."""
        return self._consumer(frozenset({Kind.TEXT}), OrderReader(), account, None)

    def events(self, *, account: str | None = None, connection: int | None = None) -> Consumer[ConnectionEvent]:
        """What happens to the connections: connected, closed and why, refused, resumed, subscribed."""
        return self._consumer(frozenset({Kind.EVENT}), read_events, account, connection)

    def _consumer(
        self,
        kinds: frozenset[Kind],
        convert: Any,
        account: str | None,
        connection: int | None,
        most_bytes: int = 1,
        company_seconds: float = 0.0,
    ) -> Consumer[Any]:
        return self._hub.consumer(
            self._buffer_settings,
            kinds,
            convert,
            account=account,
            connection=connection,
            most_bytes=most_bytes,
            company_seconds=company_seconds,
        )
