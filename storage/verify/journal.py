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


def scan_journal(check: JournalCheck) -> dict[str, StreamInJournal]:
    """Read every segment, or those last written on `date` or later. Raises JournalError if a folder cannot be read."""
    layout, known, report = check.layout, check.known, check.report
    names = streams(layout)
    todo = {stream: segments(layout, stream) for stream in names}
    total, done = sum(map(len, todo.values())), 0
    found: dict[str, StreamInJournal] = {}
    for stream, numbers in todo.items():
        alive = is_alive(layout, stream)
        held = found[stream] = StreamInJournal()
        mark = check.ticks.transactions.get(stream, -1)
        for first, last in _gaps(sorted({mark, *(n for n in numbers if n > mark)})):
            if 0 not in known.get((stream, first), ()):
                text = f"segments {first} to {last} are not in the journal, and not committed"
                report.findings.append(VerifyFinding("journal", text, stream=stream))
        start: int | None = 0 if numbers[:1] == [0] else None
        for number in numbers:
            check.on_progress(VerifyProgress("journal", done, total))
            done += 1
            path = layout.segment(stream, number)
            written = _last_written(path)
            if (number <= mark and written < check.first_day) or (check.date is not None and written < check.date):
                start, held.since = None, datetime.date.min  # what is left out was written before that day
                continue
            complete = number < numbers[-1] or not alive
            scan = _scan(check, stream, number, start, complete=complete)
            if scan is None:
                start = None
                continue
            if held.since is None:
                held.since = datetime.date.min if number == 0 else min(scan.days, default=None)
            held.scans[number] = scan
            record = check.ticks.transactions.get(f"{stream}/record")
            if (
                number == mark
                and scan.whole
                and not known.get((stream, number))
                and record not in (None, scan.records[1])
            ):
                text = f"got {record} as the next record after segment {mark}, expected {scan.records[1]}"
                report.findings.append(VerifyFinding("log", text, TICKS.name, stream=stream))
            start = scan.records[1]
    check.on_progress(VerifyProgress("journal", total, total))
    return found


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


def _gaps(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """The ranges between ascending numbers that are left out."""
    for before, after in itertools.pairwise(numbers):
        if after > before + 1:
            yield before + 1, after - 1


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
