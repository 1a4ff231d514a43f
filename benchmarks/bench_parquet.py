"""What writing a tick to Parquet costs, and how large it is there, against pyarrow's default writer in the same run.

    python -m benchmarks.bench_parquet [--seconds 10] [--rounds 5] [--quick] [--json FILE]

The ticks are the simulator's: random walks of 10,000 instruments, full packets, instrument by instrument, a part for
each exchange as the writer process makes them, `--seconds` of them in a file. Time is the CPU time of encoding to
memory, the median of the rounds, which take turns. The last lines are the choices that were not taken.
"""

import datetime as dt
import io
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.results import Claim, Findings, Table, arguments, tell
from benchmarks.turns import cpu_of, medians
from ingest.server import StreamMode
from ingest.simulator import Market
from ingest.wire import JournalDecoder
from storage.journal import JournalWriter, Kind, SegmentReader
from storage.layout import DataLayout
from storage.schema import TICKS
from storage.tables import ASKED_FOR, PAGE_ROWS, REPEATED, SymbolIndex, canonical_rows, parquet_writer, write_parquet

PACKETS_A_FRAME: Final = 30
STEPS_A_SECOND: Final = 4
BOOK: Final = frozenset(name for name in TICKS.file_schema.names if name.startswith(("bid_", "ask_", "last_price")))
WHOLE_NUMBERS: Final = frozenset(
    field.name for field in TICKS.file_schema if pa.types.is_integer(field.type) or pa.types.is_temporal(field.type)
)

Writer = Callable[[pa.Table, io.BytesIO], None]


def make_parts(seconds: float, instruments: int) -> list[pa.Table]:
    """Rows of ticks as the writer process gets them, one table an exchange."""
    market = Market(size=instruments, seed=1, start=dt.datetime(2026, 11, 23, 4, 30, tzinfo=dt.UTC))
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
            max_rows_per_page=PAGE_ROWS,
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
    "no dictionary for prices": choose(REPEATED),
    "dictionary for prices, book too": choose(REPEATED | BOOK),
    "zstd 3": choose(REPEATED | ASKED_FOR, level=3),
    "plain, zstd 1": choose(frozenset(), integers="PLAIN"),
    "doubles split (not in Spark)": choose(REPEATED, doubles="BYTE_STREAM_SPLIT"),
    "all split (not in Spark)": choose(
        REPEATED - WHOLE_NUMBERS, doubles="BYTE_STREAM_SPLIT", integers="BYTE_STREAM_SPLIT"
    ),
}


def size_of(write: Writer, parts: list[pa.Table]) -> int:
    """Bytes of all parts."""
    size = 0
    for part in parts:
        file = io.BytesIO()
        write(part, file)
        size += file.getbuffer().nbytes
    return size


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    parts = make_parts(*((2.0, 2_000) if options.quick else (options.seconds, 10_000)))
    rows = sum(part.num_rows for part in parts)
    works = {name: cpu_of(partial(size_of, write, parts)) for name, write in WRITERS.items()}
    seconds = medians(1 if options.quick else options.rounds, works)
    ns = {name: each / rows * 1e9 for name, each in seconds.items()}
    sizes = {name: size_of(write, parts) / rows for name, write in WRITERS.items()}
    found = Findings()
    for name in ("kitelake, sealed", "kitelake, of a segment"):
        for peer in ("pyarrow default", "pyarrow default, zstd 1"):
            what = f"write a full tick to Parquet ({name.removeprefix('kitelake, ')})"
            found.claims.append(Claim(f"{what}: CPU", ns[name], "ns", peer, ns[peer]))
            found.claims.append(Claim(f"{what}: size", sizes[name], "bytes", peer, sizes[peer]))
    columns = ["writer", "ns of CPU a tick", "bytes a tick"]
    found.tables.append(Table("Ways to write Parquet", columns, [[name, ns[name], sizes[name]] for name in WRITERS]))
    tell(found, options)


if __name__ == "__main__":
    main()
