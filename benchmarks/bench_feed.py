"""What a feed costs, against bare pyarrow and DuckDB giving the same rows in the same order.

    python -m benchmarks.bench_feed [--cache FOLDER] [--rounds 3] [--only TEXT] [--quick] [--json FILE]

The generated sealed day of `benchmarks.market_day`: 20.5 million full ticks of 3,000 instruments of two exchanges. Each
way runs in a process of its own, one after the other, as often as there are rounds: the median CPU time counts, and the
most memory. Times are of the rows alone, without importing and opening.

    ten columns      the default columns of all instruments, the whole day: the feed's batches; pyarrow reading all of
                     it into memory, sorting the times of receipt and taking batches; DuckDB with ORDER BY, in batches
    all columns      the feed, the whole day; pyarrow, which has no memory for that, the same of what was received until
                     10:50
    one instrument   its whole day, all columns: the feed; DuckDB by hand over the folder's files
    objects          ticks as objects, two fields of each read, of the first million of the day
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import kitelake
from benchmarks.hand_queries import DAY, files_of
from benchmarks.market_day import CACHE, MarketDays
from benchmarks.results import Claim, Findings, arguments, tell
from benchmarks.turns import median_of_each, resident_mib
from storage.schema import TICKS

TEN: Final = (
    *("received_at", "exchange_timestamp", "last_trade_time", "instrument_token", "symbol", "last_price"),
    *("volume_traded", "oi", "bid_price_1", "ask_price_1"),
)
SOME: Final = f"{DAY} 10:50"
ONE: Final = "NSE:INFY"
OBJECTS: Final = 1_000_000
BATCH_ROWS: Final = 65_536
QUICK: Final = MarketDays(ticks=100_000, segments=5, instruments=300, sealed=True)
TEXTS: Final = ["stream", "account", "symbol", "mode"]
Way = Callable[[Path], int]
_taken: Final[list[float]] = []


@contextmanager
def the_rows() -> Iterator[None]:
    """What counts of a way: not to open, and not to close."""
    start = time.process_time()
    yield
    _taken.append(time.process_time() - start)


def of_feed(columns: Any) -> Way:
    def run(root: Path) -> int:
        with kitelake.open(root) as lake, the_rows():
            return sum(map(len, lake.feed(None, DAY, columns=columns).batches(BATCH_ROWS)))

    return run


def by_pyarrow(columns: list[str] | None, stop: str | None = None) -> Way:
    @the_rows()
    def run(root: Path) -> int:
        rows = pa.concat_tables(list(_groups(root, columns, stop))).unify_dictionaries().combine_chunks()
        order = pa.compute.sort_indices(rows["received_at"])
        if stop is not None:
            last = np.datetime64(f"{stop}:00".replace(" ", "T")) - np.timedelta64(330, "m")
            order = order.slice(0, int(np.count_nonzero(rows["received_at"].to_numpy() < last)))
        taken = (rows.take(order.slice(at, BATCH_ROWS)) for at in range(0, len(order), BATCH_ROWS))
        return sum(map(len, taken))

    return run


def _groups(root: Path, columns: list[str] | None, stop: str | None) -> Iterator[pa.Table]:
    end = None if stop is None else np.datetime64(f"{stop}:00".replace(" ", "T")) - np.timedelta64(330, "m")
    for path in sorted((root / "ticks").glob("date=*/*/*.parquet")):
        file = pq.ParquetFile(path, read_dictionary=TEXTS)
        at = file.metadata.schema.names.index("received_at")
        firsts = [file.metadata.row_group(n).column(at).statistics.min for n in range(file.metadata.num_row_groups)]
        wanted = [n for n, first in enumerate(firsts) if end is None or np.datetime64(first.replace(tzinfo=None)) < end]
        yield file.read_row_groups(wanted, columns)


def by_duckdb(root: Path) -> int:
    with duckdb.connect() as con, the_rows():
        query = f"select {', '.join(TEN)} from {files_of(root)} order by received_at, stream, seq"
        return sum(map(len, con.sql(query).to_arrow_reader(BATCH_ROWS)))


def one_of_feed(root: Path) -> int:
    with kitelake.open(root) as lake:
        for _ in range(5):  # the fifth time counts, of both
            with the_rows():
                rows = sum(map(len, lake.feed(ONE, DAY, columns="all").batches()))
        return rows


def one_by_duckdb(root: Path) -> int:
    with duckdb.connect() as con:
        con.execute("set parquet_metadata_cache = true")
        query = f"from {files_of(root)} where exchange = 'NSE' and instrument_token = 408065 order by received_at, seq"
        for _ in range(5):
            with the_rows():
                rows = len(con.sql(query).to_arrow_table())
        return rows


def objects(root: Path) -> int:
    with kitelake.open(root) as lake:
        ticks = iter(lake.feed(None, DAY))
        next(ticks)  # the first block is there
        total = 0.0
        count = 0
        with the_rows():
            for tick in islice(ticks, OBJECTS):
                total += tick.last_price + tick.instrument_token  # type: ignore[union-attr]
                count += 1
        return count


WAYS: Final[dict[str, dict[str, Way]]] = {
    "ten columns": {"feed": of_feed(None), "pyarrow": by_pyarrow(["seq", *TEN]), "DuckDB": by_duckdb},
    "all columns": {
        "feed": of_feed([name for name in TICKS.schema.names if name not in TICKS.partition_by]),
        "pyarrow": by_pyarrow(None, SOME),
    },
    "one instrument": {"feed": one_of_feed, "DuckDB": one_by_duckdb},
    "objects": {"feed": objects},
}
GOALS: Final = {"all columns": 700_000, "objects": 800_000}
"""Rows a second of CPU."""
LEAST_RATIOS: Final = {
    ("ten columns", "pyarrow"): 0.75,
    ("ten columns", "DuckDB"): 1 / 0.6,
    ("one instrument", "DuckDB"): 1 / 1.3,
}


def measure(way: Way, root: Path) -> dict[str, float]:
    """Run it in this process."""
    return {"rows": way(root), "cpu": _taken[-1], "MiB": resident_mib("VmHWM")}


def main() -> None:
    """Run each way in a process of its own."""
    parser = arguments(__doc__)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        name, way = options.way.split("/")
        print(json.dumps(measure(WAYS[name][way], options.cache)))
        return
    days = QUICK if options.quick else MarketDays(sealed=True)
    root, rounds = days.make(options.cache), 1 if options.quick else options.rounds
    found = Findings()
    for name, ways in WAYS.items():
        if options.only not in name:
            continue
        records: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way in ways:
                command = [sys.executable, "-m", "benchmarks.bench_feed", "--cache", str(root)]
                command += ["--way", f"{name}/{way}"]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                records[way].append(json.loads(done.stdout.splitlines()[-1]))
        medians = {way: median_of_each(several) for way, several in records.items()}
        rates = {way: one["rows"] / one["cpu"] for way, one in medians.items()}
        what, mine = f"feed, {name}", medians["feed"]
        unit, goal = "rows/s of CPU", GOALS.get(name)
        for peer in [way for way in ways if way != "feed"]:
            claim = Claim(what, rates["feed"], unit, peer, rates[peer], goal, LEAST_RATIOS.get((name, peer)), False)
            found.claims += [claim, Claim(f"{what}: memory", mine["MiB"], "MiB", peer, medians[peer]["MiB"])]
        if len(ways) == 1:
            found.claims.append(Claim(what, rates["feed"], unit, goal=goal, smaller_is_better=False))
    tell(found, options)


if __name__ == "__main__":
    main()
