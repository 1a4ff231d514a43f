"""The load's packets are numbered, and what is amiss with their rows is found."""

import threading
from pathlib import Path

import numpy as np
import pytest

from benchmarks.load import FRAMED, Packets, Ring
from benchmarks.service import NumbersError, check_beginnings, check_numbers
from ingest.wire import JournalDecoder, decode_frames
from storage.commit import SegmentWriter
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout

PER_FRAME = 5
PACKETS = 1_000


@pytest.fixture(scope="module")
def frames() -> dict[int, list[bytes]]:
    """What two connections are sent: a thousand packets each, more than there are before they come again."""
    packets = Packets(50)
    tokens = frozenset(packets.tokens)
    found = {}
    for connection in (0, 1):
        ring = Ring(packets.of(tokens, connection), PER_FRAME, connection)
        sent = bytearray()
        while (number := len(sent) // ring.frame_bytes * PER_FRAME) < PACKETS:
            sent += ring.take(min(7, (PACKETS - number) // PER_FRAME), number)
        found[connection] = [bytes(sent[at : at + ring.frame_bytes]) for at in range(0, len(sent), ring.frame_bytes)]
    return found


def test_frames_are_the_websockets_and_their_packets_good(frames: dict[int, list[bytes]]) -> None:
    for connection, several in frames.items():
        payload_bytes = 2 + PER_FRAME * FRAMED.itemsize
        assert {frame[:4] for frame in several} == {b"\x82\x7e" + payload_bytes.to_bytes(2, "big")}
        rows = decode_frames([frame[4:] for frame in several])
        assert rows["mode"].unique().to_pylist() == ["full"]
        assert rows["volume_traded"].to_pylist() == list(range(PACKETS))
        assert rows["oi_day_high"].unique().to_pylist() == [connection]
        assert len(rows["instrument_token"].unique()) == 50


def captured(folder: Path, frames: dict[int, list[bytes]]) -> Path:
    """Their rows, in a folder."""
    layout = DataLayout(folder)
    journal = JournalWriter(layout, "20261123T034500-000001")
    channel = journal.channel("asha", 1)
    for frame in [each for several in frames.values() for each in several]:
        journal.append(Kind.BINARY, channel, 1_795_405_500_000_000_000, frame[4:])
    journal.close()
    SegmentWriter(layout, JournalDecoder()).run(poll_seconds=0.01, stop=threading.Event())
    return folder


def test_each_number_once(tmp_path: Path, frames: dict[int, list[bytes]]) -> None:
    data = captured(tmp_path, frames)
    check_numbers(data, {0: PACKETS, 1: PACKETS})
    check_beginnings(data)
    with pytest.raises(NumbersError, match="1 are in no row; 0 rows too many"):
        check_numbers(data, {0: PACKETS, 1: PACKETS + 1})
    with pytest.raises(NumbersError, match="1 rows too many"):
        check_numbers(data, {0: PACKETS, 1: PACKETS - 1})
    with pytest.raises(NumbersError, match="1,000 rows too many"):
        check_numbers(data, {0: PACKETS})


def test_a_frame_that_is_there_twice_and_one_that_is_missing(tmp_path: Path, frames: dict[int, list[bytes]]) -> None:
    first, second = frames.values()
    data = captured(tmp_path, {0: [*first[:3], *first[4:]], 1: [*second, second[3]]})
    with pytest.raises(NumbersError, match="5 are in no row; 5 rows too many"):
        check_numbers(data, {0: PACKETS, 1: PACKETS})
    with pytest.raises(NumbersError, match="connection"):
        check_beginnings(data)


def test_numbers_go_on_where_the_ring_begins_again() -> None:
    packets = np.zeros(10, FRAMED)
    ring = Ring(packets, PER_FRAME, 3)
    assert [len(ring.take(100, 0)) // ring.frame_bytes for _ in range(3)] == [2, 2, 2]
