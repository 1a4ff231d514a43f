"""A hub with two connections, and what comes over them, for the tests of those who read from it."""

from typing import Any, Final

from ingest.connection.consumers import Consumers
from ingest.connection.hub import Hub
from ingest.settings import BufferSettings

NINE_NS: Final = 1_764_000_000_000_000_000
LTP: Final = bytes.fromhex("0001 0008 00063b01 000186a0")
"""A frame of one packet: token 408321, 1000.00 rupees."""


def consumers(**changes: Any) -> tuple[Hub, Consumers, int, int]:
    """A hub, all ways to read from it, and the channels of connection 1 of account one and 3 of account two."""
    hub = Hub()
    return hub, Consumers(hub, BufferSettings(**changes)), hub.channel("one", 1), hub.channel("two", 3)
