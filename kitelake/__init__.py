"""Kitelake: every tick of your Kite Connect accounts, captured once, in SQL a moment later.

import kitelake

lake = kitelake.open("data/simulated")
lake.sql("select symbol, last_price from ticks order by received_at desc limit 5").show()
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingest.manager.allocation import Moved as Moved
    from ingest.connection.connection import KiteConnection as KiteConnection
    from ingest.connection.connection import StreamSettings as StreamSettings
    from ingest.errors import AuthError as AuthError
    from ingest.errors import CapacityError as CapacityError
    from ingest.errors import InstrumentError as InstrumentError
    from ingest.connection.feeds import ConnectionEvent as ConnectionEvent
    from ingest.connection.feeds import Frame as Frame
    from ingest.connection.feeds import Level as Level
    from ingest.connection.feeds import OrderUpdate as OrderUpdate
    from ingest.connection.feeds import Tick as Tick
    from ingest.connection.hub import Feed as Feed
    from ingest.connection.hub import Gap as Gap
    from ingest.manager.manager import ManagerSettings as ManagerSettings
    from ingest.manager.manager import TickerManager as TickerManager
    from ingest.manager.placement import Slot as Slot
    from ingest.manager.placement import Strategy as Strategy
    from ingest.accounts.redact import Account as Account
    from ingest.connection.stats import ConnectionStats as ConnectionStats
    from ingest.connection.stats import Health as Health
    from ingest.connection.stats import ManagerStats as ManagerStats
    from ingest.connection.stats import Status as Status
    from ingest.connection.stats import TotalStats as TotalStats
    from ingest.wire import Mode as Mode
    from ingest.wire import decode_frames as decode_frames
    from ingest.wire import decode_frames_with_report as decode_frames_with_report
    from ingest.wire import encode_frames as encode_frames
    from ingest.wire import encode_packets as encode_packets
    from ingest.wire import frame_views as frame_views
    from ingest.wire import packet_view as packet_view
    from ingest.wire import run_view as run_view
    from queries.lake.lake import Lake as Lake
    from queries.lake.result import Result as Result
    from storage.errors import KitelakeError as KitelakeError
    from storage.schema import TABLES as TABLES

    __version__: str

# Public name -> where it lives. Imported when first used: the service's child processes need few of them.
_HOMES = {
    "Account": "ingest.accounts.redact",
    "AuthError": "ingest.errors",
    "CapacityError": "ingest.errors",
    "ConnectionEvent": "ingest.connection.feeds",
    "ConnectionStats": "ingest.connection.stats",
    "Feed": "ingest.connection.hub",
    "Frame": "ingest.connection.feeds",
    "Gap": "ingest.connection.hub",
    "Health": "ingest.connection.stats",
    "InstrumentError": "ingest.errors",
    "KiteConnection": "ingest.connection.connection",
    "KitelakeError": "storage.errors",
    "Lake": "queries.lake.lake",
    "Level": "ingest.connection.feeds",
    "ManagerSettings": "ingest.manager.manager",
    "ManagerStats": "ingest.connection.stats",
    "Mode": "ingest.wire",
    "Moved": "ingest.manager.allocation",
    "OrderUpdate": "ingest.connection.feeds",
    "Result": "queries.lake.result",
    "Slot": "ingest.manager.placement",
    "Status": "ingest.connection.stats",
    "Strategy": "ingest.manager.placement",
    "StreamSettings": "ingest.connection.connection",
    "TABLES": "storage.schema",
    "Tick": "ingest.connection.feeds",
    "TickerManager": "ingest.manager.manager",
    "TotalStats": "ingest.connection.stats",
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
    from ingest.wire.journal import JournalDecoder
    from queries.lake.lake import Lake

    return Lake(Path(path), JournalDecoder())
