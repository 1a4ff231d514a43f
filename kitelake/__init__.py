"""Kitelake: every tick of your Kite Connect accounts, captured once, in SQL a moment later.

import kitelake

lake = kitelake.open("data/simulated")
lake.sql("select symbol, last_price from ticks order by received_at desc limit 5").show()
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingest.wire import Mode as Mode
    from ingest.wire import decode_frames as decode_frames
    from ingest.wire import decode_frames_with_report as decode_frames_with_report
    from ingest.wire import encode_frames as encode_frames
    from ingest.wire import encode_packets as encode_packets
    from ingest.wire import frame_views as frame_views
    from ingest.wire import packet_view as packet_view
    from ingest.wire import run_view as run_view
    from queries.lake import Lake as Lake
    from queries.result import Result as Result
    from storage.errors import KitelakeError as KitelakeError
    from storage.schema import TABLES as TABLES

    __version__: str

# Public name -> where it lives. Imported when first used: the service's child processes need few of them.
_HOMES = {
    "KitelakeError": "storage.errors",
    "Lake": "queries.lake",
    "Mode": "ingest.wire",
    "Result": "queries.result",
    "TABLES": "storage.schema",
    "decode_frames": "ingest.wire",
    "decode_frames_with_report": "ingest.wire",
    "encode_frames": "ingest.wire",
    "encode_packets": "ingest.wire",
    "frame_views": "ingest.wire",
    "packet_view": "ingest.wire",
    "run_view": "ingest.wire",
}

__all__ = [
    "TABLES",
    "KitelakeError",
    "Lake",
    "Mode",
    "Result",
    "decode_frames",
    "decode_frames_with_report",
    "encode_frames",
    "encode_packets",
    "frame_views",
    "open",
    "packet_view",
    "run_view",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("kitelake")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def open(path: str | Path) -> "Lake":  # noqa: A001 (the name that users expect: kitelake.open)
    """Open a data folder for queries. Nothing is written to it and no lock is taken, so a service may be running.

    Raises `DataFolderError` if the folder is not there or holds no lake.
    """
    from ingest.derive import JournalDecoder
    from queries.lake import Lake

    return Lake(Path(path), JournalDecoder())
