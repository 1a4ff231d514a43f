"""What may go: segments of the journal whose rows are in the tables, and days of the tables themselves.

Segments go once they are committed and old enough, in whichever form they are there, or when their day has gone from
the tables. Until then those with damage are kept, because their bytes are in no table and somebody has to look at
them; and those that did not verify (`storage.upkeep.archive`), because the tables do not have all their rows. A
stream's segments go oldest first, so what is left of a stream is mostly its end.

Days go from the tables only when asked for, by age or until the rest fits. A commit takes their files out of a table;
the files stay for a while, for readers of older versions.
"""

import contextlib
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Final

from storage.clock import ist_date, nanoseconds
from storage.commit import DamageRows, damage_rows
from storage.errors import JournalError, TableMissingError
from storage.files import DataFile
from storage.journal import is_alive, segments, streams
from storage.layout import DataLayout
from storage.schema import INSTRUMENTS, QUARANTINE, TABLES, TICKS
from storage.tables import FIRST_DAY, LakeTable, first_day, hold_tables

_DAY: Final = datetime.timedelta(days=1)


class Decision(Enum):
    """What becomes of a segment."""

    REMOVE = auto()
    KEEP = auto()
    """It stays, and says nothing about those behind it."""
    STOP = auto()
    """It stays, and so do all behind it in its stream."""


@dataclass(frozen=True)
class SegmentState:
    """What retention asks of a segment. `written_ns` is when it was last written, in whichever form that was later."""

    written_ns: int
    is_committed: bool
    is_damaged: bool = False
    is_unverified: bool = False
    is_plain: bool = False


@dataclass(frozen=True)
class SegmentRule:
    """Which segments may go: last written before `before_ns`, or on a day before the first that the tables have left.

    With `archived_only` a plain one holds back those behind it, as it may not have been verified yet.
    """

    before_ns: int
    first_day: datetime.date
    archived_only: bool = False

    def decide(self, segment: SegmentState) -> Decision:
        """What becomes of a segment, when those before it in its stream have gone or were kept."""
        if not segment.is_committed:
            return Decision.STOP
        if ist_date(segment.written_ns) < self.first_day:
            return Decision.REMOVE  # whatever is wrong with it: the tables have lost its day, too
        if segment.written_ns > self.before_ns:
            return Decision.STOP
        # These stay until somebody has looked at them, which may be never: nothing waits for them.
        if segment.is_damaged or segment.is_unverified:
            return Decision.KEEP
        if self.archived_only and segment.is_plain:
            return Decision.STOP
        return Decision.REMOVE


def remove_committed(
    layout: DataLayout, *, keep: datetime.timedelta, now: datetime.datetime, archived_only: bool = False
) -> list[Path]:
    """Remove segments that are committed and were last written more than `keep` before `now`, which has a zone.

    Segments last written on a day before the first that retention has left go too, whatever their age. Folders of dead
    streams go with their last segment. The last segment of a live stream stays. With `archived_only` what was not
    archived yet stays too, as it may not have been verified. Returns the files removed. May run beside the writer.
    Raises JournalError if the system refuses; TableError if a table cannot be read.
    """
    try:
        ticks, quarantine = (LakeTable(layout.table(spec.name), spec).open() for spec in (TICKS, QUARANTINE))
    except TableMissingError:
        return []
    # What is committed first: damage in a segment is in `quarantine` before its rows are in `ticks`.
    committed = {stream: ticks.transaction(stream) for stream in streams(layout)}
    damaged = damage_rows(quarantine)
    rule = SegmentRule(nanoseconds(now - keep), first_day(ticks.transaction(FIRST_DAY)), archived_only)
    removed: list[Path] = []
    try:
        for stream, done in committed.items():
            removed += _remove_of_stream(layout, stream, done, damaged, rule, nanoseconds(now))
    except OSError as error:
        raise JournalError(f"journal {layout.journal}: cannot remove old segments: {error}") from error
    return removed


def _remove_of_stream(
    layout: DataLayout, stream: str, done: int | None, damaged: DamageRows, rule: SegmentRule, now_ns: int
) -> list[Path]:
    """Remove what may go of one stream, whose segments up to `done` are committed. Raises OSError, JournalError."""
    removed: list[Path] = []
    numbers = segments(layout, stream)
    alive = is_alive(layout, stream)
    for number in numbers[: -1 if alive else None]:
        plain, note = layout.segment(stream, number), layout.unverified(stream, number)
        there = [path for path in (plain, layout.archive(stream, number)) if path.exists()]
        decision = rule.decide(
            SegmentState(
                written_ns=max((path.stat().st_mtime_ns for path in there), default=now_ns),
                is_committed=done is not None and number <= done,
                is_damaged=(stream, number) in damaged,
                is_unverified=note.exists(),
                is_plain=plain.exists(),
            )
        )
        if decision is Decision.STOP:
            break
        if decision is Decision.KEEP:
            continue
        for path in there:
            path.unlink()
        removed += there
        note.unlink(missing_ok=True)
    if not alive and numbers and not segments(layout, stream):
        _remove_folder(layout.stream(stream))
    return removed


def remove_days(
    layout: DataLayout, *, keep_days: int | None, most_bytes: int | None, today: datetime.date
) -> list[datetime.date]:
    """Take whole IST days out of all tables, oldest first, in one commit a table. Returns the days.

    Days more than `keep_days` before `today` go; then more, until what the tables name is at most `most_bytes`; None
    is no limit. Today and yesterday stay. Instrument lists go that were in force on none of the days left. Raises
    TableError if a table cannot be read or committed to, DataFolderError if another process swaps files for too long.
    """
    if keep_days is None and most_bytes is None:
        return []
    with hold_tables(layout):
        tables: dict[str, LakeTable] = {}
        for name, spec in TABLES.items():
            with contextlib.suppress(TableMissingError):
                tables[name] = LakeTable(layout.table(name), spec).open()
        files = {name: table.snapshot().entries for name, table in tables.items()}
        days = sorted({_day(file) for name, found in files.items() if name != INSTRUMENTS.name for file in found})
        may_go = [day for day in days if day < today - _DAY]
        going = [day for day in may_go if keep_days is not None and day < today - keep_days * _DAY]
        while (
            most_bytes is not None
            and len(going) < len(may_go)
            and _total_bytes(_left(files, going, today)) > most_bytes
        ):
            going = may_go[: len(going) + 1]
        left = _left(files, going, today)
        for name, table in tables.items():  # ticks first: what is not in another is then known to be removed
            stay = {file.relative for file in left[name]}
            remove = [file for file in files[name] if file.relative not in stay]
            table.commit([], remove=remove, transactions=_first_left(table, going))
    return going


def _first_left(table: LakeTable, going: Sequence[datetime.date]) -> dict[str, int]:
    """The transaction that says so, if it is news."""
    if table.spec is not TICKS or not going or first_day(table.transaction(FIRST_DAY)) > going[-1]:
        return {}
    return {FIRST_DAY: (going[-1] + _DAY).toordinal()}


def _left(
    files: Mapping[str, Sequence[DataFile]], going: Sequence[datetime.date], today: datetime.date
) -> dict[str, list[DataFile]]:
    """The files of each table without those days, and without the lists that are then in force on no day."""
    gone = set(going)
    left = {name: [file for file in found if _day(file) not in gone] for name, found in files.items()}
    lists = files.get(INSTRUMENTS.name, ())
    first = min((_day(file) for name in left if name != INSTRUMENTS.name for file in left[name]), default=today)
    first = min(first, today - _DAY)
    in_force = max((_day(file) for file in lists if _day(file) <= first), default=datetime.date.min)
    return left | {INSTRUMENTS.name: [file for file in lists if _day(file) >= in_force]}


def _total_bytes(files: Mapping[str, Sequence[DataFile]]) -> int:
    return sum(file.size for found in files.values() for file in found)


def _day(file: DataFile) -> datetime.date:
    return datetime.date.fromisoformat(file.values["date"])


def _remove_folder(folder: Path) -> None:
    """Remove a dead stream's folder with what a crash may have left in it."""
    for path in folder.iterdir():
        path.unlink()
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()
