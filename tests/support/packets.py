"""Packets and frames for the tests of the codec: strategies for hypothesis, and random ones by the thousand."""

import struct
from random import Random

from hypothesis import strategies as st

from ingest.wire.layouts import LAYOUTS

LENGTHS = tuple(LAYOUTS)
SEGMENTS = (*range(13), 200, 255)
"""All that are known, and 0, 10, 11, 200 and 255, which are not."""
EXTREMES = (0, 1, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFF)
UNKNOWN_LENGTHS = (0, 1, 4, 7, 9, 31, 164, 183, 185, 300)


def frame_of(packets: list[bytes], claimed: int | None = None) -> bytes:
    """A frame, which claims to have `claimed` packets."""
    count = len(packets) if claimed is None else claimed
    return struct.pack(">H", count) + b"".join(struct.pack(">H", len(packet)) + packet for packet in packets)


def without_padding(packet: bytearray) -> bytes:
    """The packet as an encoder writes it: zeros where a full packet has padding."""
    if len(packet) == 184:
        for entry in range(10):
            packet[64 + 12 * entry + 10 : 64 + 12 * entry + 12] = b"\0\0"
    return bytes(packet)


def random_packet(random: Random, lengths: tuple[int, ...] = LENGTHS) -> bytes:
    """A good packet: any of the layouts, any segment, some words at the ends of their ranges."""
    length = random.choice(lengths)
    packet = bytearray(random.randbytes(length))
    for _ in range(random.randrange(5)):
        struct.pack_into(">I", packet, 4 * random.randrange(length // 4), random.choice(EXTREMES))
    packet[3] = random.choice(SEGMENTS)
    return without_padding(packet)


def packets() -> st.SearchStrategy[bytes]:
    """As `random_packet`. Drawn as two numbers, because hypothesis takes its time over each byte that it draws."""
    return st.builds(
        lambda length, seed: random_packet(Random(seed), (length,)), st.sampled_from(LENGTHS), st.integers(0, 2**32)
    )


def frames() -> st.SearchStrategy[bytes]:
    """A good frame of up to eight packets; also heartbeats."""
    return st.lists(packets(), max_size=8).map(frame_of) | st.just(b"\0")


@st.composite
def damaged_frames(draw: st.DrawFn) -> bytes:
    """A frame with anything wrong with it that we can think of, or plain noise."""
    kind = draw(st.sampled_from(("noise", "truncated", "claim", "insert", "overwrite", "unknown")))
    if kind == "noise":
        return draw(st.binary(max_size=64))
    good = draw(st.lists(packets(), max_size=5))
    if kind == "claim":
        return frame_of(good, draw(st.integers(0, 8) | st.just(65535)))
    if kind == "unknown":
        length = draw(st.sampled_from(UNKNOWN_LENGTHS))
        good.insert(draw(st.integers(0, len(good))), bytes(length))
        return frame_of(good)
    frame = frame_of(good)
    at = draw(st.integers(0, len(frame)))
    if kind == "truncated":
        return frame[:at]
    noise = draw(st.binary(min_size=1, max_size=8))
    return frame[:at] + noise + frame[at if kind == "insert" else at + len(noise) :]


def random_frame(random: Random, packets_per_frame: int, lengths: tuple[int, ...] = LENGTHS) -> bytes:
    return frame_of([random_packet(random, lengths) for _ in range(packets_per_frame)])


def mutated(random: Random, frame: bytes) -> bytes:
    """One to three mutations: bytes flipped, cut, put in, doubled, or the claimed count changed."""
    data = bytearray(frame)
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(data) + 1)
        match random.randrange(6):
            case 0:
                del data[at:]
            case 1:
                data[at:at] = random.randbytes(random.randrange(1, 9))
            case 2:
                del data[at : at + random.randrange(1, 9)]
            case 3:
                data[0:2] = struct.pack(">H", random.choice((0, 1, 2, 3, 5, 8, 300, 65535)))
            case 4 if at < len(data):
                data[at] ^= 1 << random.randrange(8)
            case _:
                data += data[at : at + 200]
    return bytes(data)
