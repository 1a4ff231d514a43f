"""The service as real processes on a day: reloads, a kill and the start after it, and what systemd hears."""

import datetime as dt
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from kitelake.report import make_report, read_record
from storage.clock import IST
from tests.support.one_day import DAY, INDICES, accounts_of, events, open_sockets, sent, simulator, status, until
from tests.support.running import committed_rows, running
from tests.support.schedule import clock_at
from tests.support.simulation import Simulation
from tests.support.waiting import PATIENCE_SECONDS

__all__ = ["sent", "simulator"]  # the fixtures

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),  # Apprise's import of it
]

MORNING: Final = f"{DAY}T10:00:00+05:30"


def test_a_reload_changes_only_the_difference_and_a_broken_file_nothing(
    tmp_path: Path, simulator: Simulation, sent: Callable[[], int]
) -> None:
    """By the file that changes, and by the signal."""
    old = {"name": "old", "mode": "quote", "select": {"exchange": "MCX"}}
    new = {"name": "new", "mode": "ltp", "instruments": ["NSE:INFY", "NSE:RELIANCE", "NSE:HDFCBANK"]}
    accounts = accounts_of(simulator, "one", "two")
    known = len(simulator.stats()["connections"])
    with running(tmp_path, simulator, clock=MORNING, accounts=accounts, subscriptions=[INDICES, old]) as service:

        def subscribed() -> int:
            return sum(open_sockets(simulator).values())

        until(lambda: subscribed() == sum(one.instruments for one in status(service.data).lists) > 2)
        opened = open_sockets(simulator).keys()
        service.configure(subscriptions=[INDICES, new])
        until(lambda: subscribed() == 5)
        until(lambda: "config.yaml was read anew" in service.log)

        whole = service.config.read_text()
        service.config.write_text(whole.replace("subscriptions:", "subscription:"))
        until(lambda: "config.yaml is not usable" in service.log)
        assert until(lambda: status(service.data).problems)[0].startswith("config.yaml is not usable")
        before = simulator.stats()["packets"]
        simulator.wait_for(lambda stats: stats["packets"] > before + 20, PATIENCE_SECONDS)
        assert subscribed() == 5

        service.configure(subscriptions=[INDICES])
        service.process.send_signal(signal.SIGHUP)
        until(lambda: subscribed() == 2)
        until(lambda: not status(service.data).problems)
        read = service.log.count("config.yaml was read anew")
        service.process.send_signal(signal.SIGHUP)
        until(lambda: service.log.count("config.yaml was read anew") > read)
        ever = {(one["account"], one["connection"]) for one in simulator.stats()["connections"][known:]}
        assert open_sockets(simulator).keys() == opened == ever, "no socket was closed or opened"
        service.stop()
    assert committed_rows(service.data) == sent() > 0
    assert len(events(service.data, "config read")) > read
    assert "subscription: unknown key" in events(service.data, "config refused")[0]["message"]
    assert "Traceback" not in service.log
    assert "never retrieved" not in service.log


def test_a_killed_service_goes_on_at_its_next_start_and_the_report_has_the_gap(
    tmp_path: Path, simulator: Simulation, sent: Callable[[], int]
) -> None:
    """It goes by the instrument list that is stored: the broker does not give another."""
    changes = {
        "accounts": accounts_of(simulator, "one"),
        "subscriptions": [{**INDICES, "window": "10:00-15:30"}],
        "capture": {"connections": 1},
        "clock": MORNING,
    }
    known = len(simulator.stats()["connections"])
    with running(tmp_path, simulator, **changes) as service:
        until(lambda: sent() > 20)
        until(lambda: (journal := status(service.data).journal) and journal.written_records > 20)
        service.process.kill()
        service.process.wait()
        until(lambda: not open_sockets(simulator))
        simulator.fault("rest", path="/instruments", status=503, seconds=600)
        service.clock = f"{DAY}T11:00:00+05:30"
        service.start()
        until(lambda: open_sockets(simulator))
        simulator.wait_for(lambda stats: stats["connections"][-1]["subscribed"] == 2, PATIENCE_SECONDS)
        service.stop()
    assert len(simulator.stats()["connections"]) == known + 2
    assert service.rows("select count(distinct stream) as n from ticks") == [{"n": 2}]
    record = read_record(service.data, DAY)
    assert record is not None
    with clock_at(f"{DAY}T11:30"):
        report = make_report(service.data, record)
    (line,) = report.connections
    assert line.gaps == report.gaps
    (last,), (next_one,) = (
        service.rows("select max(received_at) as at from ticks group by stream order by stream limit 1"),
        service.rows("select max(received_at) as at from events where event = 'connected'"),
    )
    assert line.gaps.longest_from is not None
    assert line.gaps.longest_from <= last["at"]
    assert line.gaps.longest_from + dt.timedelta(seconds=line.gaps.longest_seconds) == next_one["at"]
    assert f"from {line.gaps.longest_from.astimezone(IST):%H:%M:%S} IST" in "\n".join(report.problems)


def test_systemd_hears_that_it_is_ready_lives_reloads_and_stops(tmp_path: Path, simulator: Simulation) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        address = str(tmp_path / "notify")
        systemd.bind(address)
        systemd.settimeout(PATIENCE_SECONDS)
        environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}

        def heard() -> str:
            return systemd.recv(4096).decode().partition("\n")[0]

        accounts = accounts_of(simulator, "one")
        with running(
            tmp_path, simulator, environment=environment, clock=MORNING, accounts=accounts, subscriptions=[INDICES]
        ) as service:
            assert heard() == "READY=1"
            assert [heard() for _ in range(4)] == ["WATCHDOG=1"] * 4
            service.process.send_signal(signal.SIGHUP)
            after: list[str] = []
            while len(after) < 2:
                after += [text for text in (heard(),) if text != "WATCHDOG=1"]
            assert after == ["RELOADING=1", "READY=1"]
            service.process.send_signal(signal.SIGTERM)
            while (text := heard()) == "WATCHDOG=1":
                pass
            assert text == "STOPPING=1"
            assert service.process.wait(PATIENCE_SECONDS) == 0
            systemd.setblocking(False)
            with pytest.raises(BlockingIOError):
                heard()  # no child of it speaks to systemd
