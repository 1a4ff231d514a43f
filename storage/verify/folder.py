"""Whether a data folder is as it was written: every file, every row, every segment that is still there.

Nothing is changed, no lock is taken, and it may run beside a service. Each table is looked at in one version. What is
checked, from the log upwards:

- each table's Delta log: `storage.verify.log`, and that none of it is lost: `storage.verify.tables`;
- each Parquet file against the log, by its digest, page checksums, row count, statistics and days:
  `storage.verify.files`;
- that no row is there twice, and no `seq` of a stream missing below its watermark: `storage.verify.rows`;
- each segment of the journal: `storage.verify.journal`; and its rows against those in the tables:
  `storage.verify.compare`.

Days that retention removed are no gap: a stream that began before the first day left may lack its beginning.
"""

import datetime
import time
from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from storage.clock import IST
from storage.commit import Decoder
from storage.errors import DamagedLogError, TableError
from storage.layout import DataLayout
from storage.schema import INSTRUMENTS, QUARANTINE, TABLES, TICKS, Table
from storage.tables import LakeTable
from storage.verify.actions import LoggedFile
from storage.verify.compare import compare_journal
from storage.verify.files import check_file, key_columns, open_parquet
from storage.verify.findings import FindingKind, VerifyFinding, VerifyProgress, VerifyReport, damaged_days
from storage.verify.journal import JournalCheck, StreamInJournal, scan_journal
from storage.verify.log import LogState, compare_with_library, newest_version, read_log
from storage.verify.rows import SeqSet, Stored
from storage.verify.tables import compare_tables

__all__ = ["FindingKind", "VerifyFinding", "VerifyProgress", "VerifyReport", "damaged_days", "verify"]

_DAY = datetime.timedelta(days=1)


def verify(
    layout: DataLayout,
    decoder: Decoder,
    *,
    date: datetime.date | None = None,
    on_progress: Callable[[VerifyProgress], None] = lambda _progress: None,
) -> VerifyReport:
    """Check a data folder, or what concerns one IST day of it.

    With `date`: the logs whole, the files of that day, the sequences of that day and the days beside it, and the
    segments last written on it or later. Raises nothing for what the folder holds; JournalError and OSError if the
    system does not let it be read.
    """
    return _Check(layout, decoder, date, on_progress).run()


class _Check:
    """One check of one folder."""

    def __init__(
        self,
        layout: DataLayout,
        decoder: Decoder,
        date: datetime.date | None,
        on_progress: Callable[[VerifyProgress], None],
    ) -> None:
        self._layout = layout
        self._decoder = decoder
        self._date = date
        self._on_progress = on_progress
        self._report = VerifyReport()
        self._states: dict[str, LogState] = {}
        self._missing: list[str] = []
        self._first_day = datetime.date.min
        self._damaged: dict[str, set[str]] = {name: set() for name in TABLES}
        self._sequences: dict[str, SeqSet] = {}

    def run(self) -> VerifyReport:
        begun = time.monotonic()
        # ticks first: what its watermark covers is in the tables that are looked at later.
        for spec in TABLES.values():
            self._check_log(spec)
        ticks = self._states.get(TICKS.name, LogState())
        ticks_now = self._ticks_now(ticks)
        self._first_day = ticks_now.first_day
        self._report.findings += compare_tables(self._layout, self._states, self._missing, ticks_now)
        for name, state in self._states.items():
            self._check_files(TABLES[name], state)
        stored = {
            name: Stored(TABLES[name], self._layout.table(name), state, self._damaged[name])
            for name, state in self._states.items()
        }
        known = stored[QUARANTINE.name].known_damage() if QUARANTINE.name in stored else {}
        for stream, first, last, day in ticks.skipped:
            if day >= self._first_day and 0 not in known.get((stream, first), ()):
                self._find("log", f"segments {first} to {last} were never committed", TICKS, stream=stream)
        self._check_sequences(ticks)
        check = JournalCheck(self._layout, known, ticks, self._first_day, self._date, self._report, self._on_progress)
        held = scan_journal(check)
        compare_journal(check, self._decoder, held, stored)
        self._mark_repairable(held)
        self._report.seconds = time.monotonic() - begun
        return self._report

    def _find(self, kind: FindingKind, text: str, spec: Table, **where: object) -> None:
        self._report.findings.append(VerifyFinding(kind, text, spec.name, **where))  # type: ignore[arg-type]

    def _check_log(self, spec: Table) -> None:
        table = LakeTable(self._layout.table(spec.name), spec)
        version = newest_version(table)
        if version is None:
            self._missing.append(spec.name)
            return
        state, problems, may_open = read_log(table, version)
        if may_open:
            try:
                snapshot = table.open().snapshot_of_library()
                if snapshot.version != version:  # committed meanwhile
                    state, problems, _ = read_log(table, snapshot.version)
                problems += compare_with_library(state, snapshot)
            except DamagedLogError as error:
                problems.append(f"cannot be read: {error.problem}")
                may_open = False
            except TableError as error:
                problems.append(f"cannot be read: {error}")
                may_open = False
        for text in problems:
            self._find("log", text, spec)
        if may_open:
            self._states[spec.name] = state

    def _ticks_now(self, before: LogState) -> LogState:
        """The state of ticks after the logs of the others were read. Retention takes days out of ticks first."""
        table = LakeTable(self._layout.table(TICKS.name), TICKS)
        version = newest_version(table)
        return before if version is None or version == before.version else read_log(table, version)[0]

    def _check_files(self, spec: Table, state: LogState) -> None:
        files = sorted(state.files.values(), key=lambda file: (file.values["date"], _least(file), file.relative))
        if self._date is not None:
            files = [file for file in files if file.values["date"] == self._date.isoformat()]
        keys: list[pa.Table] = []
        day = ""
        for done, file in enumerate(files):
            self._on_progress(VerifyProgress(spec.name, done, len(files)))
            if file.values["date"] != day:
                self._check_keys(spec, day, keys)
                day, keys = file.values["date"], []
            self._check_one(spec, file, keys)
        self._check_keys(spec, day, keys)

    def _check_one(self, spec: Table, file: LoggedFile, keys: list[pa.Table]) -> None:
        def take(rows: pa.Table) -> None:
            self._report.rows += rows.num_rows
            if spec is TICKS:
                self._take_ticks(rows)
            else:
                keys.append(rows.select(key_columns(spec)))

        folder = self._layout.table(spec.name)
        problems = list(check_file(spec, folder, file, take))
        if problems:
            self._damaged[spec.name].add(file.relative)
            if self._has_left(spec, file):
                return
        self._report.files += 1
        self._report.bytes += file.size
        for text in problems:
            date = datetime.date.fromisoformat(file.values["date"])
            self._find("file", text, spec, path=str(folder / file.relative), date=date, rows=file.rows)

    def _has_left(self, spec: Table, file: LoggedFile) -> bool:
        """Whether the file has left the table since: then it may go at any time."""
        try:
            table = LakeTable(self._layout.table(spec.name), spec).open()
            return all(entry.relative != file.relative for entry in table.snapshot().entries)
        except TableError:
            return False

    def _take_ticks(self, rows: pa.Table) -> None:
        streams = rows.column("stream")
        for stream in pc.unique(streams).to_pylist():
            seq = rows.filter(pc.equal(streams, stream)).column("seq").to_numpy()
            self._sequences.setdefault(stream, SeqSet()).add(seq)

    def _check_keys(self, spec: Table, day: str, keys: list[pa.Table]) -> None:
        """No two rows of a day with the same key, nor with the same value in a column where each is stored once."""
        if not keys:
            return
        # Files differ in which columns they say to have no null.
        rows = pa.concat_tables(keys, promote_options="default").unify_dictionaries()
        for columns in ([name for name in spec.key if name in rows.column_names], [spec.unique]):
            if None in columns:
                continue
            repeated = rows.num_rows - rows.group_by(columns).aggregate([]).num_rows
            if repeated:
                date = datetime.date.fromisoformat(day)
                self._find("rows", f"{repeated} rows are there twice by {columns}", spec, date=date, rows=repeated)

    def _check_sequences(self, ticks: LogState) -> None:
        first, last = self._first_day, datetime.date.max
        if self._date is not None:
            first, last = max(first, self._date - _DAY), self._date + _DAY
            self._take_neighbours(ticks)
        is_end = all(datetime.date.fromisoformat(file.values["date"]) <= last for file in ticks.files.values())
        for stream in sorted({*ticks.streams(), *self._sequences}):
            there = self._sequences.get(stream, SeqSet())
            stop = ticks.transactions.get(f"{stream}/seq", 0)
            if there.repeated:
                self._find("rows", f"{there.repeated} seq are there twice", TICKS, stream=stream, rows=there.repeated)
            if there.high >= stop:
                self._find("log", f"got rows up to seq {there.high}, expected them below {stop}", TICKS, stream=stream)
            begun = _begun(stream)
            start = 0 if begun is None or begun >= first else there.low
            if start < 0 or (begun is not None and begun > last):
                continue  # all of its days were removed, or are others
            for low, high in there.missing(start, max(stop, there.high + 1) if is_end else there.high + 1):
                self._find_missing(ticks, stream, low, high)

    def _find_missing(self, ticks: LogState, stream: str, low: int, high: int) -> None:
        """Say that a range is missing, unless it is in a file that was found damaged. The day is that of its place."""
        below: tuple[int, str] = (-1, "")
        for file in ticks.files.values():
            least, most = file.stats["minValues"], file.stats["maxValues"]
            if not str(least.get("stream", "")) <= stream <= str(most.get("stream", stream)):
                continue
            if (
                file.relative in self._damaged[TICKS.name]
                and least.get("seq", 0) <= high
                and most.get("seq", high) >= low
            ):
                return
            if least.get("seq", 0) <= high:
                below = max(below, (least.get("seq", 0), file.values["date"]))
        date = datetime.date.fromisoformat(below[1]) if below[1] else _begun(stream)
        text = f"seq {low} to {high} are missing"
        self._find("sequence", text, TICKS, stream=stream, date=date, rows=high - low + 1)

    def _take_neighbours(self, ticks: LogState) -> None:
        """The seq of the days beside the one that is checked. A file that cannot be read there is no finding."""
        assert self._date is not None
        beside = {(self._date - _DAY).isoformat(), (self._date + _DAY).isoformat()}
        for file in ticks.files.values():
            if file.values["date"] not in beside:
                continue
            try:
                with open_parquet(self._layout.table(TICKS.name) / file.relative) as parquet:
                    for number in range(parquet.num_row_groups):
                        self._take_ticks(parquet.read_row_group(number, ["stream", "seq"]))
            except (OSError, pa.ArrowException):
                self._damaged[TICKS.name].add(file.relative)

    def _mark_repairable(self, held: dict[str, StreamInJournal]) -> None:
        """A day's rows can be made again where the journal has all of each stream that has rows on it."""
        streams: dict[tuple[str, str], set[str]] = {}
        for name, state in self._states.items():
            for file in state.files.values():
                for bounds in ("minValues", "maxValues"):
                    stream = file.stats[bounds].get("stream")
                    streams.setdefault((name, file.values["date"]), set()).add(str(stream))
        self._report.findings = [
            replace(finding, repairable=True)
            if finding.date is not None
            and finding.table not in (None, INSTRUMENTS.name)
            and all(
                stream in held and held[stream].holds(finding.date)
                for stream in {
                    *streams.get((str(finding.table), finding.date.isoformat()), ()),
                    *([finding.stream] if finding.stream else []),
                }
            )
            else finding
            for finding in self._report.findings
        ]


def _least(file: LoggedFile) -> str:
    return str(file.stats["minValues"].get("received_at", ""))


def _begun(stream: str) -> datetime.date | None:
    """The IST day on which a stream began, by its name; None if that has no time in it."""
    try:
        begun = datetime.datetime.strptime(stream[:15], "%Y%m%dT%H%M%S").replace(tzinfo=datetime.UTC)
    except ValueError:
        return None
    return begun.astimezone(IST).date()
