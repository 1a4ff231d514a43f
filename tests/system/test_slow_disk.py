"""Disks that fail, take their time or refuse, under the real service: nothing is lost for it."""

import contextlib
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from kitelake.telemetry.status import JournalStatus, read_status
from storage.layout import DataLayout
from tests.support.disks import mount, unmount
from tests.support.running import Running, committed_rows, running
from tests.support.scaled import scaled
from tests.support.simulation import more_packets, simulation, sockets
from tests.support.strace import traced
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="disks are made to fail as on Linux"),
]

FAILING = "the journal cannot be written"


@contextlib.contextmanager
def failing_syncs(service: Running) -> Iterator[None]:
    with traced(service.process.pid, "fdatasync:error=EIO"):
        wait_until(lambda: "the journal could not be synced" in service.log)
        yield


@contextlib.contextmanager
def slow_syncs(service: Running) -> Iterator[None]:
    with traced(service.process.pid, "fdatasync:delay_enter=3000000"):
        wait_until(lambda: (at := journal(service)).durable_records < at.written_records - 100)
        yield


@contextlib.contextmanager
def no_more_files(service: Running) -> Iterator[None]:
    pid = service.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, hard))  # what is open stays open
    try:
        wait_until(lambda: FAILING in service.log)
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def read_only_folder(service: Running) -> Iterator[None]:
    (folder,) = (service.data / "journal").iterdir()
    if not mount("--bind", str(folder), str(folder)):
        pytest.skip("mounting a file system is not permitted here")
    try:
        assert mount("-o", "remount,ro,bind", str(folder))
        wait_until(lambda: FAILING in service.log)
        yield
    finally:
        unmount(folder)


def journal(service: Running) -> JournalStatus:
    """What the service said last of its journal."""
    status = read_status(DataLayout(service.data))
    assert status is not None
    assert status.journal is not None
    return status.journal


@pytest.mark.parametrize("troubles", [(no_more_files, failing_syncs, slow_syncs), (read_only_folder,)])
def test_capture_goes_on_while_the_disk_is_unwell(
    tmp_path: Path, troubles: Sequence[Callable[[Running], contextlib.AbstractContextManager[None]]]
) -> None:
    """The sockets stay up, a person is told, and when the disk is well again all of it is rows and durable."""
    with simulation(instruments=300, rate=20) as simulator, running(tmp_path, simulator) as service:
        simulator.wait_for(lambda stats: stats["packets"] > 1_000)
        wait_until((service.data / "reserve").exists)
        before = service.sockets()
        for trouble in troubles:
            with trouble(service):
                more_packets(simulator, scaled(700, 1_500))
                assert sockets(simulator) == before
            wait_until(lambda: service.log.rfind("the journal is written again") >= service.log.rfind(FAILING))
            assert (service.data / "reserve").exists(), "it is for a full disk alone"
        simulator.pause()
        wait_until(lambda: (at := journal(service)).durable_records == at.records > 0)
        assert sockets(simulator) == before
        service.stop()
        assert committed_rows(service.data) == simulator.stats()["packets"]
        assert service.rows("select count(*) = count(distinct (stream, seq)) as once from ticks") == [{"once": True}]
        assert service.rows("select * from events where event = 'frames lost'") == []


def test_a_quota_that_is_full_is_a_full_disk(tmp_path: Path) -> None:
    """The reserve is given up, frames wait in memory, and nothing is lost."""
    journal_section = {"segment_seconds": 600, "reserve_bytes": 2**20}
    with (
        simulation(instruments=300, rate=20) as simulator,
        running(tmp_path, simulator, journal=journal_section) as service,
    ):
        reserve = DataLayout(service.data).reserve
        simulator.wait_for(lambda stats: stats["packets"] > 1_000)
        wait_until(reserve.exists)
        (segment,) = (service.data / "journal").glob("*/*.journal")
        with traced(service.process.pid, "write:error=EDQUOT", segment):
            wait_until(lambda: "the room that was kept for the journal is in use" in service.log)
            wait_until(lambda: FAILING in service.log)
            more_packets(simulator, 1_500)
        assert "Disk quota exceeded" in service.log
        wait_until(lambda: "the journal is written again" in service.log)
        simulator.pause()
        service.stop()
        assert committed_rows(service.data) == simulator.stats()["packets"]


def test_what_waits_for_a_failing_disk_is_bounded_and_is_written_in_the_end(tmp_path: Path) -> None:
    """Syncs fail until more is unconfirmed than may wait in memory; then frames are lost, to the packet."""
    journal_section = {"segment_seconds": 1, "buffer_bytes": 2**20, "reserve_bytes": 0}
    with (
        simulation(instruments=1_000, rate=200) as simulator,
        running(tmp_path, simulator, journal=journal_section) as service,
    ):
        simulator.wait_for(lambda stats: stats["packets"] > 2_000)
        before = service.sockets()
        with traced(service.process.pid, "fdatasync:error=EIO"):
            wait_until(lambda: "the disk does not say that it has what was written" in service.log)
            wait_until(lambda: "frames are lost until there is room" in service.log)
            more_packets(simulator, 5_000)
        wait_until(lambda: "the journal is written again" in service.log)
        wait_until(lambda: "frames were lost" in service.log)
        assert sockets(simulator) == before
        simulator.pause()
        wait_until(lambda: (at := journal(service)).durable_records == at.records > 0)
        service.stop()
        (lost,) = service.rows(
            "select sum((data->>'packets')::bigint)::bigint as n from events where event = 'frames lost'"
        )
        assert lost["n"] > 1_000
        assert committed_rows(service.data) + lost["n"] == simulator.stats()["packets"]
