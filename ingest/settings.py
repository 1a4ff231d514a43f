"""The broker's limits, and how connections, their consumers and a manager of many behave.

It loads pydantic and nothing else: whoever reads a configuration needs no codec and no sockets.
"""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from storage.memory import Mode

MAX_CONNECTIONS: Final = 3
"""Of one api_key, open at the same time (Kite Connect v3 streaming docs)."""
MAX_INSTRUMENTS: Final = 3000
"""On one connection (Kite Connect v3 streaming docs)."""
MAX_TOKEN: Final = 2**32 - 1
"""A packet has four bytes for the instrument token."""


RestSeconds = Annotated[
    float, Field(ge=0, le=0.1, description="a busy socket is read again after so long; 0: as soon as bytes come")
]


class ConnectionSettings(BaseModel):
    """How a connection behaves. Checked when made; an unknown key is refused. Times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    open_timeout_seconds: float = Field(
        default=10.0, gt=0, description="for name lookup, TCP, TLS and handshake together"
    )
    close_timeout_seconds: float = Field(
        default=1.5, gt=0, description="how long a clean close may take before it is forced"
    )
    liveness_seconds: float = Field(default=6.0, gt=0, description="silence after which the peer counts as dead")
    backoff_initial_seconds: float = Field(
        default=0.5, gt=0, description="upper bound of the first wait before a reconnect"
    )
    backoff_cap_seconds: float = Field(default=30.0, gt=0, description="upper bound of every later wait")
    slow_retry_seconds: float = Field(default=30.0, gt=0, description="wait after 429 and other refusals")
    token_retry_seconds: float = Field(
        default=300.0, gt=0, description="without a new token, a refused one is tried again after this"
    )
    settled_seconds: float = Field(default=2.0, ge=0, description="a connection that lived so long starts backoff anew")
    tokens_per_message: int = Field(
        default=1000, ge=1, le=3000, description="instruments named by one text message at most"
    )
    rest_seconds: RestSeconds = 0.003
    max_frame_bytes: int = Field(default=16 << 20, ge=1 << 16, description="a longer frame is a protocol error")


class WatchdogSettings(ConnectionSettings):
    """When a connection counts as not serving what it was asked for."""

    answer_seconds: float = Field(
        default=10.0, gt=0, description="an instrument that brings nothing for so long after it is asked for is silent"
    )
    stall_seconds: float = Field(
        default=60.0, gt=0, description="a connection without a packet for so long is asked for one instrument anew"
    )
    raw_only: bool = Field(
        default=False, description="hand out raw frames and look into none: no packet counts, no watch over instruments"
    )


class BufferSettings(BaseModel):
    """How much a consumer may fall behind before it loses the oldest. Each consumer has a buffer of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    buffer_frames: int = Field(default=100_000, ge=1, description="frames that may wait for a consumer")
    buffer_bytes: int = Field(default=64 << 20, ge=1, description="bytes of frames that may wait for a consumer")
    buffer_seconds: float = Field(default=30.0, gt=0, description="time that the waiting frames may span")
    batch_seconds: float = Field(
        default=0.002, ge=0, description="what comes so soon after a batch waits for company; 0: nothing ever waits"
    )


class StreamSettings(WatchdogSettings, BufferSettings):
    """How a connection behaves, and how far its consumers may fall behind. Checked when made."""


class Strategy(StrEnum):
    """How instruments are spread over connections."""

    BALANCED = "balanced"
    """The heaviest first, each to the connection with the least load."""
    ROUND_ROBIN = "round_robin"
    """In the given order, each to the connection with the fewest instruments: dealt in turn."""
    MANUAL = "manual"
    """On the account that is named with them; balanced over its connections."""
    REDUNDANT = "redundant"
    """Balanced, with copies of each instrument on different accounts."""


class ManagerSettings(StreamSettings):
    """How a manager and its connections behave. Checked when made; an unknown key is refused."""

    connections: int = Field(
        default=MAX_CONNECTIONS,
        ge=1,
        le=MAX_CONNECTIONS,
        description="connections an account, at most (the broker allows 3)",
    )
    instruments_per_connection: int = Field(
        default=MAX_INSTRUMENTS, ge=1, le=MAX_INSTRUMENTS, description="at most (the broker allows 3000)"
    )
    default_mode: Mode = Field(default=Mode.QUOTE, description="for instruments that are subscribed without a mode")
    strategy: Strategy = Field(
        default=Strategy.BALANCED, description="how instruments are placed: balanced, round_robin, manual or redundant"
    )
    copies: int = Field(default=2, ge=1, description="on how many accounts `redundant` streams each instrument")
