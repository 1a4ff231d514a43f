"""A day of the service: its sessions and tokens by a clock that the test drives, and what needs real processes.

The simulator is shared; what it sent for a test is what its count grew by.
"""

import contextlib
import datetime as dt
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar
from unittest.mock import patch

import pytest
import yaml

import kitelake
from kitelake.cli import app as cli
from kitelake.report import Report, make_report, read_record
from kitelake.report.text import summary
from kitelake.telemetry.status import ServiceStatus, read_status
from storage.clock import IST
from storage.files import DataFile
from storage.layout import DataLayout
from storage.schema import TICKS
from storage.tables.table import LakeTable
from storage.upkeep.compact import is_compacted
from tests.support.running import committed_rows, running
from tests.support.schedule import Clock, Trial, clock_at, config_of, ist, lively, run
from tests.support.simulation import Simulation, simulation
from tests.support.waiting import PATIENCE_SECONDS
from tests.support.webhook import Webhook

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),  # Apprise's import of it
]

T = TypeVar("T")

DAY: Final = dt.date(2025, 11, 10)  # in the past by any machine's clock, by which the children go
NAMES: Final = ("one", "two", "three")
SHARES: Final = {"one": "NSE:INFY", "two": "NSE:RELIANCE", "three": "NSE:NIFTY 50"}
INDICES: Final = {"name": "indices", "mode": "full", "instruments": ["NSE:NIFTY 50", "NSE:NIFTY BANK"]}
OPTIONS: Final = {
    "name": "options",
    "mode": "quote",
    "select": {"underlying": "NSE:NIFTY 50", "expiries": 1, "strikes": {"around": "spot", "count": 2}},
    "every": "1h",
}
PATIENT: Final = {"backoff_initial_seconds": 0.1, "slow_retry_seconds": 0.5, "liveness_seconds": 1e6}
"""Settings of `capture` for a clock that passes hours at once: no connection counts as dead for that."""
MORNING: Final = f"{DAY}T10:00:00+05:30"
CANARY: Final = "canary-7f3a9c"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulation]:
    accounts = [{"name": n, "api_key": f"key-{n}", "access_token": f"token-{n}", "api_secret": "s"} for n in NAMES]
    with simulation(accounts=accounts, instruments=3000, rate=20, start="2025-11-08T06:00:00+00:00") as running:
        yield running


@pytest.fixture
def sent(simulator: Simulation) -> Iterator[Callable[[], int]]:
    """How many packets were sent since the test began, once nothing is sent any more."""
    simulator.fault("clear")
    before = simulator.stats()["packets"]
    yield lambda: simulator.stats()["packets"] - before
    simulator.fault("clear")


def until(what: Callable[[], T | None]) -> T:
    """The first answer that is true, or holds something."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (answer := what()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
    return answer


def accounts_of(simulator: Simulation, *names: str, **tokens: Any) -> list[dict[str, Any]]:
    """The section `accounts` with those of the simulator, and other tokens for some of them."""
    accounts = [simulator.account(name) for name in names]
    return [
        {"name": one.name, "api_key": one.api_key, "access_token": tokens.get(one.name, one.access_token)}
        for one in accounts
    ]


def status(data: Path) -> ServiceStatus:
    """What the service told last."""
    return until(lambda: read_status(DataLayout(data)))


def events(data: Path, name: str) -> list[dict[str, Any]]:
    """The service's own events of that name, `data` as values."""
    query = f"select message, data from events where event = '{name}' order by stream, record"
    try:
        with kitelake.open(data) as lake:
            rows = lake.sql(query).arrow().to_pylist()
    except kitelake.KitelakeError:  # before there is a lake
        return []
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


def is_reported(data: Path) -> bool:
    record = read_record(data, DAY)
    return record is not None and record.reported_at is not None


def is_sealed_day(data: Path) -> bool:
    """Whether every partition of the day's ticks is sealed."""
    partitions: dict[str, list[DataFile]] = {}
    for file in LakeTable(data / "ticks", TICKS).open().snapshot().entries:
        if file.values["date"] == DAY.isoformat():
            partitions.setdefault(file.values["exchange"], []).append(file)
    return bool(partitions) and all(map(is_compacted, partitions.values()))


def test_a_whole_day(tmp_path: Path, simulator: Simulation, sent: Callable[[], int]) -> None:
    """Tokens, instruments, plan, two lists with hours of their own, strikes around a live spot, report, and rest."""
    seen: list[ServiceStatus] = []

    async def scenario(trial: Trial) -> None:
        def in_tables() -> bool:
            progress = trial.service.progress()
            return progress.committed.rows >= progress.packets == committed_rows(tmp_path)

        first = trial.service.status()
        assert first.phase == "waiting"
        due = {job.name: f"{job.next_at:%H:%M}" for job in first.jobs if job.next_at and job.next_at.date() == DAY}
        assert due == {
            "check tokens": "08:30",
            "fetch instruments": "08:35",
            "make plan": "08:50",
            "start indices": "09:20",
            "start options": "10:00",
            "resolve options anew": "11:00",
            "stop options": "15:00",
            "stop indices": "15:30",
            "end of day": "15:32",
            "seal": "15:34",
            "retention": "12:20",
        }
        for moment, lists in (
            ("08:55", []),
            ("09:20", ["indices"]),
            ("10:00", ["indices", "options"]),
            ("15:00", ["indices"]),
            ("15:30", []),
            ("15:32", []),
            ("15:40", []),
        ):
            await trial.until(f"{DAY}T{moment}")
            assert await trial.streamed() == lists
            seen.append(trial.service.status())
            if moment == "09:20":
                await trial.wait_for(lambda: trial.service.progress().packets > 20)
            if moment == "10:00":  # as soon as there is a price
                await trial.wait_for(lambda: len(trial.service.today.lists["options"].tokens) == 10)
                assert await trial.streamed() == lists
                many = trial.service.progress().packets + 60
                await trial.wait_for(lambda many=many: trial.service.progress().packets > many)  # type: ignore[misc]
            if moment == "15:32":  # the seal comes when the last segment is in the tables
                await trial.wait_for(in_tables)
        await trial.wait_for(lambda: bool(webhook.posts))

    with contextlib.closing(Webhook()) as webhook, clock_at(f"{DAY}T08:21") as clock:
        config = config_of(
            tmp_path,
            simulator,
            {**INDICES, "window": "09:20-15:30"},
            {**OPTIONS, "window": "10:00-15:00"},
            accounts=accounts_of(simulator, "one", "two"),
            capture=PATIENT,
            journal={"segment_seconds": 1},
            schedule={"tokens_at": "08:30", "plan_at": "08:50", "end_of_day_after": "2m"},
            instruments={"fetch_at": "08:35"},
            notifications=[{"url": f"json://127.0.0.1:{webhook.server.server_port}/", "about": ["report"]}],
        )
        diary = run(config, simulator, clock, scenario, children=True)
    assert committed_rows(tmp_path) == sent() > 0
    assert open_sockets(simulator) == {}

    assert [one.phase for one in seen] == ["waiting", *["capturing"] * 3, *["waiting"] * 3]
    done = {job.name: job.outcome for job in seen[-1].jobs}
    assert set(done.values()) <= {"done", None}
    assert {name for name, outcome in done.items() if outcome == "done"} >= {"check tokens", "end of day", "seal"}
    assert [one.token for one in seen[-1].accounts] == ["good, checked at 09:50"] * 2  # shortly before the last start
    assert is_reported(tmp_path)
    assert is_sealed_day(tmp_path)

    assert_strikes_around_spot(tmp_path)
    (told,) = events(tmp_path, "report")
    line = told.pop("message")
    report = Report.model_validate(told)
    assert summary(report) == line
    assert [post["title"] for post in webhook.posts] == [f"Kitelake: {line}"]
    assert line in webhook.posts[0]["message"]
    assert report.rows == sent()
    assert (report.wanted, report.ticked, report.problems) == (12, 12, ())
    assert [(one.name, one.subscribed, one.silent) for one in report.lists] == [("indices", 2, 0), ("options", 10, 0)]
    lists = [line for line in diary.told if "started" in line or "stopped" in line]
    assert lists == [
        "Mon 10 08:21 service started",
        "Mon 10 09:20 indices started",
        "Mon 10 10:00 options started",
        "Mon 10 15:00 options stopped",
        "Mon 10 15:30 indices stopped",
        "Mon 10 15:40 service stopped",
    ]


def assert_strikes_around_spot(data: Path) -> None:
    """Five strikes of one expiry, the middle one of them nearest to a price that the index had; resolved again."""
    assert any("NIFTY around" in (each["message"] or "") and each["added"] for each in events(data, "resolved anew"))
    options = """select strike, expiry from (select distinct instrument_token from ticks) join instruments using
        (instrument_token) where exchange = 'NFO' and instrument_type in ('CE', 'PE') order by strike"""
    spots = "select min(last_price) as low, max(last_price) as high from ticks where symbol = 'NSE:NIFTY 50'"
    with kitelake.open(data) as lake:
        rows, (spot,) = (lake.sql(query).arrow().to_pylist() for query in (options, spots))
    strikes = sorted({row["strike"] for row in rows})
    assert (len(rows), len(strikes), len({row["expiry"] for row in rows})) == (10, 5, 1)
    assert spot["low"] - 25 <= strikes[2] <= spot["high"] + 25


class Command:
    """`kitelake capture` in this process, by a clock that is driven once something has been captured."""

    def __init__(self, folder: Path, simulator: Simulation, monkeypatch: pytest.MonkeyPatch, **sections: Any) -> None:
        self.path = folder / "config.yaml"
        self.data = folder / "data"
        self._simulator = simulator
        self._monkeypatch = monkeypatch
        document = {
            "data": "data",
            "kite": {"ws": simulator.ws, "api": simulator.api},
            "accounts": accounts_of(simulator, "one", "two"),
            "subscriptions": [{**INDICES, "window": "09:20-15:30"}],
            "capture": PATIENT,
            "schedule": {"end_of_day_after": "2m"},
        }
        self.path.write_text(yaml.safe_dump(document | sections))

    def run(self, *arguments: str) -> int:
        self._monkeypatch.setattr(sys, "argv", ["kitelake", *arguments, "--config", str(self.path)])
        return cli.run_command()

    def session(self, begin: str, drive: Callable[[Clock], object], *arguments: str) -> int:
        """Capture on DAY from `begin` on, while `drive` is at the clock, in a thread. The exit status."""
        with clock_at(f"{DAY}T{begin}") as clock, lively():
            driver = threading.Thread(target=drive, args=(clock,))
            driver.start()
            try:
                return self.run("capture", *arguments)
            finally:
                driver.join()


def test_a_session_captures_until_its_end_and_prints_its_report(
    tmp_path: Path,
    simulator: Simulation,
    sent: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = Command(tmp_path, simulator, monkeypatch)

    def drive(clock: Clock) -> None:
        until(lambda: any(one.instruments for one in status(command.data).lists))
        clock.pass_until(ist(f"{DAY}T09:19:59"))
        until(lambda: sent() > 50)
        clock.pass_until(ist(f"{DAY}T09:20:50"))  # less than a gap that the report would worry about

    assert command.session("09:15", drive, "--until", "09:20:50") == 0
    assert committed_rows(command.data) == sent() > 0
    assert open_sockets(simulator) == {}
    (told,) = events(command.data, "report")
    assert told["message"] in " ".join(capsys.readouterr().out.split())
    assert told["rows"] == sent()
    assert is_reported(command.data)
    assert is_sealed_day(command.data)


def test_a_session_with_a_bad_token_goes_on_with_the_other_account_and_says_so(
    tmp_path: Path,
    simulator: Simulation,
    sent: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    accounts = accounts_of(simulator, "one", "two", two=f"lapsed-{CANARY}")
    command = Command(tmp_path, simulator, monkeypatch, accounts=accounts)
    known = len(simulator.stats()["connections"])

    def drive(clock: Clock) -> None:
        until(lambda: sent() > 50)
        clock.pass_until(ist(f"{DAY}T15:30"))

    assert command.session("10:00", drive) == 1
    assert committed_rows(command.data) == sent() > 0
    (told,) = events(command.data, "report")
    assert (told["ticked"], told["rows"]) == (told["wanted"], sent())
    assert told["problems"][0].startswith("account two has no good token")
    said = capsys.readouterr()
    assert "account two has no good token" in said.out
    assert {each["account"] for each in simulator.stats()["connections"][known:]} == {"one"}
    assert CANARY not in said.out + said.err


def test_a_session_that_a_signal_ends_is_no_success(
    tmp_path: Path,
    simulator: Simulation,
    sent: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What was captured is in the tables, and a report can be had; but the day is not over."""
    command = Command(tmp_path, simulator, monkeypatch)

    def drive(_: Clock) -> None:
        until(lambda: sent() > 50)
        os.kill(os.getpid(), signal.SIGTERM)

    assert command.session("10:00", drive) == 1
    assert committed_rows(command.data) == sent() > 0
    said = capsys.readouterr()
    assert "it was stopped before the end of the session" in said.err
    assert said.out == ""
    assert not is_reported(command.data)
    command.run("report", "--json", "--date", DAY.isoformat())
    assert Report.model_validate_json(capsys.readouterr().out).rows == sent()


def give(path: Path, token: str) -> None:
    """Put the token into a file of one's own."""
    path.touch(mode=0o600)
    path.write_text(token + "\n")


def test_tokens_that_come_during_the_session_are_taken_up(
    tmp_path: Path, simulator: Simulation, sent: Callable[[], int]
) -> None:
    """From a file that was not there, and from a command that failed, without a restart. The others go on meanwhile."""
    files = {name: tmp_path / f"token-{name}" for name in ("one", "two")}
    sources = {"one": {"file": str(files["one"])}, "two": {"command": ["cat", str(files["two"])]}}

    async def scenario(trial: Trial) -> None:
        def tokens() -> list[str]:
            return [one.token for one in trial.service.status().accounts]

        await trial.wait_for(lambda: is_open(simulator, "three"))
        await trial.wait_for(lambda: not any(token == "not checked yet" for token in tokens()))
        assert "cannot be read" in tokens()[0]
        assert "ended with status 1" in tokens()[1]
        assert tokens()[2].startswith("good, checked at ")
        for name, path in files.items():
            assert not is_open(simulator, name)
            give(path, f"token-{name}")
            await trial.wait_for(lambda name=name: is_open(simulator, name))  # type: ignore[misc]
        await trial.wait_for(lambda: all(token[:4] == "good" for token in tokens()))
        before = trial.service.progress().packets
        await trial.wait_for(lambda: trial.service.progress().packets > before + 100)

    with clock_at(f"{DAY}T10:00") as clock:
        lists = [{"name": n, "mode": "full", "instruments": [SHARES[n]], "accounts": [n]} for n in NAMES]
        accounts = accounts_of(simulator, *NAMES, **sources)
        run(config_of(tmp_path / "data", simulator, *lists, accounts=accounts), simulator, clock, scenario)
    assert committed_rows(tmp_path / "data") == sent() > 0
    with kitelake.open(tmp_path / "data") as lake:
        symbols = {row["symbol"] for row in lake.sql("select distinct symbol from ticks").arrow().to_pylist()}
    assert symbols == set(SHARES.values())
    record = read_record(tmp_path / "data", DAY)
    assert record is not None
    assert set(record.accounts.values()) == {None}, "the day's report has nothing to complain of"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (f"print('{CANARY}'); raise SystemExit(3)", "ended with status 3; run it by hand to see why"),
        ("import time; time.sleep(600)", None),
    ],
    ids=["fails", "hangs"],
)
def test_a_token_command_that_gives_none_leaves_the_other_account_capturing(
    tmp_path: Path, simulator: Simulation, sent: Callable[[], int], code: str, said: str | None
) -> None:
    async def scenario(trial: Trial) -> None:
        def streamed_by(account: str) -> int:
            return sum(each.instruments for each in trial.service.status().connections if each.account == account)

        await trial.wait_for(lambda: trial.service.progress().packets > 0)
        await trial.wait_for(lambda: streamed_by("two") == 6)  # what was to be on the other one has moved
        status = trial.service.status()
        assert {each.account for each in status.connections if each.packets} == {"two"}
        tokens = {account.name: account.token for account in status.accounts}
        if said is None:
            assert tokens == {"one": "not checked yet", "two": "not checked yet"}
        else:
            assert said in tokens["one"]
            assert tokens["two"].startswith("good, checked at ")
        assert CANARY not in status.model_dump_json()

    pinned = {"name": "pinned", "mode": "ltp", "instruments": ["NSE:INFY", "NSE:RELIANCE"], "accounts": ["two"]}
    anywhere = {"name": "anywhere", "instruments": ["NSE:HDFCBANK", "NSE:TCS", "NSE:ITC", "NSE:SBIN"]}
    accounts = accounts_of(simulator, "one", "two", one={"command": [sys.executable, "-c", code]})
    with clock_at(f"{DAY}T10:00") as clock:
        config = config_of(tmp_path / "data", simulator, pinned, anywhere, accounts=accounts)
        with patch("kitelake.service.day_cycle.TOKEN_SECONDS", 1.0):  # how long a command that hangs is waited for
            run(config, simulator, clock, scenario, settled=said is not None)


@pytest.mark.parametrize("login_needed", [False, True])
def test_a_first_start_without_any_token_waits_for_one(
    tmp_path: Path, simulator: Simulation, sent: Callable[[], int], login_needed: bool
) -> None:
    """The broker gives its instrument list without a login; if it did not, a token would have it fetched at once."""
    if login_needed:
        simulator.fault("rest", path="/instruments", status=403)
    token = tmp_path / "token"

    async def scenario(trial: Trial) -> None:
        def problems() -> str:
            return "\n".join(trial.service.status().problems)

        assert (trial.service.today.instruments is None) == login_needed
        assert "cannot be read" in trial.service.status().accounts[0].token
        assert open_sockets(simulator) == {}
        if login_needed:
            assert "there is no instrument list" in problems()
            assert "fetch again" in trial.jobs()
        else:
            await trial.wait_for(lambda: "instruments wait: their connections are not up" in problems())
            said = f"{token} cannot be read"
            await trial.wait_for(lambda: any(said in reason for reason in trial.service.health().reasons))
        simulator.fault("clear")
        give(token, simulator.account("one").access_token)
        await trial.wait_for(lambda: trial.service.progress().packets > 0)

    accounts = accounts_of(simulator, "one", one={"file": str(token)})
    with clock_at(f"{DAY}T10:00") as clock:
        run(config_of(tmp_path / "data", simulator, INDICES, accounts=accounts), simulator, clock, scenario)
    assert committed_rows(tmp_path / "data") == sent() > 0


# Real processes


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
