"""The archive: segments whose rows are in the tables are compressed, once that is verified.

A segment is verified when the decoder, run over its bytes again, gives for each day just the `seq` that the ticks of
that day have, each once, in files that are there with the size that the log says. Then its archive is written, read
back, compared byte for byte, and takes the segment's place. Whatever dies in between, at least one of the two is
there; the next run makes the archive again.

Which `seq` a segment begins with is said by the one before it, or by the files that are named after it. Where neither
is there any more, it is counted back from the next archive or from the stream's watermark.

What does not verify stays as it is, with a note beside it that says why (`DataLayout.unverified`), and retention keeps
it. What has damage stays as it is too. So does the last segment of a stream that still grows.
"""

import datetime
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from storage.clock import ist_date
from storage.commit import Decoded, Decoder, FilesOfTicks, Loaded, damage_rows, is_whole, load
from storage.errors import JournalError, SegmentMissingError, TableError, TableMissingError
from storage.journal import Place, is_alive, read_archive, read_place, segments, streams, write_archive
from storage.layout import DataLayout
from storage.schema import QUARANTINE, TICKS
from storage.tables import FIRST_DAY, LakeTable, first_day


@dataclass(frozen=True)
class Unverified:
    """A segment that stays as it is, and why."""

    stream: str
    segment: int
    reason: str


@dataclass
class ArchiveOutcome:
    """What a run did. Bytes are those of the segments before and after."""

    segments: int = 0
    plain_bytes: int = 0
    archived_bytes: int = 0
    unverified: list[Unverified] = field(default_factory=list)


class _UnverifiedError(Exception):
    """Why a segment is not archived."""


def archive_committed(layout: DataLayout, decoder: Decoder) -> ArchiveOutcome:
    """Compress every segment that is committed and verified. One run at a time: another one waits.

    May run beside capture, the writer and readers. Raises JournalError if the journal cannot be read or written,
    TableError if a table's log cannot be read.
    """
    outcome = ArchiveOutcome()
    try:
        ticks, quarantine = (LakeTable(layout.table(spec.name), spec).open() for spec in (TICKS, QUARANTINE))
    except TableMissingError:
        return outcome
    try:
        with FileLock(layout.archive_lock, thread_local=False):
            _Archiver(layout, decoder, ticks, quarantine, outcome).run()
    except OSError as error:
        raise JournalError(f"journal {layout.journal}: cannot archive: {error}") from error
    return outcome


class _Archiver:
    def __init__(
        self, layout: DataLayout, decoder: Decoder, ticks: LakeTable, quarantine: LakeTable, outcome: ArchiveOutcome
    ) -> None:
        self._layout = layout
        self._decoder = decoder
        # What is committed first: damage in a segment is in `quarantine` before its rows are in `ticks`.
        self._snapshot = ticks.snapshot()
        self._files = FilesOfTicks(ticks, self._snapshot)
        self._damaged = damage_rows(quarantine)
        self._first_day = first_day(ticks.transaction(FIRST_DAY))
        self._outcome = outcome

    def run(self) -> None:
        for stream in streams(self._layout):
            for begun in self._layout.stream(stream).glob("*.zst.*.new"):  # by one that died; now the lock is ours
                begun.unlink()
            mark = self._snapshot.watermark(stream)
            numbers = segments(self._layout, stream)
            if is_alive(self._layout, stream):
                numbers = numbers[:-1]
            before: Place | None = None
            previous = -1
            for number in numbers:
                if mark is None or number > mark.segment:
                    break
                before = self._pass(stream, number, before if previous == number - 1 else None)
                previous = number

    def _pass(self, stream: str, number: int, before: Place | None) -> Place | None:
        """Archive a segment if it can be, and say where it stands, if that is known."""
        plain = self._layout.segment(stream, number)
        note = self._layout.unverified(stream, number)
        kept = (stream, number) in self._damaged
        place: Place | None = None
        try:
            if not plain.exists():
                return read_place(self._layout.archive(stream, number))
            place, decoded = self._stand(stream, number, before)
            if not kept:
                self._compare(stream, number, place, decoded)
                self._archive(stream, number, place)
                note.unlink(missing_ok=True)
        except (JournalError, _UnverifiedError) as error:
            if kept or isinstance(error, SegmentMissingError):  # in quarantine, or retention was faster
                return place
            if plain.exists():
                if ist_date(plain.stat().st_mtime_ns) < self._first_day:
                    return place
                note.write_text(f"{error}\n", encoding="utf-8")
            self._outcome.unverified.append(Unverified(stream, number, str(error)))
        return place

    def _stand(self, stream: str, number: int, before: Place | None) -> tuple[Place, Decoded]:
        """Where a segment stands behind the one before it, and its rows. Raises JournalError, _UnverifiedError."""
        first_seq = 0 if number == 0 else before.next_seq if before else self._files.first_seq(stream, number)
        next_record = 0 if number == 0 else before.next_record if before else None
        if first_seq is None:
            first_seq = self._count_back(stream, number)
        loaded, decoded = self._load(stream, number, next_record, first_seq)
        if loaded.next_record is None:
            raise _UnverifiedError("got no block that counts, expected one that says which records come next")
        first_record = next_record if next_record is not None else loaded.blocks[0].first_record
        place = Place(first_seq, decoded.packets, first_record, loaded.next_record, *loaded.received_ns())
        return place, decoded

    def _count_back(self, stream: str, number: int) -> int:
        """The first `seq` of a segment by what is behind it. Raises _UnverifiedError."""
        mark = self._snapshot.watermark(stream)
        assert mark is not None
        packets, next_record = 0, None
        for behind in range(number, mark.segment + 1):
            try:
                if not self._layout.segment(stream, behind).exists():
                    return read_place(self._layout.archive(stream, behind)).first_seq - packets
                loaded, decoded = self._load(stream, behind, next_record, 0)
            except (JournalError, _UnverifiedError) as error:
                text = f"got no segment before it, and cannot count back from those behind it: {error}"
                raise _UnverifiedError(text) from error
            packets += decoded.packets
            next_record = loaded.next_record
        return mark.next_seq - packets

    def _load(self, stream: str, number: int, next_record: int | None, first_seq: int) -> tuple[Loaded, Decoded]:
        loaded = load(self._layout, stream, number, next_record)
        damage = self._damaged.get((stream, number), [])
        if loaded.damage and not damage:
            raise _UnverifiedError(f"got damage that is not in quarantine: {loaded.damage[0].reason}")
        if is_whole(self._layout, stream, number, damage):
            return loaded, Decoded({}, 0)
        return loaded, self._decode(stream, number, loaded, first_seq)

    def _decode(self, stream: str, number: int, loaded: Loaded, first_seq: int) -> Decoded:
        try:
            return self._decoder.decode(stream, number, loaded.blocks, first_seq=first_seq, symbols=lambda _day: None)
        except Exception as error:
            raise _UnverifiedError(f"cannot be decoded: {type(error).__name__}") from error

    def _compare(self, stream: str, number: int, place: Place, decoded: Decoded) -> None:
        """Compare `seq` day by day. Days that were removed from the tables are left out. Raises _UnverifiedError."""
        expected: dict[str, list[NDArray[np.int64]]] = defaultdict(list)
        for part in decoded.parts.get(TICKS.name, []):
            expected[part.values["date"]].append(part.rows.column("seq").to_numpy())
        for day, seqs in expected.items():
            if datetime.date.fromisoformat(day) < self._first_day:
                continue
            wanted = np.sort(np.concatenate(seqs))
            try:
                got = self._files.seqs(stream, number, place.first_seq, place.next_seq, day)
            except TableError as error:
                raise _UnverifiedError(str(error)) from error
            if not np.array_equal(got, wanted):
                raise _UnverifiedError(
                    f"got {len(got)} rows of {day} in the table, {len(np.unique(got))} of them distinct, "
                    f"expected the {len(wanted)} from seq {wanted[0]} to {wanted[-1]}"
                )

    def _archive(self, stream: str, number: int, place: Place) -> None:
        """Put the archive in the segment's place. Raises OSError, and JournalError if it does not read back."""
        plain, archive = self._layout.segment(stream, number), self._layout.archive(stream, number)
        data = plain.read_bytes()
        size = write_archive(archive, data, place, mtime_ns=plain.stat().st_mtime_ns)
        try:
            if read_archive(archive) != data:
                raise JournalError(f"archive {archive}: got other bytes than were written")
        except JournalError:
            archive.unlink()
            raise
        plain.unlink()
        self._outcome.segments += 1
        self._outcome.plain_bytes += len(data)
        self._outcome.archived_bytes += size
