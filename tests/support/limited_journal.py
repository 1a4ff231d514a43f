"""A journal whose files cannot grow past a limit, in a process of its own.

`python -m tests.support.limited_journal FOLDER` writes RECORDS records and prints how often the system refused a flush.
"""

import errno
import resource
import signal
import sys
from pathlib import Path
from typing import Final

from storage.errors import JournalWriteError
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout

STREAM: Final = "20261123T034500-aaaaaa"
LIMIT_BYTES: Final = 40_000
RECORDS: Final = 100


def main(folder: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, LIMIT_BYTES))
    now = 0.0
    writer = JournalWriter(DataLayout(folder), STREAM, segment_seconds=60, monotonic=lambda: now)
    channel = writer.channel("asha", 1)
    failures = 0
    for number in range(RECORDS):
        writer.append(Kind.BINARY, channel, number, number.to_bytes(2, "big") + bytes(1_000))
        now += 1
        failures += not is_written(writer)
        size = (folder / f"journal/{STREAM}/{writer.segment:010d}.journal").stat().st_size
        assert size < LIMIT_BYTES, "torn bytes are cut off"
    now += 60
    is_written(writer)
    writer.close()
    assert writer.durable_records == RECORDS
    print(failures)


def is_written(writer: JournalWriter) -> bool:
    """Flush; whether the system took it. If not, it stays buffered."""
    before = writer.buffered_bytes
    try:
        writer.flush()
    except JournalWriteError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno != errno.EFBIG or writer.buffered_bytes != before:
            raise
        return False
    return writer.buffered_bytes == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
