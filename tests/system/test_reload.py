"""One running service, whose files change all the time: a good change changes the difference, a bad one nothing.

The tests of this file share the service. Each begins by giving it a configuration.
"""

import asyncio
import contextlib
import datetime as dt
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import pytest_asyncio
import yaml

from ingest.connection.stats import Health, Status
from ingest.instruments.listing import Instruments
from kitelake.accounts.checks import TokenCheck
from kitelake.cli import app as cli
from kitelake.config.config import Config, load_config
from kitelake.processes.source import Source
from kitelake.service.service import Service
from storage.clock import IST
from storage.datafolder import hold
from storage.layout import DataLayout
from tests.support.broker import Broker, Handler, broker, plain
from tests.support.schedule import clock_at, lively
from tests.support.simulation import Simulation, simulation
from tests.support.waiting import PATIENCE_SECONDS, until
from tests.support.webhook import Webhook

pytestmark = [
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),  # Apprise's import of it
]

__all__ = ["broker"]  # the fixture

CANARY: Final = "canary-7f3a9c"
KEPT: Final = {"name": "kept", "mode": "full", "instruments": ["NSE:INFY", "NSE:RELIANCE"]}
OLD: Final = {"name": "old", "mode": "quote", "select": {"exchange": "MCX"}}
NEW: Final = {"name": "new", "mode": "ltp", "instruments": ["NSE:NIFTY 50", "NSE:HDFCBANK", "NSE:GONE"]}


class Shared:
    """The service, its config.yaml, and the simulator that it captures from."""

    def __init__(self, folder: Path, simulator: Simulation, layout: DataLayout) -> None:
        self.path = folder / "config.yaml"
        self.simulator = simulator
        self.accounts = [
            {"name": one.name, "api_key": one.api_key, "access_token": one.access_token}
            for one in (simulator.account("one"), simulator.account("two"))
        ]
        self.write(KEPT)
        source = Source(simulator.ws, simulator.api)
        self.service = Service(load_config(self.path), source, layout, config_path=self.path)

    def write(self, *lists: dict[str, Any], **changes: Any) -> None:
        """Write config.yaml with these lists; `changes` are other sections."""
        document = {
            "data": "data",
            "kite": {"ws": self.simulator.ws, "api": self.simulator.api},
            "accounts": self.accounts,
            "subscriptions": list(lists),
            "calendar": {"always_open": True},
            "log": {"level": "error"},
        }
        self.path.write_text(yaml.safe_dump(document | changes))

    async def configure(self, *lists: dict[str, Any], **changes: Any) -> None:
        """Write it, and wait until it has been read and is in force."""
        self.write(*lists, **changes)
        await self.service.reload()
        assert self.service.problems.refused is None

    @property
    def refused(self) -> str:
        """Why config.yaml is not in force; "": it is."""
        return str(self.service.problems.refused or "")

    @property
    def problems(self) -> tuple[str, ...]:
        return self.service.status().problems

    async def subscribed(self, count: int) -> set[tuple[str, int]]:
        """The connections that are open, once they have so many instruments in all."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                stats = await asyncio.to_thread(self.simulator.stats)
                there = {
                    (one["account"], one["connection"]): one["subscribed"]
                    for one in stats["connections"]
                    if one["open"]
                }
                if sum(there.values()) == count:
                    return {slot for slot, subscribed in there.items() if subscribed}
                await asyncio.sleep(0.02)

    def sockets(self) -> dict[tuple[str, int], bool]:
        """Every connection that there has been so far, and whether it is open."""
        connections = self.simulator.stats()["connections"]
        return {(one["account"], one["connection"]): one["open"] for one in connections}

    async def problem(self, said: str) -> str:
        """The problem in the status that says so, once it is there."""
        await until(lambda: any(said in problem for problem in self.problems))
        (found,) = [problem for problem in self.problems if said in problem]
        return found

    async def grows(self) -> None:
        """More is captured than now."""
        before = self.service.progress().packets
        await until(lambda: self.service.progress().packets > before)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shared]:
    folder = tmp_path_factory.mktemp("service")
    with (
        simulation(instruments=600, rate=20) as simulator,
        clock_at("2026-11-09T10:00"),
        lively(),
        hold(folder / "data", "kite") as layout,
    ):
        one = Shared(folder, simulator, layout)
        stop = asyncio.Event()
        running = asyncio.create_task(one.service.run(stop))
        try:
            await until(lambda: one.service.progress().packets > 0)
            yield one
        finally:
            stop.set()
            await running


async def test_a_new_meaning_of_the_lists_changes_only_the_difference(shared: Shared) -> None:
    """What is gone is unsubscribed, what is new is streamed, and no socket is closed or opened for it."""
    service = shared.service
    await shared.configure(KEPT, OLD)
    await until(lambda: [plan.name for plan in service.cycle.reconciler.on] == ["kept", "old"])
    before = await shared.subscribed(service.progress().instruments)
    sockets = shared.sockets()
    kept = service.today.lists["kept"]
    await shared.configure(KEPT, NEW)
    assert await shared.subscribed(4) <= before
    after = shared.sockets()
    assert after.keys() == sockets.keys()
    assert all(after[slot] for slot in before)
    assert list(service.today.lists) == ["kept", "new"]
    assert service.today.lists["kept"].tokens == kept.tokens
    assert service.today.lists["new"].missing == ("NSE:GONE",)
    assert any("NSE:GONE" in problem for problem in shared.problems)


async def test_a_list_streams_as_it_was_until_a_slow_server_has_said_what_it_means_now(
    shared: Shared, broker: Broker
) -> None:
    answer = threading.Event()

    def slow(handler: Handler) -> None:
        answer.wait(PATIENCE_SECONDS)
        plain(b"NSE:HDFCBANK\n")(handler)

    broker.answer = slow
    await shared.configure(KEPT, OLD)
    sockets = await shared.subscribed(shared.service.progress().instruments)
    reconciler = shared.service.cycle.reconciler
    shared.write({"name": "kept", "url": f"{broker.url}/list"})
    reload = asyncio.create_task(shared.service.reload())
    try:
        await until(lambda: broker.calls)
        assert [plan.name for plan in reconciler.on] == ["kept"], "the other one has gone"
        await shared.service.cycle.reconcile()
        assert shared.service.progress().instruments == 2
        await shared.grows()
        assert await shared.subscribed(2) <= sockets
    finally:
        answer.set()
        await reload
    assert await shared.subscribed(1) <= sockets


async def test_a_changed_list_waits_for_no_slow_check_of_a_new_account(shared: Shared) -> None:
    await shared.configure(KEPT, accounts=shared.accounts[:1])
    go_on, account_set = asyncio.Event(), shared.service.account_set
    check = account_set.check

    async def slow() -> Mapping[str, TokenCheck]:
        await go_on.wait()
        return await check()

    with patch.object(account_set, "check", slow):
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await shared.configure(KEPT, NEW)
            await shared.subscribed(4)
            assert "two" not in account_set.states
        finally:
            go_on.set()
        await until(lambda: account_set.states.get("two", "").startswith("good"))


async def test_a_change_of_the_file_is_noticed_and_a_bad_one_refused(shared: Shared) -> None:
    with contextlib.closing(Webhook()) as webhook:
        target = {"url": f"json://127.0.0.1:{webhook.server.server_port}/", "about": ["problems"]}
        await shared.configure(KEPT, notifications=[target])
        await shared.subscribed(2)
        in_force = shared.service.config
        shared.path.write_text("accounts: nonsense")
        await until(lambda: shared.refused)
        assert shared.service.config == in_force
        assert "config.yaml" in shared.refused
        await until(lambda: webhook.posts)
        assert [post["title"] for post in webhook.posts] == ["Kitelake: config.yaml is not usable"]
        shared.write(KEPT, NEW)
        await shared.subscribed(4)
        assert not shared.refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"calendar": {"hours": []}}, "calendar.hours: expected keys with values"),
        ({"calendar": {"file": "nowhere.csv"}}, "nowhere.csv: the calendar's file cannot be read"),
        ({"schedule": {"plan_at": "noon"}}, "schedule.plan_at: expected a time of day"),
        ({"notifications": [{"url": {"env": "KITELAKE_TEST_NOT_SET"}}]}, "notifications[0].url: the environment"),
        ({"login": {"port": 0}}, "login.port: must be greater than"),
        ({"subscriptions": [{"name": "x"}]}, "subscriptions[0]: expected either `instruments`"),
        ({"accounts": [{"name": "one", "api_key": {"env": 5}}]}, "accounts[0].api_key: expected {env: NAME}"),
        ({"subscription": []}, "subscription: unknown key"),
    ],
)
async def test_a_config_that_turns_bad_is_refused_as_a_whole_whatever_is_wrong_with_it(
    shared: Shared, changes: dict[str, Any], said: str
) -> None:
    await shared.configure(KEPT)
    in_force = shared.service.config
    shared.write(NEW, **changes)
    await shared.service.reload()
    assert said in shared.refused
    assert shared.service.config == in_force
    assert any(problem.startswith("config.yaml is not usable") and said in problem for problem in shared.problems)
    await shared.subscribed(2)
    await shared.grows()
    await shared.configure(KEPT)
    assert not shared.problems


async def test_whoever_asks_for_a_reload_waits_until_it_is_done_and_many_are_one(shared: Shared) -> None:
    await shared.configure(KEPT)
    asked = [asyncio.create_task(shared.service.reload())]
    await asyncio.sleep(0)  # it has begun to read
    shared.write(KEPT, calendar={"hours": []})
    asked += [asyncio.create_task(shared.service.reload()) for _ in range(3)]
    done, _ = await asyncio.wait(asked[2:], return_when=asyncio.FIRST_COMPLETED)
    assert done
    assert "calendar.hours" in shared.refused  # whichever comes back first, what was written is read
    await asyncio.gather(*asked)
    await shared.configure(KEPT)


async def test_a_reload_that_goes_on_ends_with_the_service(shared: Shared, tmp_path: Path) -> None:
    reading, go_on = threading.Event(), threading.Event()

    def slow(path: Path, before: Config) -> tuple[Config, list[str]]:
        reading.set()
        go_on.wait(PATIENCE_SECONDS)
        return before, []

    def asked() -> bool:
        service.reload_soon()
        return reading.is_set()

    with hold(tmp_path / "data", "kite") as layout, patch("kitelake.service.service.reread", slow):
        source = Source(shared.simulator.ws, shared.simulator.api)
        one = Shared(tmp_path, shared.simulator, layout)
        service = Service(load_config(one.path), source, layout, config_path=one.path, until=dt.datetime.now(IST))
        stop = asyncio.Event()
        running = asyncio.create_task(service.run(stop))
        try:
            await until(asked)
            stop.set()
            await running
            service.reload_soon()
            assert not [task for task in asyncio.all_tasks() if "Service.reload" in repr(task.get_coro())]
        finally:
            go_on.set()


async def test_an_account_comes_and_goes_with_a_changed_file_and_many_signals_at_once(shared: Shared) -> None:
    """An editor saves, and an operator reloads: the file is seen to change while a signal's reload goes on."""
    both = shared.accounts
    try:
        for accounts in (both[:1], both, both[1:], both):
            shared.write(KEPT, accounts=accounts)
            await asyncio.gather(*(shared.service.reload() for _ in range(10)))
            names = [one["name"] for one in accounts]
            assert {account for account, _ in await shared.subscribed(2)} <= set(names)
            assert {one.account for one in shared.service.status().connections} <= set(names)
            assert [one.name for one in shared.service.status().accounts] == names
            await shared.grows()
        assert not shared.problems
    finally:
        await shared.configure(KEPT)


async def test_a_look_that_fails_is_in_the_status_until_it_succeeds(shared: Shared) -> None:
    await shared.configure(KEPT)
    token = shared.service.account_set.accounts[0].access_token.get_secret_value()
    failure = RuntimeError(f"a fault of ours, with token={token}")
    text = "a look at the service fails and is tried again: RuntimeError: a fault of ours, with token=***"
    with patch("kitelake.service.service.reread", side_effect=failure):
        shared.path.touch()
        await until(lambda: shared.problems)
        assert shared.problems == (text,)
    shared.path.touch()
    await until(lambda: not shared.problems)


async def test_the_status_says_how_old_an_instrument_list_is_that_serves_for_want_of_the_days_own(
    shared: Shared,
) -> None:
    await shared.configure(KEPT, instruments={"fetch_at": "00:00"})
    assert not shared.problems
    listed = shared.service.today.instruments
    assert listed is not None
    before = pc.subtract(listed.table["date"], pa.scalar(3 * 86_400, pa.duration("s"))).cast(pa.date32())
    older = listed.table.set_column(listed.table.schema.get_field_index("date"), "date", before)
    with patch.object(shared.service.today, "instruments", Instruments(older)):
        problem = "".join(shared.problems)
        assert problem.startswith("the instrument list is 3 days old, of ")
    assert not shared.problems


async def test_an_instrument_list_that_does_not_come_leaves_the_one_before_in_force(shared: Shared) -> None:
    """It is tried again in 5 minutes, also if config.yaml is read again meanwhile, and a person is told."""
    service = shared.service
    with contextlib.closing(Webhook()) as webhook:
        target = {"url": f"json://127.0.0.1:{webhook.server.server_port}/"}
        await shared.configure(KEPT, notifications=[target])
        in_force = service.today.instruments
        assert in_force is not None
        shared.simulator.fault("rest", path="/instruments", status=503, seconds=600)
        now = dt.datetime.now(IST)
        await service.cycle.fetch_instruments()
        assert service.today.instruments is in_force
        await service.reload()
        (again,) = [job for job in service.status().jobs if job.name == "fetch again"]
        assert again.next_at is not None
        assert dt.timedelta(minutes=5) <= again.next_at - now <= dt.datetime.now(IST) - now + dt.timedelta(minutes=5)
        assert service.today.instruments is in_force
        await until(lambda: webhook.posts)
        assert [post["title"] for post in webhook.posts] == ["Kitelake: the day's instrument list was not fetched"]
        await shared.grows()
        shared.simulator.fault("clear")
        await service.cycle.fetch_instruments()
        assert service.today.instruments is not in_force
        await shared.grows()


async def test_a_list_file_that_turns_bad_while_it_is_captured_goes_on_as_it_was(
    shared: Shared, tmp_path: Path
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("NSE:INFY\nNSE:RELIANCE\n")
    await shared.configure({"name": "mine", "mode": "full", "file": str(names)})
    await shared.subscribed(2)
    for content, said in (
        (b"", "it names no instrument"),
        (b"a,b\n", "the columns are a, b"),
        (b"\xff", "not UTF-8"),
    ):
        names.write_bytes(content)
        assert (await shared.problem(said)).endswith("; what it meant before goes on")
        await shared.subscribed(2)
    names.unlink()
    await shared.problem("No such file")
    await shared.grows()
    names.write_text("NSE:INFY\nNSE:RELIANCE\nNSE:HDFCBANK\n")
    await shared.subscribed(3)
    assert not shared.problems


async def test_a_calendar_file_that_is_out_of_date_is_a_problem_and_one_that_turns_bad_is_refused(
    shared: Shared, tmp_path: Path
) -> None:
    special = tmp_path / "special.csv"
    header = "date,exchanges,hours,note\n"
    special.write_text(header + "2024-11-01,,18:00-19:15,Muhurat\n")
    await shared.configure(KEPT, calendar={"file": str(special)})
    day = dt.date(2026, 1, 2)

    def out_of_date() -> bool:
        return any("it may be out of date" in problem for problem in shared.problems)

    assert out_of_date()
    special.write_text(header + "2026-01-02,NSE,closed,\n")
    await until(lambda: not out_of_date())
    assert not shared.refused
    special.write_text(header + f"2026-01-02,{CANARY},closed,\n")
    await until(lambda: shared.refused)
    assert "special.csv: line 2: exchanges: expected one or several of NSE" in shared.refused
    assert CANARY not in shared.service.status().model_dump_json()
    assert shared.service.today.calendar.day("NSE", day).why == "special.csv: closed"
    special.write_text(header + "2026-01-02,NSE,open,\n")
    await until(lambda: not shared.refused)
    assert shared.service.today.calendar.day("NSE", day).why == "special.csv: open"


@pytest.mark.parametrize(
    ("symbols", "status", "exit_status"),
    [(["NSE:GONE"], Status.CRITICAL, 1), (["NSE:GONE", "NSE:INFY"], Status.DEGRADED, 0)],
)
async def test_a_list_that_means_nothing_in_its_hours_is_unhealthy(
    shared: Shared, monkeypatch: pytest.MonkeyPatch, symbols: list[str], status: Status, exit_status: int
) -> None:
    await shared.configure(
        *({"name": name, "instruments": [symbol]} for name, symbol in zip("ab", symbols, strict=False))
    )
    percent = 0.0 if status is Status.CRITICAL else 100.0
    expected = Health(status, percent, ("list a is in its hours, and no instrument is found for it",))
    await until(lambda: shared.service.health() == expected)
    monkeypatch.setattr(sys, "argv", ["kitelake", "status", "--config", str(shared.path)])
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await asyncio.to_thread(cli.run_command) != exit_status:  # the file is written at the next look
            await asyncio.sleep(0.1)
