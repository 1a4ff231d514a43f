"""Disks that fail, take their time or refuse, under the real service and the real journal: nothing is lost for it."""

import contextlib
import errno
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from kitelake.telemetry.status import JournalStatus, read_status
from storage.errors import JournalSyncError, JournalWriteError
from storage.files import sync_data
from storage.journal import JournalWriter, Kind, RecordReader, SegmentReader, segments
from storage.layout import DataLayout
from tests.support.running import Running, committed_rows, running
from tests.support.simulation import simulation
from tests.system.test_disk_full import PATIENCE, more_packets, mount, sockets, unmount, wait_until

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="disks are made to fail as on Linux"),
]

STREAM = "20261123T034500-aaaaaa"
FAILING = "the journal cannot be written"


@contextlib.contextmanager
def traced(pid: int, inject: str, *paths: Path) -> Iterator[subprocess.Popen[bytes]]:
    """strace attached to all threads of a process, with what it injects into their system calls (on `paths` alone)."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not here")
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={inject.partition(':')[0]}"]
    command += [argument for path in paths for argument in ("-P", str(path))]
    process = subprocess.Popen([*command, "-e", f"inject={inject}", "-p", str(pid)], stderr=subprocess.PIPE)
    try:
        wait_until(lambda: process.poll() is not None or is_traced(pid))
        if process.poll() is not None:
            assert process.stderr is not None
            if problem := process.stderr.read().decode().strip():
                pytest.skip(f"strace may not: {problem}")
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=5)
        except subprocess.TimeoutExpired:  # it may wait for a thread that has ended; its own end detaches it as well
            process.kill()
            process.communicate()


def is_traced(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()
    return True  # it has ended


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


@pytest.mark.slow
@pytest.mark.parametrize("trouble", [failing_syncs, slow_syncs, no_more_files, read_only_folder])
def test_capture_goes_on_while_the_disk_is_unwell(
    tmp_path: Path, trouble: Callable[[Running], contextlib.AbstractContextManager[None]]
) -> None:
    """The sockets stay up, a person is told, and when the disk is well again all of it is rows and durable."""
    with simulation(instruments=300, rate=20) as simulator, running(tmp_path, simulator) as service:
        simulator.wait_for(lambda stats: stats["packets"] > 1_000, PATIENCE)
        wait_until((service.data / "reserve").exists)
        before = sockets(simulator)
        with trouble(service):
            more_packets(simulator, 1_500)
            assert sockets(simulator) == before
        if FAILING in service.log:
            wait_until(lambda: "the journal is written again" in service.log)
        assert (service.data / "reserve").exists(), "it is for a full disk alone"
        simulator.pause()
        wait_until(lambda: (at := journal(service)).durable_records == at.records > 0)
        assert sockets(simulator) == before
        service.stop()
        assert committed_rows(service.data) == simulator.stats()["packets"]
        assert service.rows("select count(*) = count(distinct (stream, seq)) as once from ticks") == [{"once": True}]
        assert service.rows("select * from events where event = 'frames lost'") == []


@pytest.mark.slow
def test_a_quota_that_is_full_is_a_full_disk(tmp_path: Path) -> None:
    """The reserve is given up, frames wait in memory, and nothing is lost."""
    journal_section = {"segment_seconds": 600, "reserve_bytes": 2**20}
    with (
        simulation(instruments=300, rate=20) as simulator,
        running(tmp_path, simulator, journal=journal_section) as service,
    ):
        reserve = DataLayout(service.data).reserve
        simulator.wait_for(lambda stats: stats["packets"] > 1_000, PATIENCE)
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


@pytest.mark.slow
def test_what_waits_for_a_failing_disk_is_bounded_and_is_written_in_the_end(tmp_path: Path) -> None:
    """Syncs fail until more is unconfirmed than may wait in memory; then frames are lost, to the packet."""
    journal_section = {"segment_seconds": 1, "buffer_bytes": 2**20, "reserve_bytes": 0}
    with (
        simulation(instruments=1_000, rate=200) as simulator,
        running(tmp_path, simulator, journal=journal_section) as service,
    ):
        simulator.wait_for(lambda stats: stats["packets"] > 2_000, PATIENCE)
        before = sockets(simulator)
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


# ── the journal alone ────────────────────────────────────────────────────────────────────────────────────────────────

LIMIT = 40_000
RECORDS = 100


def limited() -> None:
    """What the process of the next test does: 100 records through a journal whose files cannot pass LIMIT."""
    folder = Path(sys.argv[2])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
    now = 0.0
    writer = JournalWriter(DataLayout(folder), STREAM, segment_seconds=60, monotonic=lambda: now)
    channel = writer.channel("asha", 1)
    failures = 0
    for number in range(RECORDS):
        writer.append(Kind.BINARY, channel, number, number.to_bytes(2, "big") + bytes(1_000))
        now += 1
        failures += not is_written(writer)
        size = (folder / f"journal/{STREAM}/{writer.segment:010d}.journal").stat().st_size
        assert size < LIMIT, "torn bytes are cut off"
    now += 60
    is_written(writer)
    writer.close()
    assert writer.durable_records == RECORDS
    print(failures)


def is_written(writer: JournalWriter) -> bool:
    """Flush; whether the system took it. If not, it stays buffered."""
    before = writer.buffered_bytes
    try:
        writer.flush()
    except JournalWriteError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno != errno.EFBIG or writer.buffered_bytes != before:
            raise
        return False
    return writer.buffered_bytes == 0


def test_a_file_that_may_not_grow_is_left_for_another(tmp_path: Path) -> None:
    """A short write, then EFBIG: no torn bytes stay, and when its time comes a new segment takes what waited."""
    code = "from tests.system.test_slow_disk import limited; limited()"
    done = subprocess.run(
        [sys.executable, "-c", code, "", str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10, "the limit was met, and lasted"
    layout = DataLayout(tmp_path)
    payloads = []
    for number in segments(layout, STREAM):
        with SegmentReader(layout.segment(STREAM, number)) as reader:
            payloads += [payload for block in reader.read() for _, payload in block.payloads(Kind.BINARY)]
            assert not reader.finish()
    assert payloads == [number.to_bytes(2, "big") + bytes(1_000) for number in range(RECORDS)]


@pytest.mark.parametrize("failures", [1, 5])
def test_syncs_that_fail_for_a_while_cost_no_record_and_repeat_none(tmp_path: Path, failures: int) -> None:
    """`durable_records` waits for the disk; a reader counts each record once, whatever was repeated."""
    layout = DataLayout(tmp_path)
    left = failures

    def sync(descriptor: int) -> None:
        nonlocal left
        if left:
            left -= 1
            raise OSError(errno.EIO, "Input/output error")
        sync_data(descriptor)

    now = 0.0
    with patch("storage.journal.segment.sync_data", sync):
        writer = JournalWriter(layout, STREAM, monotonic=lambda: now)
        channel = writer.channel("asha", 1)
        told = 0
        for number in range(200):
            writer.append(Kind.BINARY, channel, number, number.to_bytes(2, "big") + b"tick")
            writer.flush()
            try:
                writer.sync()
            except JournalSyncError:
                told += 1
                assert writer.durable_records == 0
            now += 1
        assert told == failures
        assert writer.durable_records == writer.records == 200
        assert writer.unsynced_bytes == 0
        writer.close()
    found: list[bytes] = []
    expected = 0
    for number in segments(layout, STREAM):
        with RecordReader(layout, STREAM, number, expected) as reader:
            found += [payload for block in reader.read() for _, payload in block.payloads(Kind.BINARY)]
            assert reader.next_record is not None
            expected = reader.next_record
    assert found == [number.to_bytes(2, "big") + b"tick" for number in range(200)]


def test_a_disk_that_takes_its_time_holds_up_nobody(tmp_path: Path) -> None:
    """A sync that takes long, in a thread: what comes meanwhile is written at once, and is durable after the next."""
    started, released = threading.Event(), threading.Event()

    def sync(descriptor: int) -> None:
        started.set()
        assert released.wait(30)
        sync_data(descriptor)

    with patch("storage.journal.segment.sync_data", sync):
        writer = JournalWriter(DataLayout(tmp_path), STREAM)
        channel = writer.channel("asha", 1)
        writer.append(Kind.BINARY, channel, 0, b"first")
        writer.flush()
        thread = threading.Thread(target=writer.sync)
        thread.start()
        assert started.wait(10)
        for number in range(1, 1_000):
            writer.append(Kind.BINARY, channel, number, b"tick" * 10)
            writer.flush()
        assert thread.is_alive()
        assert (writer.written_records, writer.durable_records) == (1_000, 0)
        assert writer.unsynced_bytes > 40_000
        released.set()
        thread.join()
        assert writer.durable_records == 1
        writer.sync()
        assert writer.durable_records == 1_000
        assert writer.unsynced_bytes == 0
        writer.close()
