"""What writing a tick to Parquet costs, and how large it is there, against pyarrow's default writer in the same run.

    python -m benchmarks.bench_parquet [--seconds 10] [--rounds 5] [--json FILE]

The ticks are the simulator's: random walks of 10,000 instruments, full packets, instrument by instrument, a part for
each exchange as the writer process makes them, `--seconds` of them in a file. Time is the CPU time of encoding to
memory, best of the rounds, which take turns. The last lines are the choices that were not taken.
"""

import argparse
import datetime as dt
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ingest.server import StreamMode
from ingest.simulator import Market
from ingest.wire import JournalDecoder
from storage.journal import JournalWriter, Kind, SegmentReader
from storage.layout import DataLayout
from storage.schema import TICKS
from storage.tables import REPEATED, SymbolIndex, canonical_rows, parquet_writer, write_parquet

PACKETS_A_FRAME: Final = 30
STEPS_A_SECOND: Final = 4
BOOK: Final = frozenset(name for name in TICKS.file_schema.names if name.startswith(("bid_", "ask_", "last_price")))
WHOLE_NUMBERS: Final = frozenset(
    field.name for field in TICKS.file_schema if pa.types.is_integer(field.type) or pa.types.is_temporal(field.type)
)

Writer = Callable[[pa.Table, io.BytesIO], None]


def make_parts(seconds: float) -> list[pa.Table]:
    """Rows of ticks as the writer process gets them, one table an exchange."""
    market = Market(size=10_000, seed=1, start=dt.datetime(2026, 11, 23, 4, 30, tzinfo=dt.UTC))
    full = np.full(len(market), StreamMode.FULL, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        layout = DataLayout(Path(folder))
        writer = JournalWriter(layout, "bench", segment_bytes=1 << 30, segment_seconds=1e9)
        channel = writer.channel("asha", 1)
        random = np.random.default_rng(1)
        for _ in range(round(seconds * STEPS_A_SECOND)):
            rows = market.step()
            received_at_ns = market.seconds * 1_000_000_000
            for start in range(0, len(rows), PACKETS_A_FRAME):
                some = rows[start : start + PACKETS_A_FRAME]
                received_at_ns += int(random.integers(50_000, 400_000))
                writer.append(Kind.BINARY, channel, received_at_ns, market.images.frame(some, full[some]))
        writer.close()
        with SegmentReader(layout.segment("bench", 0)) as reader:
            blocks = reader.read()
    order = np.argsort(market.tokens)
    names = [f"{one.exchange}:{one.tradingsymbol}" for one in market.universe.instruments]
    symbols = SymbolIndex(market.tokens[order], pa.array(names).take(pa.array(order)))
    decoded = JournalDecoder().decode("bench", 0, blocks, first_seq=0, symbols=lambda _: symbols)
    return [canonical_rows(TICKS, part.rows) for part in decoded.parts["ticks"]]


def choose(
    dictionaries: frozenset[str],
    *,
    doubles: str = "PLAIN",
    integers: str = "DELTA_BINARY_PACKED",
    level: int = 1,
) -> Writer:
    """A writer like ours with other choices."""

    def write(rows: pa.Table, file: io.BytesIO) -> None:
        encodings, dictionary = {}, []
        for field in rows.schema:
            if field.name in dictionaries or pa.types.is_string(field.type) or pa.types.is_dictionary(field.type):
                dictionary.append(field.name)
            else:
                encodings[field.name] = doubles if pa.types.is_floating(field.type) else integers
        pq.write_table(
            rows,
            file,
            compression="zstd",
            compression_level=level,
            use_dictionary=dictionary,
            column_encoding=encodings,
            write_page_checksum=True,
            store_schema=False,
        )

    return write


def write_quickly(rows: pa.Table, file: io.BytesIO) -> None:
    with parquet_writer(rows.schema, file, quick=True) as writer:
        writer.write_table(rows)


def default(**options: Any) -> Writer:
    return lambda rows, file: pq.write_table(rows, file, **options)


WRITERS: Final[dict[str, Writer]] = {
    "kitelake, sealed": write_parquet,
    "kitelake, of a segment": write_quickly,
    "pyarrow default": default(),
    "pyarrow default, zstd 1": default(compression="zstd", compression_level=1),
    "no dictionary but of strings": choose(frozenset()),
    "dictionary for prices, book too": choose(REPEATED | BOOK),
    "zstd 3": choose(REPEATED, level=3),
    "plain, zstd 1": choose(frozenset(), integers="PLAIN"),
    "doubles split (not in Spark)": choose(REPEATED, doubles="BYTE_STREAM_SPLIT"),
    "all split (not in Spark)": choose(
        REPEATED - WHOLE_NUMBERS, doubles="BYTE_STREAM_SPLIT", integers="BYTE_STREAM_SPLIT"
    ),
}


def measure(write: Writer, parts: list[pa.Table]) -> tuple[float, int]:
    """CPU seconds and bytes of one pass over all parts."""
    size = 0
    start = time.thread_time()
    for part in parts:
        file = io.BytesIO()
        write(part, file)
        size += file.getbuffer().nbytes
    return time.thread_time() - start, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    parts = make_parts(options.seconds)
    rows = sum(part.num_rows for part in parts)
    print(f"{rows:,} full ticks of {options.seconds:g} s in {len(parts)} files; wire: 186 bytes a tick\n")
    best = dict.fromkeys(WRITERS, float("inf"))
    sizes: dict[str, int] = {}
    for _ in range(options.rounds):
        for name, write in WRITERS.items():
            seconds, sizes[name] = measure(write, parts)
            best[name] = min(best[name], seconds)
    results = {}
    peer = "pyarrow default"
    print(f"{'':36}{'ns a tick':>10}{'bytes':>8}{'time':>8}{'size':>7}  (of {peer})")
    for name in WRITERS:
        nanoseconds, size = best[name] / rows * 1e9, sizes[name] / rows
        shares = best[name] / best[peer], sizes[name] / sizes[peer]
        print(f"{name:36}{nanoseconds:10.0f}{size:8.1f}{shares[0]:8.2f}{shares[1]:7.2f}")
        results[name] = {
            "ns_a_tick": nanoseconds,
            "bytes_a_tick": size,
            "time_ratio": shares[0],
            "size_ratio": shares[1],
        }
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "writers": results}, indent=2))


if __name__ == "__main__":
    main()
