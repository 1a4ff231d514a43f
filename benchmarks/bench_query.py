"""What a query costs, against DuckDB over one plain Parquet file and pandas over CSV, in the same run.

    python -m benchmarks.bench_query [--ticks 2000000] [--rounds 3] [--quick] [--json FILE]

Full packets of 2,000 instruments of five exchanges over one trading day are journalled and committed by the real
writer, 100,000 a segment: as a day lies there that was captured and not yet tidied up. Milliseconds of wall time, the
median of the rounds, everything in the page cache. The same rows, sorted by time, are in one Parquet file that DuckDB
wrote by itself, and, with the six columns that the queries need, in one CSV file.

    day     one instrument's ticks of the day, in order
    last    the last price of each instrument
    bars    one-minute bars of each instrument

    open    a Lake and its first answer (`select 1`)
    look    `select 1` again: what it costs to see that nothing is new
    tail    500 ticks flushed to the journal -> a count that has them, with 100,000 ticks in the journal alone
    many    the same `look` after a commit, and one instrument's day, in a table of 5,000 files (50 days)
"""

import datetime as dt
import os
import statistics
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np

from benchmarks.results import Claim, Findings, arguments, tell
from benchmarks.turns import medians, seconds_of
from ingest.wire import FULL_DTYPE, JournalDecoder
from queries.lake import SqlLake
from storage import schema
from storage.commit import SegmentWriter
from storage.files import DataFile
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout
from storage.tables import LakeTable

STREAM: Final = "20261123T034500-000001"
OPEN_NS: Final = 1_795_405_500_000_000_000  # 2026-11-23 09:15 IST
DAY_NS: Final = int(6.25 * 3600 * 1e9)
SEGMENT_TICKS: Final = 100_000
PER_FRAME: Final = 50
SEGMENT_BYTES: Final = (1, 2, 3, 4, 7)
TOKENS: Final = np.array([(1000 + i) * 256 + SEGMENT_BYTES[i % 5] for i in range(2000)])
ONE: Final = int(TOKENS[0])
COLUMNS: Final = ("received_at", "instrument_token", "last_price", "volume_traded", "bid_price_1", "ask_price_1")
BUCKET: Final = "time_bucket(interval 1 minute, received_at)"
QUERIES: Final = {
    "day": f"select {', '.join(COLUMNS)} from ticks where {{where}} instrument_token = {ONE} order by received_at",
    "last": "select instrument_token, arg_max(last_price, received_at) from ticks group by 1",
    "bars": f"select instrument_token, {BUCKET} as minute, min(last_price), max(last_price), "
    "arg_min(last_price, received_at), arg_max(last_price, received_at) from ticks group by 1, 2",
}
WHERE: Final = "date = '2026-11-23' and exchange = 'NSE' and"


def make_frames(ticks: int) -> Iterator[bytes]:
    """Frames of full packets: random names, prices on a walk."""
    source = np.random.default_rng(1)
    prices = source.integers(10_000, 1_000_000, len(TOKENS))
    volumes = np.zeros(len(TOKENS), np.int64)
    framed = np.dtype([("length", ">u2"), ("packet", FULL_DTYPE)])
    noise = np.frombuffer(source.bytes(PER_FRAME * framed.itemsize * 64), np.uint8).reshape(64, -1) & 0x3F
    for number in range(ticks // PER_FRAME):
        run = noise[number % 64].copy().view(framed)
        chosen = source.choice(len(TOKENS), PER_FRAME, replace=False)
        prices[chosen] += source.integers(-20, 21, PER_FRAME)
        volumes[chosen] += source.integers(1, 100, PER_FRAME)
        packets = run["packet"]
        run["length"] = FULL_DTYPE.itemsize
        packets["instrument_token"] = TOKENS[chosen]
        packets["last_price"] = prices[chosen]
        packets["volume_traded"] = volumes[chosen]
        packets["exchange_timestamp"] = OPEN_NS // 10**9
        packets["last_trade_time"] = OPEN_NS // 10**9
        yield PER_FRAME.to_bytes(2, "big") + run.tobytes()


def make_lake(root: Path, ticks: int) -> None:
    layout = DataLayout(root)
    journal = JournalWriter(layout, STREAM, segment_bytes=SEGMENT_TICKS * 188, segment_seconds=1e9)
    channel = journal.channel("asha", 1)
    step = DAY_NS * PER_FRAME // ticks
    for number, frame in enumerate(make_frames(ticks)):
        journal.append(Kind.BINARY, channel, OPEN_NS + number * step, frame)
        if number % 100 == 99:
            journal.flush()
    journal.close()
    SegmentWriter(layout, JournalDecoder()).run(poll_seconds=0.1, stop=threading.Event())


def median(rounds: int, work: Callable[[], object]) -> float:
    """Milliseconds."""
    return medians(rounds, {0: seconds_of(work)})[0] * 1000


def measure_queries(root: Path, rounds: int) -> dict[str, dict[str, float]]:
    parquet, csv_file = root.parent / "plain.parquet", root.parent / "plain.csv"
    results: dict[str, dict[str, float]] = {}
    with SqlLake(root, JournalDecoder()) as lake, duckdb.connect() as plain:
        lake.sql(f"copy (select * from ticks order by received_at, seq) to '{parquet}'")
        lake.sql(f"copy (select {', '.join(COLUMNS)} from '{parquet}') to '{csv_file}'")
        plain.execute(f"create view ticks as from '{parquet}'")
        for name, text in QUERIES.items():
            ours, theirs = text.format(where=WHERE), text.format(where="")
            assert lake.sql(ours).count() == len(plain.sql(theirs).to_arrow_table())
            works = {
                "lake": seconds_of(lambda query=ours: lake.sql(query).arrow()),  # type: ignore[misc]
                "duckdb": seconds_of(lambda query=theirs: plain.sql(query).to_arrow_table()),  # type: ignore[misc]
            }
            results[name] = {way: each * 1000 for way, each in medians(rounds, works).items()}
            results[name]["pandas"] = seconds_of(lambda name=name: from_csv(csv_file, name))() * 1000  # type: ignore[misc]
    return results


def from_csv(path: Path, name: str) -> Any:
    import pandas as pd  # type: ignore[import-untyped]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ticks = pd.read_csv(path)
        ticks["received_at"] = pd.to_datetime(ticks["received_at"], format="ISO8601")
    if name == "day":
        return ticks[ticks["instrument_token"] == ONE]
    if name == "last":
        return ticks.groupby("instrument_token")["last_price"].last()
    keys = ["instrument_token", ticks["received_at"].dt.floor("min")]
    return ticks.groupby(keys)["last_price"].agg(["min", "max", "first", "last"])


def open_once(root: Path) -> None:
    with SqlLake(root, JournalDecoder()) as lake:
        lake.sql("select 1").arrow()


def measure_tail(root: Path, rounds: int) -> float:
    journal = JournalWriter(DataLayout(root), "20261124T034500-000002", segment_bytes=1 << 30, segment_seconds=1e9)
    channel = journal.channel("asha", 1)
    frames = list(make_frames(SEGMENT_TICKS))
    for frame in frames:
        journal.append(Kind.BINARY, channel, OPEN_NS + 86_400 * 10**9, frame)
    journal.flush()
    query = "select count(*) from ticks where date = '2026-11-24'"
    with SqlLake(root, JournalDecoder()) as lake:
        expected = lake.sql(query).arrow().column(0)[0].as_py()

        def turn() -> None:
            nonlocal expected
            expected += 500
            for frame in frames[:10]:
                journal.append(Kind.BINARY, channel, OPEN_NS + 86_400 * 10**9, frame)
            journal.flush()
            assert lake.sql(query).arrow().column(0)[0].as_py() == expected

        taken = median(max(rounds, 5), turn)
    journal.close()
    return taken


def measure_many(root: Path, rounds: int) -> dict[str, float]:
    """A table of 5,000 names of five files, one for each exchange: 20 of each exchange on each of 50 days."""
    source = LakeTable(DataLayout(root).table("ticks"), schema.TICKS).open()
    by_exchange = {entry.values["exchange"]: entry for entry in source.snapshot().entries}
    many = root.parent / "many"
    table = LakeTable(DataLayout(many).table("ticks"), schema.TICKS).open(create=True)
    files = []
    for day in range(50):
        date = (dt.date(2026, 1, 1) + dt.timedelta(days=day)).isoformat()
        for exchange, entry in by_exchange.items():
            folder = table.path / f"date={date}" / f"exchange={exchange}"
            folder.mkdir(parents=True)
            for number in range(20):
                name = f"many-{number:010d}.parquet"
                os.link(source.path / entry.relative, folder / name)
                values = {"date": date, "exchange": exchange}
                relative = f"date={date}/exchange={exchange}/{name}"
                files.append(DataFile(relative, entry.size, values, entry.rows, entry.stats))
    table.commit(files[:-10])
    query = (
        f"select sum(last_price) from ticks where date = '2026-01-20' and exchange = 'NSE' and instrument_token = {ONE}"
    )
    with SqlLake(many, JournalDecoder()) as lake:
        lake.sql("select 1")
        looks = []
        for file in files[-10:][:rounds]:
            table.commit([file])
            looks.append(seconds_of(lambda: lake.sql("select 1").arrow())() * 1000)
        return {
            "look after a commit at 5,000 files": statistics.median(looks),
            "one instrument's day of 5,000 files": median(rounds, lambda: lake.sql(query).arrow()),
        }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--ticks", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ticks, rounds = (200_000, 1) if options.quick else (options.ticks, options.rounds)
    found = Findings()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "lake"
        make_lake(root, ticks)
        for name, ms in measure_queries(root, rounds).items():
            what = f"query of {ticks:,} ticks as committed: {name}"
            peers = {"DuckDB, one sorted file": "duckdb", "pandas, CSV": "pandas"}
            found.claims += [Claim(what, ms["lake"], "ms", peer, ms[key]) for peer, key in peers.items()]
        others = {"open a lake and ask": median(rounds, lambda: open_once(root))}
        with SqlLake(root, JournalDecoder()) as lake:
            lake.sql("select 1")
            others["look again"] = median(max(rounds, 5), lambda: lake.sql("select 1").arrow())
        others["500 ticks flushed until a count has them, 100,000 in the journal"] = measure_tail(root, rounds)
        others |= measure_many(root, rounds)
    found.claims += [Claim(what, ms, "ms") for what, ms in others.items()]
    tell(found, options)


if __name__ == "__main__":
    main()
