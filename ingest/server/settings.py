"""The simulator's settings: one JSON object, from standard input or a file, so that no secret is in a command line.

Frozen; an unknown key is an error; secrets are `SecretStr`. No error text holds a value that was given, since it might
be a secret.
"""

import ipaddress
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from ingest.errors import IngestError

MAX_CONNECTIONS = 3  # an api_key (Kite Connect v3 streaming docs)
MAX_SUBSCRIPTIONS = 3000  # instruments a connection (Kite Connect v3 streaming docs)
HEARTBEAT_SECONDS = 3.0


class SimulatorError(IngestError):
    """The simulator cannot start: bad settings, or a port that is taken."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _loopback(host: str) -> str:
    try:
        good = ipaddress.ip_address(host).is_loopback
    except ValueError:
        good = host == "localhost"
    if not good:
        raise ValueError("expected a loopback address: the simulator serves this machine only")
    return host


class AccountSettings(_Model):
    """One Kite Connect app with its access token of the day."""

    name: str = Field(
        default="", max_length=64, description="how the record of what was sent calls it; empty: the api_key"
    )
    api_key: str = Field(min_length=1, max_length=256)
    access_token: SecretStr = Field(min_length=1, max_length=256)
    api_secret: SecretStr = Field(default=SecretStr("simulated-secret"), min_length=1, max_length=256)
    request_token: SecretStr | None = Field(default=None, description="the only one that a login may bring; None: any")
    user_id: str = Field("KL0001", min_length=1, max_length=32)
    redirect_url: str = Field(
        "http://127.0.0.1:8710/", min_length=1, description="of the app: where the login page sends the browser"
    )

    @property
    def label(self) -> str:
        """The name, or the api_key where none was given."""
        return self.name or self.api_key


class SimulatorSettings(_Model):
    """Everything that the simulator can be told before it starts; faults are ordered while it runs."""

    accounts: tuple[AccountSettings, ...] = Field(min_length=1)
    seed: int = Field(default=1, ge=0, description="the same seed and start give the same market, packet for packet")
    instruments: int = Field(default=10_000, ge=100, le=100_000, description="size of the market")
    rate: float = Field(default=1.0, gt=0, le=1000, description="activity: 2.0 ticks twice as often")
    steps_per_second: float = Field(default=4.0, gt=0, le=1000, description="an instrument ticks at most once a step")
    start: AwareDatetime | None = Field(default=None, description="the market's clock at the start; None: now")
    host: Annotated[str, AfterValidator(_loopback)] = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65_535, description="WebSocket port; 0 takes a free one")
    api_port: int = Field(default=0, ge=0, le=65_535, description="REST and control port; 0 takes a free one")
    max_connections: int = Field(default=MAX_CONNECTIONS, ge=1, description="open sockets an api_key")
    max_subscriptions: int = Field(default=MAX_SUBSCRIPTIONS, ge=1, description="instruments a connection")
    max_packets_per_frame: int = Field(default=200, ge=1, le=65_535)
    heartbeat_seconds: float = Field(default=HEARTBEAT_SECONDS, gt=0)
    order_seconds: float = Field(default=10.0, ge=0, description="an order update of each account this often; 0: never")
    requests_per_second: int = Field(default=10, ge=1, description="REST calls an api_key, more are answered with 429")
    send_buffer_bytes: int = Field(
        default=4 * 2**20, ge=0, description="a client with more unread than this gets no packets"
    )
    stall_seconds: float = Field(default=60.0, gt=0, description="a client that stays so for this long is dropped")
    record: Path | None = Field(default=None, description="a folder for every frame sent, for tests to read back")
    stats_file: Path | None = Field(
        default=None, description="what was sent, with every instrument, written at the end"
    )
    exit_on_stdin_eof: bool = Field(
        default=False, description="end when standard input does: never outlive the starter"
    )

    @model_validator(mode="after")
    def _distinct(self) -> "SimulatorSettings":
        for what in ("api_key", "label"):
            values = [getattr(account, what) for account in self.accounts]
            if len(set(values)) != len(values):
                raise ValueError(f"accounts: each needs {'an api_key' if what == 'api_key' else 'a name'} of its own")
        return self


def parse_settings(values: Any) -> SimulatorSettings:
    """The settings in what came as JSON; raises `SimulatorError` that names every wrong key, and no value."""
    try:
        return SimulatorSettings.model_validate(values)
    except ValidationError as error:
        raise SimulatorError(f"the simulator's settings are wrong: {describe(error)}") from None


def describe(error: ValidationError) -> str:
    """All that pydantic complains of, without the values that it complains about."""
    complaints = []
    for one in error.errors(include_input=False, include_url=False, include_context=False):
        where = ".".join(str(part) for part in one["loc"])
        complaints.append(f"{where}: {one['msg']}" if where else one["msg"])
    return "; ".join(complaints)
