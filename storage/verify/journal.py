"""The journal against itself: every block of every segment by its checksum.

Damage that is in `quarantine` already is no finding: it was found when the segment was committed. Segments of days that
retention removed from the tables only wait to be removed too, and are not looked at.
"""

import contextlib
import datetime
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from storage.clock import date_of_day, ist_date, ist_days
from storage.commit import SegmentId
from storage.errors import JournalError, SegmentMissingError
from storage.journal import Block, RecordReader, is_alive, segments, streams
from storage.layout import DataLayout, archive_of
from storage.schema import TICKS
from storage.verify.findings import VerifyFinding, VerifyProgress, VerifyReport
from storage.verify.log import LogState

_EPOCH: Final = datetime.date(1970, 1, 1)

KnownDamage = Mapping[SegmentId, set[int]]
"""The offsets of each segment's damage that are in `quarantine`."""


@dataclass(frozen=True)
class JournalCheck:
    """What the journal is checked by: `known` damage, the state of ticks, and the first day that retention has left.

    With a `date` only what concerns that IST day.
    """

    layout: DataLayout
    known: KnownDamage
    ticks: LogState
    first_day: datetime.date
    date: datetime.date | None
    report: VerifyReport
    on_progress: Callable[[VerifyProgress], None]


@dataclass
class Scan:
    """A segment that was read. `whole`: nothing in it is damaged.

    Records count from the ordinal `start`, None if that is not known; those that do are in `records`, to before its
    second.
    """

    number: int
    start: int | None
    records: tuple[int, int]
    days: set[datetime.date]
    whole: bool


@dataclass
class StreamInJournal:
    """What the journal has of a stream: `scans` by number. It holds each record received after `since`."""

    scans: dict[int, Scan] = field(default_factory=dict)
    since: datetime.date | None = None

    def holds(self, date: datetime.date) -> bool:
        """Whether every record of the day is in the journal, undamaged."""
        if self.since is None or self.since >= date or not self.scans:
            return False
        numbers = sorted(self.scans)
        whole = all(scan.whole for scan in self.scans.values() if date in scan.days or not scan.days)
        return whole and numbers == list(range(numbers[0], numbers[-1] + 1))


def is_to_read(
    number: int, mark: int, written: datetime.date, *, first_day: datetime.date, date: datetime.date | None
) -> bool:
    """Whether a segment is looked at that was last `written` on that IST day, in a stream committed up to `mark`.

    Not if the tables have lost its day, since it only waits to be removed; nor if it was written before the `date` that
    is asked for. One that was written later may have records of it.
    """
    is_lost = number <= mark and written < first_day
    is_before = date is not None and written < date
    return not is_lost and not is_before


def scan_journal(check: JournalCheck) -> dict[str, StreamInJournal]:
    """Read every segment, or those last written on `date` or later. Raises JournalError if a folder cannot be read."""
    todo = {stream: segments(check.layout, stream) for stream in streams(check.layout)}
    total, done = sum(map(len, todo.values())), 0
    found: dict[str, StreamInJournal] = {}
    for stream, numbers in todo.items():
        found[stream] = _scan_stream(check, stream, numbers, done, total)
        done += len(numbers)
    check.on_progress(VerifyProgress("journal", total, total))
    return found


def _scan_stream(check: JournalCheck, stream: str, numbers: Sequence[int], done: int, total: int) -> StreamInJournal:
    """Read one stream; `done` of all `total` segments came before it."""
    alive = is_alive(check.layout, stream)
    held = StreamInJournal()
    mark = check.ticks.transactions.get(stream, -1)
    check.report.findings += _missing(check, stream, sorted({mark, *(n for n in numbers if n > mark)}))
    start: int | None = 0 if numbers[:1] == [0] else None
    for at, number in enumerate(numbers):
        check.on_progress(VerifyProgress("journal", done + at, total))
        written = _last_written(check.layout.segment(stream, number))
        if not is_to_read(number, mark, written, first_day=check.first_day, date=check.date):
            start, held.since = None, datetime.date.min  # what is left out was written before that day
            continue
        scan = _scan(check, stream, number, start, complete=number < numbers[-1] or not alive)
        if scan is None:
            start = None
            continue
        if held.since is None:
            held.since = datetime.date.min if number == 0 else min(scan.days, default=None)
        held.scans[number] = scan
        start = scan.records[1]
        if number == mark and not check.known.get((stream, number)):
            check.report.findings += _wrong_record(stream, scan, check.ticks.transactions.get(f"{stream}/record"))
    return held


def _missing(check: JournalCheck, stream: str, numbers: Sequence[int]) -> Iterator[VerifyFinding]:
    """Segments between these that are not there, unless `quarantine` says so."""
    for before, behind in itertools.pairwise(numbers):
        first, last = before + 1, behind - 1
        if first <= last and 0 not in check.known.get((stream, first), ()):
            text = f"segments {first} to {last} are not in the journal, and not committed"
            yield VerifyFinding("journal", text, stream=stream)


def _wrong_record(stream: str, scan: Scan, record: int | None) -> Iterator[VerifyFinding]:
    """If ticks go on with another `record` than the one behind `scan`, the last segment that is committed."""
    if scan.whole and record not in (None, scan.records[1]):
        text = f"got {record} as the next record after segment {scan.number}, expected {scan.records[1]}"
        yield VerifyFinding("log", text, TICKS.name, stream=stream)


def _scan(check: JournalCheck, stream: str, number: int, start: int | None, *, complete: bool) -> Scan | None:
    layout, report = check.layout, check.report
    known = check.known.get((stream, number), set())
    path = layout.segment(stream, number)
    try:
        with RecordReader(layout, stream, number, start) as reader:
            blocks = reader.read()
            damage = reader.finish() if complete or reader.sealed else []
            stop = reader.next_record or 0
    except SegmentMissingError:
        return None  # retention was faster
    except JournalError as error:
        report.findings.append(VerifyFinding("journal", str(error), path=str(path), stream=stream))
        return None
    report.segments += 1
    report.bytes += _size(path)
    new = [item for item in damage if item.offset not in known]
    for item in new:
        text = f"{item.length} bytes at {item.offset}: {item.reason}"
        report.findings.append(VerifyFinding("journal", text, path=str(path), stream=stream))
    first = blocks[0].first_record if blocks else stop
    return Scan(number, start, (first, stop), _days(blocks), whole=not damage)


def _days(blocks: Sequence[Block]) -> set[datetime.date]:
    """The IST days on which the records were received."""
    found: set[int] = set()
    for block in blocks:
        if block.kinds.any():  # a channel table alone has the time of the segment's making
            found.update(np.unique(ist_days(block.received_at_ns)).tolist())
    return {date_of_day(day) for day in found}


def _size(path: Path) -> int:
    """In bytes, plain or archived; 0 of a segment that has gone meanwhile."""
    stat = _stat(path)
    return 0 if stat is None else stat.st_size


def _last_written(path: Path) -> datetime.date:
    """The IST day; of a segment that has gone meanwhile, the last of all."""
    stat = _stat(path)
    return datetime.date.max if stat is None else ist_date(stat.st_mtime_ns)


def _stat(path: Path) -> os.stat_result | None:
    for each in (path, archive_of(path)):  # a segment goes only after its archive is there
        with contextlib.suppress(FileNotFoundError):
            return each.stat()
    return None
