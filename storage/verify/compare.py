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
from storage.verify.actions import LoggedFile
from storage.verify.findings import VerifyFinding, VerifyProgress
from storage.verify.journal import JournalCheck, Scan, StreamInJournal
from storage.verify.rows import Stored


def is_to_decode(number: int, *, is_asked: bool, has_anchor: bool, lowest: int) -> bool:
    """Whether a segment is decoded: its rows are asked for, or those before it are counted back from its end.

    It needs no count if it `has_anchor`: its archive says its first `seq`. `lowest` is the first segment that is asked
    for and has none; what is before that nobody counts.
    """
    return is_asked or (not has_anchor and number >= lowest)


def first_seq_of(packets: int, named: tuple[int, int] | None, end: int | None) -> int | None:
    """The first `seq` of a segment without an archive; None if that is not certain.

    `named` are the least `seq` and the rows of the files that are named after it: they are believed if those are all
    its rows. `end` is the first `seq` behind it, None if that is not known.
    """
    if named is not None and named[1] == packets > 0:
        return named[0]
    return None if end is None else end - packets


def compare_journal(
    check: JournalCheck, decoder: Decoder, held: Mapping[str, StreamInJournal], stored: Mapping[str, Stored]
) -> None:
    """Decode what is committed and still in the journal, and compare it with the rows in the tables."""
    named = _named(check.ticks.files.values())
    for stream, journal in held.items():
        _compare_stream(check, decoder, stream, journal, named, stored)


def _compare_stream(
    check: JournalCheck,
    decoder: Decoder,
    stream: str,
    journal: StreamInJournal,
    named: Mapping[SegmentId, tuple[int, int]],
    stored: Mapping[str, Stored],
) -> None:
    """The segments of one stream, the last one first: each one's first `seq` is the end of the one before it."""
    mark = check.ticks.transactions.get(stream, -1)
    numbers = sorted((n for n in journal.scans if n <= mark), reverse=True)
    anchors = {n: 0 if n == 0 else _archived_start(check.layout, stream, n) for n in numbers}
    asked = {n for n in numbers if check.date is None or check.date in journal.scans[n].days}
    lowest = min((n for n in asked if anchors[n] is None), default=mark + 1)
    end: int | None = check.ticks.transactions.get(f"{stream}/seq")
    expected = mark
    for done, number in enumerate(numbers):
        check.on_progress(VerifyProgress(f"rows of {stream}", done, len(numbers)))
        if number != expected:
            end = None
        expected = number - 1
        anchor = anchors[number]
        if not is_to_decode(number, is_asked=number in asked, has_anchor=anchor is not None, lowest=lowest):
            end = anchor
            continue
        scan = journal.scans[number]
        decoded = _decode(check, decoder, stream, scan, check.known.get((stream, number), set()))
        if decoded is not None and anchor is None:
            anchor = first_seq_of(decoded.packets, named.get((stream, number)), end)
        end = anchor
        if decoded is not None and anchor is not None:
            _compare(check, decoded, stream, scan, anchor, stored)


def _compare(
    check: JournalCheck, decoded: Decoded, stream: str, scan: Scan, first_seq: int, stored: Mapping[str, Stored]
) -> None:
    """Report in which rows of a segment the tables differ from it, on the days that are asked for."""
    days = {day for day in scan.days if day >= check.first_day and check.date in (None, day)}
    try:
        different = list(_differences(decoded, stream, scan, first_seq, stored, days))
    except (OSError, pa.ArrowException):
        return  # a file was good when it was checked: it has left the table since, and gone
    check.report.compared += 1
    for day, table, text, rows in different:
        where = f"segment {scan.number}: {text}"
        check.report.findings.append(VerifyFinding("rows", where, table, stream=stream, date=day, rows=rows))


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
