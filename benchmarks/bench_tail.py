"""What the live tail costs while 50,000 full ticks a second arrive, and a look at a table of many files.

    python -m benchmarks.bench_tail [--rate 50000] [--seconds 60] [--rounds 3] [--quick] [--json FILE]

A minute of full packets of 3,000 instruments is journalled, 5 packets a frame, a block every 10 ms, and not committed.
Seconds of CPU time, user and system, all threads, the median of the rounds; files are in the page cache.

    none      a new process: `kitelake sql "select 1"`, which reads nothing
    count     a new process: how many ticks there are
    last      a new process: the last price of one instrument
    minute    a new process: one instrument's minute, ten columns
    all       a new process: the sum of a column over all ticks
    decode    the peer: a new process that decodes everything, as the writer does, and sums the column
    live      an open lake: wall time from 500 packets flushed to the answer of `last` that has them
    look      an open lake: a look after a commit at a table of 2,000 files

`kitelake sql` does without pandas; in a process of the user's it is loaded, where it is installed, for 0.3 s more.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from benchmarks.results import Claim, Findings, arguments, tell
from benchmarks.turns import cpu_seconds, medians
from ingest.wire import FULL_DTYPE, JournalDecoder
from queries.lake import SqlLake
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout
from storage.schema import TICKS
from storage.tables import LakeTable, write_file

ROOT: Final = Path(__file__).parents[1]
STREAM: Final = "20261123T034500-000001"
OPEN_NS: Final = 1_795_405_500_000_000_000  # 2026-11-23 09:15 IST
PER_FRAME: Final = 5
BLOCKS_A_SECOND: Final = 100
TOKENS: Final = np.array([(1000 + i) * 256 + (1, 2, 3, 4, 7)[i % 5] for i in range(3000)])
ONE: Final = int(TOKENS[0])
FILES: Final = 2000
COLUMNS: Final = "received_at, last_price, volume_traded, oi, exchange_timestamp, last_trade_time"
QUERIES: Final = {
    "none": "select 1",
    "count": "select count(*) from ticks",
    "last": f"select last(last_price order by seq) from ticks where instrument_token = {ONE}",
    "minute": f"select {COLUMNS}, bid_price_1, bid_quantity_1, ask_price_1, ask_quantity_1 from ticks "
    f"where instrument_token = {ONE} order by received_at",
    "all": "select sum(volume_traded) from ticks",
}
DECODE: Final = """
import sys
from pathlib import Path
from storage.startup import leave_out_needless
leave_out_needless()
from ingest.wire import JournalDecoder
from storage.journal import RecordReader, segments
from storage.layout import DataLayout
layout, stream, total = DataLayout(Path(sys.argv[1])), sys.argv[2], 0
for number in segments(layout, stream):
    with RecordReader(layout, stream, number, None) as reader:
        found = JournalDecoder().decode(stream, number, reader.read(), first_seq=0, symbols=lambda _: None)
    for part in found.parts["ticks"]:
        total += int(part.rows.column("volume_traded").to_numpy().sum())
print(total)
"""


class Market:
    """Full packets, each instrument in its turn."""

    def __init__(self, layout: DataLayout) -> None:
        self.journal = JournalWriter(layout, STREAM, segment_seconds=1e9)
        self._channel = self.journal.channel("asha", 1)
        self._source = np.random.default_rng(1)
        self._framed = np.dtype([("length", ">u2"), ("packet", FULL_DTYPE)])
        self._packets = 0
        self._frames = 0

    def block(self, packets: int) -> None:
        """Journal so many packets in one block."""
        run = np.frombuffer(self._source.bytes(packets * self._framed.itemsize), np.uint8) & 0x3F
        framed = run.view(self._framed)
        framed["length"] = FULL_DTYPE.itemsize
        content = framed["packet"]
        content["instrument_token"] = TOKENS[(self._packets + np.arange(packets)) % len(TOKENS)]
        self._packets += packets
        content["volume_traded"] = self._packets
        content["exchange_timestamp"] = content["last_trade_time"] = OPEN_NS // 10**9
        data, step = framed.tobytes(), PER_FRAME * self._framed.itemsize
        for start in range(0, len(data), step):
            at_ns = OPEN_NS + self._frames * 100_000
            frame = PER_FRAME.to_bytes(2, "big") + data[start : start + step]
            self.journal.append(Kind.BINARY, self._channel, at_ns, frame)
            self._frames += 1
        self.journal.flush()


def child_cpu(command: list[str]) -> tuple[float, str]:
    """Seconds of CPU that a process took, and what it said."""
    before = cpu_seconds()
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    return cpu_seconds() - before, said


def measure_processes(root: Path, rounds: int) -> dict[str, float]:
    ask = [sys.executable, "-m", "kitelake", "sql", "--data", str(root), "--format", "csv"]
    decode = [sys.executable, "-c", DECODE, str(root), STREAM]
    ours, theirs = child_cpu([*ask, QUERIES["all"]])[1], child_cpu(decode)[1]
    assert ours.split()[-1] == theirs.strip()
    commands = {name: [*ask, text] for name, text in QUERIES.items()} | {"decode": decode}
    return medians(rounds, {name: partial(cpu_of_child, command) for name, command in commands.items()})


def cpu_of_child(command: list[str]) -> float:
    return child_cpu(command)[0]


def measure_live(root: Path, market: Market, rate: int) -> float:
    """Seconds from a flush to the answer, while a second of the market goes by."""
    taken = []
    with SqlLake(root, JournalDecoder()) as lake:
        lake.sql(QUERIES["last"]).arrow()
        for _ in range(20):
            for _ in range(BLOCKS_A_SECOND // 20):
                market.block(rate // BLOCKS_A_SECOND)
            start = time.perf_counter()
            lake.sql(QUERIES["last"]).arrow()
            taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def measure_look(root: Path, count: int, rounds: int) -> float:
    """Seconds of CPU that a look takes after a commit, the median."""
    layout = DataLayout(root)
    table = LakeTable(layout.table(TICKS.name), TICKS).open(create=True)
    rows = pa.table({field.name: pa.nulls(1, field.type) for field in TICKS.file_schema})

    def files(first: int, count: int) -> list[str]:
        written = [
            write_file(
                TICKS,
                rows,
                values={"date": f"2026-11-{1 + number % 20:02}", "exchange": "NSE"},
                stem=f"{STREAM}-{number:010}",
                table_folder=table.path,
                staging=layout.staging,
            )
            for number in range(first, first + count)
        ]
        table.commit(written, transactions={STREAM: first})
        return [file.relative for file in written]

    files(0, count)
    taken = []
    with SqlLake(root, JournalDecoder()) as lake:
        lake.look()
        for number in range(max(rounds, 5)):
            files(count + number, 1)
            start = time.process_time()
            lake.look()
            taken.append(time.process_time() - start)
    return statistics.median(taken)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rate", type=int, default=50_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rate, seconds, rounds, files = options.rate, options.seconds, options.rounds, FILES
    if options.quick:
        rate, seconds, rounds, files = 5_000, 5, 1, 100
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "lake"
        market = Market(DataLayout(root))
        for _ in range(seconds * BLOCKS_A_SECOND):
            market.block(rate // BLOCKS_A_SECOND)
        taken = measure_processes(root, rounds)
        live = measure_live(root, market, rate)
        look = measure_look(Path(folder) / "many", files, rounds)
        market.journal.close()
    decode, ticks = taken.pop("decode"), f"{rate * seconds:,} ticks in the journal alone"
    peer = "decoding everything"
    claims = [Claim(f"{ticks}, a new process: {name}: CPU", cpu, "s", peer, decode) for name, cpu in taken.items()]
    claims.append(Claim(f"{ticks}, an open lake: flushed until `last` has it", live * 1000, "ms"))
    claims.append(Claim(f"look after a commit at {files:,} files: CPU", look * 1000, "ms"))
    tell(Findings(claims), options)


if __name__ == "__main__":
    main()
