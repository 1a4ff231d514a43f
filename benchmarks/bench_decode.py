"""What a packet costs from frame to columns, against the official client and the plain twin in the same run.

    python -m benchmarks.bench_decode [--rounds 7] [--quick] [--json FILE]

Nanoseconds of CPU time a packet, the median of the rounds; the cases take turns, so that a busy moment hits all alike.

    walk      walk_frames: where the packets are
    decode    decode_packets: the packets to Arrow columns, from what the walk found
    journal   JournalDecoder.decode: a block of the journal to sorted parts with account, symbol and all; walk included
    encode    encode_payload: the columns to frames again
    plain     ingest.wire.plain.decode_frames: the twin, to dictionaries
    official  kiteconnect's KiteTicker._parse_binary: to dictionaries

Tokens are of 3,000 instruments of five exchanges.
"""

import warnings
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import numpy as np
import pyarrow as pa

from benchmarks.results import Claim, Findings, Table, arguments, tell
from benchmarks.turns import cpu_of, medians
from ingest.wire import JournalDecoder, decode_frames, decode_packets, encode_payload, packets_of, plain, walk_frames
from storage.journal import Block, Channel, Kind
from storage.tables import SymbolIndex

PACKETS: Final = 40_000
SLOW_PACKETS: Final = 2_000  # plain and official get so many
COLUMNS: Final = ("walk", "decode", "journal", "encode", "plain", "official")
INSTRUMENTS: Final = 3_000
CASES: Final[tuple[tuple[str, tuple[int, ...], int], ...]] = (
    ("full", (184,), 1),
    ("full", (184,), 5),
    ("full", (184,), 50),
    ("quote", (44,), 50),
    ("ltp", (8,), 50),
    ("full, some index", (184,) * 19 + (32,), 50),
    ("all five", (8, 28, 32, 44, 184), 1),
    ("all five", (8, 28, 32, 44, 184), 50),
    ("all five", (8, 28, 32, 44, 184), 10_000),
)


def make_frames(packets: int, lengths: tuple[int, ...], per_frame: int, tokens: Sequence[int]) -> list[bytes]:
    """Frames of random packets, but for their tokens."""
    random = Random(1)
    frames = []
    for _ in range(packets // per_frame):
        frame = bytearray(per_frame.to_bytes(2, "big"))
        for _ in range(per_frame):
            length = random.choice(lengths)
            frame += length.to_bytes(2, "big") + random.choice(tokens).to_bytes(4, "big") + random.randbytes(length - 4)
        frames.append(bytes(frame))
    return frames


def tasks(
    packets: int, lengths: tuple[int, ...], per_frame: int, official: Any
) -> dict[str, tuple[Callable[[], object], int]]:
    """What to time: name -> the call, and how many packets it is about."""
    random = Random(2)
    tokens = sorted({random.randrange(2**24) << 8 | random.choice((1, 2, 4, 7, 9)) for _ in range(INSTRUMENTS)})
    frames = make_frames(packets, lengths, per_frame, tokens)
    payload = np.frombuffer(b"".join(frames), np.uint8)
    sizes = np.array([len(frame) for frame in frames])
    found = walk_frames(payload, sizes)
    assert len(found.offsets) == packets
    table = decode_frames(frames)
    few = frames[: max(1, SLOW_PACKETS // per_frame)]
    block = Block(
        first_record=0,
        received_at_ns=np.full(len(frames), 1_795_327_200 * 10**9),
        lengths=sizes.astype(np.uint32),
        channels=np.ones(len(frames), np.uint16),
        kinds=np.full(len(frames), Kind.BINARY, np.uint8),
        payload=payload,
        channel_table={1: Channel("main", 1)},
        offset=0,
        size=0,
    )
    index = SymbolIndex(np.array(tokens), pa.array([f"NSE:{token}" for token in tokens]))
    decoder = JournalDecoder()
    return {
        "walk": (lambda: walk_frames(payload, sizes), packets),
        "decode": (lambda: decode_packets(packets_of(found)), packets),
        "journal": (lambda: decoder.decode("bench", 0, [block], first_seq=0, symbols=lambda _: index), packets),
        "encode": (lambda: encode_payload(table, per_frame), packets),
        "plain": (lambda: plain.decode_frames(few), len(few) * per_frame),
        "official": (lambda: [official._parse_binary(frame) for frame in few], len(few) * per_frame),
    }


def measure(packets: int, rounds: int, official: Any) -> Findings:
    found = Findings()
    rows: list[list[float | str | None]] = []
    for layout, lengths, per_frame in CASES:
        if per_frame > packets:
            continue
        todo = tasks(packets, lengths, per_frame, official)
        seconds = medians(rounds, {name: cpu_of(call) for name, (call, _) in todo.items()})
        ns = {name: seconds[name] / count * 1e9 for name, (_, count) in todo.items()}
        rows.append([layout, per_frame, *(ns[name] for name in COLUMNS)])
        if layout in ("full", "all five"):
            what = f"frame to columns, a packet: {layout}, {per_frame:,} a frame"
            found.claims.append(Claim(what, ns["walk"] + ns["decode"], "ns", "kiteconnect", ns["official"]))
    title = "Nanoseconds of CPU a packet, from frames to columns and back"
    found.tables.append(Table(title, ["packets", "a frame", *COLUMNS], rows))
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the official client's dependencies
        from kiteconnect import KiteTicker
    packets, rounds = (500, 1) if options.quick else (PACKETS, options.rounds)
    tell(measure(packets, rounds, KiteTicker("key", "token")), options)


if __name__ == "__main__":
    main()
