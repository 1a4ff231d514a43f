"""The ticks of the tail as a pyarrow Dataset: DuckDB says which columns it needs, and which rows, and gets just these.

A filter is applied in three steps, each for what the one before has left:

1. to the instruments. There are few, and their columns are known without decoding anything. Of the other columns a
   filter may name, nothing is known yet, so only an instrument for which it is false whatever they hold is left out.
2. to the other columns that it names;
3. and what is then left is decoded in the columns that the query asks for.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow.dataset import InMemoryDataset

from queries.tail.ticks import INSTRUMENT, LIVE_SCHEMA, LiveTicks, batches_of
from storage.commit import FoundTicks

BATCH_ROWS: Final = 1 << 17
MOST_WORLDS: Final = 16
_PLACE: Final = "__place"


class TicksDataset(InMemoryDataset):  # type: ignore[misc]
    """What DuckDB takes for a dataset. It calls `scanner` once for each scan, and `to_reader` of what that returns."""

    def __init__(self, ticks: LiveTicks) -> None:
        super().__init__(pa.Table.from_batches([], LIVE_SCHEMA))
        self._ticks = ticks

    def scanner(
        self,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,  # noqa: A002 - so it is called
        **_: Any,
    ) -> "TicksScan":
        """The rows that the filter keeps, in these columns."""
        return TicksScan(self._ticks, LIVE_SCHEMA.names if columns is None else list(columns), filter)


class TicksScan:
    """One scan."""

    def __init__(self, ticks: LiveTicks, columns: Sequence[str], filter_: pc.Expression | None) -> None:
        self._ticks = ticks
        self._columns = columns
        self._filter = filter_

    def to_reader(self) -> pa.RecordBatchReader:
        """Batches that are decoded as they are read."""
        schema = pa.schema([LIVE_SCHEMA.field(name) for name in self._columns])
        return pa.RecordBatchReader.from_batches(schema, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if self._filter is None:
            yield from self._ticks.batches(self._columns, BATCH_ROWS)
            return
        named = [name for name in LIVE_SCHEMA.names if re.search(rf"\b{name}\b", str(self._filter))]
        others = [name for name in named if name not in INSTRUMENT]
        parts = self._ticks.parts
        known = [self._ticks.instruments(part) for part in parts]
        passed = may_pass(self._filter, pa.concat_tables(known), others)  # at once, since each time takes a while
        ends = np.cumsum([len(rows) for rows in known])
        for part, possible in zip(parts, np.split(passed, ends[:-1]), strict=True):
            if not possible.any():
                continue
            rows = None if possible.all() else part.rows_of(possible)
            if others:
                rows = self._kept(part, named, rows)
            decoded = self._ticks.decode(part, self._columns, rows)
            yield from batches_of(decoded, self._columns, len(part) if rows is None else len(rows), BATCH_ROWS)

    def _kept(self, part: FoundTicks, named: Sequence[str], rows: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """Those of the rows that the filter keeps."""
        decoded = self._ticks.decode(part, named, rows)
        count = len(part) if rows is None else len(rows)
        places = _true_at(self._filter, pa.table(decoded), count)
        return places if rows is None else rows[places]


def may_pass(filter_: pc.Expression, known: pa.Table, others: Sequence[str]) -> NDArray[np.bool_]:
    """For which rows of `known` the filter is not false for certain, if nothing is known of the columns `others`.

    Without others: for which it is true. It is evaluated with null for each of the others, so that what it makes of
    them is null as well, which is not false. That does not hold for tests of whether they are null. A column that
    stands in such tests alone is tried with a value too; one that is compared besides lets everything pass.
    """
    everything = np.ones(len(known), np.bool_)
    if not others:
        passed = np.zeros(len(known), np.bool_)
        passed[_true_at(filter_, known, len(known))] = True
        return passed
    tested = []
    for name in others:
        mentions, tests = _mentions(str(filter_), name)
        if tests == mentions:
            tested.append(name)
        elif tests:
            return everything
    if 2 ** len(tested) > MOST_WORLDS:
        return everything
    possible = np.zeros(len(known), np.bool_)
    for valid in itertools.product((False, True), repeat=len(tested)):
        columns = dict(zip(tested, valid, strict=True))
        world = known
        for name in others:
            kind = LIVE_SCHEMA.field(name).type
            world = world.append_column(
                name, _some(kind, len(known)) if columns.get(name) else pa.nulls(len(known), kind)
            )
        if len(tested) == len(others):  # nothing of it is unknown
            possible[_true_at(filter_, world, len(known))] = True
        else:
            here = everything.copy()
            here[_true_at(~filter_, world, len(known))] = False
            possible |= here
    return possible


def _mentions(text: str, name: str) -> tuple[int, int]:
    """How often a filter's text mentions a column, and how often only to ask whether it is null."""
    # The one form in which DuckDB has a list: null where the column is. So it is a comparison like others.
    text = re.sub(rf"if_else\(is_valid\({name}\), is_in\({name}\b", f"is_in({name}", text)
    tests = re.findall(rf"\bis_valid\({name}\)|\bis_null\({name}\b", text)
    return len(re.findall(rf"\b{name}\b", text)), len(tests)


def _some(kind: pa.DataType, count: int) -> pa.Array:
    """Any value of a type, so many times."""
    return (
        pa.nulls(count, pa.int64()).fill_null(0).cast(pa.string() if pa.types.is_dictionary(kind) else kind).cast(kind)
    )


def _true_at(filter_: pc.Expression | None, rows: pa.Table, count: int) -> NDArray[np.int64]:
    """The places of the rows for which it is true."""
    placed = rows.append_column(_PLACE, pa.array(np.arange(count)))
    found = InMemoryDataset(placed).scanner(columns=[_PLACE], filter=filter_).to_table()
    places: NDArray[np.int64] = np.sort(found.column(0).to_numpy())
    return places
