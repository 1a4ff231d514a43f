"""What turns bad while the service runs: lists, addresses, config.yaml, tokens, the clock. The rest goes on."""

import asyncio
import contextlib
import datetime as dt
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest
import time_machine
import yaml
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from ingest.instruments.listing import Instruments, parse_instruments
from ingest.wire import Mode
from kitelake.config.config import load_config
from kitelake.config.subscriptions import SubscriptionList
from kitelake.plan.plan import ListPlan
from kitelake.plan.resolver import Resolver
from kitelake.processes.source import Source
from kitelake.schedule.jobs import ClockWatch, Entry, set_jobs
from kitelake.service.runner import capture
from kitelake.service.service import Service
from storage.clock import IST
from storage.layout import DataLayout
from tests.kitelake.plan.test_instrument_store import Answer, Broker, Handler, broker, failing, nothing, plain
from tests.kitelake.plan.test_plan import CSV, INFY, RELIANCE
from tests.kitelake.service.test_service import KEPT, Market, run, until, write
from tests.kitelake.telemetry.test_notify import Webhook
from tests.support.simulation import simulation

__all__ = ["broker"]  # the fixture

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise's import of it

CANARY: Final = "canary-7f3a9c"


# Lists that cannot be read


@pytest.fixture(scope="module")
def instruments() -> Instruments:
    return Instruments(parse_instruments(CSV, date=dt.date(2026, 11, 23)))


def unreadable(folder: Path, kind: str) -> Path:
    path = folder / kind
    content = {"empty": b"", "malformed": b"company,isin\nInfosys,INE\n", "binary": b"NSE:INFY\n\xff\xfe\n"}
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(content[kind])
    return path


async def resolved(
    folder: Path, instruments: Instruments, *specs: dict[str, Any], before: dict[str, ListPlan] | None = None
) -> dict[str, ListPlan]:
    """The specs, between two lists that are good."""
    whole = [{"name": "first", "instruments": ["NSE:INFY"]}, *specs, {"name": "last", "select": {"names": "NIFTY"}}]
    plans = await Resolver(DataLayout(folder / "data"), online=True).resolve(
        [SubscriptionList.model_validate(spec) for spec in whole],
        instruments,
        default_mode=Mode.QUOTE,
        before=before,
    )
    found = {plan.name: plan for plan in plans}
    assert found["first"].tokens == (INFY,)
    assert len(found["last"].tokens) == 5
    assert not found["first"].problems
    assert not found["last"].problems
    return found


UNREADABLE: Final = {
    "missing": "cannot be read: No such file or directory",
    "empty": "it names no instrument; expected UTF-8 text",
    "malformed": ", line 1: the columns are company, isin; expected UTF-8 text: CSV with a column symbol",
    "binary": ", line 2: this is not UTF-8",
    "folder": "cannot be read: Is a directory",
}


@pytest.mark.parametrize("kind", UNREADABLE)
async def test_a_file_that_cannot_be_read_costs_its_own_list_alone(
    tmp_path: Path, instruments: Instruments, kind: str
) -> None:
    path = unreadable(tmp_path, kind)
    plan = (await resolved(tmp_path, instruments, {"name": "bad", "file": path}))["bad"]
    assert plan.tokens == ()
    (problem,) = plan.problems
    assert problem.startswith(str(path))
    assert UNREADABLE[kind] in problem


@pytest.mark.parametrize("kind", UNREADABLE)
async def test_a_file_that_becomes_bad_keeps_what_it_meant(tmp_path: Path, instruments: Instruments, kind: str) -> None:
    path = tmp_path / kind
    path.write_text("NSE:INFY\nNSE:RELIANCE\n")
    spec = {"name": "bad", "file": path}
    before = await resolved(tmp_path, instruments, spec)
    assert before["bad"].tokens == (INFY, RELIANCE)
    path.unlink()
    unreadable(tmp_path, kind)
    after = (await resolved(tmp_path, instruments, spec, before=before))["bad"]
    assert after.tokens == (INFY, RELIANCE)
    (problem,) = after.problems
    assert UNREADABLE[kind] in problem
    assert problem.endswith("; what it meant before goes on")
    again = (await resolved(tmp_path, instruments, spec, before={"bad": after}))["bad"]
    assert again == after  # the problem is not said twice


ANSWERS: Final[list[tuple[Answer, str]]] = [
    (failing, ": it answered 500, expected 200; there is no copy"),
    (plain(b"<!DOCTYPE html><p>NSE:INFY"), ": this is a web page; expected UTF-8 text"),
    (plain(b""), ": it names no instrument"),
    (nothing, ": the call failed: RemoteProtocolError"),
]


@pytest.mark.parametrize(("answer", "said"), ANSWERS)
async def test_an_address_that_answers_badly_costs_its_own_list_alone(
    tmp_path: Path, instruments: Instruments, broker: Broker, answer: Answer, said: str
) -> None:
    broker.answer = answer
    spec = {"name": "bad", "url": f"{broker.url}/list?key={CANARY}"}
    plan = (await resolved(tmp_path, instruments, spec))["bad"]
    assert plan.tokens == ()
    (problem,) = plan.problems
    assert problem.startswith("http://127.0.0.1")
    assert said in problem
    assert CANARY not in problem


@pytest.mark.parametrize(("answer", "said"), ANSWERS)
async def test_an_address_that_answers_badly_later_is_served_by_its_copy(
    tmp_path: Path, instruments: Instruments, broker: Broker, answer: Answer, said: str
) -> None:
    spec = {"name": "bad", "url": f"{broker.url}/list?key={CANARY}"}
    broker.answer = plain(b"symbol\nINFY\n")
    assert (await resolved(tmp_path, instruments, spec))["bad"].tokens == (INFY,)
    broker.answer = answer
    plan = (await resolved(tmp_path, instruments, spec))["bad"]  # also after a restart
    assert plan.tokens == (INFY,)
    (problem,) = plan.problems
    assert said.partition(";")[0] in problem
    assert problem.endswith(" serves")
    assert CANARY not in problem


# A clock that is set


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, set by hand: its first number."""
    seconds = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    return seconds


async def nothing_to_do() -> None: ...


@pytest.mark.parametrize(
    ("wall", "elapsed", "jump"),
    [
        (1, 1, 0.0),
        (2.5, 1, 0.0),  # a step of NTP
        (0.2, 1, 0.0),
        (3601, 1, 3600.0),
        (-3599, 1, -3600.0),
        (60, 60, 0.0),  # a look that came late
        (61.5, 60, 0.0),
    ],
)
async def test_a_clock_that_jumps_is_noticed_once(
    monotonic: list[float], wall: float, elapsed: float, jump: float
) -> None:
    scheduler = AsyncIOScheduler(timezone=IST)
    scheduler.start(paused=True)
    with time_machine.travel(dt.datetime(2026, 11, 23, 10, tzinfo=IST), tick=False) as clock:
        watch = ClockWatch(scheduler)
        clock.shift(wall)
        monotonic[0] += elapsed
        assert watch.look() == pytest.approx(jump, abs=1e-6)
        assert watch.look() == 0.0
    scheduler.shutdown()


async def test_after_a_jump_back_the_next_run_of_each_job_is_right_again(monotonic: list[float]) -> None:
    """Else a daily job that was reckoned after the jump forward would leave out a day."""

    def daily(date: dt.date) -> list[dt.datetime]:
        return [dt.datetime.combine(date, dt.time(10, 30), IST)]

    scheduler = AsyncIOScheduler(timezone=IST)

    def next_run() -> str:
        return f"{scheduler.get_job('daily').next_run_time.astimezone(IST):%a %H:%M}"

    with time_machine.travel(dt.datetime(2026, 11, 23, 10, tzinfo=IST), tick=False) as clock:
        scheduler.start(paused=True)
        watch = ClockWatch(scheduler)
        clock.shift(3600)
        set_jobs(scheduler, [Entry("daily", nothing_to_do, daily)])
        retry = dt.datetime(2026, 11, 23, 11, 5, tzinfo=IST)
        scheduler.add_job(nothing_to_do, "date", run_date=retry, id="retry")
        assert watch.look() == pytest.approx(3600)
        assert next_run() == "Tue 10:30"
        clock.shift(-3600)
        assert watch.look() == pytest.approx(-3600)
        assert next_run() == "Mon 10:30"
        assert scheduler.get_job("retry").next_run_time == retry
    scheduler.shutdown()


async def test_jobs_that_are_set_anew_leave_a_retry_alone() -> None:
    def daily(date: dt.date) -> list[dt.datetime]:
        return [dt.datetime.combine(date, dt.time(10, 30), IST)]

    scheduler = AsyncIOScheduler(timezone=IST)
    scheduler.start(paused=True)
    set_jobs(scheduler, [Entry(name, nothing_to_do, daily) for name in ("old", "kept")])
    scheduler.add_job(nothing_to_do, "date", run_date=dt.datetime.now(IST) + dt.timedelta(minutes=5), id="retry")
    set_jobs(scheduler, [Entry(name, nothing_to_do, daily) for name in ("kept", "new")])
    assert sorted(job.id for job in scheduler.get_jobs()) == ["kept", "new", "retry"]
    scheduler.shutdown()


# The running service

PINNED: Final = {"name": "pinned", "mode": "ltp", "instruments": ["NSE:INFY", "NSE:RELIANCE"], "accounts": ["two"]}


def capture_with(
    folder: Path,
    act: Callable[[Service], Awaitable[None]],
    accounts: list[dict[str, Any]],
    *lists: dict[str, Any],
    **changes: Any,
) -> None:
    """Run a service by a config.yaml of its own while `act` acts."""
    path = folder / "config.yaml"
    document = {
        "data": "data",
        "accounts": accounts,
        "subscriptions": list(lists),
        "calendar": {"always_open": True},
        "log": {"level": "error"},
    }
    path.write_text(yaml.safe_dump(document | changes))

    async def watch(service: Service, _: Source, stop: asyncio.Event) -> None:
        await until((folder / "data" / "status.json").exists)
        await act(service)
        stop.set()

    capture(load_config(path), config_path=path, watch=watch)


async def grows(service: Service) -> None:
    """More is captured than now."""
    before = service.progress().packets
    await until(lambda: service.progress().packets > before)


def streamed_by(service: Service, account: str) -> int:
    return sum(each.instruments for each in service.status().connections if each.account == account)


async def problem_of(service: Service, said: str) -> str:
    """The problem in the service's status that says so, once it is there."""
    await until(lambda: any(said in problem for problem in service.status().problems))
    (found,) = [problem for problem in service.status().problems if said in problem]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda good: good.replace(b"tradingsymbol", b"symbol", 1), id="wrong columns"),
        pytest.param(lambda good: b"".join(good.splitlines(keepends=True)[:300]), id="half the rows"),
    ],
)
def test_an_instrument_list_that_cannot_be_leaves_the_one_before_in_force(
    tmp_path: Path, broker: Broker, spoil: Callable[[bytes], bytes]
) -> None:
    """It is tried again in 5 minutes, also if config.yaml is read anew meanwhile, and a person is told."""
    with simulation(instruments=600, rate=20) as simulator, contextlib.closing(Webhook()) as webhook:
        with urllib.request.urlopen(f"{simulator.api}/instruments", timeout=10) as answer:
            good = served = answer.read()

        def answering(handler: Handler) -> None:
            if handler.path.startswith("/instruments"):
                handler.send(served)
            else:
                handler.send(b'{"status":"success","data":{"user_id":"AB1234"}}')

        async def act(service: Service) -> None:
            nonlocal served
            await until(lambda: service.progress().packets > 0)
            in_force = service.desk.instruments
            assert in_force is not None
            assert len(in_force) == 600
            served = spoil(good)
            now = dt.datetime.now(IST)
            await service.fetch_instruments()
            assert service.desk.instruments is in_force
            await service.reload()
            (again,) = [job for job in service.status().jobs if job.name == "fetch again"]
            assert again.next_at is not None
            assert dt.timedelta(minutes=5) <= again.next_at - now < dt.timedelta(minutes=5, seconds=20)
            assert service.desk.instruments is in_force
            await until(lambda: bool(webhook.posts))
            assert [post["title"] for post in webhook.posts] == ["Kitelake: the day's instrument list was not fetched"]
            await grows(service)
            served = good
            await service.fetch_instruments()
            assert service.desk.instruments is not in_force
            await grows(service)

        broker.answer = answering
        account = simulator.account("two")
        capture_with(
            tmp_path,
            act,
            [{"name": "two", "api_key": account.api_key, "access_token": account.access_token}],
            PINNED,
            kite={"ws": simulator.ws, "api": broker.url},
            notifications=[{"url": f"json://127.0.0.1:{webhook.server.server_port}/"}],
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "said"),
    [
        (f"print('{CANARY}'); raise SystemExit(3)", "ended with status 3; run it by hand to see why"),
        ("import time; time.sleep(600)", None),
    ],
    ids=["fails", "hangs"],
)
def test_a_token_command_that_gives_none_leaves_the_other_account_capturing(
    tmp_path: Path, code: str, said: str | None
) -> None:
    with simulation(instruments=600, rate=20) as simulator:
        one, two = simulator.account("one"), simulator.account("two")

        async def act(service: Service) -> None:
            await until(lambda: service.progress().packets > 0)
            await grows(service)
            await until(lambda: streamed_by(service, "two") == 6)  # what was to be on the other one has moved
            status = service.status()
            assert {each.account for each in status.connections if each.packets} == {"two"}
            tokens = {account.name: account.token for account in status.accounts}
            if said is None:
                assert tokens == {"one": "not checked yet", "two": "not checked yet"}
            else:
                assert said in tokens["one"]
                assert tokens["two"].startswith("good, checked at ")
            assert CANARY not in status.model_dump_json()

        capture_with(
            tmp_path,
            act,
            [
                {"name": "one", "api_key": one.api_key, "access_token": {"command": [sys.executable, "-c", code]}},
                {"name": "two", "api_key": two.api_key, "access_token": two.access_token},
            ],
            PINNED,
            {"name": "anywhere", "instruments": ["NSE:HDFCBANK", "NSE:TCS", "NSE:ITC", "NSE:SBIN"]},
            kite={"ws": simulator.ws, "api": simulator.api},
        )


@pytest.mark.slow
def test_a_config_that_turns_bad_is_refused_as_a_whole_whatever_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write(path, KEPT)

    async def act(service: Service, market: Market) -> None:
        in_force = service.config
        for changes, said in (
            ({"calendar": {"hours": []}}, "calendar.hours: expected keys with values"),
            ({"calendar": {"file": "nowhere.csv"}}, "nowhere.csv: the calendar's file cannot be read"),
            ({"schedule": {"plan_at": "noon"}}, "schedule.plan_at: expected a time of day"),
            ({"notifications": [{"url": {"env": "KITELAKE_TEST_NOT_SET"}}]}, "notifications[0].url: the environment"),
            ({"login": {"port": 0}}, "login.port: must be greater than"),
            ({"subscriptions": [{"name": "x"}]}, "subscriptions[0]: expected either `instruments`"),
            ({"accounts": [{"name": "one", "api_key": {"env": 5}}]}, "accounts[0].api_key: expected {env: NAME}"),
        ):
            write(path, KEPT, **changes)
            await service.reload()
            assert said in str(service.refused)
            assert service.config is in_force
            assert any(said in problem for problem in service.status().problems)
        await market.subscribed(2)
        await grows(service)
        write(path, KEPT)
        await service.reload()
        assert service.refused is None

    run(path, act)


@pytest.mark.slow
def test_whoever_asks_for_a_reload_waits_until_it_is_done_and_many_are_one(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write(path, KEPT)

    async def act(service: Service, market: Market) -> None:
        asked = [asyncio.create_task(service.reload())]
        await asyncio.sleep(0)  # it has begun to read
        write(path, KEPT, calendar={"hours": []})
        asked += [asyncio.create_task(service.reload()) for _ in range(3)]
        done, _ = await asyncio.wait(asked[2:], return_when=asyncio.FIRST_COMPLETED)
        assert done
        assert "calendar.hours" in str(service.refused)  # whichever comes back first, what was written is read
        await asyncio.gather(*asked)
        write(path, KEPT)
        await service.reload()
        assert service.refused is None

    run(path, act)


@pytest.mark.slow
def test_a_list_file_that_turns_bad_while_it_is_captured_goes_on_as_it_was(tmp_path: Path) -> None:
    path, names = tmp_path / "config.yaml", tmp_path / "names.txt"
    names.write_text("NSE:INFY\nNSE:RELIANCE\n")
    write(path, {"name": "mine", "mode": "full", "file": str(names)})

    async def act(service: Service, market: Market) -> None:
        await market.subscribed(2)
        for content, said in (
            (b"", "it names no instrument"),
            (b"a,b\n", "the columns are a, b"),
            (b"\xff", "not UTF-8"),
        ):
            names.write_bytes(content)
            assert (await problem_of(service, said)).endswith("; what it meant before goes on")
            await market.subscribed(2)
        names.unlink()
        await problem_of(service, "No such file")
        await grows(service)
        names.write_text("NSE:INFY\nNSE:RELIANCE\nNSE:HDFCBANK\n")
        await market.subscribed(3)
        assert service.status().problems == ()

    run(path, act)


@pytest.mark.slow
def test_a_calendar_file_that_is_out_of_date_is_a_problem_and_one_that_turns_bad_is_refused(tmp_path: Path) -> None:
    special = tmp_path / "special.csv"
    header = "date,exchanges,hours,note\n"
    special.write_text(header + "2024-11-01,,18:00-19:15,Muhurat\n")
    year = dt.datetime.now(IST).year

    async def act(service: Service) -> None:
        def out_of_date() -> bool:
            return any("it may be out of date" in problem for problem in service.status().problems)

        assert out_of_date()
        special.write_text(header + f"{year}-01-02,NSE,closed,\n")
        await until(lambda: not out_of_date())
        assert service.refused is None
        special.write_text(header + f"{year}-01-02,{CANARY},closed,\n")
        await until(lambda: service.refused is not None)
        assert "special.csv: line 2: exchanges: expected one or several of NSE" in str(service.refused)
        assert CANARY not in service.status().model_dump_json()
        assert service.desk.calendar.day("NSE", dt.date(year, 1, 2)).why == "special.csv: closed"
        special.write_text(header + f"{year}-01-02,NSE,open,\n")
        await until(lambda: service.refused is None)
        assert service.desk.calendar.day("NSE", dt.date(year, 1, 2)).why == "special.csv: open"

    nowhere = {"ws": "ws://127.0.0.1:1", "api": "http://127.0.0.1:1"}
    accounts = [{"name": "one", "api_key": "key-1", "access_token": "token-1"}]
    capture_with(tmp_path, act, accounts, KEPT, kite=nowhere, calendar={"file": str(special)})
