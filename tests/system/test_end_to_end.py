"""From the simulator's sockets to the table, with the real service: every packet is a row, field for field.

The oracle is the simulator's own record of what it sent, decoded by the plain twin of the codec.
"""

import datetime as dt
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import kitelake
from ingest.server.record import RecordKind, read_record
from ingest.wire.plain import decode_packet, split_frame
from storage.schema import TICKS
from tests.support.running import Running, committed_rows, running
from tests.support.simulation import ROOT, Simulation, simulation

pytestmark = pytest.mark.slow

Sequences = dict[tuple[str, int], list[dict[str, Any]]]
NOT_ON_THE_WIRE = {"date", "received_at", "stream", "seq", "account", "connection", "symbol"}


def sent(record: Path) -> Sequences:
    """What the simulator sent of each instrument to each account, in order. An instrument is on one connection at a
    time, so its packets are ordered even across reconnects."""
    sequences: Sequences = defaultdict(list)
    for entry in read_record(record):
        if entry.kind in (RecordKind.PACKETS, RecordKind.DAMAGED):
            for packet in split_frame(entry.payload)[0]:
                row = {name: value for name, value in decode_packet(packet).items() if value is not None}
                sequences[entry.connection.account, row["instrument_token"]].append(row)
    return sequences


def stored(data: Path) -> Sequences:
    """What is in the table, likewise."""
    sequences: Sequences = defaultdict(list)
    with kitelake.open(data) as lake:
        columns = ", ".join(f'"{c.name}"' for c in TICKS.columns if c.name not in NOT_ON_THE_WIRE)
        table = lake.sql(f"select account, {columns} from ticks order by stream, seq").arrow()
    for row in table.to_pylist():
        sequences[row.pop("account"), row["instrument_token"]].append(
            {name: value for name, value in row.items() if value is not None}
        )
    return sequences


def assert_accounted(service: Running, simulator: Simulation) -> None:
    """After the service has stopped: the table holds what was sent, and nothing else."""
    packets = simulator.stats()["packets"]
    simulator.stop()
    assert committed_rows(service.data) == packets
    expected, found = sent(Path(simulator.settings["record"])), stored(service.data)
    assert found.keys() == expected.keys()
    for key, rows in expected.items():
        assert found[key] == rows, key


def test_every_packet_is_a_row_whatever_happens_midway(tmp_path: Path) -> None:
    """Dropped connections, damaged frames, refusals and a killed writer: all packets, once, in order."""
    market = simulation(instruments=900, rate=10, record=tmp_path / "record", heartbeat_seconds=0.5)
    with market as simulator, running(tmp_path, simulator) as service:
        simulator.wait_for(lambda stats: stats["packets"] > 2_000)
        simulator.fault("drop", how="rst", account="one", connection=1)
        simulator.fault("refuse", status=502, seconds=1)
        simulator.fault("drop", how="close", account="two")
        simulator.fault("garbage", form="trailing", count=3)
        simulator.fault("truncated", count=3)
        simulator.fault("garbage", form="noise", account="one")
        simulator.fault("order", account="one")
        os.kill(service.children()["kitelake.processes.writer"], signal.SIGKILL)
        before = simulator.stats()["packets"]
        simulator.wait_for(lambda stats: stats["packets"] > before + 5_000)
        simulator.fault("drop", how="rst")
        before = simulator.stats()["packets"]
        simulator.wait_for(lambda stats: stats["packets"] > before + 3_000)
        assert service.stop() < 5
        events = {row["event"] for row in service.rows("select distinct event from events")}
        orders = service.rows("select update_id, count(*) as n from orders group by 1")
        reasons = service.rows("select count(*) as n, sum(length) as bytes from quarantine")
        unsent = simulator.stats()["unsent"]
        assert_accounted(service, simulator)
    assert {
        "connected",
        "closed",
        "resumed",
        "refused",
        "subscribed",
        "mode",
        "started",
        "stopped",
        "writer died",
    } <= events
    assert orders, "an order update went to every socket"
    assert all(row["n"] == 1 for row in orders), "and is stored once"
    assert reasons[0]["n"] >= 7
    assert unsent, "packets of the time without a connection are listed as never sent"


def test_a_killed_service_loses_nothing_that_was_journalled(tmp_path: Path) -> None:
    """SIGKILL, then a start: the rows of the dead stream are in the table, and its children are gone."""
    with (
        simulation(instruments=500, rate=10, record=tmp_path / "record") as simulator,
        running(tmp_path, simulator) as service,
    ):
        simulator.wait_for(lambda stats: stats["packets"] > 3_000)
        simulator.pause()
        wait_until(lambda: service.rows() == [{"n": simulator.stats()["packets"]}])
        children = service.children()
        service.process.kill()
        service.process.wait()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children.values()))
        resume_once_it_noticed(simulator)
        service.start()
        before = simulator.stats()["packets"]
        simulator.wait_for(lambda stats: stats["packets"] > before + 1_000)
        service.stop()
        assert service.rows("select count(distinct stream) as n from ticks") == [{"n": 2}]
        assert_accounted(service, simulator)


def test_a_second_signal_ends_it_at_once_and_loses_nothing(tmp_path: Path) -> None:
    # A simulator that is slow to answer a close keeps the first signal's work from ending before the second comes.
    with (
        simulation(instruments=500, rate=10, record=tmp_path / "record") as simulator,
        running(tmp_path, simulator) as service,
    ):
        simulator.wait_for(lambda stats: stats["packets"] > 2_000)
        simulator.pause()
        wait_until(lambda: service.rows() == [{"n": simulator.stats()["packets"]}])
        simulator.fault("silent", deaf=True, seconds=2)
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in service.log)
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=10) == 128 + signal.SIGTERM
        assert time.monotonic() - began < 1.5, "it did not wait for the close"
        resume_once_it_noticed(simulator)
        service.start()
        wait_until(lambda: service.rows("select count(distinct stream) as n from ticks") == [{"n": 2}], seconds=20)
        simulator.pause()
        service.stop()
        assert_accounted(service, simulator)


def test_rows_are_seen_before_they_are_committed(tmp_path: Path) -> None:
    """The live tail: a query sees what arrived a moment ago, while the segment is still open."""
    journal = {"segment_seconds": 600}
    with simulation(instruments=300, rate=10) as simulator, running(tmp_path, simulator, journal=journal) as service:
        simulator.wait_for(lambda stats: stats["packets"] > 1_000)
        simulator.pause()
        packets = simulator.stats()["packets"]
        wait_until(lambda: service.rows() == [{"n": packets}])
        assert not list(service.data.glob("ticks/**/*.parquet"))
        newest = service.rows("select max(received_at) as at, any_value(symbol) as symbol from ticks")[0]
        assert newest["at"].utcoffset() == dt.timedelta(hours=5, minutes=30)
        assert ":" in newest["symbol"]
        with kitelake.open(service.data) as lake, lake.connect() as duck:
            assert duck.execute("select max(received_at) from ticks").fetchall() == [(newest["at"],)]
        example = [sys.executable, str(ROOT / "examples/minute_bars.py"), str(service.data), "NSE"]
        shown = subprocess.run(example, capture_output=True, text=True, check=True)
        assert "NSE:" in shown.stdout
        service.stop()
        assert service.rows() == [{"n": packets}]
        assert committed_rows(service.data) == packets


def test_tables_that_were_moved_away_are_made_again_from_the_journal(tmp_path: Path) -> None:
    with simulation(instruments=300, rate=10) as simulator, running(tmp_path, simulator) as service:
        wait_until(lambda: len(service.rows("select 1 as n from ticks limit 500")) == 500)
        service.stop()
        content = "select * exclude (symbol) from ticks order by stream, seq"
        before = service.rows(content)
        for name in ("ticks", "orders", "events", "quarantine"):
            (service.data / name).rename(tmp_path / name)
        service.start()
        wait_until(lambda: "recovered a segment" in service.log)
        simulator.pause()
        service.stop()
        assert service.rows(content)[: len(before)] == before


def test_a_table_that_cannot_be_committed_to_stops_the_writer_and_not_the_capture(tmp_path: Path) -> None:
    with simulation(instruments=300, rate=10) as simulator, running(tmp_path, simulator) as service:
        wait_until(lambda: bool(service.rows("select 1 as n from ticks limit 1")))
        service.stop()
        newest = max((service.data / "ticks/_delta_log").glob("*.json"))
        whole = newest.read_bytes()
        newest.write_bytes(b"garbage!!" + whole)
        before = simulator.stats()["packets"]
        service.start()
        simulator.wait_for(lambda stats: stats["packets"] > before + 500)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=30) == 1
        assert "not everything is in the tables" in service.log
        assert "Traceback" not in service.log
        newest.write_bytes(whole)
        packets = simulator.stats()["packets"]
        simulator.pause()
        service.start()
        wait_until(lambda: committed_rows(service.data) >= packets)
        service.stop()
        assert committed_rows(service.data) == simulator.stats()["packets"]


def test_a_signal_ends_it_while_the_instrument_list_is_awaited(tmp_path: Path) -> None:
    with simulation(instruments=300) as simulator, socket.create_server(("127.0.0.1", 0)) as deaf:
        kite = {"ws": simulator.ws, "api": f"http://127.0.0.1:{deaf.getsockname()[1]}"}
        with running(tmp_path, simulator, kite=kite) as service:
            deaf.settimeout(20)
            with deaf.accept()[0]:  # it has asked, and will not be answered
                assert service.stop() < 5


def test_names_that_are_unknown_cost_only_themselves(tmp_path: Path) -> None:
    lists = [
        {"name": "good", "mode": "full", "instruments": ["NSE:INFY", 256265]},
        {"name": "bad", "mode": "full", "instruments": ["NSE:INFYY"]},
        {"name": "worse", "select": {"exchange": "NASDAQ"}},
    ]
    with (
        simulation(instruments=500, rate=20) as simulator,
        running(tmp_path, simulator, subscriptions=lists) as service,
    ):
        wait_until(lambda: len(service.rows("select distinct symbol from ticks")) == 2)
        service.stop()
        assert "did you mean NSE:INFY" in service.log
        assert "NASDAQ" in service.log


def test_what_has_no_room_is_left_out_and_said(tmp_path: Path) -> None:
    """1,500 instruments on 6 connections of 200: those of the list that is named last are left out."""
    with simulation(instruments=1500, rate=10) as simulator, running(tmp_path, simulator) as service:
        simulator.wait_for(lambda stats: sum(one["subscribed"] for one in stats["connections"]) == 1200)
        wait_until(lambda: "are left out" in service.log)
        (planned,) = service.rows("select data from events where event = 'planned' limit 1")
        assert json.loads(planned["data"])["left_out"] == {"00:00": 300}
        service.stop()


def test_an_instrument_list_that_cannot_be_fetched_is_replaced_by_the_newest(tmp_path: Path) -> None:
    with (
        simulation(instruments=300, rate=10) as simulator,
        running(tmp_path, simulator, instruments={"fetch_at": "00:00"}) as service,
    ):
        wait_until(lambda: bool(service.rows("select 1 as n from ticks limit 1")))
        service.stop()
        simulator.fault("rest", path="/instruments", status=503, seconds=60)
        before = simulator.stats()["packets"]
        service.start()
        simulator.wait_for(lambda stats: stats["packets"] > before)
        wait_until(lambda: "the newest stored instrument list serves" in service.log)
        service.stop()


def test_no_secret_leaves_the_service(tmp_path: Path) -> None:
    """A canary for a token, with the logs at debug level and refusals on the way: found nowhere."""
    canary = "canary7f3a9c41"
    accounts = [{"name": "one", "api_key": "key-one", "access_token": canary, "api_secret": canary + "s"}]
    with (
        simulation(instruments=300, rate=10, accounts=accounts) as simulator,
        running(tmp_path, simulator, log={"level": "debug"}, secrets_in_environment=True) as service,
    ):
        simulator.wait_for(lambda stats: stats["packets"] > 500)
        simulator.fault("text", data=f"your access_token={canary} is fine")
        simulator.fault("order", data={"tag": canary})
        simulator.fault("refuse", status=403, times=1)
        simulator.fault("drop", how="rst")
        wait_until(lambda: "refused" in service.log)
        for pid in service.children().values():
            assert canary.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
            assert canary.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        service.stop()
        for path in service.data.rglob("*"):
            if path.is_file():
                assert canary.encode() not in path.read_bytes(), path
        assert canary not in service.log
        assert canary not in json.dumps(service.rows("select * from events"), default=str)
        assert "your access_token=*** is fine" in json.dumps(service.rows("select * from events"), default=str)
        assert service.rows("select distinct tag from orders where tag like '*%'") == [{"tag": "***"}]


def resume_once_it_noticed(simulator: Simulation) -> None:
    """What is sent to a socket whose owner has died counts as sent."""
    simulator.wait_for(lambda stats: all(one["closed_at_ns"] for one in stats["connections"]))
    simulator.resume()


def wait_until(condition: Any, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    for _ in itertools.count():
        if condition():
            return
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
