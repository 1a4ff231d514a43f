"""What a replay is to those who come: accounts of anybody, and the day's REST calls that need no paper broker."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from ingest.server.record import RecordKind, read_record
from tests.support.hand_made import HandMade
from tests.support.replaying import a_day, paper_address, replaying
from tests.support.simulator_client import client, fault
from tests.support.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.slow  # days are captured for them

VERSION = {"X-Kite-Version": "3"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> HandMade:
    return a_day(tmp_path_factory.mktemp("replayed"))


async def test_anybody_may_come_and_no_key_or_token_is_kept(made: HandMade, tmp_path: Path) -> None:
    key, token = "kite-key-of-mine", "kite-token-of-mine"
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(replaying(made.layout.root, wait_for_clients=1, record=tmp_path))
        one = await stack.enter_async_context(client(paper_address(server, key, token)))
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, verify=False))
        await one.ask("subscribe", list(made.tokens.values()))
        await asyncio.wait_for(server.ended.wait(), PATIENCE_SECONDS)
        await asyncio.wait_for(await one.socket.ping(), PATIENCE_SECONDS)
        headers = {**VERSION, "Authorization": f"token {key}:another"}
        profile = (await http.get(f"{server.urls['api']}/user/profile", headers=headers)).json()["data"]
        everything = repr([server.stats(), server.status(), list(server.accounts), profile, vars(server.accounts)])
        assert key not in everything
        assert token not in everything
        (label,) = {each["account"] for each in server.stats()["connections"]}
        assert label.startswith("paper-")
        assert len(label) == len("paper-") + 6
        assert profile["user_name"] == label
    recorded = (tmp_path / "frames.bin").read_bytes()
    assert key.encode() not in recorded
    packets = [record for record in read_record(tmp_path) if record.kind is RecordKind.PACKETS]
    assert b"".join(record.payload for record in packets) == b"".join(frame for frame in one.frames if len(frame) > 1)


async def test_who_brings_nothing_is_refused_and_so_is_a_fourth_connection(made: HandMade) -> None:
    async with replaying(made.layout.root, paused=True) as server, contextlib.AsyncExitStack() as stack:
        for address in (paper_address(server, ""), paper_address(server, "any", "")):
            with pytest.raises(InvalidStatus) as refusal:
                await connect(address, proxy=None)
            assert refusal.value.response.status_code == 403
        for _ in range(3):
            await stack.enter_async_context(client(paper_address(server)))
        with pytest.raises(InvalidStatus) as refusal:
            await connect(paper_address(server), proxy=None)
        assert refusal.value.response.status_code == 429


async def test_named_accounts_keep_others_out(made: HandMade) -> None:
    accounts = [{"name": "mine", "api_key": "k", "access_token": "t"}]
    async with replaying(made.layout.root, paused=True, accounts=accounts) as server:
        with pytest.raises(InvalidStatus):
            await connect(paper_address(server, "k", "other"), proxy=None)
        with pytest.raises(InvalidStatus):
            await connect(paper_address(server, "other", "t"), proxy=None)
        async with client(paper_address(server, "k", "t")) as one:
            await until(lambda: one.texts)
            assert server.status()["clients"][0]["name"] == "mine/1"


async def test_the_official_rest_client_logs_in_with_anything(made: HandMade) -> None:
    kiteconnect = pytest.importorskip("kiteconnect")

    def call(root: str) -> tuple[Any, Any, Any]:
        kite = kiteconnect.KiteConnect("a-key", root=root)
        session = kite.generate_session("a-request-token", "a-secret")
        kite.set_access_token(session["access_token"])
        return session, kite.profile(), kite.instruments("NSE")

    async with replaying(made.layout.root, paused=True) as server:
        session, profile, instruments = await asyncio.to_thread(call, server.urls["api"])
        assert session["api_key"] == "a-key"
        assert session["user_id"] == profile["user_id"]
        assert {each["instrument_token"] for each in instruments} == set(made.tokens.values())


async def test_a_replaced_token_keeps_the_old_one_out(made: HandMade) -> None:
    """As a strategy's own handling of a lapsed login is tested."""
    async with replaying(made.layout.root, paused=True) as server:
        async with client(paper_address(server)) as one:
            await until(lambda: one.texts)
            label = server.status()["clients"][0]["name"].partition("/")[0]
        await fault(server, "token", account=label, access_token="newer")
        with pytest.raises(InvalidStatus) as refusal:
            await connect(paper_address(server), proxy=None)
        assert refusal.value.response.status_code == 403
        async with client(paper_address(server, "any", "newer")) as one:
            await until(lambda: one.texts)
