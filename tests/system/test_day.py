"""A day of the service: as a whole and by single sessions, by a clock that the test drives."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

import kitelake
from kitelake.cli import app as cli
from kitelake.report import Report, read_record
from kitelake.report.text import summary
from kitelake.telemetry.status import ServiceStatus
from storage.files import DataFile
from storage.schema import TICKS
from storage.tables.table import LakeTable
from storage.upkeep.compact import loose_files
from tests.support.one_day import (
    CANARY,
    DAY,
    INDICES,
    accounts_of,
    events,
    open_sockets,
    sent,
    simulator,
    status,
    until,
)
from tests.support.running import committed_rows
from tests.support.schedule import Clock, Trial, clock_at, config_of, ist, lively, run
from tests.support.simulation import Simulation
from tests.support.webhook import Webhook

__all__ = ["sent", "simulator"]  # the fixtures

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),  # Apprise's import of it
]

OPTIONS: Final = {
    "name": "options",
    "mode": "quote",
    "select": {"underlying": "NSE:NIFTY 50", "expiries": 1, "strikes": {"around": "spot", "count": 2}},
    "every": "1h",
}
PATIENT: Final = {"backoff_initial_seconds": 0.1, "slow_retry_seconds": 0.5, "liveness_seconds": 1e6}
"""Settings of `capture` for a clock that passes hours at once: no connection counts as dead for that."""


def is_reported(data: Path) -> bool:
    record = read_record(data, DAY)
    return record is not None and record.reported_at is not None


def is_sealed_day(data: Path) -> bool:
    """Whether every partition of the day's ticks is sealed."""
    partitions: dict[str, list[DataFile]] = {}
    for file in LakeTable(data / "ticks", TICKS).open().snapshot().entries:
        if file.values["date"] == DAY.isoformat():
            partitions.setdefault(file.values["exchange"], []).append(file)
    return bool(partitions) and not any(map(loose_files, partitions.values()))


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
            "seal hours": "10:50",
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
    assert {name for name, outcome in done.items() if outcome == "done"} >= {
        "check tokens",
        "end of day",
        "seal",
        "seal hours",
    }
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
