"""What a replay can be told before it starts."""

import math
from typing import ClassVar

from pydantic import Field

from ingest.server import AccountSettings, ServerSettings


class ReplaySettings(ServerSettings):
    """Those of a server whose packets were captured: it waits for its clients, and, unless told otherwise, takes
    anybody."""

    whose: ClassVar[str] = "replay"

    accounts: tuple[AccountSettings, ...] = Field(default=(), description="who may come; none named: anybody")
    speed: float = Field(default=1.0, gt=0, description="market seconds a second; inf: as fast as clients take it")
    paused: bool = Field(default=False, description="start with the market's clock standing")
    wait_for_clients: int = Field(default=0, ge=0, description="start when so many connections have subscribed")
    wait_for_instruments: int = Field(
        default=0, ge=0, description="start when so many are subscribed, counted on each connection"
    )
    lockstep: bool = Field(default=False, description="the clock stops after each slice until clients have acted on it")
    slice_seconds: float = Field(default=0.25, gt=0, le=60, description="of market time, sent at once")
    max_packets_per_frame: int = Field(default=65_535, ge=1, le=65_535, description="frames are as captured below this")
    heartbeat_seconds: float = Field(default=1.0, gt=0)
    requests_per_second: int = Field(default=1000, ge=1, description="REST calls an api_key; more get 429")
    send_buffer_bytes: int = Field(
        default=4 * 2**20, ge=0, description="a client with more unread than this holds the clock"
    )
    stall_seconds: float = Field(default=math.inf, gt=0, description="a client that holds it for this long is dropped")
