"""For benchmarks: `kitelake run` as a process, the load generator beside it, and both watched from outside.

What a process takes is read from /proc, which costs it nothing.
"""

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import yaml
from numpy.typing import NDArray

import kitelake
from benchmarks.turns import resident_mib
from kitelake.telemetry.status import ServiceStatus, read_status
from storage.journal import streams
from storage.layout import DataLayout
from storage.schema import TICKS
from storage.tables import TableLog

PATIENCE_SECONDS: Final = 300.0
LOOK_SECONDS: Final = 0.25
WRITER: Final = b"kitelake.processes.writer"
TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
NOTES_SYNCS: Final = """
import sys, time
from storage.journal import JournalWriter
notes, sync = open(sys.argv.pop(1), "w", buffering=1), JournalWriter.sync
def noting(journal):
    sync(journal)
    notes.write(f"{time.time_ns()} {journal.durable_records}\\n")
JournalWriter.sync = noting
from kitelake.cli.app import main
main()
"""
"""The same command, which notes when a sync has returned, and how many records are durable since."""


class Load:
    """A running `benchmarks.load`."""

    def __init__(self, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self.urls: dict[str, str] = self._line()

    def subscribed(self) -> float:
        """The time at which all instruments were asked for; waits for it."""
        return float(self._line()["subscribed"])

    def ended(self) -> dict[int, int]:
        """How many packets each connection was sent; waits for the end."""
        return {int(number): packets for number, packets in self._line()["sent"].items()}

    def tokens(self) -> list[int]:
        """Of all that it lists."""
        with urllib.request.urlopen(f"{self.urls['api']}/instruments") as answer:
            return [int(row["instrument_token"]) for row in csv.DictReader(io.TextIOWrapper(answer))]

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line: dict[str, Any] = json.loads(self._process.stdout.readline())
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate(timeout=PATIENCE_SECONDS)


class Service:
    """`kitelake run` with two accounts, for everything that the load lists, in mode full."""

    def __init__(self, folder: Path, load: Load, *, notes: Path | None = None, segment_seconds: float = 60) -> None:
        self.data = folder / "data"
        self.layout = DataLayout(self.data)
        self._folder = folder
        config = {
            "data": str(self.data),
            "kite": load.urls,
            "accounts": [{"name": n, "api_key": f"key-{n}", "access_token": f"token-{n}"} for n in ("one", "two")],
            "subscriptions": [{"name": "all", "mode": "full", "select": {"types": ["EQ", "FUT", "CE", "PE"]}}],
            "journal": {"segment_seconds": segment_seconds},
            "calendar": {"always_open": True},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        start = ["-m", "kitelake"] if notes is None else ["-c", NOTES_SYNCS, str(notes)]
        with (folder / "service.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *start, "run", "--config", str(folder / "config.yaml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """As a person would; everything received is committed then. Raises RuntimeError for a bad end."""
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(PATIENCE_SECONDS):
            raise RuntimeError((self._folder / "service.log").read_text(encoding="utf-8")[-2000:])

    def status(self) -> ServiceStatus | None:
        """What it says of itself, once a second; None if it says nothing yet."""
        return read_status(self.layout)

    def has_received(self, packets: int) -> bool:
        """Whether it says that so many came."""
        status = self.status()
        return status is not None and sum(one.packets or 0 for one in status.connections) >= packets

    def writer(self) -> int | None:
        """The process id of its writer, if that runs."""
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError):
                if WRITER in (path / "cmdline").read_bytes().split(b"\0"):
                    parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                    if parent == self.pid:
                        return int(path.name)
        return None


@dataclass
class Watched:
    """What one process took: CPU seconds since the watch began, MiB at its peak."""

    cpu_seconds: float = 0.0
    peak_mib: float = 0.0


@dataclass
class Look:
    """How far things were: packets received and committed, and seconds since the watch began."""

    at: float
    received: int
    committed: int
    lag_seconds: float | None


@dataclass
class Watch:
    """Watches processes, and how far the tables are behind, until it is left."""

    service: Service
    load: Load
    took: dict[str, Watched] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    seconds: float = 0.0

    def __enter__(self) -> Self:
        wait_until(lambda: self.service.writer() is not None, "the writer runs")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        began = time.monotonic()
        pids = {"service": self.service.pid, "writer": self.service.writer() or 0, "load": self.load.pid}
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        log, received = TableLog(self.service.layout.table(TICKS.name), TICKS), 0
        while True:
            over = self._stop.wait(LOOK_SECONDS)
            self.seconds = time.monotonic() - began
            for name, pid in pids.items():
                with contextlib.suppress(OSError, StopIteration):  # it has ended
                    self.took[name] = Watched(cpu_seconds(pid) - before[name], resident_mib("VmHWM", pid))
            status = self.service.status()
            if status is not None and status.tables is not None and status.journal is not None:
                # A service that stops has no connections, and its writer goes on, of which the table's log tells.
                received = max(received, sum(one.packets or 0 for one in status.connections))
                lag = status.tables.lag_seconds if status.connections else None
                self.looks.append(Look(self.seconds, received, committed_rows(log, self.service.layout), lag))
            if over:
                return


def cpu_seconds(pid: int) -> float:
    """User and system. Raises OSError if there is no such process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def committed_rows(log: TableLog, layout: DataLayout) -> int:
    """Of all streams."""
    newest = log.newest()
    return 0 if newest is None else sum(newest.transaction(f"{name}/seq") or 0 for name in streams(layout))


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {PATIENCE_SECONDS:.0f} s")
        time.sleep(LOOK_SECONDS)


def numbers_of(data: Path) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """By a query: the load's connection, and numbers of packets of its rows, batch after batch."""
    with kitelake.open(data) as lake:
        for batch in lake.sql("select oi_day_high, volume_traded from ticks").reader():
            connections, numbers = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
            for connection in np.unique(connections).tolist():
                yield connection, numbers[connections == connection]


def check_numbers(data: Path, sent: dict[int, int]) -> None:
    """Every number that was sent is in one row, and no other is. Raises NumbersError."""
    seen = {connection: np.zeros(packets, np.bool_) for connection, packets in sent.items()}
    rows = 0
    for connection, numbers in numbers_of(data):
        rows += len(numbers)
        there = seen.get(connection, np.zeros(0, np.bool_))
        there[numbers[numbers < len(there)]] = True
    found, packets = sum(int(there.sum()) for there in seen.values()), sum(sent.values())
    if found < packets or rows > found:
        raise NumbersError(f"of {packets:,} packets {packets - found:,} are in no row; {rows - found:,} rows too many")


def check_beginnings(data: Path) -> None:
    """The numbers of each connection begin with 0, and have no gap and no double. Raises NumbersError."""
    of: dict[int, list[NDArray[np.int64]]] = {}
    for connection, numbers in numbers_of(data):
        of.setdefault(connection, []).append(numbers)
    for connection, parts in of.items():
        numbers = np.sort(np.concatenate(parts))
        if not np.array_equal(numbers, np.arange(len(numbers))):
            raise NumbersError(f"connection {connection}: {len(numbers):,} rows, up to number {numbers[-1]:,}")


class NumbersError(AssertionError):
    """What was sent is not what the table has."""


def commit_times(layout: DataLayout) -> dict[str, float]:
    """When each file of ticks was committed, in seconds since the epoch, by its name, in that order."""
    times = {}
    for log in sorted((layout.table("ticks") / "_delta_log").glob("*.json")):
        for line in log.read_text(encoding="utf-8").splitlines():
            if (added := json.loads(line).get("add")) is not None:
                times[f"{layout.table('ticks')}/{added['path']}"] = log.stat().st_mtime
    return times
