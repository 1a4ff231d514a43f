"""kill -9 under load, of the service, its writer and what seals: no written frame is lost, and none is a row twice."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import kitelake
from ingest.wire.journal import JournalDecoder
from ingest.wire.plain import split_frame
from storage.journal import Kind, SegmentReader, segments, streams
from storage.layout import DataLayout
from storage.verify.folder import verify
from tests.support.accounting import sent, stored
from tests.support.running import Running, committed_rows, running
from tests.support.scaled import scaled
from tests.support.simulation import simulation
from tests.support.strace import traced
from tests.support.waiting import PATIENCE_SECONDS, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found and traced as on Linux"),
]

JOURNAL = {"segment_seconds": 2, "reserve_bytes": 0}
UPKEEP, WRITER = "upkeep", "writer"


def journalled_packets(data: Path) -> dict[str, int]:
    """Stream → good packets in its segments, archived or not, torn tails left out."""
    layout = DataLayout(data)
    packets = {}
    for stream in streams(layout):
        packets[stream] = 0
        for number in set(segments(layout, stream)):
            with SegmentReader(layout.segment(stream, number)) as reader:
                for block in reader.read():
                    packets[stream] += sum(len(split_frame(frame)[0]) for _, frame in block.payloads(Kind.BINARY))
    return packets


def check(service: Running, record: Path) -> None:
    """After a clean stop: each packet of the journal is a row once, as it was sent, in its order."""
    expected = journalled_packets(service.data)
    query = "select stream, count(*) as n, count(distinct seq) as seqs, max(seq) as last from ticks group by 1"
    found = {row["stream"]: row for row in service.rows(query)}
    assert {stream: row["n"] for stream, row in found.items()} == {s: n for s, n in expected.items() if n}
    assert all(row["n"] == row["seqs"] == row["last"] + 1 for row in found.values())
    assert committed_rows(service.data) == sum(expected.values())
    sent_rows = sent(record)
    for key, rows in stored(service.data).items():
        remaining = iter(sent_rows[key])
        assert all(row in remaining for row in rows), f"{key}: not a part of what was sent, in its order"
    report = verify(DataLayout(service.data), JournalDecoder())
    assert report.is_sound, report.findings


class Reader(threading.Thread):
    """Counts rows all the time. They never become fewer, and none is there twice."""

    def __init__(self, data: Path) -> None:
        super().__init__()
        self._data = data
        self._end = threading.Event()
        self.looks = 0
        self.problems: list[str] = []

    def run(self) -> None:
        before = 0
        took = 0.0
        while not self._end.wait(max(0.5, took)):
            began = time.monotonic()
            try:
                with kitelake.open(self._data) as lake:
                    query = "select count(*) as n, count(distinct (stream, seq)) as seqs from ticks"
                    (row,) = lake.sql(query).arrow().to_pylist()
            except Exception as error:
                self.problems.append(repr(error))
                continue
            if not before <= row["n"] == row["seqs"]:
                self.problems.append(f"{row} after {before}")
            before = row["n"]
            self.looks += 1
            took = time.monotonic() - began

    def __enter__(self) -> "Reader":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()


def start_seal(service: Running, *before: str) -> subprocess.Popen[str]:
    """`kitelake seal` of today, beside the service."""
    command = [*before, sys.executable, "-m", "kitelake", "seal", "--date", "today", "--config", str(service.config)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(seal: subprocess.Popen[str]) -> bool:
    """Wait for it; whether it was killed. It fails in no other way."""
    output, _ = seal.communicate(timeout=PATIENCE_SECONDS)
    assert seal.returncode in (0, -signal.SIGKILL), output
    return seal.returncode != 0


def kill_at_random(service: Running, kills: int, seed: int) -> dict[str, int]:
    """So many times the service, a process of its own, or one that seals dies at a random moment; how often which."""
    chance = random.Random(seed)
    died = dict.fromkeys(("service", WRITER, UPKEEP, "seal"), 0)
    seal = start_seal(service)
    while sum(died.values()) < kills:
        if seal.poll() is not None:
            finish(seal)
            seal = start_seal(service)
        wait_until(lambda: WRITER in service.children())
        time.sleep(chance.uniform(0, 1.5))
        victim = chance.choice(("service", "service", WRITER, WRITER, UPKEEP, "seal", "seal"))
        if victim == "service":
            service.process.kill()
            service.process.wait()
            service.start()
        elif victim == "seal":
            seal.kill()
            died["seal"] += finish(seal)
            continue
        elif pid := service.children().get(victim):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        else:
            continue  # it is not at work
        died[victim] += 1
    finish(seal)
    wait_until(lambda: WRITER in service.children())
    return died


def survive(folder: Path, *, kills: int, seed: int, rate: float) -> dict[str, int]:
    """Kill under load, with a reader beside, then stop cleanly and compare with what was sent."""
    market = simulation(instruments=600, rate=rate, record=folder / "record")
    with market as simulator, running(folder, simulator, journal=JOURNAL) as service:
        wait_until(lambda: any(service.data.glob("ticks/date=*/**/*.parquet")))
        with Reader(service.data) as reader:
            died = kill_at_random(service, kills, seed)
            wait_until(lambda: reader.looks > kills // 3 or reader.problems)
        simulator.pause()
        wait_until(lambda: service.rows() == [{"n": committed_rows(service.data)}])
        service.stop()
        simulator.stop()
        assert not reader.problems
        check(service, folder / "record")
    return died


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_nothing_is_lost_or_doubled_by_many_kills(tmp_path: Path) -> None:
    died = survive(tmp_path, kills=200, seed=7, rate=10)
    assert min(died["service"], died[WRITER], died["seal"]) > 20, died


# ── at chosen system calls ───────────────────────────────────────────────────────────────────────────────────────────

CALLS = [
    ("service", "write", 40),
    ("service", "rename", 2),
    (WRITER, "rename", 1),
    (WRITER, "fdatasync", 3),
    ("seal", "rename", 1),
    ("seal", "unlink,unlinkat", 1),
]
MORE_CALLS = [
    *(("service", call, when) for call in ("write", "fdatasync", "rename", "openat") for when in (1, 2, 7)),
    *(
        (WRITER, call, when)
        for call in ("write", "fdatasync", "fsync", "rename", "link,linkat", "unlink")
        for when in (1, 2, 5)
    ),
    *(
        ("seal", call, when)
        for call in ("write", "fdatasync", "fsync", "rename", "link,linkat", "unlink,unlinkat", "rmdir")
        for when in (1, 2, 3)
    ),
]


def die_at(service: Running, victim: str, call: str, when: int, patience_seconds: float) -> bool:
    """Have a process die at a system call; whether it came to that."""
    inject = f"{call}:signal=KILL:when={when}"
    if victim == "seal":
        if shutil.which("strace") is None:
            pytest.skip("strace is not here")
        trace = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={inject}")
        return finish(start_seal(service, *trace))
    wait_until(lambda: WRITER in service.children())
    pid = service.process.pid if victim == "service" else service.children()[victim]
    with traced(pid, inject), contextlib.suppress(AssertionError):
        wait_until(lambda: has_ended(service, pid), patience_seconds)
    died = has_ended(service, pid)
    if victim == "service" and died:
        service.process.wait()
        service.start()
    return died


def has_ended(service: Running, pid: int) -> bool:
    return service.process.poll() is not None if pid == service.process.pid else not Path(f"/proc/{pid}").exists()


def die_at_each(
    folder: Path, calls: list[tuple[str, str, int]], *, patience_seconds: float
) -> Iterator[tuple[str, str, int]]:
    """Those at which a process did die. Everything is compared at the end."""
    with (
        simulation(instruments=400, rate=2, record=folder / "record") as simulator,
        running(folder, simulator) as service,
    ):
        wait_until(lambda: any(service.data.glob("ticks/date=*/**/*.parquet")))
        with Reader(service.data) as reader:
            for victim, call, when in calls:
                if die_at(service, victim, call, when, patience_seconds):
                    yield victim, call, when
            wait_until(lambda: WRITER in service.children())
            wait_until(lambda: reader.looks > 2 or reader.problems)
        simulator.pause()
        service.stop()
        simulator.stop()
        assert not reader.problems
        check(service, folder / "record")


def test_nothing_is_lost_or_doubled_by_a_death_at_a_system_call(tmp_path: Path) -> None:
    """Of each victim one; of each two at full scale."""
    calls = CALLS[:: scaled(2, 1)]
    assert list(die_at_each(tmp_path, calls, patience_seconds=PATIENCE_SECONDS)) == calls


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_nothing_is_lost_or_doubled_by_a_death_at_many_system_calls(tmp_path: Path) -> None:
    died = list(die_at_each(tmp_path, MORE_CALLS, patience_seconds=8))  # some are never made
    print(f"{len(died)} of {len(MORE_CALLS)} came to their call; not: {sorted(set(MORE_CALLS) - set(died))}")
    assert {victim for victim, *_ in died} == {"service", WRITER, "seal"}
    assert len(died) > len(MORE_CALLS) // 2
