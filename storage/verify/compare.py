"""The rows of the tables against the journal: each segment whose rows are committed is decoded again.

Every column but `symbol` is compared: that depends on the instrument list that was there when the rows were written.
The `seq` of a segment's first row is in its archive. Else the files that are named after the segment have it, as long
as they have all its rows: those of a day that is sealed are in other files. Else it follows from the segment behind it,
back from the stream's watermark.

Days before the first that retention has left are not compared: what the tables have of them came in too late.
"""

import contextlib
import datetime
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa

from storage.commit import Decoded, Decoder, SegmentId
from storage.errors import JournalError
from storage.journal import RecordReader, SegmentReader, read_place
from storage.layout import DataLayout, parse_file
from storage.schema import EVENTS, ORDERS, QUARANTINE, TICKS
from storage.tables import canonical_rows
from storage.verify.findings import VerifyFinding, VerifyProgress
from storage.verify.journal import JournalCheck, Scan, StreamInJournal
from storage.verify.log import LoggedFile
from storage.verify.rows import Stored


def compare_journal(
    check: JournalCheck, decoder: Decoder, held: Mapping[str, StreamInJournal], stored: Mapping[str, Stored]
) -> None:
    """Decode what is committed and still in the journal, and compare it with the rows in the tables."""
    layout, known, ticks, report, date = check.layout, check.known, check.ticks, check.report, check.date
    named = _named(ticks.files.values())
    for stream, journal in held.items():
        end: int | None = ticks.transactions.get(f"{stream}/seq")
        mark = ticks.transactions.get(stream, -1)
        numbers = sorted((n for n in journal.scans if n <= mark), reverse=True)
        anchors = {n: 0 if n == 0 else _archived_start(layout, stream, n) for n in numbers}
        asked = [n for n in numbers if date is None or date in journal.scans[n].days]
        lowest = min((n for n in asked if anchors[n] is None), default=mark + 1)  # counts from those behind it
        expected = mark
        for done, number in enumerate(numbers):
            check.on_progress(VerifyProgress(f"rows of {stream}", done, len(numbers)))
            if number != expected:
                end = None
            expected = number - 1
            scan = journal.scans[number]
            anchor = anchors[number]
            if number not in asked and (anchor is not None or number < lowest):
                end = anchor
                continue
            decoded = _decode(check, decoder, stream, scan, known.get((stream, number), set()))
            if decoded is not None and anchor is None:
                start, rows = named.get((stream, number), (0, 0))
                anchor = start if rows == decoded.packets > 0 else None if end is None else end - decoded.packets
            end = anchor
            if decoded is None or anchor is None:
                continue
            days = {day for day in scan.days if day >= check.first_day and date in (None, day)}
            try:
                different = list(_differences(decoded, stream, scan, anchor, stored, days))
            except (OSError, pa.ArrowException):
                continue  # a file was good when it was checked: it has left the table since, and gone
            report.compared += 1
            for day, table, text, rows in different:
                where = f"segment {number}: {text}"
                report.findings.append(VerifyFinding("rows", where, table, stream=stream, date=day, rows=rows))


def _decode(check: JournalCheck, decoder: Decoder, stream: str, scan: Scan, known: set[int]) -> Decoded | None:
    """The segment's rows; None if they cannot be known, which was reported."""
    if not scan.whole and 0 in known:
        return None  # given up as a whole, or its header is damaged: what was made of it then is not known
    try:
        if scan.start is None:
            with SegmentReader(check.layout.segment(stream, scan.number)) as segment:
                if segment.header is None or segment.header.unsynced_segments:
                    return None  # its first records may repeat those of a segment that is gone
        with RecordReader(check.layout, stream, scan.number, scan.start) as reader:
            return decoder.decode(stream, scan.number, reader.read(), first_seq=0, symbols=lambda _day: None)
    except JournalError:
        return None
    except Exception as error:  # a decoder's fault may be of any kind
        if 0 not in known:
            text = f"cannot be decoded: {type(error).__name__}"
            check.report.findings.append(
                VerifyFinding("journal", text, path=str(check.layout.segment(stream, scan.number)), stream=stream)
            )
        return None


def _differences(
    decoded: Decoded,
    stream: str,
    scan: Scan,
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


def _named(files: Iterable[LoggedFile]) -> dict[SegmentId, tuple[int, int]]:
    """Of the files that are named after a segment: their least `seq`, and how many rows they have."""
    found: dict[SegmentId, tuple[int, int]] = {}
    for file in files:
        segment, least = parse_file(file.relative), file.stats["minValues"].get("seq")
        if segment is not None and isinstance(least, int):
            before, rows = found.get(segment, (least, 0))
            found[segment] = min(before, least), rows + file.rows
    return found
