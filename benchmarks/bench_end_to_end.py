"""The whole way with the real service: from the load generator's sockets to rows in the table, each number once.

    python -m benchmarks.bench_end_to_end [--only full-speed,day,start] [--seconds 60] [--quick] [--json FILE]

`kitelake run` and its writer capture 18,000 instruments in full mode, over 6 connections of 2 accounts, from
`benchmarks.load` on the same machine. What each process takes is read from /proc. At the end the service is stopped as
a person would; then a query finds every number that was sent in one row, or the script fails.

    full-speed  as fast as the service takes it, 50, 5 and 1 packets a frame. The rate to the commit is all packets by
                the time from the first to the commit of the last: a writer that was behind has caught up by then
    day         54,000 packets/s, 5 a frame, evenly: CPU and memory; how old a packet is when `fdatasync` has returned
                (as the service sees it), when it is committed, and when a query of an open lake shows it
    start       from the start of the process to the receipt of the first packet, and until everything is asked for;
                the same after kill -9 at full speed, with all that has to be recovered
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import kitelake
from benchmarks.peers import CRATE, CRATE_US
from benchmarks.results import Claim, Findings, Table, arguments, tell
from benchmarks.service import (
    Load,
    Service,
    Watch,
    check_beginnings,
    check_numbers,
    commit_times,
    wait_until,
)
from benchmarks.turns import median_of_each
from storage.journal import Kind, SegmentReader, segments, streams
from storage.layout import DataLayout

PACKETS_A_SECOND: Final = {50: 750_000, 5: 250_000, 1: 100_000}
"""The goals, by packets a frame."""
FOREVER: Final = 1e6
WARM_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 10.0
LOOKS_IN_A_TABLE: Final = 6


def full_speed(found: Findings, sizes: argparse.Namespace) -> None:
    behind: list[list[float | str | None]] = []
    for per_frame, goal in sizes.per_frame.items():
        measured, looks = at_full_speed(per_frame, sizes)
        name = f"full speed, {per_frame} a frame"
        found.claims += [
            Claim(f"{name}: socket to commit", measured["committed"], "packets/s", goal=goal, smaller_is_better=False),
            Claim(f"{name}: socket to journal", measured["received"], "packets/s", smaller_is_better=False),
            Claim(
                f"{name}: CPU of the service, a packet", measured["service"], "µs",
                f"{CRATE}, without storing", CRATE_US[per_frame], fixed=True,
            ),
            Claim(f"{name}: CPU of the writer, a packet", measured["writer"], "µs"),
            Claim(f"{name}: CPU of the load generator, a packet", measured["load"], "µs"),
            Claim(f"{name}: the most that waited for the writer", measured["waiting"], "packets"),
            Claim(f"{name}: bytes of a packet in the table, before the day is sealed", measured["bytes"], "bytes"),
            Claim(f"{name}: memory of the service, peak", measured["service MiB"], "MiB"),
            Claim(f"{name}: memory of the writer, peak", measured["writer MiB"], "MiB"),
        ]  # fmt: skip
        behind += [[per_frame, *look] for look in looks]
    found.tables.append(
        Table(
            "How far the writer is behind at full speed",
            ["packets a frame", "after s", "received", "committed", "waiting", "age of the newest committed, s"],
            behind,
            "The journal holds what waits, and takes it as long as the disk has room; the load ends, the writer goes "
            "on until all is committed. Load generator, service and writer share the processor.",
        )
    )


def at_full_speed(per_frame: int, sizes: argparse.Namespace) -> tuple[dict[str, float], list[list[float | None]]]:
    """Figures by name, and how far things were, from time to time."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Load("--per-frame", per_frame, *sizes.load, *sizes.until) as load,
        Service(Path(folder), load, segment_seconds=sizes.segment_seconds) as service,
    ):
        began = load.subscribed()
        with Watch(service, load) as watch:
            sent = load.ended()
            packets = sum(sent.values())
            wait_until(lambda: service.has_received(packets), "all is received")
            service.stop()
        files = commit_times(service.layout)
        (received,) = receipts(service.data, "max")
        file_bytes = sum(Path(file).stat().st_size for file in files)
        check_numbers(service.data, sent)
    looks = watch.looks
    measured = {name: took.cpu_seconds / packets * 1e6 for name, took in watch.took.items()}
    measured |= {f"{name} MiB": took.peak_mib for name, took in watch.took.items()}
    measured |= {
        "committed": packets / (max(files.values()) - began),
        "received": packets / (received - began),
        "bytes": file_bytes / packets,
        "waiting": max((look.received - look.committed for look in looks), default=0),
    }
    chosen = looks[:: max(1, len(looks) // LOOKS_IN_A_TABLE)]
    return measured, [
        [look.at, look.received, look.committed, look.received - look.committed, look.lag_seconds] for look in chosen
    ]


def day(found: Findings, sizes: argparse.Namespace) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Load("--rate", sizes.rate, *sizes.day_until, *sizes.load) as load,
        Service(Path(folder), load, notes=Path(folder) / "syncs", segment_seconds=sizes.segment_seconds) as service,
    ):
        load.subscribed()
        time.sleep(sizes.warm_seconds)
        with Watch(service, load) as watch:
            time.sleep(sizes.seconds)
        visible_ms = age_of_newest(service)
        sent = load.ended()
        wait_until(lambda: service.has_received(sum(sent.values())), "all is received")
        service.stop()
        check_numbers(service.data, sent)
        durable_ms = durable_ages(service.layout, Path(folder) / "syncs", sizes.counted_seconds)
        committed = committed_ages(service.layout)
    mib = sum(watch.took[name].peak_mib for name in ("service", "writer"))
    share = {name: took.cpu_seconds / watch.seconds * 100 for name, took in watch.took.items()}
    name = f"{sizes.rate:,} packets/s, 5 a frame"
    found.claims += [
        Claim(f"{name}: CPU of the service", share["service"], "% of a core", goal=12),
        Claim(f"{name}: CPU of the writer", share["writer"], "% of a core", goal=12),
        Claim(f"{name}: CPU of the load generator", share["load"], "% of a core"),
        Claim(f"{name}: memory of service and writer, peaks", mib, "MiB", goal=450),
        Claim(f"{name}: durable after receipt, median", float(np.percentile(durable_ms, 50)), "ms"),
        Claim(f"{name}: durable after receipt, 99 %", float(np.percentile(durable_ms, 99)), "ms", goal=150),
        Claim(f"{name}: committed after receipt, median", float(np.percentile(committed, 50)), "s"),
        Claim(f"{name}: committed after receipt, 99 %", float(np.percentile(committed, 99)), "s"),
        Claim(f"{name}: age of the newest packet when a query has shown it", visible_ms, "ms"),
    ]


def durable_ages(layout: DataLayout, notes: Path, between: tuple[float, float]) -> NDArray[np.float64]:
    """Milliseconds from the receipt of each record until a sync has returned that covers it.

    Of records that were received so many seconds after the first one.
    """
    (stream,) = streams(layout)
    received: list[NDArray[np.int64]] = []
    for number in segments(layout, stream):
        with SegmentReader(layout.segment(stream, number)) as reader:
            received += [block.received_at_ns[block.kinds != Kind.CHANNELS] for block in reader.read()]
    received_ns = np.concatenate(received)
    syncs = np.loadtxt(notes, np.int64)  # when, and how many records are durable since
    first = np.searchsorted(syncs[:, 1], np.arange(len(received_ns)), side="right")
    seconds = (received_ns - received_ns[0]) / 1e9
    counted = (seconds >= between[0]) & (seconds < between[1])
    counted &= first < len(syncs)  # closing the journal syncs the last ones
    ages: NDArray[np.float64] = (syncs[first[counted], 0] - received_ns[counted]) / 1e6
    return ages


def committed_ages(layout: DataLayout) -> NDArray[np.float64]:
    """Seconds from receipt to commit, of a thousand moments of each file, evenly."""
    ages = []
    for path, committed in commit_times(layout).items():
        times = pq.read_table(path, columns=["received_at"])["received_at"]
        first, last = (us.as_py().timestamp() for us in pa.compute.min_max(times).values())
        ages.append(committed - np.linspace(first, last, 1000))
    return np.concatenate(ages)


def age_of_newest(service: Service) -> float:
    """Milliseconds: how old the newest row is when a query of an open lake has given it; the median of five."""
    wait_until(lambda: service.has_received(1), "something is received")
    ages: list[float] = []
    with kitelake.open(service.data) as lake:
        while len(ages) < 6:
            newest = lake.sql("select epoch_ns(max(received_at)) as at from ticks").arrow()["at"][0].as_py()
            if newest is not None:
                ages.append((time.time_ns() - newest) / 1e6)
    return float(np.median(ages[1:]))


def start(found: Findings, sizes: argparse.Namespace) -> None:
    starts = median_of_each([started(sizes) for _ in range(sizes.rounds)])
    again = median_of_each([killed(sizes) for _ in range(sizes.rounds)])
    name, after = f"start with {sizes.instruments:,} instruments", "after kill -9 at full speed"
    found.claims += [
        Claim(f"{name}: to the first packet", starts["first"], "s", goal=3),
        Claim(f"{name}: until all are asked for", starts["all"], "s"),
        Claim(f"{after}: to the first packet", again["first"], "s", goal=3),
        Claim(f"{after}: until all are asked for", again["all"], "s"),
        Claim(f"{after}: packets to recover", again["waiting"], "packets"),
        Claim(f"{after}: until they are committed", again["recovered"], "s"),
    ]


def started(sizes: argparse.Namespace) -> dict[str, float]:
    """Seconds from the start of the process, in a folder that is new."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Load("--at-once", "--rate", sizes.rate, "--seconds", FOREVER, *sizes.load) as load,
    ):
        began = time.time()
        with Service(Path(folder), load) as service:
            asked_for = load.subscribed() - began
            wait_until(lambda: service.has_received(1), "something is received")
            service.stop()
        check_beginnings(service.data)
        return {"all": asked_for, "first": receipts(service.data, "min")[0] - began}


def killed(sizes: argparse.Namespace) -> dict[str, float]:
    """Seconds from the start of the second process; the first is killed at full speed."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Load("--at-once", "--seconds", FOREVER, *sizes.load, *sizes.kill_at) as load,
    ):
        with Service(Path(folder), load) as service:
            load.subscribed()
            time.sleep(sizes.kill_seconds)
            status = service.status()
            service.kill()
        again = time.time()
        committed = status.tables.rows if status is not None and status.tables is not None else 0
        with Service(Path(folder), load) as service:
            asked_for = load.subscribed() - again
            time.sleep(2)
            service.stop()
        check_beginnings(service.data)
        old, _ = streams(service.layout)
        recovered = max(time for path, time in commit_times(service.layout).items() if f"/{old}-" in path)
        with kitelake.open(service.data) as lake:
            rows = lake.sql(f"select count(*) as n from ticks where stream = '{old}'").arrow()["n"][0].as_py()
        return {
            "all": asked_for,
            "first": receipts(service.data, "min")[1] - again,
            "waiting": rows - committed,
            "recovered": recovered - again,
        }


def receipts(data: Path, which: str) -> list[float]:
    """When the first (min) or last (max) packet of each stream was received, in seconds since the epoch."""
    query = f"select epoch_us({which}(received_at)) as at from ticks group by stream order by stream"
    with kitelake.open(data) as lake:
        return [us / 1e6 for us in lake.sql(query).arrow()["at"].to_pylist()]


PARTS: Final[dict[str, Callable[[Findings, argparse.Namespace], None]]] = {
    "full-speed": full_speed,
    "day": day,
    "start": start,
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--instruments", type=int, default=18_000)
    parser.add_argument("--rate", type=int, default=54_000)
    parser.add_argument("--rounds", type=int, default=3, help="of starts")
    options = parser.parse_args()
    seconds = options.seconds
    sizes = argparse.Namespace(
        **vars(options), per_frame=PACKETS_A_SECOND, segment_seconds=60.0,
        until=("--seconds", seconds),
        warm_seconds=WARM_SECONDS, counted_seconds=(WARM_SECONDS, WARM_SECONDS + seconds),
        day_until=("--seconds", WARM_SECONDS + seconds + LOOK_SECONDS),
        kill_at=(), kill_seconds=8.0,
    )  # fmt: skip
    if options.quick:
        vars(sizes).update(
            seconds=1.0, instruments=600, rate=5_000, rounds=1, per_frame={5: PACKETS_A_SECOND[5]}, segment_seconds=1.0,
            until=("--packets", 60_000),
            warm_seconds=0.0, counted_seconds=(0.0, FOREVER), day_until=("--packets", 18_000),
            kill_at=("--rate", 5_000), kill_seconds=0.5,
        )  # fmt: skip
    sizes.load = ("--instruments", sizes.instruments)
    found = Findings()
    for name in options.only.split(","):
        PARTS[name](found, sizes)
    tell(found, options)


if __name__ == "__main__":
    main()
