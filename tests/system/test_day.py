"""A day of the service as real processes, its hours compressed into seconds of the real clock.

The times in config.yaml are reckoned from the moment at which a test starts. Today counts as open, whatever day it is.
"""

import contextlib
import datetime as dt
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kitelake.report import Report, read_record
from kitelake.report.text import summary
from kitelake.telemetry.status import ServiceStatus, read_status
from storage.files import DataFile
from storage.layout import DataLayout
from storage.schema import IST, TICKS
from storage.tables.table import LakeTable
from storage.upkeep.compact import is_sealed
from tests.support.running import Running, committed_rows, running
from tests.support.simulation import Simulation, simulation
from tests.support.webhook import Webhook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(660)]  # `Today` waits for up to 8 minutes around midnight

T = TypeVar("T")

INDICES = {"name": "indices", "mode": "full", "instruments": ["NSE:NIFTY 50", "NSE:NIFTY BANK"]}
OPTIONS = {
    "name": "options",
    "mode": "quote",
    "select": {"underlying": "NSE:NIFTY 50", "expiries": 1, "strikes": {"around": "spot", "count": 2}},
    "every": "10s",
}


class Today:
    """Moments of this IST day in seconds from now. It waits where midnight is within minutes."""

    def __init__(self) -> None:
        now = dt.datetime.now(IST)
        while not dt.time(0, 3) <= now.time() < dt.time(23, 55):
            time.sleep(1)
            now = dt.datetime.now(IST)
        self._begin = now.replace(microsecond=0)
        self.date = now.date()

    def at(self, seconds: float) -> dt.datetime:
        return self._begin + dt.timedelta(seconds=seconds)

    def clock(self, seconds: float) -> str:
        return f"{self.at(seconds):%H:%M:%S}"

    def window(self, start: float, stop: float) -> str:
        """A window ends on its day, however late it begins."""
        end = self.clock(stop) if self.at(stop).date() == self.date else "24:00"
        return f"{self.clock(start)}-{end}"

    def calendar(self, hours: str = "open") -> dict[str, Any]:
        return {"special_days": [{"date": self.date, "hours": hours, "note": "a test"}]}

    def lists(self, start: float, stop: float, *lists: dict[str, Any]) -> dict[str, Any]:
        """Sections of config.yaml: these lists, or the indices, in these hours."""
        window = self.window(start, stop)
        return {
            "calendar": self.calendar(),
            "subscriptions": [{**one, "window": window} for one in lists or (INDICES,)],
            "schedule": {"end_of_day_after": "2s"},
        }


@pytest.fixture
def today() -> Today:
    return Today()


@contextlib.contextmanager
def market(**settings: Any) -> Iterator[Simulation]:
    with simulation(**{"instruments": 300, "rate": 20, **settings}) as simulator:
        yield simulator


def until(what: Callable[[], T | None], seconds: float = 40) -> T:
    """The first answer that is true, or holds something."""
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)
    return answer


def status(service: Running) -> ServiceStatus:
    """What the service told last."""
    return until(lambda: read_status(DataLayout(service.data)))


def printed_status(service: Running) -> tuple[ServiceStatus, int]:
    """What `kitelake status --json` prints, and its exit status."""
    status(service)
    command = [sys.executable, "-m", "kitelake", "status", "--json", "--config", str(service.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return ServiceStatus.model_validate_json(done.stdout), done.returncode


def events(service: Running, name: str) -> list[dict[str, Any]]:
    """The service's own events of that name, `data` as values."""
    rows = service.rows(f"select message, data from events where event = '{name}' order by stream, record")
    return [{"message": row["message"], **json.loads(row["data"] or "{}")} for row in rows]


def open_sockets(simulator: Simulation) -> dict[tuple[str, int], int]:
    """Account and number of each open connection, with how many instruments it is subscribed to."""
    return {
        (one["account"], one["connection"]): one["subscribed"]
        for one in simulator.stats()["connections"]
        if one["open"]
    }


def is_open(simulator: Simulation, account: str) -> bool:
    """Whether a connection of the account is open."""
    return any(name == account for name, _ in open_sockets(simulator))


def accounts_are(service: Running, names: list[str]) -> bool:
    """Whether the service uses these accounts."""
    return [one.name for one in status(service).accounts] == names


def reported(service: Running, today: Today) -> bool:
    record = read_record(service.data, today.date)
    return record is not None and record.reported_at is not None


def sealed(service: Running, today: Today) -> bool:
    """Whether every partition of the day's ticks is."""
    partitions: dict[str, list[DataFile]] = {}
    for file in LakeTable(service.data / "ticks", TICKS).open().snapshot().entries:
        if file.values["date"] == today.date.isoformat():
            partitions.setdefault(file.values["exchange"], []).append(file)
    return bool(partitions) and all(map(is_sealed, partitions.values()))


def assert_accounted(service: Running, simulator: Simulation) -> None:
    """After the end: the table holds as many rows as packets were sent."""
    assert committed_rows(service.data) == simulator.stats()["packets"] > 0


def test_a_whole_day(tmp_path: Path, today: Today) -> None:
    """Tokens, instruments, plan, two lists with hours of their own, strikes around a live spot, report, and rest."""
    with market(instruments=3000) as simulator, contextlib.closing(Webhook()) as webhook:
        changes = {
            "calendar": today.calendar(),
            "schedule": {
                "tokens_at": today.clock(12),
                "plan_at": today.clock(16),
                "end_of_day_after": "2s",
            },
            "instruments": {"fetch_at": today.clock(14)},
            "subscriptions": [
                {**INDICES, "window": today.window(18, 40)},
                {**OPTIONS, "window": today.window(21, 37)},
            ],
            "notifications": [{"url": f"json://127.0.0.1:{webhook.server.server_port}/", "about": ["report"]}],
        }
        with running(tmp_path, simulator, **changes) as service:
            first, exit_status = printed_status(service)
            assert (first.phase, exit_status) == ("waiting", 0)
            due = {job.name: job.next_at for job in first.jobs}
            for name, seconds in {
                "check tokens": 12,
                "fetch instruments": 14,
                "make plan": 16,
                "start indices": 18,
                "start options": 21,
                "resolve options anew": 31,
                "stop options": 37,
                "stop indices": 40,
                "end of day": 42,
                "seal": 42 + 120,
            }.items():
                assert due.pop(name) == today.at(seconds), name
            assert due.keys() - {"begin"} == {"retention"}

            seen = [first]
            while not reported(service, today):
                assert dt.datetime.now(IST) < today.at(120), service.log
                seen.append(status(service))
                time.sleep(0.2)
            until(lambda: all(job.outcome != "running" for job in status(service).jobs))
            last, exit_status = printed_status(service)
            assert (last.phase, exit_status) == ("waiting", 0)
            until(lambda: webhook.posts)
            assert open_sockets(simulator) == {}
            service.stop()
        assert_accounted(service, simulator)

        phases = [one.phase for one in (*seen, last)]
        changes_of_phase = [phase for phase, before in zip(phases, ["", *phases], strict=False) if phase != before]
        assert changes_of_phase == ["waiting", "capturing", "waiting"]
        active = {tuple(each.name for each in one.lists if each.active) for one in seen}
        assert {("indices",), ("indices", "options")} <= active <= {(), ("indices",), ("indices", "options")}
        done = {job.name: job.outcome for job in last.jobs}
        assert set(done.values()) <= {"done", None}
        assert {name for name, outcome in done.items() if outcome == "done"} >= {"check tokens", "end of day"}
        assert [one.token for one in last.accounts] == [f"good, checked at {today.at(12):%H:%M}"] * 2

        assert_strikes_around_spot(service)
        (told,) = events(service, "report")
        line = told.pop("message")
        report = Report.model_validate(told)
        assert summary(report) == line
        assert line in service.log
        assert [post["title"] for post in webhook.posts] == [f"Kitelake: {line}"]
        assert line in webhook.posts[0]["message"]
        assert report.rows == simulator.stats()["packets"]
        assert (report.wanted, report.ticked, report.problems) == (12, 12, ())
        assert [(one.name, one.subscribed, one.silent) for one in report.lists] == [
            ("indices", 2, 0),
            ("options", 10, 0),
        ]
        lists = {event["message"] for event in events(service, "list started")}
        assert lists == {event["message"] for event in events(service, "list stopped")} == {"indices", "options"}


def assert_strikes_around_spot(service: Running) -> None:
    """Five strikes of one expiry, the middle one of them nearest to a price that the index had; resolved anew."""
    assert any("NIFTY around" in (each["message"] or "") and each["added"] for each in events(service, "resolved anew"))
    options = """select strike, expiry from (select distinct instrument_token from ticks) join instruments using
        (instrument_token) where exchange = 'NFO' and instrument_type in ('CE', 'PE') order by strike"""
    rows = service.rows(options)
    strikes = sorted({row["strike"] for row in rows})
    assert (len(rows), len(strikes), len({row["expiry"] for row in rows})) == (10, 5, 1)
    (spot,) = service.rows(
        "select min(last_price) as low, max(last_price) as high from ticks where symbol = 'NSE:NIFTY 50'"
    )
    assert spot["low"] - 25 <= strikes[2] <= spot["high"] + 25


def test_a_session_captures_until_its_end_and_prints_its_report(tmp_path: Path, today: Today) -> None:
    with market() as simulator:
        lists = today.lists(-5, 3600)
        with running(tmp_path, simulator, command=["capture", "--until", today.clock(15)], **lists) as service:
            assert service.process.wait(timeout=60) == 0, service.log
        assert_accounted(service, simulator)
        assert dt.datetime.now(IST) >= today.at(15)
        assert open_sockets(simulator) == {}
        (told,) = events(service, "report")
        assert told["message"] in service.output
        assert told["rows"] == simulator.stats()["packets"]
        assert reported(service, today)
        assert sealed(service, today)


def test_a_session_of_a_closed_day_ends_at_once_and_says_why(tmp_path: Path, today: Today) -> None:
    with market() as simulator:
        lists = today.lists(-5, 3600) | {"calendar": today.calendar("closed")}
        with running(tmp_path, simulator, command=["capture"], **lists) as service:
            assert service.process.wait(timeout=60) == 0
        assert "no list is captured on" in service.log
        assert "NSE: config.yaml: a test" in service.log
        assert simulator.stats()["connections"] == []
        assert not service.data.exists()


def test_a_session_that_is_over_is_no_success(tmp_path: Path, today: Today) -> None:
    with market() as simulator:
        with running(tmp_path, simulator, command=["capture"], **today.lists(-60, -30)) as service:
            assert service.process.wait(timeout=60) == 1
        assert f"today's session ended at {today.at(-30):%H:%M}: nothing was captured" in service.log
        assert simulator.stats()["connections"] == []


def test_a_session_with_a_bad_token_goes_on_with_the_other_account_and_says_so(tmp_path: Path, today: Today) -> None:
    with market() as simulator:
        one = simulator.account("one")
        accounts = [
            {"name": "one", "api_key": one.api_key, "access_token": one.access_token},
            {"name": "two", "api_key": simulator.account("two").api_key, "access_token": "lapsed-7f3a9c"},
        ]
        lists = today.lists(-5, 15, {"name": "NSE", "mode": "full", "select": {"exchange": "NSE"}})
        with running(tmp_path, simulator, command=["capture"], accounts=accounts, **lists) as service:
            assert service.process.wait(timeout=60) == 1, service.log
        assert_accounted(service, simulator)
        (told,) = events(service, "report")
        assert (told["ticked"], told["rows"]) == (told["wanted"], simulator.stats()["packets"])
        assert told["problems"][0].startswith("account two has no good token")
        assert "account two has no good token" in service.output
        assert {each["account"] for each in simulator.stats()["connections"]} == {"one"}
        assert "lapsed-7f3a9c" not in service.log + service.output


def test_a_session_that_a_signal_ends_is_no_success(tmp_path: Path, today: Today) -> None:
    """What was captured is in the tables, and a report can be had; but the day is not over."""
    with market() as simulator, running(tmp_path, simulator, command=["capture"], **today.lists(-5, 3600)) as service:
        simulator.wait_for(lambda stats: stats["packets"] > 50)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=30) == 1
        assert_accounted(service, simulator)
        assert "it was stopped before the end of the session" in service.log
        assert service.output == ""
        assert not reported(service, today)
        command = [sys.executable, "-m", "kitelake", "report", "--json", "--config", str(service.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert Report.model_validate_json(done.stdout).rows == simulator.stats()["packets"]


def test_tokens_that_come_during_the_session_are_taken_up(tmp_path: Path, today: Today) -> None:
    """From a file that was not there, and from a command that failed, without a restart."""
    names = ("one", "two", "three")
    known = [{"name": n, "api_key": f"key-{n}", "access_token": f"token-{n}", "api_secret": "s"} for n in names]
    shares = {"one": "NSE:INFY", "two": "NSE:RELIANCE", "three": "NSE:NIFTY 50"}
    with market(accounts=known) as simulator:
        files = {name: tmp_path / f"token-{name}" for name in ("one", "two")}
        sources = {"one": {"file": str(files["one"])}, "two": {"command": ["cat", str(files["two"])]}}
        accounts = [
            {"name": name, "api_key": f"key-{name}", "access_token": sources.get(name, f"token-{name}")}
            for name in names
        ]
        lists = [{"name": n, "mode": "full", "instruments": [shares[n]], "accounts": [n]} for n in names]
        with running(tmp_path, simulator, accounts=accounts, **today.lists(-5, 3600, *lists)) as service:
            until(lambda: open_sockets(simulator) and events(service, "tokens checked"))
            told = status(service)
            assert "cannot be read" in told.accounts[0].token
            assert "ended with status 1" in told.accounts[1].token
            for name, path in files.items():
                assert not is_open(simulator, name)
                give(path, f"token-{name}")
                until(partial(is_open, simulator, name))
            until(lambda: all(one.token[:4] == "good" for one in status(service).accounts))
            service.stop()
        assert_accounted(service, simulator)
        assert {row["symbol"] for row in service.rows("select distinct symbol from ticks")} == set(shares.values())
        record = read_record(service.data, today.date)
        assert record is not None
        assert set(record.accounts.values()) == {None}, "the day's report has nothing to complain of"


@pytest.mark.parametrize("login_needed", [False, True])
def test_a_first_start_without_any_token_waits_for_one(tmp_path: Path, today: Today, login_needed: bool) -> None:
    """The broker gives its instrument list without a login; if it did not, a token would have it fetched at once."""
    with market() as simulator:
        if login_needed:
            simulator.fault("rest", path="/instruments", status=403)
        token = tmp_path / "token"
        accounts = [{"name": "one", "api_key": simulator.account().api_key, "access_token": {"file": str(token)}}]
        changes = today.lists(-5, 3600) | {"capture": {"open_timeout_seconds": 3}}
        with running(tmp_path, simulator, accounts=accounts, **changes) as service:
            until(lambda: events(service, "tokens checked"))
            until(lambda: ("the instrument list was not fetched" in service.log) == login_needed)
            assert "an account has no good access token" in service.log
            assert open_sockets(simulator) == {}
            if not login_needed:
                waits = "instruments wait: their connections are not up"
                until(lambda: any(waits in problem for problem in status(service).problems))
                until(lambda: any(f"{token} cannot be read" in reason for reason in status(service).health.reasons))
            simulator.fault("clear")
            give(token, simulator.account().access_token)
            simulator.wait_for(lambda stats: stats["packets"] > 0, 60)
            service.stop()
        assert_accounted(service, simulator)


def give(path: Path, token: str) -> None:
    """Put the token into a file of one's own."""
    path.touch(mode=0o600)
    path.write_text(token + "\n")


def test_a_reload_changes_only_the_difference_and_a_broken_file_nothing(tmp_path: Path, today: Today) -> None:
    kept, old = INDICES, {"name": "old", "mode": "quote", "select": {"exchange": "MCX"}}
    new = {"name": "new", "mode": "ltp", "instruments": ["NSE:INFY", "NSE:RELIANCE", "NSE:HDFCBANK"]}
    with market() as simulator, contextlib.closing(Webhook()) as webhook:
        target = {"url": f"json://127.0.0.1:{webhook.server.server_port}/", "about": ["problems"]}
        changes = today.lists(-5, 3600, kept, old) | {"notifications": [target]}
        with running(tmp_path, simulator, **changes) as service:

            def subscribed() -> int:
                return sum(open_sockets(simulator).values())

            until(lambda: subscribed() > 2)
            opened = open_sockets(simulator).keys()
            service.configure(**today.lists(-5, 3600, kept, new))
            until(lambda: subscribed() == 5)
            until(lambda: len(events(service, "config read")) == 1)

            whole = service.config.read_text()
            service.config.write_text(whole.replace("subscriptions:", "subscription:"))
            until(lambda: events(service, "config refused"))
            assert "subscription: unknown key" in events(service, "config refused")[0]["message"]
            assert "config.yaml is not usable" in service.log
            until(lambda: [post for post in webhook.posts if post["title"] == "Kitelake: config.yaml is not usable"])
            problems = until(lambda: status(service).problems)
            assert problems[0].startswith("config.yaml is not usable")
            before = simulator.stats()["packets"]
            simulator.wait_for(lambda stats: stats["packets"] > before + 20)
            assert subscribed() == 5

            service.configure(**today.lists(-5, 3600, kept))
            service.process.send_signal(signal.SIGHUP)
            until(lambda: subscribed() == 2)
            until(lambda: not status(service).problems)
            read = len(events(service, "config read"))
            service.process.send_signal(signal.SIGHUP)
            until(lambda: len(events(service, "config read")) > read)
            assert (
                open_sockets(simulator).keys()
                == opened
                == {(one["account"], one["connection"]) for one in simulator.stats()["connections"]}
            ), "no socket was closed or opened"
            service.stop()
        assert_accounted(service, simulator)
        assert "Traceback" not in service.log


def test_an_account_that_comes_with_a_changed_file_and_a_signal_at_once(tmp_path: Path, today: Today) -> None:
    """An editor saves, and an operator reloads: the file is seen to change while the signal's reload goes on."""
    with market() as simulator:
        both = [
            {"name": a.name, "api_key": a.api_key, "access_token": a.access_token}
            for a in (simulator.account("one"), simulator.account("two"))
        ]
        lists = today.lists(-5, 3600, {"name": "NSE", "mode": "full", "select": {"exchange": "NSE"}, "copies": 1})
        with running(tmp_path, simulator, accounts=both[:1], **lists) as service:
            simulator.wait_for(lambda stats: stats["packets"] > 0)
            for accounts in (both, both[1:], both):
                service.configure(accounts=accounts)
                for _ in range(10):
                    service.process.send_signal(signal.SIGHUP)
                    time.sleep(0.03)
                names = [one["name"] for one in accounts]
                until(partial(accounts_are, service, names))
            service.stop()
        assert "Traceback" not in service.log
        assert "never retrieved" not in service.log
        assert_accounted(service, simulator)


def test_a_killed_service_goes_on_at_its_next_start_and_the_report_has_the_gap(tmp_path: Path, today: Today) -> None:
    """It goes by the instrument list that is stored: the broker does not give another."""
    with market() as simulator:
        one = simulator.account()
        accounts = [{"name": "one", "api_key": one.api_key, "access_token": one.access_token}]
        changes = today.lists(8, 24) | {"accounts": accounts, "capture": {"connections": 1}}
        with running(tmp_path, simulator, **changes) as service:
            simulator.wait_for(lambda stats: stats["packets"] > 20, 40)
            until(lambda: len(service.rows("select 1 as n from ticks limit 20")) == 20)
            service.process.kill()
            service.process.wait()
            simulator.wait_for(lambda stats: not any(one["open"] for one in stats["connections"]))
            simulator.fault("rest", path="/instruments", status=503, seconds=120)
            service.start()
            until(lambda: open_sockets(simulator))
            until(lambda: reported(service, today), 60)
            service.stop()
        before, after = simulator.stats()["connections"]
        (told,) = events(service, "report")
        (line,) = told["connections"]
        assert line["gaps"] == told["gaps"]
        down_seconds = (after["opened_at_ns"] - before["closed_at_ns"]) / 1e9
        begun = dt.datetime.fromisoformat(line["gaps"]["longest_from"])
        assert begun <= dt.datetime.fromtimestamp(before["closed_at_ns"] / 1e9, IST)
        assert line["gaps"]["longest_seconds"] >= down_seconds
        assert f"{told['gaps']['number']} gap" in told["message"]
        assert service.rows("select count(distinct stream) as n from ticks") == [{"n": 2}]


def test_systemd_hears_that_it_is_ready_lives_reloads_and_stops(tmp_path: Path, today: Today) -> None:
    with market() as simulator, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        address = str(tmp_path / "notify")
        systemd.bind(address)
        systemd.settimeout(30)
        environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}

        def heard() -> str:
            return systemd.recv(4096).decode().partition("\n")[0]

        with running(tmp_path, simulator, environment=environment, **today.lists(-5, 3600)) as service:
            assert heard() == "READY=1"
            assert [heard() for _ in range(4)] == ["WATCHDOG=1"] * 4
            service.process.send_signal(signal.SIGHUP)
            after = [text for text in (heard() for _ in range(6)) if text != "WATCHDOG=1"]
            assert after == ["RELOADING=1", "READY=1"]
            simulator.wait_for(lambda stats: stats["packets"] > 0)
            service.stop()
            systemd.settimeout(0.1)
            rest = list(iter(lambda: _heard_or_none(systemd), None))
        assert [text for text in rest if text != "WATCHDOG=1"] == ["STOPPING=1"]
        assert rest[-1] == "STOPPING=1", "no child of it speaks to systemd"


def _heard_or_none(systemd: socket.socket) -> str | None:
    try:
        return systemd.recv(4096).decode().partition("\n")[0]
    except TimeoutError:
        return None
