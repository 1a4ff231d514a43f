"""A capture that goes on while something is measured: one process journals ticks, another commits them.

    python -m benchmarks.live_feed FOLDER [--rate 50000] [--seconds 90]

Full packets of 3,000 instruments, 5 a frame, as `benchmarks.market_ticks` has them for the first seconds of trading,
over and over. A segment ends with 64 MiB or a minute, as by default: 7 seconds of that rate.
"""

import argparse
import datetime as dt
import multiprocessing
import threading
import time
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from benchmarks.market_listing import LAST_DAY, Listing
from benchmarks.market_ticks import Ticks
from ingest.wire import JournalDecoder, encode_frames
from storage.clock import IST
from storage.commit import SegmentWriter
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout, stream_name
from storage.tables import write_instruments

PER_FRAME: Final = 5
FLUSH_SECONDS: Final = 0.01
SEGMENT_BYTES: Final = 64 << 20
SEGMENT_SECONDS: Final = 60
_AFTER_OPEN: Final = 3600.0  # seconds from 09:00


def make_frames(listing: Listing, ticks: int, per_frame: int = PER_FRAME) -> list[bytes]:
    """Frames of about so many ticks, in the order of their receipt."""
    rows_a_second = 1000
    day = Ticks(LAST_DAY, "feed", listing, rows_a_second * 24_000, np.random.default_rng(1))
    parts = day.between(_AFTER_OPEN, _AFTER_OPEN + ticks / rows_a_second)
    rows = pa.concat_tables([part for _, part in parts], promote_options="permissive").sort_by("seq")
    return encode_frames(rows, per_frame)


def feed(root: Path, stream: str, rate: int, seconds: float) -> None:
    """Journal `rate` ticks a second for so long."""
    layout = DataLayout(root)
    listing = Listing(3000, LAST_DAY, np.random.default_rng(1))
    write_instruments(layout, dt.datetime.now(IST).date(), listing.table)
    frames = make_frames(listing, 100_000)
    journal = JournalWriter(layout, stream, segment_bytes=SEGMENT_BYTES, segment_seconds=SEGMENT_SECONDS)
    channel = journal.channel("asha", 1)
    start, sent = time.monotonic(), 0
    while (passed := time.monotonic() - start) < seconds:
        due = int(passed * rate / PER_FRAME)
        now_ns = time.time_ns()
        for number in range(sent, due):
            journal.append(Kind.BINARY, channel, now_ns, frames[number % len(frames)])
        sent = due
        journal.flush()
        time.sleep(FLUSH_SECONDS)
    journal.close()


def capture(root: Path, rate: int, seconds: float) -> None:
    """Feed and commit, in a process each, until all is committed. Raises RuntimeError if the feed fails."""
    stream = stream_name(dt.datetime.now(dt.UTC), "000001")
    feeder = multiprocessing.get_context("spawn").Process(target=feed, args=(root, stream, rate, seconds))
    feeder.start()
    stop = threading.Event()

    def watch() -> None:
        feeder.join()
        if feeder.exitcode:
            stop.set()

    threading.Thread(target=watch).start()
    layout = DataLayout(root)
    while feeder.is_alive() and not layout.stream(stream).exists():
        time.sleep(FLUSH_SECONDS)
    SegmentWriter(layout, JournalDecoder(), stream).run(poll_seconds=0.25, stop=stop)
    feeder.join()
    if feeder.exitcode:
        raise RuntimeError(f"the feed ended with {feeder.exitcode}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rate", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=90)
    options = parser.parse_args()
    capture(options.folder, options.rate, options.seconds)


if __name__ == "__main__":
    main()
