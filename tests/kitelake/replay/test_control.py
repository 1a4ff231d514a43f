"""The control address of a replay, over HTTP."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.server import ControlError
from kitelake.replay.control import ist, parse_seek, parse_speed, shown_speed
from kitelake.replay.market_clock import MarketClock
from kitelake.replay.server import ReplayServer
from tests.support.hand_made import HandMade
from tests.support.replaying import FIRST, a_day, paper_address, replaying
from tests.support.simulator_client import client
from tests.support.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.slow  # days are captured for them

FIRST_US = int(FIRST.timestamp()) * 1_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> HandMade:
    return a_day(tmp_path_factory.mktemp("replayed"))


class Control:
    """The address, asked and told."""

    def __init__(self, server: ReplayServer, http: httpx.AsyncClient) -> None:
        self.server = server
        self.http = http

    async def status(self) -> dict[str, Any]:
        answer = await self.http.get("/status")
        assert answer.status_code == 200
        return answer.json()  # type: ignore[no-any-return]

    async def tell(self, command: str, **values: Any) -> dict[str, Any]:
        answer = await self.http.post(f"/{command}", json=values)
        assert answer.status_code == 200, answer.text
        return answer.json()  # type: ignore[no-any-return]

    async def refused(self, command: str, content: bytes) -> str:
        answer = await self.http.post(f"/{command}", content=content)
        assert answer.status_code == 400
        return answer.json()["error"]  # type: ignore[no-any-return]


@contextlib.asynccontextmanager
async def controlled(made: HandMade, **settings: Any) -> AsyncIterator[Control]:
    async with (
        replaying(made.layout.root, **settings) as server,
        httpx.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False, verify=False) as http,
    ):
        http.base_url = httpx.URL(server.urls["control"])
        yield Control(server, http)


async def test_the_status_says_where_it_is(made: HandMade) -> None:
    async with controlled(made, wait_for_instruments=1) as control:
        assert control.server.urls["control"].endswith("/replay")
        expected = {
            "clock": "2026-11-27T09:15:00+05:30",
            "clock_us": FIRST_US,
            "first": "2026-11-27T09:15:00+05:30",
            "end": "2026-11-27T09:15:59.000001+05:30",
            "speed": "max",
            "lockstep": False,
            "started": False,
            "waits_for": {"clients": 0, "instruments": 1},
            "paused": False,
            "seeks": None,
            "held_by": [],
            "ended": False,
            "packets": 0,
            "clients": [],
        }
        status = await control.status()
        assert {name: status[name] for name in expected} == expected
        async with client(paper_address(control.server)) as one:
            await one.ask("subscribe", list(made.tokens.values()))
            await asyncio.wait_for(control.server.ended.wait(), PATIENCE_SECONDS)
            status = await control.status()
            assert (status["clock"], status["started"], status["ended"]) == (status["end"], True, True)
            assert status["waits_for"] is None
            assert [each["packets"] for each in status["clients"]] == [status["packets"]] == [181]


async def test_pause_speed_seek_resume_and_reset(made: HandMade) -> None:
    async with controlled(made, speed=1.0) as control:
        assert (await control.tell("pause"))["paused"] is True
        there = (await control.status())["clock_us"]
        assert (await control.tell("speed", speed=10))["speed"] == 10.0
        assert (await control.status())["clock_us"] == there
        await control.tell("seek", to="09:15:40")
        await until(lambda: control.server.clock.now_us() == FIRST_US + 40_000_000)
        assert (await control.status())["clock"] == "2026-11-27T09:15:40+05:30"
        assert (await control.tell("speed", speed="max"))["ended"] is False
        assert (await control.tell("resume"))["paused"] is False
        await asyncio.wait_for(control.server.ended.wait(), PATIENCE_SECONDS)
        await control.tell("pause")
        status = await control.tell("reset")
        assert (status["clock_us"], status["paused"], status["ended"]) == (FIRST_US, True, False)


async def test_a_pause_holds_what_a_client_gets_until_it_goes_on(made: HandMade) -> None:
    async with controlled(made, paused=True) as control, client(paper_address(control.server)) as one:
        await one.ask("subscribe", list(made.tokens.values()))
        await asyncio.wait_for(await one.socket.ping(), PATIENCE_SECONDS)
        assert one.packets() == []
        await control.tell("resume")
        await until(lambda: len(one.packets()) == 181)


NONSENSE = [
    ("pause", b'{"now": 1}', "pause: got {'now': 1}, expected no body, or an empty object"),
    ("pause", b"[]", "pause: got [], expected no body"),
    ("reset", b"{", "expected a JSON object"),
    ("speed", b"", 'speed: got {}, expected {"speed": a number above 0, or "max"}'),
    ("speed", b'{"speed": 0}', "speed: got {'speed': 0}"),
    ("speed", b'{"speed": -1}', "expected"),
    ("speed", b'{"speed": true}', "expected"),
    ("speed", b'{"speed": NaN}', "expected"),
    ("speed", b'{"speed": "fast"}', "expected"),
    ("speed", b'{"speed": 1, "of": 2}', "expected"),
    ("seek", b"{}", 'seek: got {}, expected {"to": "10:15"'),
    ("seek", b'{"to": "noon"}', "seek: got {'to': 'noon'}"),
    ("seek", b'{"to": 1.5}', "expected"),
    ("seek", b'{"to": "09:14"}', "got 2026-11-27T09:14:00+05:30, expected a time from 2026-11-27T09:15:00+05:30"),
    ("seek", b'{"to": 99999999999999999999}', "expected a time up to the replay's end, 2026-11-27T09:15:59.000001"),
    ("seek", b'{"to": %s}' % (b"9" * 400), "expected a time up to the replay's end"),
    ("seek", b"[" * 100_000, "expected a JSON object"),
    ("faults", b'{"kind": "explode"}', "not a fault"),
]


async def test_nonsense_is_answered_with_400(made: HandMade) -> None:
    async with controlled(made, paused=True) as control:
        for command, content, complaint in NONSENSE:
            assert complaint in await control.refused(command, content)
            assert (await control.status())["clock_us"] == FIRST_US, (command, content)


async def test_other_commands_are_not_found_and_stats_and_faults_work(made: HandMade) -> None:
    async with controlled(made, paused=True) as control:
        assert (await control.http.post("/status")).status_code == 404
        assert (await control.http.get("/pause")).status_code == 404
        assert (await control.http.post("/explode")).status_code == 404
        assert (await control.http.get("/stats")).json()["paused"] is True
        assert await control.tell("faults", kind="resume") == {"applied": 0}
        await asyncio.wait_for(control.server.ended.wait(), PATIENCE_SECONDS)


@given(st.floats(min_value=1e-9, max_value=1e9) | st.integers(1, 10**9))
def test_any_speed_above_0(speed: float) -> None:
    assert parse_speed({"speed": speed}) == speed
    assert parse_speed({"speed": "max"}) == math.inf


@pytest.mark.parametrize("speed", [1e308, 10**400])
def test_what_is_too_fast_to_count_is_as_fast_as_can_be(speed: float) -> None:
    clock = MarketClock(0, 1_000_000, 1.0)
    clock.release()
    clock.set_speed(parse_speed({"speed": speed}))
    assert shown_speed(clock.speed) == "max"
    assert clock.now_us() < 1_000_000


@given(st.integers(0, 3_600_000_000))
def test_a_moment_in_each_of_its_forms(ahead: int) -> None:
    clock = MarketClock(FIRST_US, FIRST_US + 3_600_000_000)
    us = FIRST_US + ahead
    whole = ist(us)
    for form in (us, whole, whole.partition("+")[0], whole.partition("+")[0].partition("T")[2]):
        assert parse_seek({"to": form}, clock) == us
    clock.seek(us)
    with pytest.raises(ControlError, match="forward only"):
        parse_seek({"to": us - 1}, clock)
