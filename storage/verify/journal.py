"""The journal against itself and against the tables.

Every block of every segment by its checksum. Then each segment whose rows are committed is decoded anew, and every
column but `symbol` of its rows is compared with what the tables have: `symbol` depends on the instrument list that was
there when the rows were written. The `seq` of a segment's first row is in its archive. Else the files that are named
after the segment have it, as long as they have all its rows: those of a day that is sealed are in other files. Else it
follows from the segment behind it, back from the stream's watermark.

Days before the first of the tables were removed from them, and are not compared.

Damage that is in `quarantine` already is no finding: it was found when the segment was committed.
"""

import contextlib
import datetime
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from storage.archive_format import read_place
from storage.decoded import Decoded, Decoder
from storage.encode import canonical_rows
from storage.errors import JournalError
from storage.journal import Block, RecordReader, SegmentReader, is_alive, segments, streams
from storage.layout import DataLayout, archive_of, parse_file
from storage.schema import EVENTS, IST, ORDERS, QUARANTINE, TICKS
from storage.verify.findings import Finding, Progress, VerifyReport
from storage.verify.log import LoggedFile, LogState
from storage.verify.rows import Stored

_IST_OFFSET_NS: Final = (5 * 60 + 30) * 60 * 10**9
_DAY_NS: Final = 86_400 * 10**9
_EPOCH: Final = datetime.date(1970, 1, 1)

Damages = Mapping[tuple[str, int], set[int]]
"""(stream, segment) -> offsets of its damage that are in `quarantine`."""


@dataclass
class _Scan:
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

    scans: dict[int, _Scan] = field(default_factory=dict)
    since: datetime.date | None = None

    def holds(self, date: datetime.date) -> bool:
        """Whether every record of the day is in the journal, undamaged."""
        if self.since is None or self.since >= date or not self.scans:
            return False
        numbers = sorted(self.scans)
        whole = all(scan.whole for scan in self.scans.values() if date in scan.days or not scan.days)
        return whole and numbers == list(range(numbers[0], numbers[-1] + 1))


def scan_journal(
    layout: DataLayout,
    known: Damages,
    committed: LogState,
    date: datetime.date | None,
    report: VerifyReport,
    on_progress: Callable[[Progress], None],
) -> dict[str, StreamInJournal]:
    """Read every segment, or those last written on `date` or later. Raises JournalError if a folder cannot be read."""
    names = streams(layout)
    todo = {stream: segments(layout, stream) for stream in names}
    total, done = sum(map(len, todo.values())), 0
    found: dict[str, StreamInJournal] = {}
    for stream, numbers in todo.items():
        alive = is_alive(layout, stream)
        held = found[stream] = StreamInJournal()
        mark = committed.transactions.get(stream, -1)
        for first, last in _gaps(sorted({mark, *(n for n in numbers if n > mark)})):
            if 0 not in known.get((stream, first), ()):
                text = f"segments {first} to {last} are not in the journal, and not committed"
                report.findings.append(Finding("journal", text, stream=stream))
        start: int | None = 0 if numbers[:1] == [0] else None
        for number in numbers:
            on_progress(Progress("journal", done, total))
            done += 1
            path = layout.segment(stream, number)
            if date is not None and _last_written(path) < date:
                start, held.since = None, datetime.date.min  # what is left out was written before that day
                continue
            complete = number < numbers[-1] or not alive
            scan = _scan(layout, stream, number, start, complete, known.get((stream, number), set()), report)
            if scan is None:
                start = None
                continue
            if held.since is None:
                held.since = datetime.date.min if number == 0 else min(scan.days, default=None)
            held.scans[number] = scan
            record = committed.transactions.get(f"{stream}/record")
            if (
                number == mark
                and scan.whole
                and not known.get((stream, number))
                and record not in (None, scan.records[1])
            ):
                text = f"got {record} as the next record after segment {mark}, expected {scan.records[1]}"
                report.findings.append(Finding("log", text, TICKS.name, stream=stream))
            start = scan.records[1]
    on_progress(Progress("journal", total, total))
    return found


def _scan(
    layout: DataLayout,
    stream: str,
    number: int,
    start: int | None,
    complete: bool,
    known: set[int],
    report: VerifyReport,
) -> _Scan | None:
    path = layout.segment(stream, number)
    try:
        with RecordReader(layout, stream, number, start) as reader:
            blocks = reader.read()
            damage = reader.finish() if complete or reader.sealed else []
            stop = reader.next_record or 0
    except JournalError as error:
        if not isinstance(error.__cause__, FileNotFoundError):  # else retention was faster
            report.findings.append(Finding("journal", str(error), path=str(path), stream=stream))
        return None
    report.segments += 1
    report.bytes += _size(path)
    new = [item for item in damage if item.offset not in known]
    for item in new:
        text = f"{item.length} bytes at {item.offset}: {item.reason}"
        report.findings.append(Finding("journal", text, path=str(path), stream=stream))
    first = blocks[0].first_record if blocks else stop
    return _Scan(number, start, (first, stop), _days(blocks), whole=not damage)


def compare_journal(
    layout: DataLayout,
    decoder: Decoder,
    held: Mapping[str, StreamInJournal],
    known: Damages,
    ticks: LogState,
    stored: Mapping[str, Stored],
    date: datetime.date | None,
    report: VerifyReport,
    on_progress: Callable[[Progress], None],
) -> None:
    """Decode what is committed and still in the journal, and compare it with the rows in the tables."""
    named = _named(ticks.files.values())
    of_streams = [stored[spec.name] for spec in (TICKS, EVENTS, ORDERS, QUARANTINE) if spec.name in stored]
    first_day = min((day for table in of_streams for day in table.days()), default=datetime.date.min)
    for stream, journal in held.items():
        end: int | None = ticks.transactions.get(f"{stream}/seq")
        mark = ticks.transactions.get(stream, -1)
        numbers = sorted((n for n in journal.scans if n <= mark), reverse=True)
        anchors = {n: 0 if n == 0 else _archived_start(layout, stream, n) for n in numbers}
        asked = [n for n in numbers if date is None or date in journal.scans[n].days]
        lowest = min((n for n in asked if anchors[n] is None), default=mark + 1)  # counts from those behind it
        expected = mark
        for done, number in enumerate(numbers):
            on_progress(Progress(f"rows of {stream}", done, len(numbers)))
            if number != expected:
                end = None
            expected = number - 1
            scan = journal.scans[number]
            anchor = anchors[number]
            if number not in asked and (anchor is not None or number < lowest):
                end = anchor
                continue
            decoded = _decode(layout, decoder, stream, scan, known.get((stream, number), set()), report)
            if decoded is not None and anchor is None:
                start, rows = named.get((stream, number), (0, 0))
                anchor = start if rows == decoded.packets > 0 else None if end is None else end - decoded.packets
            end = anchor
            if decoded is None or anchor is None:
                continue
            days = {day for day in scan.days if day >= first_day and date in (None, day)}
            try:
                different = list(_differences(decoded, stream, scan, anchor, stored, days))
            except (OSError, pa.ArrowException):
                continue  # a file was good when it was checked: it has left the table since, and gone
            report.compared += 1
            for day, table, text, rows in different:
                where = f"segment {number}: {text}"
                report.findings.append(Finding("rows", where, table, stream=stream, date=day, rows=rows))


def _decode(
    layout: DataLayout, decoder: Decoder, stream: str, scan: _Scan, known: set[int], report: VerifyReport
) -> Decoded | None:
    """The segment's rows; None if they cannot be known, which was reported."""
    if not scan.whole and 0 in known:
        return None  # given up as a whole, or its header is damaged: what was made of it then is not known
    try:
        if scan.start is None:
            with SegmentReader(layout.segment(stream, scan.number)) as segment:
                if segment.header is None or segment.header.unsynced_segments:
                    return None  # its first records may repeat those of a segment that is gone
        with RecordReader(layout, stream, scan.number, scan.start) as reader:
            return decoder.decode(stream, scan.number, reader.read(), first_seq=0, symbols=lambda _day: None)
    except JournalError:
        return None
    except Exception as error:  # a decoder's fault may be of any kind
        if 0 not in known:
            text = f"cannot be decoded: {type(error).__name__}"
            report.findings.append(
                Finding("journal", text, path=str(layout.segment(stream, scan.number)), stream=stream)
            )
        return None


def _differences(
    decoded: Decoded,
    stream: str,
    scan: _Scan,
    first_seq: int,
    stored: Mapping[str, Stored],
    days: set[datetime.date],
) -> Iterator[tuple[datetime.date, str, str, int]]:
    """Day, table, what differs, and in how many rows of the day."""
    for part in decoded.parts.get(TICKS.name, []):
        day = datetime.date.fromisoformat(part.values["date"])
        if part.rows.num_rows and TICKS.name in stored and day in days:
            found = stored[TICKS.name].tick_difference(stream, part, first_seq)
            if found:
                yield day, TICKS.name, *found
    for spec in (EVENTS, ORDERS, QUARANTINE):
        if spec.name not in stored:
            continue
        parts = {datetime.date.fromisoformat(p.values["date"]): p for p in decoded.parts.get(spec.name, [])}
        for day in days:
            rows = canonical_rows(spec, parts[day].rows) if day in parts else spec.file_schema.empty_table()
            found = stored[spec.name].record_difference(stream, scan.records, rows, day)
            if found:
                yield day, spec.name, *found


def _archived_start(layout: DataLayout, stream: str, number: int) -> int | None:
    """The first `seq` of a segment, as its archive has it."""
    with contextlib.suppress(JournalError, OSError):
        return read_place(layout.archive(stream, number)).first_seq
    return None


def _named(files: Iterable[LoggedFile]) -> dict[tuple[str, int], tuple[int, int]]:
    """Of the files that are named after a segment: their least `seq`, and how many rows they have."""
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for file in files:
        segment, least = parse_file(file.relative), file.stats["minValues"].get("seq")
        if segment is not None and isinstance(least, int):
            before, rows = found.get(segment, (least, 0))
            found[segment] = min(before, least), rows + file.rows
    return found


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
            found.update(np.unique((block.received_at_ns + _IST_OFFSET_NS) // _DAY_NS).tolist())
    return {_EPOCH + datetime.timedelta(days=day) for day in found}


def _size(path: Path) -> int:
    """In bytes, plain or archived; 0 of a segment that has gone meanwhile."""
    stat = _stat(path)
    return 0 if stat is None else stat.st_size


def _last_written(path: Path) -> datetime.date:
    """The IST day; of a segment that has gone meanwhile, the last of all."""
    stat = _stat(path)
    return datetime.date.max if stat is None else datetime.datetime.fromtimestamp(stat.st_mtime, IST).date()


def _stat(path: Path) -> os.stat_result | None:
    for each in (path, archive_of(path)):  # a segment goes only after its archive is there
        with contextlib.suppress(FileNotFoundError):
            return each.stat()
    return None
