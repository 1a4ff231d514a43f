"""The writer process: a child, started and restarted by the service.

Settings come as one line of JSON on standard input; a line of JSON goes to standard output for each committed segment,
and `{"failed": reason}` before it ends because of what only a person can mend. It ends when the live stream's last
segment is committed, or after the present segment once its standard input ends, which is how it learns that the service
has died. Whatever it leaves, its successor takes up where the tables say.
"""

import contextlib
import json
import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from ingest.wire import JournalDecoder
from kitelake.processes.child import begin
from kitelake.telemetry import configure_logs
from storage.commit import SegmentCommitted, SegmentWriter
from storage.errors import StorageError
from storage.layout import DataLayout
from storage.startup import have_one_arena, keep_freed_memory

_NICENESS = 5  # the sockets come first


def main() -> None:
    """Commit segments until told to end."""
    have_one_arena()
    keep_freed_memory()
    stop = threading.Event()
    settings = json.loads(begin(niceness=_NICENESS, ended=stop.set))
    configure_logs(settings["log_level"], settings["log_format"])
    writer = SegmentWriter(
        DataLayout(Path(settings["data"])),
        JournalDecoder(),
        live_stream=settings["live_stream"],
        on_commit=_report,
    )
    structlog.get_logger().debug("writer started", pid=os.getpid())
    try:
        writer.run(poll_seconds=settings["poll_seconds"], stop=stop)
    except StorageError as error:
        structlog.get_logger().error("segments cannot be committed; the journal keeps them", error=str(error))
        _say({"failed": str(error)})
        sys.exit(1)


def _report(segment: SegmentCommitted) -> None:
    _say(asdict(segment))


def _say(line: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the service has died; standard input tells
        print(json.dumps(line), flush=True)  # noqa: T201 (this is the protocol)


if __name__ == "__main__":
    main()
