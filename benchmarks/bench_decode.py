"""What a packet costs from frame to columns, against the official client and the plain twin in the same run.

    python -m benchmarks.bench_decode [--rounds 7] [--json FILE]

Nanoseconds of CPU time a packet, the best of the rounds; the cases take turns, so that a busy moment hits all alike.

    walk      walk_frames: where the packets are
    decode    decode_packets: the packets to Arrow columns, from what the walk found
    journal   JournalDecoder.decode: a block of the journal to sorted parts with account, symbol and all; walk included
    encode    encode_payload: the columns to frames again
    plain     ingest.wire.plain.decode_frames: the twin, to dictionaries
    official  kiteconnect's KiteTicker._parse_binary: to dictionaries

`times faster` is official / (walk + decode). Tokens are of 3,000 instruments of five exchanges.
"""

import argparse
import json
import platform
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
import pyarrow as pa

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


def make_frames(lengths: tuple[int, ...], per_frame: int, tokens: Sequence[int]) -> list[bytes]:
    """Frames of random packets, but for their tokens."""
    random = Random(1)
    frames = []
    for _ in range(PACKETS // per_frame):
        frame = bytearray(per_frame.to_bytes(2, "big"))
        for _ in range(per_frame):
            length = random.choice(lengths)
            frame += length.to_bytes(2, "big") + random.choice(tokens).to_bytes(4, "big") + random.randbytes(length - 4)
        frames.append(bytes(frame))
    return frames


def tasks(lengths: tuple[int, ...], per_frame: int, official: Any) -> dict[str, tuple[Callable[[], object], int]]:
    """What to time: name -> the call, and how many packets it is about."""
    random = Random(2)
    tokens = sorted({random.randrange(2**24) << 8 | random.choice((1, 2, 4, 7, 9)) for _ in range(INSTRUMENTS)})
    frames = make_frames(lengths, per_frame, tokens)
    payload = np.frombuffer(b"".join(frames), np.uint8)
    sizes = np.array([len(frame) for frame in frames])
    found = walk_frames(payload, sizes)
    assert len(found.offsets) == PACKETS
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
        "walk": (lambda: walk_frames(payload, sizes), PACKETS),
        "decode": (lambda: decode_packets(packets_of(found)), PACKETS),
        "journal": (lambda: decoder.decode("bench", 0, [block], first_seq=0, symbols=lambda _: index), PACKETS),
        "encode": (lambda: encode_payload(table, per_frame), PACKETS),
        "plain": (lambda: plain.decode_frames(few), len(few) * per_frame),
        "official": (lambda: [official._parse_binary(frame) for frame in few], len(few) * per_frame),
    }


def measure(rounds: int, official: Any) -> list[dict[str, Any]]:
    """One record a case: nanoseconds a packet under each of `COLUMNS`."""
    results = []
    for layout, lengths, per_frame in CASES:
        best = dict.fromkeys(COLUMNS, float("inf"))
        todo = tasks(lengths, per_frame, official)
        for _ in range(rounds):
            for name, (call, packets) in todo.items():
                start = time.process_time_ns()
                result = call()
                spent = time.process_time_ns() - start
                del result  # freed outside of the measurement, to the pool that the next round takes from
                best[name] = min(best[name], spent / packets)
        results.append({"layout": layout, "packets_a_frame": per_frame, "ns_a_packet": best})
    return results


def show(results: list[dict[str, Any]]) -> None:
    titles = ("packets", "a frame", *COLUMNS, "times faster")
    print("".join(f"{title:>{width}}" for title, width in zip(titles, (18, 9, *[10] * 6, 14), strict=True)))
    for result in results:
        ns = result["ns_a_packet"]
        cells = "".join(f"{ns[name]:>10,.0f}" for name in COLUMNS)
        faster = ns["official"] / (ns["walk"] + ns["decode"])
        print(f"{result['layout']:>18}{result['packets_a_frame']:>9}{cells}{faster:>14,.0f}")


def machine() -> str:
    """The processor and the versions that matter."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
    return f"{model}, CPython {platform.python_version()}, numpy {np.__version__}, pyarrow {pa.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description="nanoseconds a packet from frame to columns")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the results to this file as well")
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the official client's dependencies
        from kiteconnect import KiteTicker
    results = measure(options.rounds, KiteTicker("key", "token"))
    print(f"python -m benchmarks.bench_decode {' '.join(sys.argv[1:])}".rstrip())
    print(machine())
    print(f"ns of CPU time a packet, best of {options.rounds} rounds of {PACKETS:,} packets\n")
    show(results)
    if options.json:
        document = {"machine": machine(), "rounds": options.rounds, "results": results}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
