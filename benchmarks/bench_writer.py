"""What the writer costs a tick, from journal segments to commits: where it goes, and what it takes of memory.

    python -m benchmarks.bench_writer [--ticks 1500000] [--instruments 18000] [--rounds 3] [--quick] [--json FILE]

The simulator's market in full packets, 50, 5 and 1 a frame, in segments of the usual 64 MiB with blocks of 10 ms at
54,000 ticks/s. They are made first, by a process of their own; then a new process commits them with `SegmentWriter`
and `JournalDecoder`: each when it is complete and there is no other, as it is in a service that keeps up, and once more
while all of them wait, when it does two exchanges at a time, which takes less time and more of the processors'.
Microseconds of CPU (user and system) a tick, of all segments but the first, the median of the rounds.

    read      the segment's blocks, their checksums verified
    walk      where the packets are
    order     sorting them by exchange and instrument
    columns   packets to columns, in that order
    rows      what else the decoder and the checks of its rows do
    Parquet   encoding and writing the files
    digest    the file's digest of itself
    commit    the Delta log
    rest      statistics, syncing, names of files, everything else
    pyarrow   for comparison: `pyarrow.parquet.write_table` with its own defaults of the same rows to memory, one file
              an exchange
    plain     the same without compression, statistics and, but for texts, dictionaries: the least that its writer of
              Parquet takes for so many columns
    waiting   all of it while segments wait
    MiB       resident at the peak while segments wait, and when there is nothing more to do
"""

import argparse
import datetime as dt
import io
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.results import Claim, Findings, Table, arguments, tell
from benchmarks.turns import median_of_each, resident_mib
from storage.layout import DataLayout
from storage.startup import have_one_arena, keep_freed_memory, leave_out_needless

PACKETS_A_FRAME: Final = (50, 5, 1)
SEGMENT_BYTES: Final = 64 << 20
TICKS_A_SECOND: Final = 54_000
BLOCKS_A_SECOND: Final = 100
STREAM: Final = "20261123T034500-bench1"
START: Final = dt.datetime(2026, 11, 23, 4, 30, tzinfo=dt.UTC)
PARTS: Final = ("read", "walk", "order", "columns", "rows", "Parquet", "digest", "commit")
STEPS: Final = (*PARTS, "rest", "all", "waiting", "pyarrow", "plain")
GOAL_US: Final = 1.2
GOAL_MIB: Final = 350


def make(folder: Path, packets_a_frame: int, ticks: int, instruments: int, segment_bytes: int) -> None:
    """The journal of a dead stream, and the day's instrument list."""
    from ingest.server import StreamMode
    from ingest.simulator import Market
    from storage.journal import JournalWriter, Kind
    from storage.schema import INSTRUMENTS
    from storage.tables import write_instruments

    market = Market(size=instruments, seed=1, start=START, rate=3.0)
    layout = DataLayout(folder)
    columns: dict[str, list[Any]] = {name: [None] * instruments for name in INSTRUMENTS.file_schema.names}
    columns["instrument_token"] = market.tokens.tolist()
    columns["symbol"] = [f"{one.exchange}:{one.tradingsymbol}" for one in market.universe.instruments]
    write_instruments(layout, START.date(), pa.table(columns, schema=INSTRUMENTS.file_schema))
    full = np.full(instruments, StreamMode.FULL, np.uint8)
    writer = JournalWriter(layout, STREAM, segment_bytes=segment_bytes, segment_seconds=1e9)
    channels = [writer.channel("asha", number) for number in range(1, 7)]
    received_at_ns = int(START.timestamp()) * 10**9
    done = since_flush = 0
    while done < ticks:
        rows = market.step()
        for at in range(0, len(rows), packets_a_frame):
            some = rows[at : at + packets_a_frame]
            received_at_ns += len(some) * 10**9 // TICKS_A_SECOND
            writer.append(Kind.BINARY, channels[at % 6], received_at_ns, market.images.frame(some, full[some]))
            since_flush += len(some)
            if since_flush >= TICKS_A_SECOND // BLOCKS_A_SECOND:
                writer.flush()
                since_flush = 0
        done += len(rows)
    writer.close()


class Split:
    """CPU time of named calls in all threads, each without those that are made within it."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._of_thread = threading.local()

    def wrap(self, owner: Any, name: str, step: str) -> None:
        """Count what the function costs under `step` from now on."""
        inner = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            running = vars(self._of_thread).setdefault("running", [])
            running.append(0.0)
            start = time.thread_time()
            try:
                return inner(*args, **options)
            finally:
                spent = time.thread_time() - start
                with self._lock:
                    self.spent[step] += spent - running.pop()
                if running:
                    running[-1] += spent

        setattr(owner, name, timed)


def commit(folder: Path, *, one_by_one: bool) -> None:
    """The writer: prints its figures. Segments wait for it, or are there `one_by_one`."""
    leave_out_needless()
    have_one_arena()
    keep_freed_memory()
    from ingest.wire import JournalDecoder
    from ingest.wire import journal as wire_journal
    from storage.commit import SegmentCommitted, SegmentWriter
    from storage.commit import writer as commit_writer
    from storage.journal import RecordReader, segments
    from storage.tables import LakeTable
    from storage.tables import parquet as tables_parquet

    split = Split()
    split.wrap(RecordReader, "read", "read")
    split.wrap(wire_journal, "walk_frames", "walk")
    split.wrap(wire_journal, "_sorted", "order")
    split.wrap(wire_journal, "decode_packets", "columns")
    split.wrap(commit_writer, "decode_in_pieces", "rows")
    split.wrap(pq.ParquetWriter, "write_table", "Parquet")
    split.wrap(pq.ParquetWriter, "close", "Parquet")
    split.wrap(tables_parquet, "stamp", "digest")
    split.wrap(LakeTable, "commit", "commit")
    done: list[tuple[int, float, dict[str, float]]] = []
    files: list[int] = []
    layout = DataLayout(folder)
    later = [layout.segment(STREAM, number) for number in segments(layout, STREAM)[1:] if one_by_one]
    for path in later:
        path.rename(folder / path.name)

    def note(segment: SegmentCommitted) -> None:
        done.append((segment.rows, time.process_time(), dict(split.spent)))
        files.append(segment.file_bytes)
        if later:
            path = later.pop(0)
            (folder / path.name).rename(path)

    stop = threading.Event()
    writer = SegmentWriter(layout, JournalDecoder(), on_commit=note)
    writer.run(poll_seconds=0.01, stop=stop)
    peak, after = resident_mib("VmHWM"), resident_mib("VmRSS")
    (_, start, at_start), (_, end, at_end) = done[0], done[-1]
    rows = sum(count for count, _, _ in done[1:])
    found = {step: (at_end.get(step, 0) - at_start.get(step, 0)) / rows * 1e6 for step in STEPS}
    found["all"] = (end - start) / rows * 1e6
    found["rest"] = found["all"] - sum(found[step] for step in PARTS)
    found |= {"peak": peak, "after": after, "bytes": sum(files) / sum(count for count, _, _ in done)}
    print(json.dumps(found))


def peer(folder: Path) -> None:
    """pyarrow alone, on the rows of the second segment."""
    paths = sorted(DataLayout(folder).table("ticks").rglob("*-0000000001.parquet"))
    texts = ["stream", "account", "symbol", "mode"]
    parts = [pq.ParquetFile(path, read_dictionary=texts).read().combine_chunks() for path in paths]
    plain: dict[str, Any] = {"compression": "none", "use_dictionary": texts, "write_statistics": False}
    calls: dict[str, Callable[[], object]] = {
        "pyarrow": lambda: [pq.write_table(part, io.BytesIO()) for part in parts],
        "plain": lambda: [pq.write_table(part, io.BytesIO(), **plain) for part in parts],
    }
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(3):
        for name, call in calls.items():
            best[name] = min(best[name], _seconds(call))
    rows = sum(part.num_rows for part in parts)
    print(json.dumps({name: seconds / rows * 1e6 for name, seconds in best.items()}))


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def forget(folder: str) -> None:
    """Have nothing committed."""
    for table in ("ticks", "events", "orders", "quarantine"):
        shutil.rmtree(DataLayout(Path(folder)).table(table), ignore_errors=True)


def compare(options: argparse.Namespace) -> None:
    me = [sys.executable, "-m", "benchmarks.bench_writer"]

    def ask(*arguments: str) -> dict[str, float]:
        done = subprocess.run([*me, *arguments], check=True, stdout=subprocess.PIPE, text=True)
        found: dict[str, float] = json.loads(done.stdout)
        return found

    ticks, instruments, rounds = options.ticks, options.instruments, options.rounds
    if options.quick:
        ticks, instruments, rounds = 80_000, 2_000, 1
    found = Findings()
    rows: list[list[float | str | None]] = []
    for packets_a_frame in PACKETS_A_FRAME:
        with tempfile.TemporaryDirectory() as folder:
            sizes = (
                "--ticks",
                str(ticks),
                "--instruments",
                str(instruments),
                "--segment-bytes",
                str(SEGMENT_BYTES >> 3 * options.quick),
            )
            subprocess.run([*me, "--make", folder, str(packets_a_frame), *sizes], check=True)
            records = []
            for _ in range(rounds):
                waiting = ask("--commit", folder, "--waiting")
                forget(folder)
                usual = ask("--commit", folder)
                taken = {"waiting": waiting["all"], "peak": waiting["peak"]}
                records.append(usual | taken | ask("--peer", folder))
                forget(folder)
        one = median_of_each(records)
        rows.append([packets_a_frame, *(one[step] for step in STEPS), one["peak"], one["after"], one["bytes"]])
        what = f"journal to commit, a full tick, {packets_a_frame} a frame: CPU"
        found.claims.append(Claim(what, one["all"], "µs", "pyarrow.parquet alone", one["pyarrow"], GOAL_US))
        found.claims.append(Claim(what, one["all"], "µs", "the least that pyarrow takes", one["plain"]))
        found.claims.append(Claim(f"{what}, while segments wait", one["waiting"], "µs"))
        peak = Claim(f"writer at its peak, {packets_a_frame} a frame", one["peak"], "MiB", goal=GOAL_MIB)
        found.claims.append(peak)
    titles = ["a frame", *STEPS, "MiB", "after", "bytes"]
    found.tables.append(Table("Where the writer's time goes: microseconds of CPU a tick", titles, rows))
    tell(found, options)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--ticks", type=int, default=1_500_000)
    parser.add_argument("--instruments", type=int, default=18_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--segment-bytes", type=int, default=SEGMENT_BYTES)
    parser.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--commit", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--waiting", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make(Path(options.make[0]), int(options.make[1]), options.ticks, options.instruments, options.segment_bytes)
    elif options.commit:
        commit(options.commit, one_by_one=not options.waiting)
    elif options.peer:
        peer(options.peer)
    else:
        compare(options)


if __name__ == "__main__":
    main()
