"""The ticks of the tail, decoded as far as a query asks: its columns, its instruments, or only their number."""

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.commit import FoundTicks
from storage.schema import TICKS

if TYPE_CHECKING:
    from storage.tables import SymbolLookup  # with Delta's library, which a reader needs not load

KEPT_BYTES: Final = 256 << 20
"""What decoded columns may take that are kept for the next query."""
FEW: Final = 8
"""Columns of less than one in so many rows are decoded for these rows alone, and not kept."""

TEXT: Final = pa.dictionary(pa.int32(), pa.string())
LIVE_SCHEMA: Final = pa.schema(
    [(field.name, TEXT if pa.types.is_string(field.type) else field.type) for field in TICKS.schema]
)
"""The columns of ticks. DuckDB takes text in dictionaries for what it is, and does not copy it."""
INSTRUMENT: Final = ("date", "exchange", "instrument_token", "symbol")
"""The columns that are the same in all ticks of one instrument on one day."""


class KeptColumns:
    """Whole columns that were decoded. Those that nobody asked for the longest give way. Thread-safe."""

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._columns: OrderedDict[tuple[FoundTicks, str, int], pa.Array] = OrderedDict()
        self._lock = threading.Lock()

    def decode(
        self, ticks: FoundTicks, columns: Collection[str], symbols: "SymbolLookup", version: int
    ) -> dict[str, pa.Array]:
        """Columns of all rows of `ticks`; `version` says by which instrument lists symbols are looked up."""
        with self._lock:
            keys = {name: (ticks, name, version if name == "symbol" else 0) for name in columns}
            missing = [name for name, key in keys.items() if key not in self._columns]
            found = {name: self._columns[key] for name, key in keys.items() if key in self._columns}
            fresh = ticks.decode(missing, symbols) if missing else {}
            for name, key in keys.items():
                if name in fresh:
                    self._columns[key] = fresh[name]
                    self._bytes += fresh[name].nbytes
                self._columns.move_to_end(key)
            while self._bytes > self._most_bytes:
                self._bytes -= self._columns.popitem(last=False)[1].nbytes
            return found | fresh

    def keep_only(self, current: Collection[FoundTicks]) -> None:
        """Let go of the columns of all others."""
        with self._lock:
            for key in [key for key in self._columns if key[0] not in current]:
                self._bytes -= self._columns.pop(key).nbytes


class LiveTicks:
    """The ticks of one state of the tail. `symbols` are those of the state, and `version` says which ones."""

    def __init__(self, parts: Sequence[FoundTicks], symbols: "SymbolLookup", version: int, kept: KeptColumns) -> None:
        self.parts = parts
        self.symbols = symbols
        self.version = version
        self._kept = kept

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def partitions(self) -> set[tuple[str, ...]]:
        """The values of the partitions that there are rows of, as text."""
        return {
            (part.day.isoformat(), exchange)
            for part in self.parts
            for exchange in part.exchanges.dictionary.take(part.exchanges.indices.unique()).to_pylist()
        }

    def instruments(self, part: FoundTicks) -> pa.Table:
        """The columns INSTRUMENT of each of the part's tokens, in their order."""
        index = self.symbols(part.day)
        count = len(part.tokens)
        days = np.full(count, np.datetime64(part.day, "D").astype(np.int32))
        symbols = pa.nulls(count, TEXT) if index is None else index.lookup(part.tokens)
        columns = [pa.array(days).view(pa.date32()), part.exchanges, pa.array(part.tokens), symbols]
        fields = [LIVE_SCHEMA.field(name) for name in INSTRUMENT]
        return pa.Table.from_arrays(
            [column.cast(field.type) for column, field in zip(columns, fields, strict=True)], schema=pa.schema(fields)
        )

    def decode(
        self, part: FoundTicks, columns: Collection[str], rows: NDArray[np.int64] | None = None
    ) -> dict[str, pa.Array]:
        """Columns of one of the parts: of all its rows, or of these."""
        if rows is not None and len(rows) * FEW < len(part):
            return part.decode(columns, self.symbols, rows)
        decoded = self._kept.decode(part, columns, self.symbols, self.version)
        if rows is None:
            return decoded
        places = pa.array(rows)
        return {name: column.take(places) for name, column in decoded.items()}

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """All rows, in the given columns."""
        for part in self.parts:
            yield from batches_of(self.decode(part, columns), columns, len(part), batch_rows)


def batches_of(
    decoded: dict[str, pa.Array], columns: Sequence[str], count: int, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Decoded columns as batches, so that several threads have something to do."""
    schema = pa.schema([LIVE_SCHEMA.field(name) for name in columns])
    batch = pa.RecordBatch.from_arrays([decoded[name] for name in columns], schema=schema)
    for start in range(0, count, batch_rows):
        yield batch.slice(start, batch_rows)
