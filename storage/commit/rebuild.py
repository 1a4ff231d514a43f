"""Rebuild: the tables of a day made again from the journal, after a change of the decoder or when files are lost.

All segments with records of the day, plain or archived, are decoded one after the other to files in the staging
folder. Then, table by table, one commit takes out the files that came from those segments and puts in the new ones.
Rows keep their identity: a tick its `stream` and `seq`, everything else its `stream` and `record`.

Whatever dies, a table has the old rows of the day or the new ones. Rebuilding again does the rest.

It may run beside capture and the writer. Only segments are decoded again that were committed when it began, the writer
commits others, and the transactions which say how far a stream is stay. What else takes files out of the tables waits
(`storage.tables.lock`).

A rebuild is refused where it would lose or renumber rows: where the tables have rows of the day whose segments are gone
(unless told that those may stay as they are), where a segment can no longer be decoded, and where the decoder finds
another number of packets than before, because then every later packet of the stream would get another `seq`. It may
find more where nothing comes later: the stream is dead, and ends on that day.
"""

import datetime
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from storage.commit.decoder import Decoder
from storage.commit.rebuild_plan import RebuildError, RebuildPlan, plan_day
from storage.commit.rebuild_rows import DayFiles, DaySorter
from storage.commit.rebuild_stage import ORDER_KEY, RebuildStage
from storage.commit.segment_rows import JOURNAL_TABLES, values_of
from storage.commit.segments import FilesOfTicks, damage_rows
from storage.errors import TableMissingError
from storage.layout import DataLayout
from storage.schema import ORDERS, QUARANTINE, TICKS, Table
from storage.tables import LakeTable, SymbolBook, SymbolLookup, hold_tables

__all__ = ["RebuildError", "RebuildOutcome", "rebuild_day"]


@dataclass(frozen=True)
class RebuildOutcome:
    """What a rebuild did: by table, the rows made again, and those that stayed as the journal does not have them."""

    date: datetime.date
    segments: int
    rows: Mapping[str, int]
    stayed: Mapping[str, int]


def rebuild_day(
    layout: DataLayout,
    decoder: Decoder,
    date: datetime.date,
    *,
    symbols: SymbolLookup | None = None,
    partial: bool = False,
    after_step: Callable[[str], None] = lambda _step: None,
) -> RebuildOutcome:
    """Make the partitions of an IST day again in ticks, orders, events and quarantine.

    `symbols` is by default the instruments table. `partial`: rows whose segments the journal does not have stay as
    they are. `after_step` is called with the name of each step that is done; it is for tests that end the process
    there.

    Raises RebuildError if the day cannot be rebuilt without a loss, and then nothing is changed; DataFolderError if
    another process swaps files of the tables for too long; JournalError, TableError if the system refuses.
    """
    with hold_tables(layout):
        try:
            tables = {spec.name: LakeTable(layout.table(spec.name), spec).open() for spec in JOURNAL_TABLES}
        except TableMissingError as error:
            raise RebuildError(f"{error}: nothing is committed, so there is nothing to rebuild") from error
        # Damage in a segment is in `quarantine` before its rows are in `ticks`.
        committed = tables[TICKS.name].snapshot()
        damaged = damage_rows(tables[QUARANTINE.name], unreadable_too=True)
        stage = RebuildStage(layout, decoder, symbols or SymbolBook(layout), date, damaged, after_step)
        shutil.rmtree(stage.folder, ignore_errors=True)  # what a run that died has left
        try:
            plan = plan_day(layout, decoder, committed, FilesOfTicks(tables[TICKS.name], committed), damaged, date)
            if not plan.runs:
                raise RebuildError(f"day {date}: got no committed record of it in the journal, expected some")
            decoded = [stage.decode(run) for run in plan.runs]
            sorters = {name: DaySorter(table, committed, decoded, stage.left_out) for name, table in tables.items()}
            found = {name: sorter.sort(date) for name, sorter in sorters.items()}
            stage.keep_orders(_stored_orders(sorters[ORDERS.name], found[ORDERS.name]))
            rows = {spec.name: stage.rows(spec).total() for spec in JOURNAL_TABLES}
            _check(date, plan, found, stage, partial=partial)
            for spec in JOURNAL_TABLES:
                _keep_rest(stage, spec, sorters[spec.name], found[spec.name])
            after_step("staged")
            for spec in JOURNAL_TABLES:
                _swap(stage, tables[spec.name], found[spec.name], after_step)
        finally:
            shutil.rmtree(stage.folder, ignore_errors=True)
    stayed = {name: each.gone.total() for name, each in found.items()}
    return RebuildOutcome(date, sum(len(run.numbers) for run in plan.runs), rows, stayed)


def _keep_rest(stage: RebuildStage, spec: Table, sorter: DaySorter, found: DayFiles) -> None:
    """Stage the rows that stay, of files of which some go."""
    for file in found.partly:
        for rows in sorter.rest(file):
            stage.keep_rest(spec, rows, file.values)


def _swap(stage: RebuildStage, table: LakeTable, found: DayFiles, after_step: Callable[[str], None]) -> None:
    """Put the staged files of one table in the place of the old ones, in one commit."""
    spec = table.spec
    new = stage.move(spec, table.path)
    after_step(f"{spec.name} moved")
    table.commit(new, remove=found.remove + found.partly, transactions=stage.next_seqs if spec is TICKS else None)
    after_step(f"{spec.name} committed")


def _stored_orders(sorter: DaySorter, found: DayFiles) -> set[tuple[object, ...]]:
    """What tells the orders apart that stay."""
    files = found.partly + found.stay
    return {values for file in files for rows in sorter.rest(file) for values in values_of(rows, ORDER_KEY)}


def _check(
    date: datetime.date, plan: RebuildPlan, found: Mapping[str, DayFiles], stage: RebuildStage, *, partial: bool
) -> None:
    """Raise RebuildError if rows would be lost."""
    for spec in JOURNAL_TABLES:
        _check_unread(spec, found[spec.name], stage.rows(spec))
    problems = list(plan.missing)
    for name, each in found.items():
        problems += [
            f"{count} rows of {name} come from segments of stream {stream} that are not decoded again"
            for stream, count in sorted(each.gone.items())
        ]
    if problems and not partial:
        raise RebuildError(f"day {date}: the journal does not have all of it: {'; '.join(problems)}")


def _check_unread(spec: Table, found: DayFiles, new: Mapping[str, int]) -> None:
    """A file that cannot be read may go only if its exchange gets as many rows as it had."""
    for file in found.unread:
        exchange = file.values.get("exchange", "")
        if new[exchange] != found.replaced[exchange]:
            raise RebuildError(
                f"file {spec.name}/{file.relative}: cannot be read, and the journal has {new[exchange]} rows of "
                f"its partition, expected {found.replaced[exchange]}"
            )
