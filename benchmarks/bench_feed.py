"""What a feed costs, against bare pyarrow and DuckDB giving the same rows in the same order.

    python -m benchmarks.bench_feed --cache FOLDER [--rounds 3] [--only TEXT]

The generated sealed day of `benchmarks.market_day`: 20.5 million full ticks of 3,000 instruments of two exchanges. Each
way runs in a process of its own, one after the other, as often as there are rounds: the best CPU time counts, and the
most memory. Times are of the rows alone, without importing and opening.

    ten columns      the default columns of all instruments, the whole day: the feed's batches; pyarrow reading all of
                     it into memory, sorting the times of receipt and taking batches; DuckDB with ORDER BY, in batches
    all columns      of the first hour and a half: the feed; pyarrow reading the row groups of that time, and the same
    one instrument   its whole day, all columns: the feed; DuckDB by hand over the folder's files
    objects          ticks as objects, two fields of each read, of the first million of the day
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import kitelake
from benchmarks.hand_queries import DAY, files_of
from benchmarks.market_day import MarketDays
from storage.schema import TICKS

TEN: Final = (
    *("received_at", "exchange_timestamp", "last_trade_time", "instrument_token", "symbol", "last_price"),
    *("volume_traded", "oi", "bid_price_1", "ask_price_1"),
)
SOME: Final = f"{DAY} 10:30"
ONE: Final = "NSE:INFY"
OBJECTS: Final = 1_000_000
BATCH_ROWS: Final = 65_536
TEXTS: Final = ["stream", "account", "symbol", "mode"]
Way = Callable[[Path], int]


def of_feed(columns: Any, stop: str | None = None) -> Way:
    def run(root: Path) -> int:
        with kitelake.open(root) as lake:
            return sum(map(len, lake.feed(None, DAY, stop, columns=columns).batches(BATCH_ROWS)))

    return run


def by_pyarrow(columns: list[str] | None, stop: str | None = None) -> Way:
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
    with duckdb.connect() as con:
        query = f"select {', '.join(TEN)} from {files_of(root)} order by received_at, stream, seq"
        return sum(map(len, con.sql(query).to_arrow_reader(BATCH_ROWS)))


def one_of_feed(root: Path) -> int:
    with kitelake.open(root) as lake:
        for _ in range(5):  # the fifth time alone is measured, of both
            start_clock()
            rows = sum(map(len, lake.feed(ONE, DAY, columns="all").batches()))
        return rows


def one_by_duckdb(root: Path) -> int:
    with duckdb.connect() as con:
        con.execute("set parquet_metadata_cache = true")
        query = f"from {files_of(root)} where exchange = 'NSE' and instrument_token = 408065 order by received_at, seq"
        for _ in range(5):
            start_clock()
            rows = len(con.sql(query).to_arrow_table())
        return rows


def objects(root: Path) -> int:
    with kitelake.open(root) as lake:
        ticks = iter(lake.feed(None, DAY))
        next(ticks)  # the first block is there
        start_clock()
        total = 0.0
        for _, tick in zip(range(OBJECTS), ticks, strict=False):
            total += tick.last_price + tick.instrument_token  # type: ignore[union-attr]
        return OBJECTS


WAYS: Final[dict[str, dict[str, Way]]] = {
    "ten columns": {"feed": of_feed(None), "pyarrow": by_pyarrow(["seq", *TEN]), "DuckDB": by_duckdb},
    "all columns": {
        "feed": of_feed([name for name in TICKS.schema.names if name not in TICKS.partition_by], SOME),
        "pyarrow": by_pyarrow(None, SOME),
    },
    "one instrument": {"feed": one_of_feed, "DuckDB": one_by_duckdb},
    "objects": {"feed": objects},
}
_started = [0.0, 0.0]


def start_clock() -> None:
    """From here on it counts."""
    _started[:] = time.process_time(), time.perf_counter()


def measure(way: Way, root: Path) -> dict[str, float]:
    """Run it in this process."""
    start_clock()
    rows = way(root)
    cpu, wall = time.process_time() - _started[0], time.perf_counter() - _started[1]
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows": rows, "cpu": cpu, "wall": wall, "MiB": most}


def main() -> None:
    """Run each way in a process of its own, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    root = MarketDays(sealed=True).make(arguments.cache)
    if arguments.way:
        name, way = arguments.way.split("/")
        print(json.dumps(measure(WAYS[name][way], root)))
        return
    for name, ways in WAYS.items():
        if arguments.only not in name:
            continue
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(arguments.rounds):
            for way in ways:
                command = [sys.executable, "-m", "benchmarks.bench_feed", "--cache", str(arguments.cache)]
                command += ["--way", f"{name}/{way}"]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[way].append(json.loads(done.stdout.splitlines()[-1]))
        base = min(each["cpu"] for each in found["feed"])
        for way, several in found.items():
            best = min(several, key=lambda each: each["cpu"])
            speed = best["rows"] / best["cpu"] / 1e6
            print(
                f"{name:15} {way:8} {best['rows']:>10,.0f} rows, CPU {best['cpu']:7.3f} s, {speed:6.3f} M/s, wall "
                f"{best['wall']:7.3f} s, {max(each['MiB'] for each in several):6,.0f} MiB; the feed's CPU is "
                f"{base / best['cpu']:.2f} of it",
                flush=True,
            )


if __name__ == "__main__":
    main()
