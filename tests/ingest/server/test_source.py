"""What a source of packets has from its base: places of tokens, and frames of the packets that are painted."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.server.source import INDEX_LENGTHS, LENGTHS, StreamMode
from tests.support.scripted_source import ScriptedSource
from tests.support.simulation import split_frame, values_of

SOURCE = ScriptedSource(300)
MODES = (StreamMode.LTP, StreamMode.QUOTE, StreamMode.FULL)


@pytest.mark.parametrize("backwards", [False, True])
def test_rows_of_tokens(backwards: bool) -> None:
    one = ScriptedSource(100, backwards=backwards)
    assert one.tokens[one.rows(np.array([1099, 1000, 1042]))].tolist() == [1099, 1000, 1042]
    assert one.rows(np.array([0, 1, 999, 1100, 2**32 - 1])).tolist() == [-1] * 5
    assert one.rows(np.array([], np.int64)).tolist() == []


@pytest.mark.parametrize(("row", "lengths"), [(0, INDEX_LENGTHS), (5, LENGTHS)])
def test_a_shorter_packet_is_the_beginning_of_the_longer_one(row: int, lengths: dict[StreamMode, int]) -> None:
    packets = [SOURCE.images.packet(row, mode) for mode in MODES]
    assert [len(packet) for packet in packets] == [lengths[mode] for mode in MODES]
    assert all(packets[2].startswith(packet) for packet in packets)


def test_what_is_painted_is_what_is_sent() -> None:
    one = ScriptedSource(5)
    before = one.images.packet(4, StreamMode.LTP)
    list(one.step())
    assert before == struct.pack(">II", 1004, 1)
    assert one.images.packet(4, StreamMode.LTP) == struct.pack(">II", 1004, 2)


@given(st.lists(st.tuples(st.integers(0, 299), st.sampled_from(MODES)), max_size=60))
def test_frames_hold_the_packets_in_order(wanted: list[tuple[int, StreamMode]]) -> None:
    rows = np.array([row for row, _ in wanted], np.int64)
    modes = np.array([mode for _, mode in wanted], np.uint8)
    frame = SOURCE.images.frame(rows, modes)
    assert struct.unpack_from(">H", frame) == (len(wanted),)
    assert split_frame(frame) == [SOURCE.images.packet(row, mode) for row, mode in wanted]
    for packet, (row, mode) in zip(split_frame(frame), wanted, strict=True):
        assert values_of(packet)["instrument_token"] == SOURCE.tokens[row]
        assert len(packet) == (INDEX_LENGTHS if SOURCE.index[row] else LENGTHS)[mode]
