"""The long ones: kill -9 again and again under load, and capture at a rate that no account reaches."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from ingest.wire.plain import packets_of
from storage.journal import Kind, SegmentReader, segments, streams
from storage.layout import DataLayout
from tests.running import Running, committed_rows, running
from tests.simulation import simulation
from tests.test_end_to_end import sent, stored, wait_until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

KILLS = 40
LOAD_SECONDS = 60


def journalled_packets(data: Path) -> dict[str, int]:
    """Stream → good packets in its segments, torn tails left out."""
    layout = DataLayout(data)
    packets = {}
    for stream in streams(layout):
        packets[stream] = 0
        for number in segments(layout, stream):
            with SegmentReader(layout.segment(stream, number)) as reader:
                for block in reader.read():
                    packets[stream] += sum(len(packets_of(frame)[0]) for _, frame in block.payloads(Kind.BINARY))
    return packets


def test_nothing_is_lost_or_doubled_over_many_kills(tmp_path: Path) -> None:
    """The service or the writer dies at a random moment, forty times; what the journal holds is in the table once."""
    chance = random.Random(7)
    market = simulation(instruments=1500, rate=20, record=tmp_path / "record")
    with market as simulator, running(tmp_path, simulator, capture={"instruments_per_connection": 500}) as service:
        for _ in range(KILLS):
            wait_until(lambda: "kitelake.writer" in service.children(), seconds=30)
            time.sleep(chance.uniform(0, 3))
            if chance.random() < 0.5:
                service.process.kill()
                service.process.wait()
                service.start()
            elif writer := service.children().get("kitelake.writer"):
                os.kill(writer, signal.SIGKILL)
        wait_until(lambda: "kitelake.writer" in service.children(), seconds=30)
        service.stop()
        simulator.stop()
        check(service, tmp_path / "record")


def check(service: Running, record: Path) -> None:
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


def test_a_load_that_no_account_reaches(tmp_path: Path) -> None:
    """Some fifty thousand packets a second for a minute: all of them are rows."""
    market = simulation(instruments=6000, rate=400, steps_per_second=10)
    capture = {"instruments_per_connection": 1000}
    with market as simulator, running(tmp_path, simulator, capture=capture, journal={"segment_seconds": 10}) as service:
        simulator.wait_for(lambda stats: stats["packets"] > 10_000, 60)
        began, before = time.monotonic(), simulator.stats()["packets"]
        time.sleep(LOAD_SECONDS)
        rate = (simulator.stats()["packets"] - before) / (time.monotonic() - began)
        simulator.pause()
        stopping = service.stop()
        stats = simulator.stats()
        assert committed_rows(service.data) == stats["packets"]
        assert not stats["unsent"].get("slow"), "the service reads as fast as it is sent to"
    print(f"{rate:,.0f} packets/s; stopped in {stopping:.1f} s")
