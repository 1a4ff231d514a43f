"""What a decoder makes of journal blocks, and what it needs for that.

Storage does not know the wire: whoever opens a lake or starts a writer passes a `Decoder`. It must be a pure function
of its arguments, because a segment may be decoded several times: by the writer, again after a crash, and by every
query that reads it before it is committed. All of them must get the same rows with the same `seq`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from storage.journal import Block
from storage.tables import SymbolLookup


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one table that belong to one partition.

    `values` are the partition columns as in the folder's name (`{"date": "2026-11-22", "exchange": "NSE"}`), in the
    order of the table's `partition_by`. `rows` has the table's `file_schema`; string columns may be
    dictionary-encoded.
    """

    values: Mapping[str, str]
    rows: pa.Table


@dataclass(frozen=True, eq=False)
class Decoded:
    """All rows of some blocks: table name -> parts, at most one a partition. `packets` counts the rows of ticks."""

    parts: Mapping[str, list[Part]]
    packets: int


class Decoder(Protocol):
    """Turns the blocks of one segment into rows. Pure: the same arguments give the same rows."""

    def decode(
        self, stream: str, segment: int, blocks: Sequence[Block], *, first_seq: int, symbols: SymbolLookup
    ) -> Decoded:
        """`blocks` in file order; rows of ticks get `seq` `first_seq`, `first_seq + 1`, … in wire order."""
        ...
