"""In which order the rows of a sealed day lie: what each order costs in bytes and in the questions that are asked.

    python -m benchmarks.bench_seal [--ticks 3000000] [--rounds 3] [--quick] [--json FILE]

Full packets of 3,000 instruments of the simulator's market over one trading day are committed by the real writer, and
the day is written anew in each order. Milliseconds of CPU time of DuckDB with one thread, the median of the rounds,
everything in the page cache. Questions ask for seven columns.

    size      bytes a tick
    day       one instrument's day, in order
    all       the same with all columns
    window    100,000 ticks of the whole market, in order of time
    replay    the whole day in order of time, sorted at once
    pieces    the whole day in order of time, one stretch after another: what a replay needs to sort at a time

At the end, the real `seal` over the same day: microseconds a tick of CPU time, and the bytes before and after.
"""

import datetime as dt
import itertools
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.results import Claim, Findings, Table, arguments, tell
from benchmarks.turns import cpu_of, medians
from ingest.server import StreamMode
from ingest.simulator import Market
from ingest.wire import JournalDecoder
from storage.clock import IST
from storage.commit import SegmentWriter
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout
from storage.schema import TICKS
from storage.tables import LakeTable, parquet_writer
from storage.upkeep import compact_day

DAY: Final = dt.date(2026, 11, 23)
OPEN: Final = dt.datetime(2026, 11, 23, 9, 15, tzinfo=IST)
SESSION_SECONDS: Final = 22_500
STREAM: Final = "20261123T034000-000001"
PER_FRAME: Final = 10
COLUMNS: Final = "received_at, seq, instrument_token, last_price, volume_traded, bid_price_1, ask_price_1"
ALL: Final = ", ".join(f'"{name}"' for name in TICKS.file_schema.names)
INSTRUMENT: Final = "instrument_token, stream, seq"


@dataclass(frozen=True)
class Order:
    """Rows of a stretch (None: the day is one) sorted by `by`, and written in row groups."""

    stretch_rows: int | None
    by: str
    group_rows: int

    def __str__(self) -> str:
        stretch = "day" if self.stretch_rows is None else f"{self.stretch_rows >> 20}M rows"
        return f"{stretch}, by {self.by.partition(',')[0]}, groups of {self.group_rows >> 10}k"


ORDERS: Final = (
    Order(None, "stream, seq", 1 << 17),
    Order(None, INSTRUMENT, 1 << 17),
    Order(1 << 20, INSTRUMENT, 1 << 15),
    Order(1 << 20, INSTRUMENT, 1 << 17),
    Order(1 << 21, INSTRUMENT, 1 << 15),
    Order(1 << 21, INSTRUMENT, 1 << 16),
    Order(1 << 21, INSTRUMENT, 1 << 17),
    Order(1 << 22, INSTRUMENT, 1 << 16),
    Order(1 << 22, INSTRUMENT, 1 << 17),
    Order(1 << 22, INSTRUMENT, 1 << 18),
    Order(1 << 22, INSTRUMENT, 1 << 20),
)


def make_day(layout: DataLayout, ticks: int) -> None:
    """The day as a capture leaves it: a file for each segment and exchange."""
    step_seconds = 2.5
    market = Market(size=3000, seed=1, start=OPEN, steps_per_second=1 / step_seconds)
    full = np.full(len(market), StreamMode.FULL, np.uint8)
    journal = JournalWriter(layout, STREAM, segment_bytes=20_000_000, segment_seconds=1e9)
    channel = journal.channel("asha", 1)
    random = np.random.default_rng(1)
    start_ns = int(OPEN.timestamp()) * 10**9
    made = 0
    while made < ticks:
        rows = market.step()
        random.shuffle(rows)
        for at in range(0, len(rows), PER_FRAME):
            some = rows[at : at + PER_FRAME]
            received_at_ns = start_ns + made * SESSION_SECONDS * 10**9 // ticks
            journal.append(Kind.BINARY, channel, received_at_ns, market.images.frame(some, full[some]))
            made += len(some)
        journal.flush()
    journal.close()
    SegmentWriter(layout, JournalDecoder()).run(poll_seconds=0.1, stop=threading.Event())
    shutil.rmtree(layout.journal)


class Lying:
    """Files with all ticks of the day, and the questions."""

    def __init__(self, files: list[str]) -> None:
        self.con = duckdb.connect(config={"threads": 1})
        self.con.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        self.files = files
        self.bytes = sum(Path(file).stat().st_size for file in files)

    def ask(self, columns: str = "count(*)", rest: str = "") -> pa.Table:
        text = f"SELECT {columns} FROM read_parquet($files, hive_partitioning = false) {rest}"
        return self.con.sql(text, params={"files": self.files}).to_arrow_table()

    def write(self, order: Order, stretches: list[str], path: Path) -> "Lying":
        """The same ticks in another order. `stretches` are conditions on time."""
        with parquet_writer(TICKS.file_schema, path) as writer:
            for condition in stretches:
                text = f"SELECT {ALL} FROM read_parquet($files, hive_partitioning = false) WHERE {condition}"
                found = self.con.sql(f"{text} ORDER BY {order.by}", params={"files": self.files})
                for batch in found.to_arrow_reader(order.group_rows):
                    writer.write_table(pa.Table.from_batches([batch]).cast(TICKS.file_schema))
        return Lying([str(path)])


def between(first: int, end: int) -> str:
    return f"received_at >= make_timestamptz({first}) AND received_at < make_timestamptz({end})"


def cpu_ms(rounds: int, work: Callable[[], object]) -> float:
    """Milliseconds of CPU time."""
    return medians(rounds, {0: cpu_of(work)})[0] * 1000


def questions(lying: Lying, token: int, window: str, stretches: list[str], rounds: int) -> dict[str, float]:
    rows = lying.ask().column(0)[0].as_py()
    mine, in_time = f"WHERE instrument_token = {token} ORDER BY stream, seq", "ORDER BY received_at, seq"
    return {
        "size": lying.bytes / rows,
        "day": cpu_ms(rounds, lambda: lying.ask(COLUMNS, mine)),
        "all": cpu_ms(rounds, lambda: lying.ask(ALL, mine)),
        "window": cpu_ms(rounds, lambda: lying.ask(COLUMNS, f"WHERE {window} {in_time}")),
        "replay": cpu_of(lambda: lying.ask(COLUMNS, in_time))() * 1000,
        "pieces": cpu_of(lambda: [lying.ask(COLUMNS, f"WHERE {piece} {in_time}") for piece in stretches])() * 1000,
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--ticks", type=int, default=3_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ticks, rounds = (100_000, 1) if options.quick else (options.ticks, options.rounds)
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        layout = DataLayout(Path(folder) / "data")
        make_day(layout, ticks)
        day = Lying(LakeTable(layout.table("ticks"), TICKS).open().snapshot().files)
        rows = day.ask().column(0)[0].as_py()
        counts = day.ask("instrument_token, count(*)", "GROUP BY 1 ORDER BY 2 DESC, 1")
        token = counts.column(0)[counts.num_rows // 10].as_py()

        def cuts(step: int) -> list[str]:
            moments = day.ask("epoch_us(received_at)", "ORDER BY received_at").column(0)
            bounds = [*(moments[at].as_py() for at in range(0, rows, step)), moments[rows - 1].as_py() + 1]
            return [between(*pair) for pair in itertools.pairwise(bounds)]

        def report(name: str, lying: Lying, stretches: list[str]) -> None:
            results[name] = questions(lying, token, window, stretches, rounds)

        windows = cuts(100_000)
        window = windows[len(windows) // 2]
        report("as committed", day, cuts(1 << 20))
        for order in ORDERS:
            path = Path(folder) / "order.parquet"
            stretches = cuts(order.stretch_rows or rows)
            report(str(order), day.write(order, stretches, path), stretches)
            path.unlink()
        start = time.process_time()
        sealed = compact_day(layout, DAY)
        taken = time.process_time() - start
    before, after = sum(one.bytes_before for one in sealed), sum(one.bytes for one in sealed)
    found = Findings()
    found.claims.append(Claim("seal a tick: CPU", taken / rows * 1e6, "µs"))
    found.claims.append(Claim("a sealed tick: size", after / rows, "bytes", "as committed", before / rows))
    columns = ["order", "bytes a tick", "day", "all", "window", "replay", "pieces"]
    lines: list[list[float | str | None]] = [[name, *figures.values()] for name, figures in results.items()]
    title = f"Orders of the rows of a sealed day of {rows:,} ticks: milliseconds of CPU of questions"
    found.tables.append(Table(title, columns, lines))
    tell(found, options)


if __name__ == "__main__":
    main()
