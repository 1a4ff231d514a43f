"""Numbers of connections at one moment, and what they mean in words. Pure values.

Health is a matter of the moment, and recovers when the cause is gone: it is made of how the connections stand now and
not of counts of what once went wrong.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final, TypeVar

from ingest.connection.session import State

N = TypeVar("N", int, float)

SILENT_SHARE: Final = 0.05
"""More of a connection's instruments without a packet than this is not well. A few never traded: that is usual."""


@dataclass(slots=True)
class Traffic:
    """What came over all sockets of a connection. `last_bytes_at` is monotonic seconds."""

    frames: int = 0
    bytes: int = 0
    last_bytes_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class ConnectionStats:
    """One connection at one moment.

    `bytes` as read from the socket. `packets` are good ones, `decode_failures` the ranges of bytes that were none;
    both None with `raw_only`. `last_frame_age_seconds` is None before the first byte, `uptime_seconds` (of this
    socket) while it is not open. `latency_p50_seconds` and `…_p99_…` are from the read of a frame to its consumer,
    over the last thousand reads that a consumer took; None without one. `silent` instruments were asked for and
    brought nothing, `wrong_mode` ones come in another mode, `asked_again` counts what was asked for once more.
    `problem` says why it is not open.
    """

    account: str
    connection: int
    state: State
    instruments: int = 0
    frames: int = 0
    packets: int | None = 0
    bytes: int = 0
    decode_failures: int | None = 0
    reconnects: int = 0
    silent: int = 0
    wrong_mode: int = 0
    asked_again: int = 0
    last_frame_age_seconds: float | None = None
    uptime_seconds: float | None = None
    latency_p50_seconds: float | None = None
    latency_p99_seconds: float | None = None
    problem: str | None = None

    @property
    def connected(self) -> bool:
        """Whether its socket is open."""
        return self.state is State.OPEN


@dataclass(frozen=True, kw_only=True)
class TotalStats:
    """Sums over connections; of ages and latencies the worst, of uptimes the least. `connected` counts open ones."""

    connections: int
    connected: int
    instruments: int
    frames: int
    packets: int | None
    bytes: int
    decode_failures: int | None
    reconnects: int
    silent: int
    wrong_mode: int
    asked_again: int
    last_frame_age_seconds: float | None
    uptime_seconds: float | None
    latency_p50_seconds: float | None
    latency_p99_seconds: float | None


def total_of(each: Sequence[ConnectionStats]) -> TotalStats:
    """The sums over these connections."""
    return TotalStats(
        connections=len(each),
        connected=sum(one.connected for one in each),
        instruments=sum(one.instruments for one in each),
        frames=sum(one.frames for one in each),
        packets=_known(sum, (one.packets for one in each)),
        bytes=sum(one.bytes for one in each),
        decode_failures=_known(sum, (one.decode_failures for one in each)),
        reconnects=sum(one.reconnects for one in each),
        silent=sum(one.silent for one in each),
        wrong_mode=sum(one.wrong_mode for one in each),
        asked_again=sum(one.asked_again for one in each),
        last_frame_age_seconds=_known(max, (one.last_frame_age_seconds for one in each)),
        uptime_seconds=_known(min, (one.uptime_seconds for one in each)),
        latency_p50_seconds=_known(max, (one.latency_p50_seconds for one in each)),
        latency_p99_seconds=_known(max, (one.latency_p99_seconds for one in each)),
    )


def _known(fold: Callable[[Iterable[N]], N], values: Iterable[N | None]) -> N | None:
    known = [value for value in values if value is not None]
    return fold(known) if known else None


class Status(StrEnum):
    """Healthy: nothing is wrong. Degraded: some of it is. Critical: no instrument comes."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    CRITICAL = "critical"


@dataclass(frozen=True)
class Health:
    """How the connections stand. `percent` of the instruments are on an open connection and come as asked for.

    `reasons` say in words what is wrong; a healthy manager has none. Critical: no instrument comes.
    """

    status: Status
    percent: float
    reasons: tuple[str, ...]


def health_of(connections: Sequence[ConnectionStats], notes: Sequence[str] = (), *, nowhere: int = 0) -> Health:
    """What the numbers mean; `notes` are further reasons, `nowhere` counts wanted instruments on no connection."""
    reasons = []
    wanted = nowhere + sum(one.instruments for one in connections)
    serving = 0
    for one in connections:
        name = f"{one.account}/{one.connection}"
        if not one.connected:
            if one.instruments:
                reasons.append(
                    f"{name} is {one.state}, {one.instruments:,} instruments: {one.problem or 'not yet open'}"
                )
            continue
        serving += one.instruments - one.silent - one.wrong_mode
        if one.silent > one.instruments * SILENT_SHARE:
            reasons.append(f"{name}: {one.silent:,} of {one.instruments:,} instruments brought nothing yet")
        if one.wrong_mode:
            reasons.append(f"{name}: {one.wrong_mode:,} instruments come in another mode than asked for")
    reasons += notes
    percent = 100.0 * serving / wanted if wanted else 100.0
    status = Status.DEGRADED if reasons else Status.HEALTHY
    if wanted and not serving:
        status = Status.CRITICAL
    return Health(status, percent, tuple(reasons))


@dataclass(frozen=True)
class ManagerStats:
    """All connections at one moment, ordered by account and number."""

    connections: Sequence[ConnectionStats]

    @cached_property
    def accounts(self) -> dict[str, TotalStats]:
        """The sums of each account that has a connection."""
        names = dict.fromkeys(one.account for one in self.connections)
        return {name: total_of([one for one in self.connections if one.account == name]) for name in names}

    @cached_property
    def total(self) -> TotalStats:
        """The sums over all connections."""
        return total_of(self.connections)
