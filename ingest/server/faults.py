"""What a server can be told to do wrong, and what of it still stands.

A fault is one JSON object with a `kind`, as posted to the control address. Some are done at once (drop, garbage), the
others stand: for a number of `times`, for a number of `seconds`, or, with neither, once for refusals and until
`clear` for the rest. `account` is an account's name and `connection` the number of one of its connections; without
them it is about all.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError

from ingest.errors import ServerError


class ControlError(ServerError):
    """What was posted to the control address cannot be done."""


class FaultError(ControlError):
    """What was posted is not a fault."""


class _Fault(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class _Targeted(_Fault):
    account: str | None = None
    connection: int | None = Field(default=None, ge=1)


class _Standing(_Fault):
    account: str | None = None
    times: int | None = Field(default=None, ge=1)
    seconds: float | None = Field(default=None, gt=0)


class Drop(_Targeted):
    """Cut connections, after all that was sent has reached the client: by RST, by a close frame, or by plain end."""

    kind: Literal["drop"]
    how: Literal["rst", "close", "eof"] = "rst"
    code: int = Field(default=1001, ge=1000, le=4999, description="of the close frame")


class Silent(_Targeted):
    """Send nothing, not even heartbeats, with the socket open; `deaf`: read nothing either, so pings go unanswered."""

    kind: Literal["silent"]
    seconds: float | None = Field(default=None, gt=0)
    deaf: bool = False


class Garbage(_Targeted):
    """Send frames that are none. noise: random bytes. empty: no bytes. count: claims more packets than follow.
    length: a packet of no known length. trailing: bytes after the last packet. All but noise and empty also hold whole
    packets."""

    kind: Literal["garbage"]
    form: Literal["noise", "empty", "count", "length", "trailing"] = "noise"
    count: int = Field(default=1, ge=1, le=10_000)


class Truncated(_Targeted):
    """Send frames of cached packets that end within the last one; the packets before it are whole."""

    kind: Literal["truncated"]
    count: int = Field(default=1, ge=1, le=10_000)


class Refuse(_Standing):
    """Answer WebSocket handshakes with this HTTP status."""

    kind: Literal["refuse"]
    status: int = Field(default=403, ge=400, le=599)


class RefuseRest(_Standing):
    """Answer REST calls with this HTTP status; `path` is how the paths concerned begin."""

    kind: Literal["rest"]
    status: int = Field(default=403, ge=400, le=599)
    path: str = "/"


class Delay(_Standing):
    """Let handshakes come later by so much, or all frames of the connections that are open now (whatever `times`)."""

    kind: Literal["delay"]
    what: Literal["handshake", "frames"] = "handshake"
    by_seconds: float = Field(gt=0, le=60)


class Ignore(_Standing):
    """Take each `every`-th token of subscribe requests and never stream it."""

    kind: Literal["ignore"]
    every: int = Field(ge=1)


class ReplaceToken(_Fault):
    """Another login has replaced the account's access token; open sockets outlive it."""

    kind: Literal["token"]
    account: str
    access_token: SecretStr


class PushOrder(_Targeted):
    """Push an order update to the sockets of an account; `data` replaces fields of it."""

    kind: Literal["order"]
    data: dict[str, Any] = Field(default_factory=dict)


class PushText(_Targeted):
    """Push a text message of this type, or `raw` text as it is."""

    kind: Literal["text"]
    type: str = "message"
    data: Any = "simulated message"
    raw: str | None = None


class Switch(_Fault):
    """pause: no new packets or orders until resume; heartbeats go on. clear: no fault stands any more."""

    kind: Literal["pause", "resume", "clear"]


StandingFault = Refuse | RefuseRest | Delay | Ignore
Disturbance = Drop | Silent | Garbage | Truncated | PushText
"""What is done at once to open connections."""

Fault = Annotated[
    Disturbance | StandingFault | ReplaceToken | PushOrder | Switch,
    Field(discriminator="kind"),
]
_ADAPTER: TypeAdapter[Any] = TypeAdapter(Fault)


def parse_fault(values: Any) -> Fault:
    """The fault in what came as JSON; raises `FaultError` that names every wrong key, and no value."""
    try:
        fault: Fault = _ADAPTER.validate_python(values)
    except ValidationError as error:
        raise FaultError(f"not a fault: {describe(error)}") from None
    return fault


def describe(error: ValidationError) -> str:
    """All that pydantic complains of, without the values that it complains about."""
    complaints = []
    for one in error.errors(include_input=False, include_url=False, include_context=False):
        where = ".".join(str(part) for part in one["loc"])
        complaints.append(f"{where}: {one['msg']}" if where else one["msg"])
    return "; ".join(complaints)


T = TypeVar("T", Refuse, RefuseRest, Delay, Ignore)


@dataclass
class _InForce:
    fault: StandingFault
    times_left: int | None
    until: float | None


class StandingFaults:
    """The faults in force, oldest first. `now` is `time.monotonic()`. Safe from several threads."""

    def __init__(self) -> None:
        self._in_force: list[_InForce] = []
        self._lock = threading.Lock()

    def add(self, fault: StandingFault, now: float) -> None:
        times = fault.times
        if times is None and fault.seconds is None and isinstance(fault, Refuse | RefuseRest):
            times = 1
        until = None if fault.seconds is None else now + fault.seconds
        with self._lock:
            self._in_force.append(_InForce(fault, times, until))

    def clear(self) -> None:
        with self._lock:
            self._in_force.clear()

    def take(
        self, kind: type[T], account: str | None, now: float, matches: Callable[[T], bool] = lambda _: True
    ) -> T | None:
        """The oldest such fault about the account that matches, counted as used once; None if none stands."""
        with self._lock:
            self._in_force = [one for one in self._in_force if one.until is None or now < one.until]
            for one in self._in_force:
                fault = one.fault
                if not isinstance(fault, kind) or fault.account not in {None, account} or not matches(fault):
                    continue
                if one.times_left is not None:
                    one.times_left -= 1
                    if one.times_left == 0:
                        self._in_force.remove(one)
                return fault
        return None
