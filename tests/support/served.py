"""A small day that is served: what tests ask of its server and clients, and what came of that."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from kitelake.replay.server import ReplayServer
from tests.support.hand_made import HandMade
from tests.support.replaying import FIRST, INFY, ScriptedBroker, replaying
from tests.support.simulation import values_of
from tests.support.simulator_client import Client
from tests.support.waiting import PATIENCE_SECONDS

SECONDS = 120
FIRST_US = int(FIRST.timestamp()) * 1_000_000


@contextlib.asynccontextmanager
async def replay(made: HandMade, **settings: Any) -> AsyncIterator[ReplayServer]:
    async with replaying(made.layout.root, **settings) as server:
        yield server


async def subscribe(one: Client, made: HandMade, mode: str = "full", *symbols: str) -> list[int]:
    tokens = [made.tokens[symbol] for symbol in symbols or made.tokens]
    await one.ask("subscribe", tokens)
    await one.ask("mode", [mode, tokens])
    return tokens


async def ended(server: ReplayServer, *clients: Client) -> None:
    """The day is over, and all that was sent has come."""
    await asyncio.wait_for(server.ended.wait(), PATIENCE_SECONDS)
    for one in clients:
        await asyncio.wait_for(await one.socket.ping(), PATIENCE_SECONDS)


def seconds_of(one: Client, made: HandMade, symbol: str = INFY) -> list[int]:
    """The numbers of the seconds whose packets of an instrument came."""
    values = [values_of(packet) for packet in one.packets()]
    return [value["last_price"] // 100 - 100 for value in values if value["instrument_token"] == made.tokens[symbol]]


def broker_of(server: ReplayServer) -> ScriptedBroker:
    assert isinstance(server.broker, ScriptedBroker)
    return server.broker


def at(second: float) -> int:
    return FIRST_US + round(second * 1_000_000)
