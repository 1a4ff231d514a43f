"""From the simulator's sockets to the table, with the real service: every packet is a row, field for field."""

import datetime as dt
import json
import os
import signal
import socket
from pathlib import Path

import pytest

import kitelake
from tests.support.accounting import assert_accounted
from tests.support.forks import run_forked
from tests.support.running import committed_rows, running
from tests.support.simulation import more_packets, resume_once_noticed, simulation
from tests.support.waiting import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.slow

WRITER = "writer"


def test_every_packet_is_a_row_whatever_happens_midway(tmp_path: Path) -> None:
    """Dropped connections, damaged frames, refusals and a killed writer: all packets, once, in order."""
    market = simulation(instruments=900, rate=10, record=tmp_path / "record", heartbeat_seconds=0.5)
    with market as simulator, running(tmp_path, simulator) as service:
        simulator.wait_for(lambda stats: stats["packets"] > 2_000)
        simulator.fault("drop", how="rst", account="one", connection=1)
        simulator.fault("refuse", status=502, times=1_000)
        simulator.fault("drop", how="close", account="two")
        simulator.fault("garbage", form="trailing", count=3)
        simulator.fault("truncated", count=3)
        simulator.fault("garbage", form="noise", account="one")
        simulator.fault("order", account="one")
        wait_until(lambda: WRITER in service.children())
        os.kill(service.children()[WRITER], signal.SIGKILL)
        wait_until(lambda: "refused" in service.log)
        simulator.wait_for(lambda stats: stats["unsent"])
        simulator.fault("clear")
        more_packets(simulator, 2_500)
        simulator.fault("drop", how="rst")
        more_packets(simulator, 1_500)
        wait_until(lambda: "starting another" in service.log)
        service.stop()
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
        resume_once_noticed(simulator)
        service.start()
        more_packets(simulator, 1_000)
        service.stop()
        assert service.rows("select count(distinct stream) as n from ticks") == [{"n": 2}]
        assert_accounted(service, simulator)


def test_a_second_signal_ends_it_at_once_and_loses_nothing(tmp_path: Path) -> None:
    """A simulator that answers no close keeps the first signal's work from ending before the second comes."""
    capture = {"instruments_per_connection": 200, "close_timeout_seconds": 2 * PATIENCE_SECONDS}
    with (
        simulation(instruments=500, rate=10, record=tmp_path / "record") as simulator,
        running(tmp_path, simulator, capture=capture) as service,
    ):
        simulator.wait_for(lambda stats: stats["packets"] > 2_000)
        simulator.pause()
        wait_until(lambda: service.rows() == [{"n": simulator.stats()["packets"]}])
        simulator.fault("silent", deaf=True)
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in service.log)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM
        simulator.fault("clear")
        resume_once_noticed(simulator)
        service.start()
        wait_until(lambda: service.rows("select count(distinct stream) as n from ticks") == [{"n": 2}])
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
        shown = run_forked("examples.minute_bars", str(service.data), "NSE", folder=tmp_path / "shown")
        assert shown.status == 0, shown.err
        assert "NSE:" in shown.out
        service.stop()
        assert service.rows() == [{"n": packets}]
        assert committed_rows(service.data) == packets


def test_a_table_that_cannot_be_committed_to_stops_the_writer_and_not_the_capture(tmp_path: Path) -> None:
    with simulation(instruments=300, rate=10) as simulator, running(tmp_path, simulator) as service:
        wait_until(lambda: bool(service.rows("select 1 as n from ticks limit 1")))
        service.stop()
        newest = max((service.data / "ticks/_delta_log").glob("*.json"))
        whole = newest.read_bytes()
        newest.write_bytes(b"garbage!!" + whole)
        service.start()
        more_packets(simulator, 500)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(PATIENCE_SECONDS) == 1
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
            deaf.settimeout(PATIENCE_SECONDS)
            with deaf.accept()[0]:  # it has asked, and will not be answered
                service.stop()
            assert "was not fetched" not in service.log, "it did not wait until it gave up"


def test_a_start_with_neither_tables_nor_the_days_list_captures_and_makes_them_again(tmp_path: Path) -> None:
    """The tables come from the journal; the newest instrument list that is stored serves."""
    with (
        simulation(instruments=300, rate=10) as simulator,
        running(tmp_path, simulator, instruments={"fetch_at": "00:00"}) as service,
    ):
        wait_until(lambda: len(service.rows("select 1 as n from ticks limit 500")) == 500)
        service.stop()
        content = "select * exclude (symbol) from ticks order by stream, seq"
        before = service.rows(content)
        for name in ("ticks", "orders", "events", "quarantine"):
            (service.data / name).rename(tmp_path / name)
        simulator.fault("rest", path="/instruments", status=503, times=1_000)
        service.start()
        more_packets(simulator, 0)
        wait_until(lambda: "recovered a segment" in service.log)
        wait_until(lambda: "the newest stored instrument list serves" in service.log)
        simulator.pause()
        service.stop()
        assert service.rows(content)[: len(before)] == before


def test_what_cannot_be_captured_is_said_and_costs_nothing_else(tmp_path: Path) -> None:
    """Unknown names, and 1,500 instruments on 6 connections of 200: what the list named last has beyond is left out."""
    lists = [
        {"name": "bad", "mode": "full", "instruments": ["NSE:INFYY"]},
        {"name": "worse", "select": {"exchange": "NASDAQ"}},
        {"name": "good", "mode": "full", "instruments": ["NSE:INFY", 256265]},
        {"name": "NSE", "mode": "ltp", "select": {"exchange": "NSE"}},
        {"name": "all", "mode": "ltp", "select": {"types": ["EQ", "FUT", "CE", "PE"]}},
    ]
    with (
        simulation(instruments=1500, rate=10) as simulator,
        running(tmp_path, simulator, subscriptions=lists) as service,
    ):
        simulator.wait_for(lambda stats: sum(one["subscribed"] for one in stats["connections"]) == 1200)
        wait_until(lambda: "are left out" in service.log)
        wait_until(lambda: len(service.rows("select distinct symbol from ticks where mode = 'full'")) == 2)
        (planned,) = service.rows("select data from events where event = 'planned' limit 1")
        assert json.loads(planned["data"])["left_out"] == {"00:00": 300}
        service.stop()
        assert "did you mean NSE:INFY" in service.log
        assert "NASDAQ" in service.log
