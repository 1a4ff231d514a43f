"""What a tick takes on disk, not sealed and sealed, against other forms of the same ticks; and what sealing costs.

    python -m benchmarks.bench_disk [--quick] [--json FILE] [--ticks 2000000] [--rounds 3]

The simulator's market of 3,000 instruments in full packets, 10 a frame, each instrument every 2.5 seconds on the
average, through the real journal and the real writer in segments of some hundred thousand ticks. Bytes a tick:

    wire          the packets with their lengths, 184 + 2 of a full one; the frames with counts and WebSocket headers
    not sealed    the files as the writer commits them, one a segment and exchange
    sealed        the day compacted
    pyarrow       `pyarrow.parquet.write_table` with its defaults of the same rows, file for file
    CSV, gzip     one file in the order of arrival, compressed as `gzip.open` does; of the first segments
    Nautilus      what `kitelake.adapters.write_catalog` gives, with five levels of the book: less than a packet
                  holds, of some instruments, where .venv-adapters/nautilus is there (`make adapters`)

Sealing is CPU microseconds a tick, beside the least that pyarrow takes for it: to read the files, sort, and write the
same bytes with the same encodings, without the checks that the old rows and the new ones are the same.
"""

import datetime as dt
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from benchmarks.results import Claim, Findings, LeftOut, Table, arguments, tell
from benchmarks.turns import cpu_of, medians
from ingest.server import StreamMode
from ingest.simulator import Market
from ingest.wire import JournalDecoder
from storage.clock import IST
from storage.commit import SegmentWriter
from storage.files import DataFile
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout
from storage.schema import INSTRUMENTS, TICKS
from storage.tables import LakeTable, parquet_writer, write_instruments
from storage.upkeep import compact_day

ROOT: Final = Path(__file__).parents[1]
START: Final = dt.datetime(2026, 11, 23, 9, 15, tzinfo=IST)
DAY: Final = START.date()
STREAM: Final = "20261123T034000-000001"
SIZE: Final = 3_000
STEP_SECONDS: Final = 2.5
PER_FRAME: Final = 10
HEADERS: Final = 2 + 4
"""A frame's count of packets, and the header of a WebSocket message of so many bytes."""
SEGMENT_BYTES: Final = 20_000_000
ROW_GROUP_ROWS: Final = 1 << 17
CSV_TICKS: Final = 200_000
CATALOG_TICKS: Final = 20_000
GOAL_US: Final = 2.5
CATALOG: Final = """
import json, sys, kitelake
from kitelake.adapters import write_catalog
root, folder, day, symbols = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
with kitelake.open(root) as lake:
    write_catalog(lake, folder, symbols, day, depth=True)
"""


def make_day(layout: DataLayout, ticks: int) -> dict[str, float]:
    """Capture and commit so many ticks. Returns bytes a tick on the wire, without and with frames."""
    market = Market(size=SIZE, seed=1, start=START, steps_per_second=1 / STEP_SECONDS)
    columns: dict[str, list[Any]] = {name: [None] * SIZE for name in INSTRUMENTS.file_schema.names}
    listed = market.universe.instruments
    columns["instrument_token"] = market.tokens.tolist()
    columns["symbol"] = [f"{one.exchange}:{one.tradingsymbol}" for one in listed]
    for name in ("exchange", "tradingsymbol", "name", "instrument_type", "segment", "expiry", "strike", "tick_size",
                 "lot_size"):  # fmt: skip
        columns[name] = [getattr(one, name) for one in listed]
    write_instruments(layout, DAY, pa.table(columns, schema=INSTRUMENTS.file_schema))
    full = np.full(SIZE, StreamMode.FULL, np.uint8)
    journal = JournalWriter(layout, STREAM, segment_bytes=SEGMENT_BYTES, segment_seconds=1e9)
    channel = journal.channel("asha", 1)
    random = np.random.default_rng(1)
    at_ns, made, wire, framed = int(START.timestamp()) * 10**9, 0, 0, 0
    while made < ticks:
        rows = market.step()
        random.shuffle(rows)
        for first in range(0, len(rows), PER_FRAME):
            some = rows[first : first + PER_FRAME]
            payload = market.images.frame(some, full[some])
            at_ns += int(STEP_SECONDS * len(some) * 10**9) // SIZE
            journal.append(Kind.BINARY, channel, at_ns, payload)
            wire += len(payload) - 2
            framed += len(payload) + HEADERS - 2
        made += len(rows)
        journal.flush()
    journal.close()
    SegmentWriter(layout, JournalDecoder()).run(poll_seconds=0.1, stop=threading.Event())
    shutil.rmtree(layout.journal)
    return {"wire, packets": wire / made, "wire, frames": framed / made}


def files_of(layout: DataLayout) -> list[DataFile]:
    return LakeTable(layout.table(TICKS.name), TICKS).open().snapshot().entries


def bytes_a_tick(files: Iterable[DataFile]) -> float:
    files = list(files)
    return sum(file.size for file in files) / sum(file.rows for file in files)


def by_pyarrow(layout: DataLayout) -> float:
    """The same files as pyarrow writes them by itself."""
    size = rows = 0
    for file in files_of(layout):
        with io.BytesIO() as out:
            ticks = pq.ParquetFile(layout.table(TICKS.name) / file.relative).read()
            pq.write_table(ticks, out)
            size, rows = size + out.tell(), rows + ticks.num_rows
    return size / rows


def as_csv(layout: DataLayout) -> dict[str, float]:
    folder = layout.table(TICKS.name)
    some, rows = [], 0
    for file in sorted(files_of(layout), key=lambda file: file.relative.rpartition("/")[2]):
        some.append(pq.ParquetFile(folder / file.relative).read())
        rows += file.rows
        if rows >= CSV_TICKS:
            break
    out = io.BytesIO()
    pyarrow.csv.write_csv(pa.concat_tables(some, promote_options="default").sort_by("seq"), out)
    return {"CSV": out.tell() / rows, "CSV, gzip": len(gzip.compress(out.getvalue())) / rows}


def as_catalog(layout: DataLayout, folder: Path) -> float | LeftOut:
    """Of the busiest instruments that have so many ticks together."""
    name = "Nautilus catalog"
    python = ROOT / ".venv-adapters" / "nautilus" / "bin" / "python"
    if not python.exists():
        return LeftOut(name, "there is no .venv-adapters/nautilus: `make adapters` makes it")
    ticks = pa.concat_tables(
        pq.ParquetFile(layout.table(TICKS.name) / file.relative).read(columns=["symbol"])
        for file in files_of(layout)
        if file.values["exchange"] != "INDICES"
    )
    counts = ticks.group_by("symbol").aggregate([([], "count_all")]).sort_by([("count_all", "descending")]).to_pylist()
    symbols, rows = [], 0
    for row in counts:
        if rows < CATALOG_TICKS:
            symbols.append(row["symbol"])
            rows += row["count_all"]
    command = [str(python), "-c", CATALOG, str(layout.root), str(folder), str(DAY), json.dumps(symbols)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return LeftOut(name, f"it ended with {done.returncode}: {(done.stderr.strip().splitlines() or [''])[-1]}")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / rows


def seal_costs(layout: DataLayout, folder: Path, rounds: int) -> dict[str, float]:
    """Microseconds of CPU a tick of sealing, and of the least that pyarrow takes for the same files."""
    files = files_of(layout)
    rows = sum(file.rows for file in files)
    copies = [folder / f"copy-{number}" for number in range(rounds + 1)]
    for copy in copies:
        shutil.copytree(layout.root, copy)
    waiting = iter(copies)
    works = {
        "seal": cpu_of(lambda: compact_day(DataLayout(next(waiting)), DAY)),
        "pyarrow": cpu_of(lambda: _bare(layout, files, folder / "bare.parquet")),
    }
    found = {name: seconds / rows * 1e6 for name, seconds in medians(rounds, works).items()}
    shutil.rmtree(layout.root)
    copies[0].rename(layout.root)  # sealed, for what is measured next
    return found


def _bare(layout: DataLayout, files: Iterable[DataFile], out: Path) -> None:
    partitions: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        partitions[file.values["exchange"]].append(layout.table(TICKS.name) / file.relative)
    for paths in partitions.values():
        texts = [field.name for field in TICKS.file_schema if pa.types.is_string(field.type)]
        parts = [pq.ParquetFile(path, read_dictionary=texts).read() for path in sorted(paths)]
        ticks = pa.concat_tables(parts, promote_options="default").unify_dictionaries().combine_chunks()
        order = pc.sort_indices(ticks, sort_keys=[("instrument_token", "ascending"), ("seq", "ascending")])
        with parquet_writer(TICKS.file_schema, out) as writer:
            for at in range(0, len(order), ROW_GROUP_ROWS):
                writer.write_table(ticks.take(order.slice(at, ROW_GROUP_ROWS)).cast(TICKS.file_schema))


def measure(root: Path, ticks: int, rounds: int) -> Findings:
    found, layout = Findings(), DataLayout(root / "data")
    say(f"capturing and committing {ticks:,} ticks")
    sizes = make_day(layout, ticks)
    say("the ticks in other forms")
    csv = as_csv(layout)
    catalog = as_catalog(layout, root / "catalog")
    not_sealed, default = bytes_a_tick(files_of(layout)), by_pyarrow(layout)
    say(f"sealing, {rounds + 1} times")
    costs = seal_costs(layout, root, rounds)
    sealed, default_sealed = bytes_a_tick(files_of(layout)), by_pyarrow(layout)
    frames = sizes["wire, frames"]
    sizes |= {
        **csv, "pyarrow, not sealed": default, "not sealed": not_sealed, "pyarrow, sealed": default_sealed,
        "sealed": sealed,
    }  # fmt: skip
    what = "bytes a tick on disk"
    found.claims += [
        Claim(f"{what}, sealed", sealed, "bytes", "wire, with frames", frames),
        Claim(f"{what}, sealed", sealed, "bytes", "CSV, gzip", csv["CSV, gzip"]),
        Claim(f"{what}, sealed", sealed, "bytes", "pyarrow's defaults", default_sealed),
        Claim(f"{what}, not sealed", not_sealed, "bytes", "wire, with frames", frames),
        Claim(f"{what}, not sealed", not_sealed, "bytes", "pyarrow's defaults", default),
    ]
    if isinstance(catalog, LeftOut):
        found.left_out.append(catalog)
    else:
        sizes["Nautilus"] = catalog
        found.claims.append(Claim(f"{what}, sealed", sealed, "bytes", "Nautilus catalog", catalog))
    seal = Claim("sealing a tick, CPU", costs["seal"], "µs", "pyarrow: read, sort, write", costs["pyarrow"], GOAL_US)
    found.claims.append(seal)
    note = "The wire has 32-bit integers, the tables 64-bit ones and doubles, with the symbol and where it came from."
    rows: list[list[float | str]] = [[name, size, size / frames] for name, size in sizes.items()]
    found.tables.append(Table("Bytes a tick", ["form", "bytes", "of the wire's"], rows, note))
    return found


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--ticks", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ticks, rounds = (100_000, 1) if options.quick else (options.ticks, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        tell(measure(Path(folder), ticks, rounds), options)


if __name__ == "__main__":
    main()
