"""The new files of a rebuilt day, made in the staging folder, one segment at a time."""

import datetime
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from storage.commit.decoder import Decoder, Part
from storage.commit.quarantine import damage_parts
from storage.commit.rebuild_plan import RebuildError, SegmentRun, load_or_nothing
from storage.commit.rebuild_rows import DecodedRun
from storage.commit.segments import DamageRows, Loaded, SegmentId, is_whole, load
from storage.errors import JournalError, TableError
from storage.files import DataFile, make_folders, sync_folder
from storage.layout import DataLayout, rebuilt_stem
from storage.schema import EVENTS, ORDERS, QUARANTINE, TICKS, Table
from storage.tables import SymbolLookup, write_file


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
        self._seen_orders: set[object] = set()

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
            for spec in (EVENTS, ORDERS, QUARANTINE, TICKS):
                self._keep(spec, (run.stream, number), [p for p in parts[spec.name] if p.values["date"] == self._day])
            seq, next_record = seq + packets, loaded.next_record
            self._after_step("decoded")
        if seq != run.next_seq:
            if seq < run.next_seq or not run.is_end or has_other_days:
                raise RebuildError(
                    f"segments {run.numbers[0]} to {run.numbers[-1]} of stream {run.stream}: got "
                    f"{seq - run.first_seq} packets, expected {run.next_seq - run.first_seq}: other rows of the stream "
                    "would need another seq"
                )
            self.next_seqs[f"{run.stream}/seq"] = seq
        records = (first_record or 0, next_record or 0)
        return DecodedRun(run.stream, frozenset(run.numbers), (run.first_seq, run.next_seq), records)

    def keep_orders(self, stored: set[object]) -> None:
        """Write the orders that are not among `stored`, the `update_id` of rows that stay."""
        for segment, rows in self._orders:
            fresh = pa.array([value not in stored for value in rows.column(ORDERS.unique).to_pylist()], pa.bool_())
            self._write(ORDERS, rows.filter(fresh), {"date": self._day}, rebuilt_stem(*segment, self._name))

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
        parts: dict[str, list[Part]] = defaultdict(list)
        try:
            decoded = self._decoder.decode(stream, number, loaded.blocks, first_seq=seq, symbols=self._symbols)
        except TableError:
            raise  # the instrument lists could not be read: that says nothing about the segment
        except Exception as error:
            if not is_given_up:
                raise RebuildError(f"segment {stream}/{number}: cannot be decoded: {type(error).__name__}") from error
            self.left_out.add((stream, number))
            return parts, 0
        if is_given_up and not loaded.blocks:
            self.left_out.add((stream, number))
            return parts, 0
        for name, found in decoded.parts.items():
            parts[name] += found
        rows = sum(part.rows.num_rows for part in parts[TICKS.name])
        if rows != decoded.packets:
            raise RebuildError(f"segment {stream}/{number}: got {rows} rows of ticks, expected {decoded.packets}")
        damage = [(number, item) for item in loaded.damage]
        if damage:
            parts[QUARANTINE.name] += damage_parts(
                stream, damage, loaded.blocks, fallback_ns=self._last_written_ns(stream, number)
            )
        return parts, decoded.packets

    def _last_written_ns(self, stream: str, number: int) -> int:
        try:
            return self._layout.segment(stream, number).stat().st_mtime_ns  # what has damage is never archived
        except OSError as error:
            raise JournalError(f"segment {stream}/{number}: cannot look at it: {error.strerror}") from error

    def _keep(self, spec: Table, segment: SegmentId, parts: Sequence[Part]) -> None:
        """Write the rows of one segment; orders wait, since equal ones are stored once."""
        by_partition: dict[tuple[str, ...], list[pa.Table]] = defaultdict(list)
        for part in parts:
            by_partition[tuple(part.values[name] for name in spec.partition_by)].append(part.rows)
        for values, tables in by_partition.items():
            rows = tables[0]
            if len(tables) > 1 or spec.unique is not None:
                rows = pa.concat_tables([table.cast(spec.file_schema) for table in tables])
            if spec.unique is None:
                stem = rebuilt_stem(*segment, self._name)
                self._write(spec, rows, dict(zip(spec.partition_by, values, strict=True)), stem)
                continue
            fresh = []
            for value in rows.column(spec.unique).to_pylist():
                fresh.append(value not in self._seen_orders)
                self._seen_orders.add(value)
            self._orders.append((segment, rows.filter(pa.array(fresh, pa.bool_()))))

    def _write(self, spec: Table, rows: pa.Table, values: Mapping[str, str], stem: str) -> None:
        if not rows.num_rows:
            return
        folder, new = self.folder / spec.name, self.folder / "new"
        file = write_file(spec, rows, values=values, stem=stem, table_folder=folder, staging=new)
        self._files[spec.name].append(file)
