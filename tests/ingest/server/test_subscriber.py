"""How packets are cut into frames, and how many frames are sent at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from ingest.server.record import RecordKind, read_record
from ingest.server.source import Frames, StreamMode
from ingest.server.subscriber import frame_cuts, messages
from tests.support.scripted_source import ScriptedSource
from tests.support.simulation import values_of
from tests.support.simulator_client import address, client, fault, serving, until


@given(st.integers(1, 3000), st.integers(1, 500), st.integers(0, 2**32))
def test_cuts_cover_everything_once(size: int, most: int, seed: int) -> None:
    cuts = list(frame_cuts(size, most, np.random.default_rng(seed)))
    assert [place for cut in cuts for place in range(size)[cut]] == list(range(size))
    assert all(0 < cut.stop - cut.start <= most for cut in cuts)


def test_cuts_are_sometimes_more_than_needed() -> None:
    random = np.random.default_rng(1)
    assert {len(list(frame_cuts(20, 100, random))) for _ in range(100)} == {1, 2, 3}


def frames_of(payloads: list[bytes]) -> Frames:
    """Frames of any bytes; what packets they hold is of no account here."""
    nothing = np.zeros(0, np.int64)
    lengths = np.array([len(payload) for payload in payloads], np.int64)
    return Frames(np.frombuffer(b"".join(payloads), np.uint8), lengths, np.zeros_like(lengths), nothing)


@given(
    st.lists(st.sampled_from([0, 1, 2, 125, 126, 127, 932, 65_535, 65_536, 70_000]) | st.integers(0, 300), max_size=20)
)
def test_many_frames_as_one_piece_are_messages_of_the_protocol(sizes: list[int]) -> None:
    payloads = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    reader = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN)
    reader.receive_data(messages(frames_of(payloads)))
    events = reader.events_received()
    assert all(isinstance(event, Frame) and event.opcode is Opcode.BINARY and event.fin for event in events)
    assert [bytes(event.data) for event in events if isinstance(event, Frame)] == payloads


@pytest.mark.parametrize("recorded", [True, False])
async def test_many_frames_come_between_other_messages_and_are_booked(tmp_path: Path, recorded: bool) -> None:
    settings = {"record": tmp_path} if recorded else {}
    async with serving(ScriptedSource(batches=0), **settings) as server, client(address(server)) as one:
        await one.ask("subscribe", [1005, 1007])
        await until(lambda: len(one.packets()) == 2)
        (subscriber,) = server._subscribers
        wanted: list[np.ndarray[Any, Any]] = []

        def frames(modes: np.ndarray[Any, Any]) -> Frames:
            wanted.append(modes)
            rows = np.flatnonzero(modes)
            made = [server.script.images.frame(rows[:count], modes[rows[:count]]) for count in (1, 2, 1)]
            counts = np.array([1, 2, 1])
            return frames_of(made)._replace(counts=counts, rows=rows[np.array([0, 0, 1, 0])])

        for number in range(20):
            subscriber.tick_many(frames)
            assert await fault(server, "text", data=number) == 1
        await until(lambda: len(one.of_type("message")) == 20)
        assert one.of_type("message") == list(range(20))
        assert [values_of(packet)["instrument_token"] for packet in one.packets()[2:]] == [1005, 1005, 1007, 1005] * 20
        assert set(wanted[0].tolist()) == {0, StreamMode.QUOTE}
        stats = server.stats(instruments=True)
        assert stats["connections"][0]["instruments"] == {"1005": 61, "1007": 21}
        assert (stats["packets"], stats["frames"], stats["bytes"]) == (82, 61, sum(map(len, one.frames)))
        await fault(server, "silent")
        subscriber.tick_many(frames)
        assert server.stats()["unsent"] == {"silent": 4}
        await fault(server, "clear")
        await fault(server, "delay", what="frames", by_seconds=0.01)
        subscriber.tick_many(frames)
        await until(lambda: len(one.packets()) == 86)
        assert server.stats()["packets"] == 86
    if recorded:
        records = list(read_record(tmp_path))
        sent = [record for record in records if record.kind is RecordKind.PACKETS]
        assert [record.payload for record in sent] == [frame for frame in one.frames if len(frame) > 1]
        assert sum(record.packets for record in sent) == 86
        assert [record.packets for record in records if record.kind is RecordKind.UNSENT] == [1, 2, 1]
