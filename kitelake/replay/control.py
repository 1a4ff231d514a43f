"""What a replay can be told: before it starts, and at its control address while it runs."""

import datetime as dt
import math
from typing import Any, ClassVar, Final

from pydantic import Field

from ingest.server import AccountSettings, ControlError, ServerSettings
from kitelake.replay.market_clock import MarketClock
from storage.clock import IST, time_of, us_of

FASTEST: Final = "max"


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


def parse_nothing(command: str, values: Any) -> None:
    """For a command that needs no values; raises `ControlError` if it got some."""
    if values != {}:
        raise ControlError(f"{command}: got {_short(values)}, expected no body, or an empty object")


def parse_speed(values: Any) -> float:
    """The speed in `{"speed": …}`, `inf` for "max"; raises `ControlError`."""
    expected = 'expected {"speed": a number above 0, or "max"}'
    match values:
        case {"speed": "max", **others} if not others:
            return math.inf
        case {"speed": int() | float() as speed, **others} if not others and not isinstance(speed, bool):
            if 0 < speed < math.inf:
                return speed
    raise ControlError(f"speed: got {_short(values)}, {expected}")


def parse_seek(values: Any, clock: MarketClock) -> int:
    """Where `{"to": …}` goes: a time of the replayed day, a date and time (IST unless it says otherwise), or
    microseconds since the epoch. Raises `ControlError` if that is nonsense, not ahead, or not of the replay."""
    match values:
        case {"to": str() | int() as to, **others} if not others and not isinstance(to, bool):
            us = to if isinstance(to, int) else _moment(to, clock)
        case _:
            us = None
    if us is None:
        expected = 'expected {"to": "10:15", or "2026-11-27T10:15:30", or microseconds since the epoch}'
        raise ControlError(f"seek: got {_short(values)}, {expected}")
    now = clock.now_us()
    if us < now:
        raise ControlError(
            f"seek: got {_said(us)}, expected a time from {ist(now)} on, for it goes forward only; reset begins again"
        )
    if us > clock.stop_us:
        raise ControlError(f"seek: got {_said(us)}, expected a time up to the replay's end, {ist(clock.stop_us)}")
    return us


def ist(us: int) -> str:
    """A moment as ISO 8601 has it, in IST."""
    return time_of(us).isoformat()


def shown_speed(speed: float) -> float | str:
    """As JSON can say it."""
    return FASTEST if math.isinf(speed) else speed


def _moment(text: str, clock: MarketClock) -> int | None:
    day = time_of(clock.start_us).date()
    try:
        moment = dt.datetime.combine(day, dt.time.fromisoformat(text))
    except ValueError:
        try:
            moment = dt.datetime.fromisoformat(text)
        except ValueError:
            return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=IST)
    return us_of(moment)


def _said(us: int) -> str:
    try:
        return ist(us)
    except OverflowError:
        return f"{_short(us)} µs since the epoch"


def _short(values: Any) -> str:
    text = repr(values)
    return text if len(text) <= 100 else f"{text[:100]}…"
