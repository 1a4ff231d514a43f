"""A market of its own that speaks the broker's protocol on loopback, misbehaves on order, and knows what it sent."""

from ingest.server.record import ConnectionId, Kind, Recorded, read_record
from ingest.simulator.run import simulate
from ingest.server.server import Simulator
from ingest.server.settings import AccountSettings, SimulatorError, SimulatorSettings, parse_settings

__all__ = [
    "AccountSettings",
    "ConnectionId",
    "Kind",
    "Recorded",
    "Simulator",
    "SimulatorError",
    "SimulatorSettings",
    "parse_settings",
    "read_record",
    "simulate",
]
