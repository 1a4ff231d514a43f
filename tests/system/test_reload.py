"""One running service, whose config.yaml changes all the time: a good change changes the difference, a bad one nothing.

The tests of this file share the service. Each begins by giving it a configuration.
"""

import asyncio
import contextlib
import datetime as dt
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import pytest

from kitelake.accounts.checks import TokenCheck
from kitelake.config.config import Config, load_config
from kitelake.processes.source import Source
from kitelake.service.service import Service
from storage.clock import IST
from storage.datafolder import hold
from tests.support.broker import Broker, Handler, broker, plain
from tests.support.reloading import KEPT, Shared, shared
from tests.support.waiting import PATIENCE_SECONDS, until
from tests.support.webhook import Webhook

__all__ = ["broker", "shared"]  # the fixtures

pytestmark = [
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),  # Apprise's import of it
]

OLD: Final = {"name": "old", "mode": "quote", "select": {"exchange": "MCX"}}
NEW: Final = {"name": "new", "mode": "ltp", "instruments": ["NSE:NIFTY 50", "NSE:HDFCBANK", "NSE:GONE"]}


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
