"""Ticks of many instruments in columns: an instrument's of a day one after the other, in the order of receipt.

Sealed days lie in stretches of time, and in each by instrument: what is asked of a range of tokens is read by itself,
so that memory is bounded and nothing has to be sorted but pieces that are in order.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from queries.history.dated import DATED_TICKS
from queries.history.symbols import Selection, lists_in_force
from queries.lake import LakeState, among
from storage.clock import IST_OFFSET_NS, NS_PER_US, US_PER_DAY
from storage.memory import numpy_of

Array = NDArray[Any]
Columns = Mapping[str, Array]
Ints = NDArray[np.int64]

FIRST_DAY: Final = dt.date(1970, 1, 1)
PLACE_BITS: Final = 12
RUN_SQL: Final = f"(date - DATE '{FIRST_DAY}') * {1 << 32} + instrument_token"
# Of rows that are received in the same microsecond, the later in the stream is the later.
PLACE_SQL: Final = f"epoch_us(received_at) * {1 << PLACE_BITS} + (seq & {(1 << PLACE_BITS) - 1})"

_READ_ROWS: Final = 1_000_000
_BLOCK_ROWS: Final = 1 << 16  # so that what is worked out of one stays near the processor
_MOST_ROWS: Final = 50_000  # that one instrument has in a day, about
_LONG_PIECE: Final = 32
_FEW_DAYS: Final = 5  # whose lists are kept as a whole
TOKEN: Final = (1 << 32) - 1
FEW_RUNS: Final = 20
"""So many are read sooner than they could be handed from thread to thread."""


def run_of(day: dt.date, token: int) -> int:
    """The number of an instrument's rows of a day."""
    return ((day - FIRST_DAY).days << 32) + token


def midnights_of(runs: Ints) -> Ints:
    """When the days of these begin, in microseconds since the epoch."""
    found: Ints = (runs >> 32) * US_PER_DAY - IST_OFFSET_NS // NS_PER_US
    return found


def batches_of(
    state: LakeState, selection: Selection, columns: Mapping[str, str], condition: str = "true"
) -> Iterator[Sequence[Columns]]:
    """Rows of `dated_ticks` of what was chosen, on its days, by name as NumPy arrays, in batches as they lie: all rows
    of some runs at a time, which `in_order` puts in order.

    A run is an instrument's rows of a day: `run` numbers it (`run_of`), and its rows come by `place`, in the order of
    receipt: microseconds since the epoch, shifted by PLACE_BITS, and what tells rows of one microsecond apart.
    `columns` are names and SQL expressions of numbers; one with nulls is of floats, with NaN for them.
    """
    shown = ", ".join(f"{text} AS {name}" for name, text in {"run": RUN_SQL, "place": PLACE_SQL, **columns}.items())
    parts = _parts(state, selection)
    queries = (f"SELECT {shown} FROM {DATED_TICKS.name} WHERE {part} AND ({condition})" for part in parts)
    for rows in state.read(queries, many=len(selection.days) * len(selection.tokens) > FEW_RUNS):
        yield [_arrays(batch) for batch in rows.to_batches() if batch.num_rows]


def names_of(state: LakeState, selection: Selection, runs: Ints) -> list[str | None]:
    """The symbols of some runs: by the list in force on that day; where it does not name them, by their rows."""
    lists = lists_in_force(state, selection.days)
    few = len(lists) <= _FEW_DAYS
    listed = _listed(state, sorted(set(lists.values())), None if few else tuple(selection.tokens))
    of_day = {day.toordinal() - FIRST_DAY.toordinal(): listed.get(of, {}) for day, of in lists.items()}
    found = [of_day.get(run >> 32, {}).get(run & TOKEN) for run in runs.tolist()]
    unnamed = {run for run, name in zip(runs.tolist(), found, strict=True) if name is None}
    if unnamed:
        where = f"{among(selection.days)} AND {selection.where(sorted({run & TOKEN for run in unnamed}))}"
        (rows,) = state.read(
            [f"SELECT {RUN_SQL} AS run, any_value(symbol) AS name FROM ticks WHERE {where} GROUP BY run"]
        )
        own = dict(zip(rows["run"].to_pylist(), rows["name"].to_pylist(), strict=True))
        found = [name or own.get(run) for run, name in zip(runs.tolist(), found, strict=True)]
    return found


def _listed(state: LakeState, lists: Sequence[dt.date], tokens: Sequence[int] | None) -> dict[dt.date, dict[int, str]]:
    """What each of the lists calls these tokens, or all."""

    def look() -> dict[dt.date, dict[int, str]]:
        which = "true" if tokens is None else f"instrument_token IN ({', '.join(map(str, tokens)) or 'NULL'})"
        columns = "SELECT date, instrument_token, first(symbol) AS symbol FROM instruments"
        (rows,) = state.read([f"{columns} WHERE {among(lists)} AND {which} GROUP BY ALL"])
        found: dict[dt.date, dict[int, str]] = {}
        for day, token, symbol in zip(*(rows[name].to_pylist() for name in rows.schema.names), strict=True):
            found.setdefault(day, {})[token] = symbol
        return found

    return state.remembered("names", (tuple(lists), tokens), ["instruments"], look)


def _parts(state: LakeState, selection: Selection) -> Iterator[str]:
    """Conditions of which one holds for each row, and each for not many more than can be read at once."""
    days, tokens = selection.days, selection.tokens
    if len(days) * len(tokens) * _MOST_ROWS <= _READ_ROWS:
        yield f"{among(days)} AND {selection.where()}"
        return
    where = f"{among(days)} AND {selection.where(tokens, dense=True)}"
    runs, rows = state.remembered("rows of runs", where, ["ticks", "events"], lambda: _counted(state, where))
    chosen = np.isin(runs & TOKEN, tokens)
    several: list[dt.date] = []
    count = 0
    for day in days:
        mine = chosen & (runs >> 32 == run_of(day, 0) >> 32)
        total = int(rows[mine].sum())
        if several and count + total > _READ_ROWS:
            yield f"{among(several)} AND {selection.where()}"
            several, count = [], 0
        if total <= _READ_ROWS:
            several.append(day)
            count += total
            continue
        order = np.argsort(runs[mine])
        there, sizes = (runs[mine] & TOKEN)[order], rows[mine][order]
        others = runs[~chosen & (runs >> 32 == run_of(day, 0) >> 32)] & TOKEN
        part = np.cumsum(sizes) * -(-total // _READ_ROWS) // (total + 1)
        for some in np.split(there, np.flatnonzero(part[1:] != part[:-1]) + 1):
            dense = not ((others > some[0]) & (others < some[-1])).any()
            yield f"{among([day])} AND {selection.where(some.tolist(), dense=dense)}"
    if several:
        yield f"{among(several)} AND {selection.where()}"


def _counted(state: LakeState, where: str) -> tuple[Ints, Ints]:
    """The runs, and how many rows they have."""
    (found,) = state.read([f"SELECT {RUN_SQL} AS run, count(*) AS rows FROM ticks WHERE {where} GROUP BY run"])
    return numpy_of(found["run"]), numpy_of(found["rows"])


def _arrays(batch: pa.RecordBatch) -> Columns:
    return {name: numpy_of(batch[name]) for name in batch.schema.names}


def in_order(batches: Sequence[Columns], *, in_pieces: bool = False) -> Iterator[Columns]:
    """The batches' rows in blocks of whole runs, by run and place.

    With `in_pieces` the batches as they are, small ones together, if a run lies in a few pieces in them, each in order
    and after the other.
    """
    if not batches:
        return
    pieces = _pieces(batches)
    if pieces is None:
        rows = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
        order = np.lexsort((rows["place"], rows["run"]))
        batches = [{name: values[order] for name, values in rows.items()}]
        pieces = _pieces(batches)
        assert pieces is not None  # each is a run
    elif in_pieces and not _falls(pieces):
        yield from _together(batches)
        return
    kept: list[tuple[int, int, int]] = []
    count, last = 0, None
    for batch, begin, end, run in pieces:
        if count >= _BLOCK_ROWS and run != last:
            yield _joined(batches, kept)
            kept, count = [], 0
        kept.append((batch, begin, end))
        count += end - begin
        last = run
    if kept:
        yield _joined(batches, kept)


def _together(batches: Sequence[Columns]) -> Iterator[Columns]:
    """Of small batches those that come after one another as one: what is done with each takes its time."""
    kept: list[Columns] = []
    rows = 0
    for batch in batches:
        run, place = batch["run"], batch["place"]
        falls = kept and kept[-1]["run"][-1] == run[0] and kept[-1]["place"][-1] > place[0]
        if kept and (falls or rows + len(run) > _BLOCK_ROWS):
            yield _joined(kept, [(at, 0, len(each["run"])) for at, each in enumerate(kept)])
            kept, rows = [], 0
        kept.append(batch)
        rows += len(run)
    yield _joined(kept, [(at, 0, len(each["run"])) for at, each in enumerate(kept)])


def _falls(pieces: Sequence[tuple[int, int, int, int]]) -> bool:
    """Whether in some batch a piece of a run is followed by an earlier one of it."""
    keys = [(batch, run) for batch, _, _, run in sorted(pieces)]
    return any(one == other for one, other in pairwise(keys))


def _joined(batches: Sequence[Columns], pieces: Sequence[tuple[int, int, int]]) -> Columns:
    if len(pieces) == 1:
        ((at, begin, end),) = pieces
        return {name: values[begin:end] for name, values in batches[at].items()}
    return {name: np.concatenate([batches[at][name][begin:end] for at, begin, end in pieces]) for name in batches[0]}


def _pieces(batches: Sequence[Columns]) -> list[tuple[int, int, int, int]] | None:
    """Batch, begin, end and run of each piece in which rows are in order, in their order; None if rows must be sorted,
    since pieces are short, or of the same time."""
    found: list[Ints] = []
    for at, batch in enumerate(batches):
        run, place = batch["run"], batch["place"]
        begins = np.flatnonzero((run[1:] != run[:-1]) | (place[1:] < place[:-1])) + 1
        begins = np.append(0, begins)
        ends = np.append(begins[1:], len(run))
        found.append(np.stack([np.full(len(begins), at), begins, ends, run[begins], place[begins], place[ends - 1]]))
    batch, begins, ends, runs, first, last = table = np.concatenate(found, axis=1) if found else np.empty((6, 0), int)
    order = np.lexsort((first, runs))
    runs, first, last = runs[order], first[order], last[order]
    crossing = (runs[1:] == runs[:-1]) & (first[1:] < last[:-1])
    again = len(runs) - len(np.unique(runs))
    if crossing.any() or again * _LONG_PIECE > int((ends - begins).sum()):
        return None
    return list(zip(*table[:4, order].tolist(), strict=True))
