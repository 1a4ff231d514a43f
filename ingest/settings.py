"""The broker's limits, and how a connection behaves."""

from typing import Final

from pydantic import BaseModel, ConfigDict, Field


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
    max_frame_bytes: int = Field(default=16 << 20, ge=1 << 16, description="a longer frame is a protocol error")


MAX_CONNECTIONS: Final = 3

MAX_INSTRUMENTS: Final = 3000


MAX_TOKEN: Final = 2**32 - 1  # a packet has four bytes for it
