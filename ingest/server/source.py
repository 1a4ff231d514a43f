"""What a server streams from: any source of packets that can say what it lists, what ticks next, and what it answers.

Whoever has ticks to serve, made up or captured ones, hands in a `PacketSource`. The server owns sockets, accounts, time
and the record of what was sent; the source owns instruments, packets, orders, and REST calls that are about these.

Theory. An instrument has one packet image for each mode: its two length bytes and its packet as it would be sent now.
A quote packet is the beginning of the full packet and an ltp packet the beginning of both, for indices too (Kite
Connect v3 streaming docs), so a tick is painted once and copied by prefix. A frame is then two bytes of count and a
selection of images, which costs least in one layout. Images are built from numbers alone: nothing
here is shared with the code that reads packets, so that one mistake cannot hide on both sides.

All integers are big-endian. Words of the full packet, 4 bytes each: token, last price, last quantity, average price,
volume, buy quantity, sell quantity, open, high, low, close, last trade time, oi, oi high, oi low, exchange time, then
ten book entries of quantity, price, orders (uint16, then padding). Of an index: token, last price, high, low, open,
close, change, exchange time.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingest.server.admission import AccountSettings
from ingest.server.http import HttpError

Ints = NDArray[np.int64]
Modes = NDArray[np.uint8]

WORDS: Final = 46
INDEX_WORDS: Final = 8
HEARTBEAT: Final = b"\x00"


class StreamMode(IntEnum):
    """What a connection gets of an instrument; OFF is nothing."""

    OFF = 0
    LTP = 1
    QUOTE = 2
    FULL = 3


LENGTHS: Final = {StreamMode.LTP: 8, StreamMode.QUOTE: 44, StreamMode.FULL: 184}
INDEX_LENGTHS: Final = {StreamMode.LTP: 8, StreamMode.QUOTE: 28, StreamMode.FULL: 32}


class Frames(NamedTuple):
    """Many frames, end to end in `payload`: `lengths` in bytes and `counts` of packets, one a frame; `rows` of all
    their packets."""

    payload: NDArray[np.uint8]
    lengths: Ints
    counts: Ints
    rows: Ints

    def each(self) -> Iterator[tuple[bytes, Ints]]:
        """One after the other: its bytes, and the rows of its packets."""
        data = self.payload.tobytes()
        start = first = 0
        for length, count in zip(self.lengths.tolist(), self.counts.tolist(), strict=True):
            yield data[start : start + length], self.rows[first : first + count]
            start, first = start + length, first + count


class CachedPackets(ABC):
    """The last packet of each instrument, as it would be sent now."""

    @abstractmethod
    def known(self, rows: Ints) -> Ints:
        """Those of `rows` that have one."""

    @abstractmethod
    def frame(self, rows: Ints, modes: Modes) -> bytes:
        """A frame of (n,) known packets, each in its mode; n is at most 65,535."""


class Images(CachedPackets):
    """Every instrument's packets in every layout, ready to send."""

    def __init__(self, index: NDArray[np.bool_]) -> None:
        """`index` (n,): which instruments are indices, whose quote and full packets are shorter."""
        self._index = index
        self._bytes: dict[int, NDArray[np.uint8]] = {}
        self._packets: dict[int, NDArray[np.void]] = {}
        for mode in (StreamMode.LTP, StreamMode.QUOTE, StreamMode.FULL):
            for is_index, lengths in enumerate((LENGTHS, INDEX_LENGTHS)):
                length = lengths[mode]
                image = np.zeros((len(index), 2 + length), np.uint8)
                image[:, 1] = length
                self._bytes[2 * mode + is_index] = image
                self._packets[2 * mode + is_index] = image.view(f"V{2 + length}").reshape(-1)

    def paint(self, rows: Ints, words: Ints) -> None:
        """Set the packets of `rows` from (n, 46) words: signed ones in two's complement, of an index the first 8."""
        packets = words.astype(np.uint32).astype(">u4").view(np.uint8).reshape(len(rows), 4 * WORDS)
        index = self._index[rows]
        for is_index, chosen in enumerate((~index, index)):
            for mode, length in (LENGTHS, INDEX_LENGTHS)[is_index].items():
                self._bytes[2 * mode + is_index][rows[chosen], 2:] = packets[chosen, :length]

    def packet(self, row: int, mode: StreamMode) -> bytes:
        """One packet, without its length."""
        return self._bytes[2 * mode + int(self._index[row])][row, 2:].tobytes()

    def known(self, rows: Ints) -> Ints:
        return rows

    def frame(self, rows: Ints, modes: Modes) -> bytes:
        head = len(rows).to_bytes(2, "big")
        layouts = 2 * modes + self._index[rows]
        kinds = np.flatnonzero(np.bincount(layouts)).tolist()
        if len(kinds) == 1:
            return head + self._packets[kinds[0]][rows].tobytes()
        packets = np.empty(len(rows), object)
        for kind in kinds:
            chosen = layouts == kind
            packets[chosen] = self._packets[kind][rows[chosen]].tolist()
        return b"".join([head, *packets.tolist()])


@dataclass(frozen=True)
class RestCall:
    """A REST call of an account whose token was checked. `query`, and `form` (the body as one), as they came."""

    account: AccountSettings
    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    form: Mapping[str, Sequence[str]]
    body: bytes


class CallRefusedError(HttpError):
    """A REST call is answered with this status and the broker's name for the error, such as `OrderException`."""

    def __init__(self, status: int, error_type: str, message: str) -> None:
        super().__init__(status, message)
        self.error_type = error_type


class AccountOrder(NamedTuple):
    """A change of an order of the account of that label. `data` has the keys of the broker's postbacks."""

    account: str
    data: dict[str, Any]


class PacketSource(ABC):
    """Instruments by their place (row) from 0, the packet that each would send now, and what is said of them.

    All is called on the server's event loop, and must not block it, but for `instruments` and `profile`: these are
    called from other threads, and read only what does not change.
    """

    name: ClassVar[str]
    """What the server calls itself, and its control address."""

    def __init__(self, tokens: Ints, cached: CachedPackets) -> None:
        """`tokens` (n,) of all instruments, each once; `cached` is what a subscription brings at once."""
        self.tokens = tokens
        self.cached = cached
        self._by_token = np.argsort(tokens)
        self._sorted_tokens = tokens[self._by_token]

    def __len__(self) -> int:
        return len(self.tokens)

    def rows(self, tokens: Ints) -> Ints:
        """(n,) places of the tokens; -1 for those that are not listed."""
        at = np.searchsorted(self._sorted_tokens, tokens).clip(0, len(self.tokens) - 1)
        found: Ints = np.where(self._sorted_tokens[at] == tokens, self._by_token[at], -1)
        return found

    @property
    @abstractmethod
    def etag(self) -> str:
        """Names this list of instruments; changes with it."""

    @abstractmethod
    def instruments(self, exchange: str) -> str:
        """The list of an exchange, or of all (""), as the broker's CSV. Asked for once for each."""

    @abstractmethod
    def profile(self, account: AccountSettings) -> dict[str, Any]:
        """Who the account's user is, as the broker's REST calls say it."""

    @abstractmethod
    def stats(self) -> dict[str, Any]:
        """What the server's stats say of the source."""

    @abstractmethod
    def make_order(self, account: AccountSettings, fields: Mapping[str, Any]) -> AccountOrder:
        """An order update that somebody orders for a test; `fields` replace what is made up."""

    def order_updates(self) -> Iterable[AccountOrder]:
        """Those that are due and were not given yet: asked for after each step or slice and each REST call."""
        return ()

    def route(self, method: str, path: str) -> Callable[[RestCall], Any] | None:
        """What answers a REST call that the server does not answer itself; None: there is no such call.

        It returns what JSON holds under `data`, or an awaitable of that, and raises `CallRefusedError` for a refusal.
        """
        return None


class SteppedSource(PacketSource):
    """One that paints images of its packets, step by step."""

    def __init__(self, tokens: Ints, images: Images) -> None:
        """`tokens` (n,) of all instruments, each once; `images` of them, painted."""
        super().__init__(tokens, images)
        self.images = images

    @abstractmethod
    def step(self) -> Iterable[Ints]:
        """Go on by one step of the server's clock. Paints what ticks and gives its rows, each once, batch by batch; a
        batch is sent before the next one is asked for, so an instrument may tick in several."""

    @abstractmethod
    def skip(self, steps: int) -> None:
        """Steps that will not be taken, since the server is paused, or late."""
