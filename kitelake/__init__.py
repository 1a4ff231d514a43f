"""Kitelake: every tick of your Kite Connect accounts, captured once, in SQL a moment later.

import kitelake

lake = kitelake.open("data/simulated")
lake.sql("select symbol, last_price from ticks order by received_at desc limit 5").show()
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingest.allocation import Moved as Moved
    from ingest.connection import KiteConnection as KiteConnection
    from ingest.connection import StreamSettings as StreamSettings
    from ingest.errors import AuthError as AuthError
    from ingest.errors import CapacityError as CapacityError
    from ingest.errors import InstrumentError as InstrumentError
    from ingest.feeds import ConnectionEvent as ConnectionEvent
    from ingest.feeds import Frame as Frame
    from ingest.feeds import Level as Level
    from ingest.feeds import OrderUpdate as OrderUpdate
    from ingest.feeds import Tick as Tick
    from ingest.hub import Feed as Feed
    from ingest.hub import Gap as Gap
    from ingest.manager import ManagerSettings as ManagerSettings
    from ingest.manager import TickerManager as TickerManager
    from ingest.placement import Slot as Slot
    from ingest.placement import Strategy as Strategy
    from ingest.redact import Account as Account
    from ingest.stats import ConnectionStats as ConnectionStats
    from ingest.stats import Health as Health
    from ingest.stats import ManagerStats as ManagerStats
    from ingest.stats import Status as Status
    from ingest.stats import TotalStats as TotalStats
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
    "Account": "ingest.redact",
    "AuthError": "ingest.errors",
    "CapacityError": "ingest.errors",
    "ConnectionEvent": "ingest.feeds",
    "ConnectionStats": "ingest.stats",
    "Feed": "ingest.hub",
    "Frame": "ingest.feeds",
    "Gap": "ingest.hub",
    "Health": "ingest.stats",
    "InstrumentError": "ingest.errors",
    "KiteConnection": "ingest.connection",
    "KitelakeError": "storage.errors",
    "Lake": "queries.lake",
    "Level": "ingest.feeds",
    "ManagerSettings": "ingest.manager",
    "ManagerStats": "ingest.stats",
    "Mode": "ingest.wire",
    "Moved": "ingest.allocation",
    "OrderUpdate": "ingest.feeds",
    "Result": "queries.result",
    "Slot": "ingest.placement",
    "Status": "ingest.stats",
    "Strategy": "ingest.placement",
    "StreamSettings": "ingest.connection",
    "TABLES": "storage.schema",
    "Tick": "ingest.feeds",
    "TickerManager": "ingest.manager",
    "TotalStats": "ingest.stats",
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
    "Account",
    "AuthError",
    "CapacityError",
    "ConnectionEvent",
    "ConnectionStats",
    "Feed",
    "Frame",
    "Gap",
    "Health",
    "InstrumentError",
    "KiteConnection",
    "KitelakeError",
    "Lake",
    "Level",
    "ManagerSettings",
    "ManagerStats",
    "Mode",
    "Moved",
    "OrderUpdate",
    "Result",
    "Slot",
    "Status",
    "Strategy",
    "StreamSettings",
    "Tick",
    "TickerManager",
    "TotalStats",
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
