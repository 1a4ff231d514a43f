"""A running service that tests share, whose config.yaml they change."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
import yaml

from kitelake.config.config import load_config
from kitelake.processes.source import Source
from kitelake.service.service import Service
from storage.datafolder import hold
from storage.layout import DataLayout
from tests.support.schedule import clock_at, lively
from tests.support.simulation import Simulation, simulation
from tests.support.waiting import PATIENCE_SECONDS, until

KEPT: Final = {"name": "kept", "mode": "full", "instruments": ["NSE:INFY", "NSE:RELIANCE"]}


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
