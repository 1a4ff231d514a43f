"""The new files of a rebuilt day, made in the staging folder, one segment at a time."""

import datetime
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa

from storage.commit.decoder import Decoder, Part
from storage.commit.rebuild_plan import RebuildError, SegmentRun, load_or_nothing
from storage.commit.rebuild_rows import DecodedRun
from storage.commit.segment_rows import JOURNAL_TABLES, SegmentId, decode_segment, first_of_each, with_damage
from storage.commit.segments import DamageRows, Loaded, is_whole, load
from storage.errors import RowsError, TableError
from storage.files import DataFile, make_folders, sync_folder
from storage.layout import DataLayout, rebuilt_stem
from storage.schema import ORDERS, TICKS, Table
from storage.tables import SymbolLookup, write_file

ORDER_KEY: Final = ("update_id",)
"""What tells orders apart: `ORDERS.unique`."""


def is_replaceable(run: SegmentRun, next_seq: int, *, has_other_days: bool) -> bool:
    """Whether a run whose packets now end before `next_seq` may replace what the tables have of it.

    Not if other rows would need another `seq` than they have. So it has as many packets as before, or more where
    nothing comes behind them: at the end of a dead stream, all of whose rows are replaced.
    """
    if next_seq == run.next_seq:
        return True
    return next_seq > run.next_seq and run.is_end and not has_other_days


class RebuildStage:
    """Decodes runs, and keeps what they give for one day in `folder`.

    `left_out` are segments that are in quarantine as a whole and that this decoder does not take either. `next_seqs`
    are the new transactions of streams in which it finds more packets than were found before.
    """

    def __init__(
        self,
        layout: DataLayout,
        decoder: Decoder,
        symbols: SymbolLookup,
        date: datetime.date,
        damaged: DamageRows,
        after_step: Callable[[str], None],
    ) -> None:
        self.folder = layout.staging / "replay"  # as older versions named it, so that what they left goes too
        self.left_out: set[SegmentId] = set()
        self.next_seqs: dict[str, int] = {}
        self._layout = layout
        self._decoder = decoder
        self._symbols = symbols
        self._day = date.isoformat()
        self._damaged = damaged
        self._after_step = after_step
        self._name = uuid.uuid4().hex[:12]  # names are new each time: files that a commit has named are never changed
        self._files: dict[str, list[DataFile]] = defaultdict(list)
        self._rests = 0
        self._orders: list[tuple[SegmentId, pa.Table]] = []
        self._seen_orders: set[tuple[object, ...]] = set()

    def decode(self, run: SegmentRun) -> DecodedRun:
        """Decode the run's segments in order, and write what is of the day. Raises RebuildError, JournalError."""
        seq, next_record = run.first_seq, run.first_record
        first_record = next_record
        has_other_days = False
        for number in run.numbers:
            loaded, is_given_up = self._load(run.stream, number, next_record)
            if first_record is None and loaded.blocks:
                first_record = loaded.blocks[0].first_record
            parts, packets = self._parts(run.stream, number, loaded, seq, is_given_up=is_given_up)
            has_other_days |= any(part.values["date"] != self._day for part in parts[TICKS.name])
            for spec in JOURNAL_TABLES:
                self._keep(spec, (run.stream, number), [p for p in parts[spec.name] if p.values["date"] == self._day])
            seq, next_record = seq + packets, loaded.next_record
            self._after_step("decoded")
        if not is_replaceable(run, seq, has_other_days=has_other_days):
            raise RebuildError(
                f"segments {run.numbers[0]} to {run.numbers[-1]} of stream {run.stream}: got "
                f"{seq - run.first_seq} packets, expected {run.next_seq - run.first_seq}: other rows of the stream "
                "would need another seq"
            )
        if seq != run.next_seq:
            self.next_seqs[f"{run.stream}/seq"] = seq
        records = (first_record or 0, next_record or 0)
        return DecodedRun(run.stream, frozenset(run.numbers), (run.first_seq, run.next_seq), records)

    def keep_orders(self, stored: set[tuple[object, ...]]) -> None:
        """Write the orders that are not among `stored`, the `update_id` of rows that stay."""
        for segment, rows in self._orders:
            fresh = first_of_each(rows, ORDER_KEY, stored)
            self._write(ORDERS, fresh, {"date": self._day}, rebuilt_stem(*segment, self._name))

    def keep_rest(self, spec: Table, rows: pa.Table, values: Mapping[str, str]) -> None:
        """Write rows that stay, of a file that goes."""
        self._rests += 1
        self._write(spec, rows, values, f"kept-r{self._name}-{self._rests}")

    def rows(self, spec: Table) -> Counter[str]:
        """How many rows were written so far, by exchange ("" where the table has none)."""
        counts: Counter[str] = Counter()
        for file in self._files[spec.name]:
            counts[file.values.get("exchange", "")] += file.rows
        return counts

    def move(self, spec: Table, table_folder: Path) -> list[DataFile]:
        """Move the files to where the table has its own. Raises TableError; then nothing is in the table yet."""
        folders = set()
        try:
            for file in self._files[spec.name]:
                target = table_folder / file.relative
                make_folders(target.parent, table_folder)
                (self.folder / spec.name / file.relative).replace(target)
                folders.add(target.parent)
            for folder in folders:
                sync_folder(folder)
        except OSError as error:
            raise TableError(f"table {table_folder}: cannot take new files: {error.strerror}") from error
        return self._files[spec.name]

    def _load(self, stream: str, number: int, next_record: int | None) -> tuple[Loaded, bool]:
        """What counts of a segment, and whether it is in quarantine as a whole."""
        if is_whole(self._layout, stream, number, self._damaged.get((stream, number), ())):
            return load_or_nothing(self._layout, stream, number, next_record), True
        return load(self._layout, stream, number, next_record), False

    def _parts(
        self, stream: str, number: int, loaded: Loaded, seq: int, *, is_given_up: bool
    ) -> tuple[Mapping[str, list[Part]], int]:
        """The rows of a segment by table, those for its damage among them, and its number of packets."""
        nothing: dict[str, list[Part]] = {spec.name: [] for spec in JOURNAL_TABLES}
        try:
            decoded = decode_segment(self._decoder, stream, number, loaded.blocks, first_seq=seq, symbols=self._symbols)
        except TableError:
            raise  # the instrument lists could not be read: that says nothing about the segment
        except Exception as error:
            if not is_given_up:
                reason = error if isinstance(error, RowsError) else f"cannot be decoded: {type(error).__name__}"
                raise RebuildError(f"segment {stream}/{number}: {reason}") from error
            self.left_out.add((stream, number))
            return nothing, 0
        if is_given_up and not loaded.blocks:
            self.left_out.add((stream, number))
            return nothing, 0
        damage = [(number, item) for item in loaded.damage]
        return with_damage(decoded.parts, self._layout, stream, number, damage, loaded.blocks), decoded.packets

    def _keep(self, spec: Table, segment: SegmentId, parts: Sequence[Part]) -> None:
        """Write the rows of one segment; orders wait, since equal ones are stored once."""
        for part in parts:
            if spec.unique is None:
                self._write(spec, part.rows, part.values, rebuilt_stem(*segment, self._name))
            else:
                self._orders.append((segment, first_of_each(part.rows, [spec.unique], self._seen_orders)))

    def _write(self, spec: Table, rows: pa.Table, values: Mapping[str, str], stem: str) -> None:
        if not rows.num_rows:
            return
        folder, new = self.folder / spec.name, self.folder / "new"
        file = write_file(spec, rows, values=values, stem=stem, table_folder=folder, staging=new)
        self._files[spec.name].append(file)
