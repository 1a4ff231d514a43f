"""How work with the tables grows: with days, with versions of the log, with active files. For `bench_growth`.

Tables are made by the real table writer. Where only their number counts, files are links to real ones, as the log and
the file system see no difference.
"""

import contextlib
import datetime as dt
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Final

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.transaction import AddAction

from benchmarks.market_day import MarketDays
from benchmarks.market_listing import LAST_DAY
from benchmarks.results import Claim, Findings, Table
from benchmarks.turns import cpu_of, medians
from ingest.wire import JournalDecoder
from queries.lake import SqlLake
from queries.tail import Snapshots
from storage.files import DataFile
from storage.layout import DataLayout, segment_stem, table_file
from storage.schema import TICKS
from storage.tables import LakeTable

DAYS: Final = (1, 25, 125, 250)
VERSIONS: Final = (10, 100, 1_000, 10_000)
TODAY: Final = LAST_DAY + dt.timedelta(days=1)
STREAM: Final = f"{TODAY:%Y%m%d}T032900-000001"
ONE: Final = f"exchange = 'NSE' AND instrument_token = {408065}"
EXCHANGES: Final = ("MCX", "NSE", "NFO", "BSE", "BFO", "CDS", "INDICES")
EQUITY_MINUTES: Final = 440
"""08:55 to 16:15, the hours in which all are captured; MCX is alone before and after."""
ALL_MINUTES: Final = 930
HOURLY_FILES: Final = 15 + 60 + 15
"""The most that an exchange has of a day whose hours are sealed: sets, an hour's files, and those that made no set."""
YEAR_DAYS: Final = 250
SEALED_FILES: Final = 23
"""A sealed day of 18,000 instruments that tick 0.3 times a second: 7.5 GB in files of 384 MiB, and one an exchange."""
GOAL_MS: Final = 50.0

Progress = Callable[[str], None]


def day_files(segments_a_minute: int) -> int:
    """How many files a day has before it is sealed: one a segment and exchange."""
    return segments_a_minute * EQUITY_MINUTES * len(EXCHANGES) + ALL_MINUTES - EQUITY_MINUTES


ACTIVE: Final = {
    "10 sealed days": (10 * SEALED_FILES, 0),
    "a year of sealed days": (YEAR_DAYS * SEALED_FILES, 0),
    "… and a day of a segment a minute": (YEAR_DAYS * SEALED_FILES, HOURLY_FILES * len(EXCHANGES)),
    "… and one whose hours are not sealed": (YEAR_DAYS * SEALED_FILES, day_files(1)),
    "… and one of six a minute, not sealed": (YEAR_DAYS * SEALED_FILES, day_files(6)),
    "eight years": (8 * YEAR_DAYS * SEALED_FILES, 0),
}
"""Sealed files, and those of a day that is not."""


class Lake:
    """A data folder on which everything is measured in turns. Each commit adds one file to today."""

    def __init__(self, root: Path, day: dt.date) -> None:
        self.layout = DataLayout(root)
        self.table = LakeTable(self.layout.table(TICKS.name), TICKS).open()
        snapshot = self.table.snapshot()
        self._model = _with_stats(next(e for e in snapshot.entries if e.values["exchange"] == "NSE"))
        self._numbers = count(max(snapshot.version, 1_000_000))
        self._query = f"SELECT last_price FROM ticks WHERE date = DATE '{day}' AND {ONE}"
        self._library = DeltaTable(self.table.path.as_uri())

    @property
    def files(self) -> int:
        return len(self.table.snapshot().files)

    def measure(self, rounds: int) -> dict[str, float]:
        """Milliseconds of CPU of each step."""
        looks = Snapshots(self.layout, JournalDecoder())
        with SqlLake(self.layout.root, JournalDecoder()) as lake, contextlib.closing(looks):
            works: Mapping[str, Callable[[], object]] = {
                "open": self._open,
                "commit": self._commit,
                "refresh": lambda: looks.look([TICKS.name]),
                "look": lambda: lake.sql("SELECT 1 FROM ticks LIMIT 0").arrow(),
                "day": lambda: lake.sql(self._query).arrow(),
                "writer opens": lambda: LakeTable(self.table.path, TICKS).open(),
                "library commits": self._commit_by_library,
            }
            found = medians(rounds, {name: cpu_of(work) for name, work in works.items()})
        return {name: seconds * 1000 for name, seconds in found.items()}

    def _open(self) -> None:
        with SqlLake(self.layout.root, JournalDecoder()) as lake:
            lake.sql("SELECT 1 FROM ticks LIMIT 0").arrow()

    def _next(self) -> tuple[DataFile, dict[str, int]]:
        number = next(self._numbers)
        file = linked(self.table, self._model, {"date": str(TODAY), "exchange": "NSE"}, segment_stem(STREAM, number))
        return file, {STREAM: number, f"{STREAM}/seq": number, f"{STREAM}/record": number}

    def _commit(self) -> None:
        file, transactions = self._next()
        self.table.commit([file], transactions=transactions)

    def _commit_by_library(self) -> None:
        """What a writer without a log of its own does: go on, look, commit."""
        file, transactions = self._next()
        self._library.update_incremental()
        for name in transactions:
            self._library.transaction_version(name)
        add = AddAction(file.relative, file.size, dict(file.values), 0, True, file.stats)
        properties = CommitProperties(app_transactions=[Transaction(*each) for each in transactions.items()])
        columns = list(TICKS.partition_by)
        self._library.create_write_transaction([add], "append", TICKS.schema, columns, commit_properties=properties)


def linked(table: LakeTable, model: DataFile, values: dict[str, str], stem: str) -> DataFile:
    """The model's bytes as another file of the table, not committed yet."""
    relative = table_file(values, stem)
    target = table.path / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(table.path / model.relative, target)
    return DataFile(relative, model.size, values, model.rows, model.stats)


def _with_stats(file: DataFile) -> DataFile:
    stats = f'{{"numRecords":{file.rows},"minValues":{{"seq":0}},"maxValues":{{"seq":{file.rows}}},"nullCount":{{}}}}'
    return DataFile(file.relative, file.size, file.values, file.rows, stats)


def grow_days(cache: Path, days: tuple[int, ...], rounds: int, say: Progress) -> Table:
    rows = []
    for number in days:
        say(f"{number} days of real ticks")
        root = MarketDays(instruments=100, ticks=2_000, segments=1, days=number).make(cache)
        lake = Lake(root, LAST_DAY)
        rows.append([number, lake.files, *_cells(lake.measure(rounds))])
    note = (
        "CPU. Three files a day. Opening reads the log, which grows by the number of files, and so does a look, which "
        "asks for all of them; what asks for a day is given that day's files."
    )
    return Table("Growth with days in the table", ["days", "files", *COLUMNS], rows, note)


def grow_versions(cache: Path, versions: tuple[int, ...], rounds: int, say: Progress) -> Table:
    root = MarketDays(instruments=100, ticks=2_000, segments=1).make(cache / "versions")
    lake = Lake(root, LAST_DAY)
    rows = []
    for number in versions:
        say(f"{number:,} versions")
        for at in range(lake.table.snapshot().version, number):
            lake.table.commit([], transactions={"bench": at})
        rows.append([lake.table.snapshot().version, *_cells(lake.measure(rounds))])
    note = (
        "CPU. Flat but for the versions since the last checkpoint, at most 100, which whoever opens reads one by one. "
        "deltalake's handle was opened at the first version, and goes on from there."
    )
    return Table("Growth with versions in the Delta log", ["versions", *COLUMNS], rows, note)


def grow_files(cache: Path, wanted: Mapping[str, tuple[int, int]], rounds: int, say: Progress) -> Findings:
    found = Findings()
    rows: list[list[float | str]] = []
    for name, (sealed, today) in wanted.items():
        say(f"{name}: {sealed + today:,} active files")
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            lake = Lake(_with_files(Path(folder), sealed, today), LAST_DAY)
            figures = lake.measure(rounds)
            rows.append([name, lake.files, *_cells(figures)])
        if name.startswith("…"):
            title = name.removeprefix("… and ")
            what = f"{{}} with a year of sealed days and {title} in the table, CPU"
            by_library = figures["library commits"]
            found.claims += [
                Claim(what.format("commit"), figures["commit"], "ms", "deltalake's own", by_library, goal=GOAL_MS),
                Claim(what.format("refresh of an open lake after a commit"), figures["refresh"], "ms", goal=GOAL_MS),
                Claim(what.format("the least query of an open lake"), figures["look"], "ms", goal=GOAL_MS),
            ]
    note = (
        "CPU. A commit writes its own lines; what grows a little is the list of files that whoever follows the log "
        "keeps. deltalake takes all files anew, twice a commit. A query of a day is given the files of that day. One "
        "that asks for everything, as the look does, is linear, at some 20 µs a file: DuckDB takes day and exchange of "
        "each from its name, twice to bind the query. Opening is linear by reading the checkpoint."
    )
    found.tables.append(Table("Growth with active files", ["in the table", "files", *COLUMNS], rows, note))
    return found


COLUMNS: Final = (
    "open ms", "commit ms", "refresh ms", "look ms", "instrument's day ms", "writer opens ms", "deltalake commits ms",
)  # fmt: skip


def _cells(figures: Mapping[str, float]) -> list[float]:
    return [figures[name] for name in ("open", "commit", "refresh", "look", "day", "writer opens", "library commits")]


def _with_files(folder: Path, sealed: int, today: int) -> Path:
    """A data folder with that many files, committed a day and a segment at a time."""
    root = MarketDays(instruments=100, ticks=2_000, segments=1).make(folder)
    table = LakeTable(DataLayout(root).table(TICKS.name), TICKS).open()
    model = _with_stats(next(e for e in table.snapshot().entries if e.values["exchange"] == "NSE"))
    for at, files in enumerate(_sealed_days(table, model, sealed)):
        table.commit(files, transactions={"sealed": at})
    for number in range(-(-today // len(EXCHANGES))):
        some = EXCHANGES[: today - number * len(EXCHANGES)]
        names = [({"date": str(TODAY), "exchange": each}, segment_stem(STREAM, number)) for each in some]
        table.commit([linked(table, model, *each) for each in names], transactions={STREAM: number})
    return root


def _sealed_days(table: LakeTable, model: DataFile, files: int) -> Iterator[list[DataFile]]:
    for first in range(0, files, SEALED_FILES):
        date = str(LAST_DAY - dt.timedelta(days=1 + first // SEALED_FILES))
        yield [
            linked(
                table, model, {"date": date, "exchange": EXCHANGES[at % len(EXCHANGES)]},
                f"sealed-{first:016x}-{at + 1:04d}-of-{SEALED_FILES:04d}",
            )
            for at in range(min(SEALED_FILES, files - first))
        ]  # fmt: skip
