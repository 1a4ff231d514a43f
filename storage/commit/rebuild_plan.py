"""Which segments a day is rebuilt from, and which `seq` their packets have.

Of each stream those segments are decoded again that lie between the first and the last with a record received on the
day, both included, as far as they are committed and can be read. Where some are missing, the rest falls into several
runs.

The `seq` of a run's first packet follows from what is certain: a stream begins with 0, the footer of an archive says
where its segment begins and ends, and the watermark where the next segment will begin. From the certain place before a
run its packets are counted forward; from the one behind it follows where the run has to end. If there is only one of
the two, the least `seq` in the files named after a segment serves as the other.
"""

import datetime
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from storage.clock import day_bounds_ns
from storage.commit.decoder import Decoder
from storage.commit.segments import DamageRows, FilesOfTicks, Loaded, is_whole, load
from storage.errors import JournalError, StorageError
from storage.journal import Place, is_alive, read_place, segments, streams
from storage.layout import DataLayout
from storage.tables import Version, Watermark

NO_RECORDS: Final = (0, -1)
"""The times of a segment's records if it has none."""


class RebuildError(StorageError):
    """A day cannot be rebuilt from the journal without a loss, or without changing which row is which."""


@dataclass
class SegmentRun:
    """Segments of a stream that follow one another, and are decoded again.

    Its packets have `seq` from `first_seq`; the tables go on with `next_seq` behind it. Its records that count begin
    with `first_record`, None if that is not known before it is read. `is_end`: no packet of the stream is behind it,
    and none will be.
    """

    stream: str
    numbers: list[int]
    first_seq: int
    next_seq: int
    first_record: int | None
    is_end: bool


@dataclass
class RebuildPlan:
    """`runs` in the order of streams and segments; `missing` says which segments cannot be decoded again, and why."""

    runs: list[SegmentRun] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def plan_day(
    layout: DataLayout,
    decoder: Decoder,
    snapshot: Version,
    files: FilesOfTicks,
    damaged: DamageRows,
    date: datetime.date,
) -> RebuildPlan:
    """What of the journal a day is rebuilt from. `snapshot` and `files` are of ticks.

    Raises RebuildError if it is not certain which `seq` a run's packets have; JournalError if the system refuses.
    """
    plan = RebuildPlan()
    for stream in streams(layout):
        mark = snapshot.watermark(stream)
        if mark is not None:
            _Stream(layout, decoder, files, damaged, stream, mark, plan).add_runs(date)
    return plan


class _Stream:
    """One stream while it is planned."""

    def __init__(
        self,
        layout: DataLayout,
        decoder: Decoder,
        files: FilesOfTicks,
        damaged: DamageRows,
        stream: str,
        mark: Watermark,
        plan: RebuildPlan,
    ) -> None:
        self._layout = layout
        self._decoder = decoder
        self._files = files
        self._damaged = damaged
        self._stream = stream
        self._mark = mark
        self._plan = plan
        self._alive = is_alive(layout, stream)
        self._numbers = segments(layout, stream)
        self._archived: dict[int, Place] = {}
        self._received: dict[int, tuple[int, int]] = {}
        self._unreadable: dict[int, str] = {}
        for number in self._numbers:
            if number <= mark.segment:
                self._look(number)
        # Where the writer found no segments, none have rows: `quarantine` says so.
        self._behind_gap = {
            before + 1: behind
            for before, behind in pairwise([-1, *self._numbers])
            if behind > before + 1 and (0, 0) in damaged.get((stream, before + 1), ())
        }

    def add_runs(self, date: datetime.date) -> None:
        start_ns, end_ns = day_bounds_ns(date)
        of_day = [n for n, (least, most) in self._received.items() if least < end_ns and most >= start_ns]
        if not of_day:
            return
        numbers = [n for n in self._received if min(of_day) <= n <= max(of_day)]
        self._tell_missing(min(of_day), max(of_day))
        cuts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(numbers)) if b != a + 1), len(numbers)]
        self._plan.runs += [self._run(numbers[a:b]) for a, b in pairwise(cuts)]

    def _look(self, number: int) -> None:
        """Learn when a segment's records were received, if it can be read."""
        try:
            if self._layout.segment(self._stream, number).exists():
                self._received[number] = load(self._layout, self._stream, number, None).received_ns()
                return
            place = read_place(self._layout.archive(self._stream, number))
        except JournalError as error:
            if self._is_whole(number):
                self._received[number] = NO_RECORDS  # it has no rows, so what follows it begins where it does
            else:
                self._unreadable[number] = str(error)
            return
        self._archived[number] = place
        self._received[number] = place.least_received_ns, place.most_received_ns

    def _tell_missing(self, first: int, last: int) -> None:
        """Segments between those of the day that are not there, but for those that never were; and unreadable ones."""
        self._plan.missing += [text for n, text in self._unreadable.items() if first - 1 <= n <= last + 1]
        for before, behind in pairwise(n for n in self._numbers if first <= n <= last):
            if behind > before + 1 and before + 1 not in self._behind_gap:
                self._plan.missing.append(f"segments {before + 1} to {behind - 1} of stream {self._stream} are gone")

    def _run(self, numbers: list[int]) -> SegmentRun:
        first, behind = numbers[0], numbers[-1] + 1
        begin, first_record = self._begin(first)
        is_last = self._numbers[-1] == self._mark.segment and not self._alive
        is_end = is_last and all(self._received.get(n) == NO_RECORDS for n in self._numbers if n >= behind)
        end = self._mark.next_seq if is_end else self._end(behind)
        if begin is None and end is not None:
            begin = self._files.first_seq(self._stream, first)
        elif end is None and begin is not None:
            end = self._files.first_seq(self._stream, behind)
        if begin is None or end is None:
            raise RebuildError(
                f"segments {first} to {behind - 1} of stream {self._stream}: it is not certain which seq their packets "
                "have; expected all segments before or behind them, archived ones, or files named after them"
            )
        return SegmentRun(self._stream, numbers, begin, end, first_record, is_end)

    def _begin(self, number: int) -> tuple[int | None, int | None]:
        """The `seq` and the ordinal with which a segment begins, counted from the certain place before it."""
        before = {behind: first - 1 for first, behind in self._behind_gap.items()}
        between: list[int] = []
        while (known := self._known(number)) is None:
            number = before.get(number, number - 1)
            if number not in self._received:
                return None, None
            between.insert(0, number)
        seq, record = known
        for each in between:
            packets, record = self._count(each, record)
            seq += packets
        return seq, record

    def _end(self, number: int) -> int | None:
        """The `seq` with which segment `number` begins, counted back from the certain place at or behind it."""
        packets = 0
        record: int | None = None
        while (known := self._known(number)) is None:
            number = self._behind_gap.get(number, number)
            if number not in self._received:
                return None
            counted, record = self._count(number, record)
            packets += counted
            number += 1
        return known[0] - packets

    def _known(self, number: int) -> tuple[int, int | None] | None:
        """What is certain of a segment's begin: `seq`, and the ordinal if that is known."""
        if number == 0:
            return 0, 0
        if place := self._archived.get(number):
            return place.first_seq, place.first_record
        if place := self._archived.get(number - 1):
            return place.next_seq, place.next_record
        if number == self._mark.segment + 1:
            return self._mark.next_seq, self._mark.next_record
        return None

    def _count(self, number: int, next_record: int | None) -> tuple[int, int | None]:
        """The good packets of a segment that is in no run, and the ordinal behind it."""
        if place := self._archived.get(number):
            return place.packets, place.next_record
        if self._is_whole(number):
            return 0, load_or_nothing(self._layout, self._stream, number, next_record).next_record
        loaded = load(self._layout, self._stream, number, next_record)
        try:
            decoded = self._decoder.decode(self._stream, number, loaded.blocks, first_seq=0, symbols=lambda _day: None)
        except Exception as error:
            raise RebuildError(
                f"segment {self._stream}/{number}: cannot be decoded, so it is not certain which seq comes behind it: "
                f"{type(error).__name__}"
            ) from error
        return decoded.packets, loaded.next_record

    def _is_whole(self, number: int) -> bool:
        return is_whole(self._layout, self._stream, number, self._damaged.get((self._stream, number), ()))


def load_or_nothing(layout: DataLayout, stream: str, number: int, next_record: int | None) -> Loaded:
    """A segment that is in quarantine as a whole, with no blocks if it cannot be read."""
    try:
        return load(layout, stream, number, next_record)
    except JournalError:
        return Loaded([], [], next_record)
