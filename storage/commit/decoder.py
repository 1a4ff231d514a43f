"""What a decoder makes of journal blocks, and what it needs for that.

Storage does not know the wire: whoever opens a lake or starts a writer passes a `Decoder`. It must be a pure function
of its arguments, because a segment may be decoded several times: by the writer, again after a crash, and by every
query that reads it before it is committed. All of them must get the same rows with the same `seq`.
"""

import datetime
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.journal import Block

if TYPE_CHECKING:
    from storage.tables import SymbolLookup  # with Delta's library, which a reader needs not load


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one table that belong to one partition.

    `values` are the partition columns as in the folder's name (`{"date": "2026-11-22", "exchange": "NSE"}`), in the
    order of the table's `partition_by`. `rows` has the table's `file_schema`; string columns may be
    dictionary-encoded, and of columns without null the schema may say so.
    """

    values: Mapping[str, str]
    rows: pa.Table


@dataclass(frozen=True, eq=False)
class Decoded:
    """All rows of some blocks: table name -> parts, at most one a partition. `packets` counts the rows of ticks."""

    parts: Mapping[str, list[Part]]
    packets: int


@dataclass(frozen=True, eq=False)
class Pieces:
    """The rows of ticks of one partition as `Part` has them, but piece by piece, so that one is in memory at a time.
    All pieces have one schema.

    `pieces` can be gone through once, while the blocks are there, and those of several partitions by several threads.
    """

    values: Mapping[str, str]
    pieces: Iterable[pa.Table]


@dataclass(frozen=True, eq=False)
class DecodedInPieces:
    """As `Decoded`, the ticks apart: at most one of `ticks` a partition, in which there are `packets` rows."""

    parts: Mapping[str, list[Part]]
    ticks: Sequence[Pieces]
    packets: int


Fetch = Callable[[NDArray[np.int64], NDArray[np.int64]], tuple[NDArray[np.uint8], NDArray[np.int64]]]
"""Offsets in a segment, ascending, and sizes -> an array that has these bytes, and where each begins in it."""


class FoundTicks(Protocol):
    """The ticks of some blocks that were received on one IST day, found and not decoded. Rows are in wire order."""

    @property
    def day(self) -> datetime.date:
        """The day."""
        ...

    @property
    def tokens(self) -> NDArray[np.int64]:
        """The instruments that there are, each once."""
        ...

    @property
    def exchanges(self) -> pa.DictionaryArray:
        """Of each of `tokens`."""
        ...

    def __len__(self) -> int: ...

    def join(self, others: "Sequence[Self]") -> Self:
        """These ticks and the others, which are of the same day and segment, and come behind them."""
        ...

    def rows_of(self, wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The rows of the instruments that are wanted, ascending. `wanted` has an element for each of `tokens`."""
        ...

    def decode(
        self, columns: Collection[str], symbols: "SymbolLookup", rows: NDArray[np.int64] | None = None
    ) -> dict[str, pa.Array]:
        """These columns of the ticks table, of all rows or of some; strings are dictionary<int32, string>."""
        ...


class Found(Protocol):
    """What is in some blocks."""

    @property
    def packets(self) -> int:
        """How many ticks there are."""
        ...

    @property
    def ticks(self) -> Sequence[FoundTicks]:
        """All of them."""
        ...

    def others(self) -> Mapping[str, list[Part]]:
        """The rows of the other tables. To be called while the blocks are there."""
        ...


class Decoder(Protocol):
    """Turns the blocks of one segment into rows. Pure: the same arguments give the same rows."""

    def decode(
        self, stream: str, segment: int, blocks: Sequence[Block], *, first_seq: int, symbols: "SymbolLookup"
    ) -> Decoded:
        """`blocks` in file order; rows of ticks get `seq` `first_seq`, `first_seq + 1`, … in wire order."""
        ...


@runtime_checkable
class PieceDecoder(Decoder, Protocol):
    """A decoder that need not have all rows in memory at once."""

    def decode_in_pieces(
        self, stream: str, segment: int, blocks: Sequence[Block], *, first_seq: int, symbols: "SymbolLookup"
    ) -> DecodedInPieces:
        """The same rows as `decode`, in the same order."""
        ...


class TailDecoder(Decoder, Protocol):
    """A decoder that can also find what there is, and decode of ticks only what is asked for."""

    def find(self, stream: str, segment: int, blocks: Sequence[Block], *, first_seq: int, fetch: Fetch) -> Found:
        """The same rows as `decode`, in another order, each column of ticks when it is asked for.

        The bytes of `blocks` are only there during this call: what is decoded later is fetched again.
        """
        ...
