"""The running service: another meaning of the lists changes only the difference, a bad one changes nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from ingest.instruments.listing import Instruments
from kitelake.cli.capture import shipped_config
from kitelake.config.config import load_config
from kitelake.processes.source import Source
from kitelake.service.runner import capture
from kitelake.service.service import Service

pytestmark = pytest.mark.slow

KEPT = {"name": "kept", "mode": "full", "instruments": ["NSE:INFY", "NSE:RELIANCE"]}
OLD = {"name": "old", "mode": "quote", "select": {"exchange": "MCX"}}
NEW = {"name": "new", "mode": "ltp", "instruments": ["NSE:NIFTY 50", "NSE:HDFCBANK", "NSE:GONE"]}


class Market:
    """What the simulator says of the subscriptions of its clients."""

    def __init__(self, source: Source) -> None:
        self._stats = f"{source.control}/stats"

    async def subscribed(self, count: int) -> list[dict[str, Any]]:
        """The connections, once they have so many instruments in all."""
        async with asyncio.timeout(20), httpx.AsyncClient(trust_env=False) as client:
            while True:
                connections: list[dict[str, Any]] = (await client.get(self._stats)).json()["connections"]
                if sum(one["subscribed"] for one in connections) == count:
                    return connections
                await asyncio.sleep(0.05)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.05)


def write(path: Path, *lists: dict[str, Any], **changes: Any) -> None:
    settings = yaml.safe_load(shipped_config())
    settings["simulator"] |= {"instruments": 600, "rate": 10}
    settings["subscriptions"] = list(lists)
    path.write_text(yaml.safe_dump(settings | {"log": {"level": "warning"}} | changes))


def run(path: Path, act: Callable[[Service, Market], Awaitable[None]]) -> None:
    """A service by this file; when the first instruments are streamed, `act`, and stop."""

    async def watch(service: Service, source: Source, stop: asyncio.Event) -> None:
        await until(lambda: service.progress().instruments > 0)
        await act(service, Market(source))
        stop.set()

    capture(load_config(path), config_path=path, watch=watch)


def test_a_new_meaning_of_the_lists_changes_only_the_difference(tmp_path: Path) -> None:
    """What is gone is unsubscribed, what is new is streamed, and no socket is closed or opened for it."""
    path = tmp_path / "config.yaml"
    write(path, KEPT, OLD)

    async def act(service: Service, market: Market) -> None:
        await until(lambda: [plan.name for plan in service.streamer.on] == ["kept", "old"])  # they start one by one
        before = await market.subscribed(service.progress().instruments)
        kept = service.desk.lists["kept"]
        write(path, KEPT, NEW)
        await service.reload()
        after = await market.subscribed(4)
        assert len(before) == len(after)
        assert list(service.desk.lists) == ["kept", "new"]
        assert service.desk.lists["kept"].tokens == kept.tokens
        assert service.desk.lists["new"].missing == ("NSE:GONE",)
        assert any("NSE:GONE" in problem for problem in service.status().problems)

    run(path, act)


def test_a_change_of_the_file_is_noticed_and_a_bad_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write(path, KEPT)

    async def act(service: Service, market: Market) -> None:
        await market.subscribed(2)
        in_force = service.config
        path.write_text("accounts: nonsense")
        await until(lambda: service.refused is not None)
        assert service.config is in_force
        assert "config.yaml" in str(service.refused)
        write(path, KEPT, NEW)
        await market.subscribed(4)
        assert service.refused is None

    run(path, act)


def test_a_look_that_fails_is_in_the_status_until_it_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write(path, KEPT)
    text = "a look at the service fails and is tried again: RuntimeError: a fault of ours, with token=***"

    async def act(service: Service, _market: Market) -> None:
        token = service.roster.accounts[0].access_token.get_secret_value()
        failure = RuntimeError(f"a fault of ours, with token={token}")
        with patch.object(service, "reload", side_effect=failure):
            path.touch()
            await until(lambda: len(service.status().problems) == 1)
            assert service.status().problems == (text,)
        path.touch()
        await until(lambda: not service.status().problems)

    run(path, act)


def test_the_status_says_how_old_an_instrument_list_is_that_serves_for_want_of_the_days_own(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write(path, KEPT, instruments={"fetch_at": "00:00"})

    async def act(service: Service, _market: Market) -> None:
        assert service.status().problems == ()
        assert service.desk.instruments is not None
        table = service.desk.instruments.table
        before = pc.subtract(table["date"], pa.scalar(3 * 86_400, pa.duration("s"))).cast(pa.date32())
        service.desk.instruments = Instruments(table.set_column(table.schema.get_field_index("date"), "date", before))
        (problem,) = service.status().problems
        assert problem.startswith("the instrument list is 3 days old, of ")

    run(path, act)


def test_an_account_comes_and_goes_with_the_file(tmp_path: Path) -> None:
    """The simulator knows both accounts from its start; the service uses one, both, and the other."""
    path = tmp_path / "config.yaml"
    two = yaml.safe_load(shipped_config())["accounts"]
    write(path, KEPT, accounts=two)

    async def act(service: Service, market: Market) -> None:
        for accounts in (two[:1], two, two[1:]):
            write(path, KEPT, accounts=accounts)
            await service.reload()
            await market.subscribed(2)
            assert {one.account for one in service.status().connections} <= {one["name"] for one in accounts}
            assert [one.name for one in service.status().accounts] == [one["name"] for one in accounts]

    run(path, act)
