"""The live tail: rows that are in the journal and not yet in the tables.

The writer turns a segment of the journal into files and commits them. What it has committed of a stream is a prefix:
segments up to the watermark. The tail is the rest, decoded on the spot by the same decoder with the same ordinals, so
that a row is the same row before and after its commit. Together they are what was journalled, each row once:

1. The watermark is read first, the journal's folder after. A segment that is committed in between is in the folder
   still, and is read from there; the watermark that was read decides.
2. Segments disappear only after they were committed. If one above the watermark is not there, the watermark is old:
   `Vanished` tells the caller to begin again with a newer one.
3. A segment that the writer will put into quarantine as a whole, because no decoder takes it, has no rows here either.
   Other damage is in quarantine as soon as the segment is complete.
4. A segment grows only at its end, and a later one appears only when it is complete. So what is read is a prefix of
   what was journalled, whatever the capturing process does meanwhile. A torn end is just where the tail ends, and so
   is a gap as long as what is missing may be repeated.
5. Of records that are repeated each counts once, by the rule in `storage.journal.folder`.

Between calls what was found is kept: only blocks that arrived since are read and walked. Their ticks are decoded when
a query asks for them, and as far as it does (`queries.tail.ticks`), from the file, which is kept open: what a call
returns stays as it is, whatever is appended or removed later. Nothing is ever written, and no lock is taken but a
stream's for a moment, where records are missing.
"""

from collections.abc import Callable, Iterable, Mapping, Set
from typing import Final

import numpy as np

from queries.tail.segment import Segment, SegmentRows
from storage.commit import SegmentId, TailDecoder
from storage.errors import (
    JournalError,
    JournalVersionError,
    KitelakeError,
    RowsError,
    SegmentMissingError,
    SegmentReadError,
)
from storage.journal import segments, streams
from storage.layout import DataLayout
from storage.tables import Watermark

SCRATCH_BYTES: Final = 8 << 20
"""So much is read at once. What is looked at while it is in the processor's cache costs less."""
MOST_OPEN: Final = 200
"""So many files are kept open. Others are opened again when they are needed."""
NOTHING: Final = Watermark(-1, 0, 0)
"""The watermark of a stream of which nothing is committed."""

Listing = Mapping[str, list[int]]
"""The streams of a journal and the numbers of their segments, both ascending."""


class Vanished(Exception):  # noqa: N818 - a signal to the caller, who tries again, and never an error of the user's
    """These segments are above the watermark and not in the journal."""

    def __init__(self, missing: set[SegmentId]) -> None:
        super().__init__(f"not in the journal: {sorted(missing)}")
        self.missing = missing


def list_journal(layout: DataLayout) -> Listing:
    """What is in the journal at this moment; empty if there is none."""
    return {stream: segments(layout, stream) for stream in streams(layout)}


class Tail:
    """The journal behind the watermarks, and what was decoded of it. Belongs to one thread at a time."""

    def __init__(self, layout: DataLayout, decoder: TailDecoder) -> None:
        self._layout = layout
        self._decoder = decoder
        self._segments: dict[SegmentId, Segment] = {}
        self._scratch = np.empty(SCRATCH_BYTES, np.uint8)

    def read(
        self,
        covered: Callable[[str], Watermark],
        *,
        seen: Listing,
        holes: Set[SegmentId] = frozenset(),
    ) -> list[SegmentRows]:
        """The rows behind `covered`, by stream and segment.

        `seen` is a listing from before the watermarks were read: what it names must be there or covered. Raises
        Vanished if it is not, unless it is one of `holes`. Raises JournalError for a segment of another version or that
        the system cannot read.
        """
        now = list_journal(self._layout)
        current: list[Segment] = []
        for stream in sorted({*seen, *now}):
            done = covered(stream)
            numbers = now.get(stream, [])
            last = max([*numbers, *seen.get(stream, [])], default=-1)
            missing = {(stream, number) for number in range(done.segment + 1, last + 1)} - holes
            missing -= {(stream, number) for number in numbers}
            if missing:
                raise Vanished(missing)
            seq, record = done.next_seq, done.next_record
            for number in numbers:
                if number > done.segment:
                    segment = self._segment(stream, number, seq, record)
                    self._advance(segment, complete=number < last)
                    seq, record = segment.next_seq, segment.next_record
                    current.append(segment)
        self._forget(self._segments.keys() - {(segment.stream, segment.number) for segment in current})
        for segment in current[MOST_OPEN:]:  # the first ones are the first to be removed
            segment.rest()
        return [segment.rows() for segment in current]

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        self._forget(self._segments)

    def _segment(self, stream: str, number: int, first_seq: int, first_record: int | None) -> Segment:
        segment = self._segments.get((stream, number))
        if segment is not None and segment.first_seq == first_seq and first_record in (None, segment.first_record):
            return segment
        if segment is not None:  # it was decoded when something before it read otherwise
            self._forget([(stream, number)])
        segment = Segment(stream, number, first_seq, first_record)
        self._segments[stream, number] = segment
        return segment

    def _advance(self, segment: Segment, *, complete: bool) -> None:
        try:
            segment.advance(self._layout, self._decoder, self._scratch, complete=complete)
        except SegmentMissingError as error:
            raise Vanished({(segment.stream, segment.number)}) from error
        except (JournalVersionError, SegmentReadError):
            raise  # that says nothing about its rows
        except (JournalError, RowsError) as error:
            segment.give_up(error)
        except (KitelakeError, MemoryError):
            self._forget([(segment.stream, segment.number)])  # that says nothing about it: it is read again
            raise
        except Exception as error:
            segment.give_up(error)

    def _forget(self, keys: Iterable[SegmentId]) -> None:
        for key in list(keys):
            del self._segments[key]
