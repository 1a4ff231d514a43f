"""What journalling a frame costs, against the ways in which people store ticks themselves, in the same run.

    python -m benchmarks.bench_journal [--packets 100000] [--rounds 3] [--quick] [--json FILE]

Frames of 1, 5 and 50 full packets are handed over one by one and flushed to the system every 500 packets: what 50,000
packets a second are in 10 ms. Nobody waits for the disk; what is measured is CPU time, the system's included, the
median of the rounds. Writers:

    journal      `JournalWriter`: append, flush; receive time, connection and CRC with each frame
    plain file   length, receive time, payload to a buffered file: the floor of what any journal could cost
    sqlite       one row a frame (time, connection, payload), WAL, synchronous=OFF, one transaction a flush
    csv          one row a packet, all 51 fields decoded beforehand: what follows `on_ticks` in many a script
                 (measured on a twentieth of the frames, since it takes long)

`read back` is the journal alone: all blocks of the segments, CRC checked, as numpy columns.
"""

import csv
import random
import sqlite3
import struct
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.results import Claim, Findings, Table, arguments, tell
from benchmarks.turns import median_of_each
from storage.journal import JournalWriter, Kind, SegmentReader, segments
from storage.layout import DataLayout

FLUSH_PACKETS: Final = 500
PACKETS_A_FRAME: Final = (1, 5, 50)
CSV_SHARE: Final = 20
STREAM: Final = "bench"
ROW: Final = [408065, "full", *(round(1500.05 + i / 20, 2) for i in range(19)), *range(100, 130)]

Batches = Sequence[Sequence[bytes]]


def make_batches(packets: int, packets_a_frame: int) -> list[list[bytes]]:
    """Distinct frames, as they come from a socket, in the batches in which they are flushed."""
    source = random.Random(1)
    noise = source.randbytes(1 << 20)
    batches = []
    for _ in range(packets // FLUSH_PACKETS):
        batch = []
        for _ in range(FLUSH_PACKETS // packets_a_frame):
            at = source.randrange(len(noise) - 186 * packets_a_frame)
            batch.append(packets_a_frame.to_bytes(2, "big") + noise[at : at + 186 * packets_a_frame])
        batches.append(batch)
    return batches


def to_journal(folder: Path, batches: Batches, _packets_a_frame: int) -> None:
    writer = JournalWriter(DataLayout(folder), STREAM)
    channel = writer.channel("asha", 1)
    append, binary = writer.append, Kind.BINARY
    for batch in batches:
        for frame in batch:
            append(binary, channel, 1_795_405_500_000_000_000, frame)
        writer.flush()
    writer.close()


def to_plain_file(folder: Path, batches: Batches, _packets_a_frame: int) -> None:
    header = struct.Struct("<IQ")
    with (folder / "frames.bin").open("wb", buffering=1 << 20) as file:
        for batch in batches:
            for frame in batch:
                file.write(header.pack(len(frame), 1_795_405_500_000_000_000))
                file.write(frame)
            file.flush()


def to_sqlite(folder: Path, batches: Batches, _packets_a_frame: int) -> None:
    connection = sqlite3.connect(folder / "frames.db")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("CREATE TABLE frames (received_at INTEGER, channel INTEGER, payload BLOB)")
    for batch in batches:
        for frame in batch:
            connection.execute("INSERT INTO frames VALUES (?, ?, ?)", (1_795_405_500_000_000_000, 1, frame))
        connection.commit()
    connection.close()


def to_csv(folder: Path, batches: Batches, packets_a_frame: int) -> None:
    """Some of the batches: `measure` allows for that."""
    with (folder / "ticks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        for batch in batches[::CSV_SHARE]:
            for _ in batch:
                for _ in range(packets_a_frame):
                    writer.writerow(ROW)
            file.flush()


def read_back(folder: Path) -> int:
    layout = DataLayout(folder)
    frames = 0
    for number in segments(layout, STREAM):
        with SegmentReader(layout.segment(STREAM, number)) as reader:
            frames += sum(int((block.kinds == Kind.BINARY).sum()) for block in reader.read())
    return frames


WRITERS: Final[dict[str, Callable[[Path, Batches, int], None]]] = {
    "journal": to_journal,
    "plain file": to_plain_file,
    "sqlite": to_sqlite,
    "csv": to_csv,
}


def measure(packets: int, packets_a_frame: int, rounds: int) -> dict[str, float]:
    """CPU nanoseconds a frame of each writer, and of reading back."""
    batches = make_batches(packets, packets_a_frame)
    frames = sum(map(len, batches))
    records = []
    for _ in range(rounds):
        record = {}
        for name, write in WRITERS.items():
            with tempfile.TemporaryDirectory() as folder:
                start = time.process_time()
                write(Path(folder), batches, packets_a_frame)
                record[name] = (time.process_time() - start) * (CSV_SHARE if name == "csv" else 1) / frames * 1e9
                if name == "journal":
                    start = time.process_time()
                    assert read_back(Path(folder)) == frames
                    record["read back"] = (time.process_time() - start) / frames * 1e9
        records.append(record)
    return median_of_each(records)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--packets", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    packets, rounds = (10_000, 1) if options.quick else (options.packets, options.rounds)
    results = {count: measure(packets, count, rounds) for count in PACKETS_A_FRAME}
    found = Findings()
    for count, ns in results.items():
        for peer in ("plain file", "sqlite", "csv"):
            what = f"journal a frame of {count} full packets: CPU"
            found.claims.append(Claim(what, ns["journal"], "ns", peer, ns[peer]))
    rows: list[list[float | str | None]] = [
        [name, *(results[count][name] for count in PACKETS_A_FRAME)] for name in (*WRITERS, "read back")
    ]
    titles = ["", *(f"{count} a frame" for count in PACKETS_A_FRAME)]
    found.tables.append(Table("Nanoseconds of CPU a frame, handed over and flushed", titles, rows))
    tell(found, options)


if __name__ == "__main__":
    main()
