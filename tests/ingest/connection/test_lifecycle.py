"""The life of a connection against small servers on loopback: frames, subscriptions, ends, and what is reported."""

import asyncio
import contextlib
import http
import json
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from ingest.connection.session import State
from ingest.wire import Mode
from storage.journal import Kind
from tests.support.stream_server import FAST, Sink, broker, connected, stubborn, wait_closed

# The way of a frame


async def test_frames_and_texts_are_journalled_as_they_came_behind_the_opening() -> None:
    async def handler(ws: ServerConnection) -> None:
        await ws.send(b"\x00")
        await ws.send('{"type":"message","data":"é"}')
        await ws.send([b"frag", b"mented"])
        await ws.send(b"x" * 200_000)
        assert await (await ws.ping()) >= 0, "a ping is answered"
        await ws.send(b"last")
        await ws.wait_closed()

    async with broker(handler) as url, connected(url) as (connection, sink):
        await sink.until(lambda sink: b"last" in sink.frames)
        assert connection.stats().frames == 5
        assert connection.stats().connected
    assert sink.records[0][0] is Kind.EVENT
    assert sink.events[0] == {"event": "connected", "message": "opening 1", "data": {"opening": 1}}
    assert [kind for kind, _ in sink.records[1:6]] == [Kind.BINARY, Kind.TEXT, Kind.BINARY, Kind.BINARY, Kind.BINARY]
    assert sink.frames == [
        b"\x00",
        '{"type":"message","data":"é"}'.encode(),
        b"fragmented",
        b"x" * 200_000,
        b"last",
    ]
    assert sink.events[-1]["data"] == {"by": "us", "clean": True}


async def test_subscriptions_are_sent_and_reported_and_come_back_after_a_drop() -> None:
    asked: list[list[Any]] = []

    async def handler(ws: ServerConnection) -> None:
        messages: list[Any] = []
        asked.append(messages)
        async for message in ws:
            messages.append(json.loads(message))
            if messages[-1] == {"a": "mode", "v": ["full", [3]]} and len(asked) == 1:
                ws.transport.abort()

    async with broker(handler) as url, connected(url) as (connection, sink):
        await connection.subscribe([1, 2])
        await connection.subscribe([2], Mode.LTP)
        await sink.until(lambda sink: sink.names.count("mode") == 1)
        await connection.unsubscribe([1])
        await connection.subscribe([3], Mode.FULL)
        await sink.until(lambda sink: "resumed" in sink.names)
        assert dict(connection.instruments) == {2: Mode.LTP, 3: Mode.FULL}
        assert connection.stats().reconnects == 1
        assert connection.stats().instruments == 2
    assert sorted(json.dumps(message) for message in asked[1]) == sorted(
        json.dumps(message)
        for message in (
            {"a": "subscribe", "v": [2, 3]},
            {"a": "mode", "v": ["full", [3]]},
            {"a": "mode", "v": ["ltp", [2]]},
        )
    )
    assert asked[1][0]["a"] == "subscribe"
    reported = [
        (event["event"], event["data"].get("mode"), event["data"]["tokens"])
        for event in sink.events
        if "tokens" in event["data"]
    ]
    assert ("unsubscribed", None, [1]) in reported
    assert reported[-3:] == [("subscribed", None, [2, 3]), ("mode", "full", [3]), ("mode", "ltp", [2])]
    closed = next(event for event in sink.events if event["event"] == "closed")
    assert (closed["data"]["by"], closed["data"]["clean"], closed["data"]["reason"]) == ("peer", False, "dropped")
    resumed = next(event for event in sink.events if event["event"] == "resumed")
    assert resumed["data"]["instruments"] == 2
    assert resumed["data"]["down_seconds"] >= 0


async def test_what_it_holds_is_noted_with_when_each_was_asked_for() -> None:
    async with broker(wait_closed) as url, connected(url) as (connection, sink):
        connection.note_held()  # there is nothing yet
        await connection.subscribe([1, 2])
        await sink.until(lambda sink: "subscribed" in sink.names)
        await connection.subscribe([3])
        await connection.unsubscribe([2])
        await connection.subscribe([1], Mode.FULL)  # it goes on
        connection.note_held()
    (held,) = (event["data"] for event in sink.events if event["event"] == "held")
    first, second = (
        ns // 1000 for ns, event in zip(sink.times_ns, sink.events, strict=True) if event["event"] == "subscribed"
    )
    assert held == {"tokens": [1, 3], "since_us": [first, second]}


# How it ends


async def test_a_close_loses_nothing_that_the_server_sent() -> None:
    sent = 0

    async def handler(ws: ServerConnection) -> None:
        nonlocal sent
        with contextlib.suppress(Exception):
            while True:
                await ws.send(sent.to_bytes(8, "big") * 50)
                sent += 1

    async with broker(handler) as url, connected(url) as (connection, sink):
        await sink.until(lambda sink: len(sink.frames) > 2000)
        await connection.close()
        assert connection.stats().state is State.CLOSED
    assert [int.from_bytes(frame[:8], "big") for frame in sink.frames] == list(range(len(sink.frames)))
    assert len(sink.frames) >= sent, "all that was sent before the server's close frame"


async def test_a_server_that_does_not_answer_the_close_is_cut_off() -> None:
    settings = FAST.model_copy(update={"close_timeout_seconds": 0.1})
    async with stubborn() as url, connected(url, settings) as (connection, sink):
        await sink.until(lambda sink: "connected" in sink.names)
        await connection.close()
    assert sink.events[-1]["data"] == {"by": "us", "clean": False}
    assert "by force" in sink.events[-1]["message"]


async def test_a_server_that_closes_but_keeps_the_socket_is_cut_off() -> None:
    def closing(protocol: ServerProtocol) -> bytes:
        protocol.send_close(1001, "going away")
        return b"".join(protocol.data_to_send())

    settings = FAST.model_copy(update={"close_timeout_seconds": 0.1})
    async with stubborn(closing) as url, connected(url, settings) as (connection, sink):
        await sink.until(lambda sink: "closed" in sink.names)
        assert connection.stats().state in (State.WAITING, State.CONNECTING, State.OPEN)
    closed = next(event for event in sink.events if event["event"] == "closed")
    assert (closed["data"]["reason"], closed["data"]["code"], closed["data"]["clean"]) == ("dropped", 1001, True)


async def test_a_silent_server_is_left_and_tried_again() -> None:
    settings = FAST.model_copy(update={"liveness_seconds": 0.1})
    async with broker(wait_closed) as url, connected(url, settings) as (connection, sink):
        await sink.until(lambda sink: sink.names.count("connected") >= 2)
        assert connection.stats().reconnects >= 1
    assert sink.names[:3] == ["connected", "silent", "closed"]
    assert sink.events[1]["data"]["silent_seconds"] >= 0.1
    assert sink.events[2]["data"]["reason"] == "silent"


async def test_heartbeats_count_as_life() -> None:
    async def handler(ws: ServerConnection) -> None:
        for _ in range(20):
            await ws.send(b"\x00")
        await ws.wait_closed()

    async with broker(handler) as url, connected(url) as (connection, sink):
        await sink.until(lambda sink: len(sink.frames) == 20)
        age = connection.stats().last_frame_age_seconds
        assert age is not None
        assert 0 <= age < FAST.liveness_seconds


@pytest.mark.parametrize(
    ("status", "reason", "body"),
    [
        (403, "credentials", "Token is invalid or has expired."),
        (429, "busy", "slow down"),
        (502, "server", "bad gateway"),
    ],
)
async def test_refusals_are_reported_and_tried_again(status: int, reason: str, body: str) -> None:
    refusals = iter([status, status])

    def refuse(ws: ServerConnection, request: Request) -> Response | None:
        refused = next(refusals, None)
        return None if refused is None else ws.respond(http.HTTPStatus(refused), body)

    async with broker(wait_closed, process_request=refuse) as url, connected(url) as (_, sink):
        await sink.until(lambda sink: "connected" in sink.names)
    assert sink.names[:3] == ["refused", "refused", "connected"]
    data = sink.events[0]["data"]
    assert (data["reason"], data["code"]) == (reason, status)
    assert body in sink.events[0]["message"]
    if status == 403:
        assert "retry_in_seconds" not in data, "it waits for a token"
    if status == 429:
        assert data["retry_in_seconds"] >= 0.05, "never sooner than the slow retry"


async def test_an_oversized_frame_costs_the_socket_and_no_more() -> None:
    settings = FAST.model_copy(update={"max_frame_bytes": 1 << 16})

    async def handler(ws: ServerConnection) -> None:
        await ws.send(b"good")
        await ws.send(b"x" * 65_537)
        await ws.wait_closed()

    async with broker(handler) as url, connected(url, settings) as (_, sink):
        await sink.until(lambda sink: sink.names.count("connected") == 2)
    assert set(sink.frames) == {b"good"}
    closed = next(event for event in sink.events if event["event"] == "closed")
    assert "PayloadTooBig" in closed["message"]


async def test_a_sink_that_fails_costs_the_socket_and_no_more() -> None:
    class Failing(Sink):
        failed = False

        def append(self, kind: Kind, channel: int, received_at_ns: int, *payloads: bytes) -> None:
            if kind is Kind.BINARY and not self.failed:
                self.failed = True
                raise RuntimeError("the sink is full")
            super().append(kind, channel, received_at_ns, *payloads)

    async def handler(ws: ServerConnection) -> None:
        await ws.send(b"frame")
        await ws.wait_closed()

    async with broker(handler) as url, connected(url, sink=Failing()) as (_, sink):
        await sink.until(lambda sink: sink.frames == [b"frame"])
    assert sink.names[:3] == ["connected", "closed", "connected"]
    assert "the sink is full" in sink.events[1]["message"]


# A server that lives and does not serve


async def test_a_mode_that_is_not_kept_is_asked_for_again() -> None:
    """Quote packets come until the mode alone is asked for. A silent instrument is asked for with a subscription."""
    asked: list[Any] = []
    kept = asyncio.Event()

    async def handler(ws: ServerConnection) -> None:
        async def stream() -> None:
            while True:
                length = 184 if kept.is_set() else 44
                packet = (408065).to_bytes(4, "big") + bytes(length - 4)
                await ws.send(b"\x00\x01" + length.to_bytes(2, "big") + packet)
                await asyncio.sleep(0.01)

        streaming = asyncio.create_task(stream())
        async for message in ws:
            asked.append(json.loads(message))
            if len(asked) > 1 and asked[-1]["a"] == "mode" and asked[-2]["a"] != "subscribe":
                kept.set()
        streaming.cancel()

    settings = FAST.model_copy(update={"answer_seconds": 0.1})
    async with broker(handler) as url, connected(url, settings) as (connection, sink):
        await connection.subscribe([408065], Mode.FULL)
        await sink.until(lambda _: kept.is_set())
        seen = len(sink.frames)
        await sink.until(lambda sink: len(sink.frames) > seen and sink.frames[-1][3] == 184)
        assert connection.stats().asked_again >= 1
        assert connection.stats().wrong_mode == 0
        assert connection.stats().packets
    assert {"a": "mode", "v": ["full", [408065]]} in asked[2:]
    events = [event["data"] for event in sink.events if event["event"] == "asked again"]
    assert {"silent": [], "wrong_mode": [408065], "unwanted": []} in events


async def test_a_server_that_sends_heartbeats_only_is_left_and_tried_again() -> None:
    asked: list[list[Any]] = []

    async def handler(ws: ServerConnection) -> None:
        asked.append([])

        async def beat() -> None:
            while True:
                await ws.send(b"\x00")
                await asyncio.sleep(0.01)

        beating = asyncio.create_task(beat())
        async for message in ws:
            asked[-1].append(json.loads(message))
        beating.cancel()

    settings = FAST.model_copy(update={"answer_seconds": 0.2, "stall_seconds": 0.1})
    async with broker(handler) as url, connected(url, settings) as (connection, sink):
        await connection.subscribe([408065])
        await sink.until(lambda sink: "resumed" in sink.names)
    closed = next(event for event in sink.events if event["event"] == "closed")
    assert (closed["data"]["reason"], closed["data"]["by"]) == ("barren", "us")
    assert {"a": "unsubscribe", "v": [408065]} in asked[0], "asked for again before"


@pytest.mark.parametrize("what", ["count", "look_into"])
async def test_a_watchdog_that_fails_costs_nothing(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault of the watchdog")

    monkeypatch.setattr(f"ingest.connection.watchdog.StreamWatchdog.{what}", fail)

    async def handler(ws: ServerConnection) -> None:
        for _ in range(600):
            await ws.send(b"\x00")
        await ws.wait_closed()

    async with broker(handler) as url, connected(url) as (connection, sink):
        await sink.until(lambda sink: len(sink.frames) == 600)
        assert connection.stats().connected
    assert sink.names == ["connected", "closed"]
