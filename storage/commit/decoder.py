"""What a decoder makes of journal blocks, and what it needs for that.

Storage does not know the wire: whoever opens a lake or starts a writer passes a `Decoder`. It must be a pure function
of its arguments, because a segment may be decoded several times: by the writer, again after a crash, and by every
query that reads it before it is committed. All of them must get the same rows with the same `seq`.
"""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.journal.format import Block


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


class SymbolIndex:
    """What tokens mean on one day: `tokens` int64 sorted and unique, `symbols` the names in the same order."""

    def __init__(self, tokens: NDArray[np.int64], symbols: pa.StringArray) -> None:
        if len(tokens) != len(symbols):
            raise ValueError(f"got {len(tokens)} tokens and {len(symbols)} symbols, expected as many")
        if len(tokens) and not bool(np.all(tokens[1:] > tokens[:-1])):
            raise ValueError("got tokens that are not sorted and unique")
        self.tokens = tokens
        self.symbols = symbols

    def lookup(self, tokens: NDArray[np.int64]) -> pa.DictionaryArray:
        """The symbol of each token, null where it is unknown: dictionary<int32, string>, as long as `tokens`."""
        # Few distinct tokens stand in many rows: search for each once, then spread.
        encoded = pa.array(tokens).dictionary_encode()
        distinct = encoded.dictionary.to_numpy()
        if not len(self.tokens) or not len(distinct):
            return pa.DictionaryArray.from_arrays(pa.nulls(len(tokens), pa.int32()), self.symbols[:0])
        at = np.searchsorted(self.tokens, distinct).clip(max=len(self.tokens) - 1)
        known = self.tokens[at] == distinct
        used = self.symbols.take(pa.array(at[known]))
        if known.all():
            return pa.DictionaryArray.from_arrays(encoded.indices, used)
        indices = encoded.indices.to_numpy()
        place = np.cumsum(known, dtype=np.int32) - np.int32(1)
        return pa.DictionaryArray.from_arrays(pa.array(place[indices], mask=~known[indices]), used)


SymbolLookup = Callable[[datetime.date], SymbolIndex | None]
"""The names in force on a day, or None when no instrument list of that day or before is known."""


class Decoder(Protocol):
    """Turns the blocks of one segment into rows. Pure: the same arguments give the same rows."""

    def decode(
        self, stream: str, segment: int, blocks: Sequence[Block], *, first_seq: int, symbols: SymbolLookup
    ) -> Decoded:
        """`blocks` in file order; rows of ticks get `seq` `first_seq`, `first_seq + 1`, … in wire order."""
        ...
