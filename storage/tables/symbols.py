"""Instrument lists of days gone by: stored once a day, looked up when ticks are decoded.

A token means something only together with a date, because tokens of expired contracts are given out again. The list in
force on a day is that day's, or the newest one before it.
"""

import datetime
import hashlib
import io
import threading
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.errors import TableMissingError
from storage.files import DataFile
from storage.layout import DataLayout
from storage.schema import INSTRUMENTS
from storage.tables.log import Version
from storage.tables.parquet import write_file, write_parquet
from storage.tables.table import LakeTable

__all__ = ["SymbolBook", "SymbolIndex", "read_instruments", "write_instruments"]


def write_instruments(layout: DataLayout, date: datetime.date, table: pa.Table) -> bool:
    """Make `table` the list of `date`, in one commit; False if it is that already.

    `table` has the columns of the instruments table, with or without `date`. Raises TableError.
    """
    rows = table.select(INSTRUMENTS.file_schema.names).combine_chunks()
    values = {"date": date.isoformat()}
    # The name follows from the content, so that storing the same list again changes nothing.
    bytes_ = io.BytesIO()
    write_parquet(rows, bytes_)
    stem = f"instruments-{hashlib.sha256(bytes_.getbuffer()).hexdigest()[:16]}"
    lake_table = LakeTable(layout.table(INSTRUMENTS.name), INSTRUMENTS).open(create=True)
    if {e.relative.rpartition("/")[2] for e in _of_day(lake_table.snapshot(), date)} == {f"{stem}.parquet"}:
        return False
    staging = layout.staging / "instruments"
    file = write_file(INSTRUMENTS, rows, values=values, stem=stem, table_folder=lake_table.path, staging=staging)
    return lake_table.replace(values, [file])


def read_instruments(layout: DataLayout, date: datetime.date | None = None) -> pa.Table | None:
    """The list in force on `date` (default: the newest), in the table's schema; None if there is none."""
    try:
        table = LakeTable(layout.table(INSTRUMENTS.name), INSTRUMENTS).open()
    except TableMissingError:
        return None
    day = _in_force(table.snapshot(), date)
    return None if day is None else table.read(date=day)


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


class SymbolBook:
    """A `SymbolLookup` over the instruments table. Keeps what it has read until the table changes. Thread-safe."""

    def __init__(self, layout: DataLayout) -> None:
        self._table = LakeTable(layout.table(INSTRUMENTS.name), INSTRUMENTS)
        self._lock = threading.Lock()
        self._is_open = False
        self._version = -1
        self._indexes: dict[datetime.date, SymbolIndex] = {}

    def __call__(self, date: datetime.date) -> SymbolIndex | None:
        """What tokens mean on `date`, or None when no list of that day or before is stored. Raises TableError."""
        with self._lock:
            return self._lookup(self._refresh(), date)

    def fixed(self) -> tuple[int, SymbolLookup]:
        """The table's version as `version` has it, and a lookup that keeps to it."""
        with self._lock:
            snapshot = self._refresh()

        def lookup(date: datetime.date) -> SymbolIndex | None:
            with self._lock:
                return self._lookup(snapshot, date)

        return -1 if snapshot is None else snapshot.version, lookup

    def _lookup(self, snapshot: Version | None, date: datetime.date) -> SymbolIndex | None:
        day = None if snapshot is None else _in_force(snapshot, date)
        if snapshot is None or day is None:
            return None
        known = self._indexes if snapshot.version == self._version else {}
        if day not in known:
            rows = self._table.read(date=day, columns=["instrument_token", "symbol"], snapshot=snapshot)
            known[day] = _index(rows)
        return known[day]

    @property
    def version(self) -> int:
        """The table's version: lookups of an equal version give equal answers. -1 while there is no table."""
        with self._lock:
            snapshot = self._refresh()
            return -1 if snapshot is None else snapshot.version

    def _refresh(self) -> Version | None:
        if not self._is_open:
            try:
                self._table.open()
            except TableMissingError:
                return None
            self._is_open = True
        snapshot = self._table.snapshot()
        if snapshot.version != self._version:
            self._indexes.clear()
            self._version = snapshot.version
        return snapshot


def _of_day(snapshot: Version, date: datetime.date) -> list[DataFile]:
    return [entry for entry in snapshot.entries if entry.values["date"] == date.isoformat()]


def _in_force(snapshot: Version, date: datetime.date | None) -> datetime.date | None:
    days = {datetime.date.fromisoformat(entry.values["date"]) for entry in snapshot.entries}
    return max((day for day in days if date is None or day <= date), default=None)


def _index(rows: pa.Table) -> SymbolIndex:
    tokens = rows.column("instrument_token").to_numpy()
    # Sorted by token; of a token that is listed twice, the first.
    distinct, first = np.unique(tokens, return_index=True)
    return SymbolIndex(distinct, rows.column("symbol").combine_chunks().take(pa.array(first)))
