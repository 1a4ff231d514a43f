"""A disk without room under the real service: what is received is kept, or what is lost is known to the packet.

The data folder is a small file system in memory that the test mounts; a file of ballast fills it.
"""

import datetime as dt
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from ingest.wire.journal import JournalDecoder
from kitelake.processes.upkeep import UpkeepSettings, days_before, keep_up
from storage.commit.writer import SegmentWriter
from storage.journal import segments, streams
from storage.journal.archive_format import read_archive
from storage.layout import DataLayout, archive_of
from storage.upkeep.archive import archive_committed
from storage.upkeep.compact import compact_day
from tests.support.disks import mount, unmount
from tests.support.lake import DAY_NS, INFY, Feed, ToyDecoder
from tests.support.running import Running, committed_rows, running
from tests.support.scaled import scaled
from tests.support.simulation import Simulation, more_packets, simulation, sockets
from tests.support.waiting import PATIENCE_SECONDS, wait_until
from tests.support.webhook import Webhook

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="file systems are mounted as on Linux"),
]

MIB = 1 << 20
DISK_BYTES = 48 * MIB
JOURNAL: dict[str, Any] = {"segment_seconds": 2, "reserve_bytes": 4 * MIB}


class Disk:
    """A small file system, mounted as `folder`, that can be filled, and stays full while others free some of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"
        self._full = threading.Event()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._keep_full)
        self._thread.start()

    def _keep_full(self) -> None:
        while not self._end.is_set():
            if self._full.wait(0.1):
                self.take(0)
                time.sleep(0.01)

    def take(self, leave_bytes: int) -> None:
        """Fill it, but for so much."""
        status = os.statvfs(self.folder)
        size = self._ballast.stat().st_size if self._ballast.exists() else 0
        more = status.f_bavail * status.f_bsize - leave_bytes
        if more > 0:
            descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT)
            try:
                os.posix_fallocate(descriptor, size, more)
            except OSError:
                pass  # somebody was faster; the next attempt takes the rest
            finally:
                os.close(descriptor)

    def fill(self) -> None:
        self._full.set()

    def free(self) -> None:
        self._full.clear()
        time.sleep(0.1)
        self._ballast.unlink()

    def close(self) -> None:
        self._end.set()
        self._thread.join()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "data"
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(folder)):
        pytest.skip("mounting a file system is not permitted here")
    disk = Disk(folder)
    yield disk
    disk.close()
    unmount(folder)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    yield webhook
    webhook.close()


def is_told(webhook: Webhook, problem: str) -> bool:
    return any(problem in post["title"] for post in webhook.posts)


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_a_full_disk_costs_nothing_as_long_as_memory_lasts(tmp_path: Path, disk: Disk, webhook: Webhook) -> None:
    """First the reserve is used, then memory; sockets and capture go on, and all of it is rows when there is room."""
    target = {"url": webhook.target().url.get_secret_value()}
    with (
        simulation(instruments=scaled(300, 600), rate=20) as simulator,
        running(tmp_path, simulator, journal=JOURNAL, notifications=[target]) as service,
    ):
        reserve = DataLayout(service.data).reserve
        simulator.wait_for(lambda stats: stats["packets"] > 2_000)
        wait_until(reserve.exists)
        before = service.sockets()
        disk.fill()
        wait_until(lambda: "the room that was kept for the journal is in use" in service.log)
        assert not reserve.exists()
        wait_until(lambda: "the journal cannot be written" in service.log)
        memory = resident_bytes(service.process.pid)
        more_packets(simulator, scaled(1_000, 3_000))
        assert sockets(simulator) == before
        assert resident_bytes(service.process.pid) < memory + 64 * MIB
        disk.free()
        wait_until(lambda: "the journal is written again" in service.log)
        assert sockets(simulator) == before
        wait_until(reserve.exists)
        for problem in ("the disk is full", "the journal cannot be written"):
            wait_until(partial(is_told, webhook, problem))
        simulator.pause()
        service.stop()
        assert committed_rows(service.data) == simulator.stats()["packets"]
        assert service.rows("select * from events where event = 'frames lost'") == []
    assert "Traceback" not in service.log, service.log


def test_a_start_on_a_full_disk_uses_the_reserve(tmp_path: Path, disk: Disk, webhook: Webhook) -> None:
    """What filled it did so while no service ran."""
    target = {"url": webhook.target().url.get_secret_value()}
    with (
        simulation(instruments=scaled(300, 600), rate=20) as simulator,
        running(tmp_path, simulator, journal=JOURNAL, notifications=[target]) as service,
    ):
        reserve = DataLayout(service.data).reserve
        wait_until(reserve.exists)
        more_packets(simulator, 100)
        service.stop()
        disk.take(0)
        service.start()
        wait_until(lambda: "too little room to keep some for the journal" in service.log)
        assert not reserve.exists()
        wait_until(lambda: is_told(webhook, "too little room"))
        more_packets(simulator, 2_000)
        disk.free()
        more_packets(simulator, 100)
        simulator.pause()
        service.stop()
        assert committed_rows(service.data) == simulator.stats()["packets"]


def test_what_is_lost_beyond_memory_is_known_to_the_packet(tmp_path: Path, disk: Disk, webhook: Webhook) -> None:
    """Twice: once it goes on afterwards, once it is told to stop while the disk is full."""
    target = {"url": webhook.target().url.get_secret_value()}
    journal = JOURNAL | {"buffer_bytes": MIB, "reserve_bytes": 0}
    with (
        simulation(instruments=1_000, rate=scaled(100, 200)) as simulator,
        running(tmp_path, simulator, journal=journal, notifications=[target]) as service,
    ):
        simulator.wait_for(lambda stats: stats["packets"] > scaled(1_000, 5_000))
        before = service.sockets()
        disk.fill()
        wait_until(lambda: "frames are lost until there is room" in service.log)
        memory = resident_bytes(service.process.pid)
        more_packets(simulator, scaled(3_000, 8_000))
        assert resident_bytes(service.process.pid) < memory + 32 * MIB
        disk.free()
        wait_until(lambda: "frames were lost" in service.log)
        wait_until(lambda: is_told(webhook, "frames are lost"))
        assert sockets(simulator) == before
        more_packets(simulator, scaled(500, 2_000))
        disk.fill()
        wait_until(lambda: service.log.count("frames are lost until there is room") == 2)
        more_packets(simulator, scaled(500, 2_000))
        simulator.pause()
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "make room, or give up what is in memory by another signal" in service.log)
        disk.free()
        assert service.process.wait(timeout=PATIENCE_SECONDS) == 0, service.log
        losses = [
            json.loads(row["data"]) for row in service.rows("select data from events where event = 'frames lost'")
        ]
        lost = sum(loss["packets"] for loss in losses)
        assert lost > 1_000
        assert committed_rows(service.data) + lost == simulator.stats()["packets"]
        check_by_connection(service, simulator, losses)
    assert "Traceback" not in service.log, service.log


def check_by_connection(service: Running, simulator: Simulation, losses: list[dict[str, Any]]) -> None:
    """What each connection was sent is in the table, or in its losses."""
    accounted = {
        (row["account"], row["connection"]): row["n"]
        for row in service.rows("select account, connection, count(*) as n from ticks group by all")
    }
    for loss in losses:
        accounted[loss["account"], loss["connection"]] += loss["packets"]
        assert loss["first_ns"] <= loss["last_ns"]
    by_account: dict[str, list[int]] = {}
    for (account, _), count in accounted.items():
        by_account.setdefault(account, []).append(count)
    sent: dict[str, list[int]] = {}
    for one in simulator.stats()["connections"]:
        sent.setdefault(one["account"], []).append(one["packets"])
    # The simulator counts an account's sockets in the order in which they came, not as we number them.
    assert {name: sorted(counts) for name, counts in by_account.items()} == {
        name: sorted(counts) for name, counts in sent.items()
    }


def test_upkeep_gives_way_to_the_journal(tmp_path: Path, disk: Disk) -> None:
    """While there is no room for the reserve only what is old is removed; what tidies up is stopped when there is none.

    The first segment is 30 days old, and archived; the last one is neither.
    """
    with simulation(instruments=300, rate=1) as simulator, running(tmp_path, simulator, journal=JOURNAL) as service:
        wait_until(lambda: any(service.data.glob("ticks/date=*/**/*.parquet")))
        service.stop()
        layout = DataLayout(service.data)
        layout.reserve.unlink()
        (stream,) = streams(layout)
        archive_committed(layout, JournalDecoder())
        last = layout.segment(stream, segments(layout, stream)[-1])
        last.write_bytes(read_archive(archive_of(last)))
        archive_of(last).unlink()
        old = archive_of(layout.segment(stream, 0))
        os.utime(old, (time.time() - 30 * 86_400,) * 2)
        disk.take(3 * JOURNAL["reserve_bytes"])
        service.start()
        wait_until(lambda: "nothing is sealed or archived: the disk has no room" in service.log)
        wait_until(lambda: not old.exists())
        wait_until(lambda: "upkeep" not in service.children())
        assert last.exists()
        service.stop()
        disk.free()
        with FileLock(layout.archive_lock):  # the upkeep waits for it
            service.start()
            wait_until(lambda: "upkeep" in service.children())
            wait_until(layout.reserve.exists)
            disk.fill()
            wait_until(lambda: "sealing and archiving are stopped: the disk has no room" in service.log)
            wait_until(lambda: "upkeep" not in service.children())
            disk.free()
        simulator.pause()
        service.stop()
        assert committed_rows(service.data) == simulator.stats()["packets"]
    assert "the upkeep ended with status" not in service.log
    assert "Traceback" not in service.log, service.log


def test_what_needs_no_room_goes_first(disk: Disk) -> None:
    """Days leave the tables by a commit, which needs room; that there is none keeps no other file from going."""
    layout = DataLayout(disk.folder)
    with Feed(layout.root, "20260105T034500-aaaaaa") as feed:
        feed.now_ns -= 300 * DAY_NS
        for i in range(4):
            feed.tick((INFY, i))
            feed.roll()
    SegmentWriter(layout, ToyDecoder()).run(poll_seconds=0.01, stop=threading.Event())
    (day,) = days_before(layout, dt.date(2026, 11, 1))
    compact_day(layout, day)
    settings = UpkeepSettings(
        data=layout.root,
        seal_before=None,
        only_remove=True,
        memory_bytes=256 * MIB,
        grace=dt.timedelta(0),
        keep_journal=dt.timedelta(days=1000),
        keep_days=30,
        most_bytes=None,
        log_level="INFO",
        log_format="text",
    )
    told: list[str] = []

    def tell(done: str, /, **_data: Any) -> None:
        told.append(done)
        if is_full:
            disk.take(0)  # what has just been freed

    is_full = True
    disk.take(0)
    assert shutil.disk_usage(disk.folder).free == 0
    assert not keep_up(settings, tell)
    assert told == ["superseded files removed"]
    assert [path.name[:6] for path in layout.table("ticks").glob("date=*/**/*.parquet")] == ["sealed"]
    is_full = False
    disk.free()
    assert keep_up(settings, tell)
    assert told[1:] == ["days removed"]
    assert days_before(layout, dt.date(2026, 11, 1)) == []
