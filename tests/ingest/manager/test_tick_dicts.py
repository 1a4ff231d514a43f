"""Dictionaries by table are those of the plain decoder, field by field."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.manager.tick_dicts import ticks_of
from ingest.wire import decode_packet, split_frame
from storage.memory import tick_dict
from tests.support.packets import damaged_frames, frame_of, packets


@given(st.lists(packets(), max_size=4).map(frame_of) | damaged_frames())
def test_a_frame_is_the_dictionaries_of_its_good_packets(frame: bytes) -> None:
    plain = [tick_dict(decode_packet(packet)) for packet in split_frame(frame)[0]]
    assert ticks_of(frame) == plain
    assert [list(map(type, tick.values())) for tick in ticks_of(frame)] == [
        [type(tick[name]) for name in ours] for tick, ours in zip(plain, ticks_of(frame), strict=True)
    ]
