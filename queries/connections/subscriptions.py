"""What each connection was to bring and when, worked out from the events of its life. Pure.

A connection is asked for an instrument from `subscribed` until it is lost, `unsubscribed` says so, or the run ends. The
server forgets at each end of a socket, and everything is asked for again after the next opening: an instrument that is
not, by the time of `resumed`, was not wanted any more since the opening. Until then it is wanted, but disconnected.

- A connection is lost as in `queries.connections.runs`: with `closed`, or with the last bytes before it. What we close
  on purpose ends what it was asked for.
- Frames for which there was no room are as good as not sent: `frames lost` says from when to when.
- After a run that was killed its instruments are wanted until the next run asks for them, or begins without doing so;
  after one that was stopped, if the next run asks for them.
- Packets of an instrument for which no event says that it was asked for count as a word for it, from the first on.
"""

import datetime as dt
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from queries.connections.runs import START_SECONDS, Connection, Happening, ServiceRun
from storage.clock import NS_PER_US, nanoseconds
from storage.events import Event, ServiceEvent

NEVER_US: Final = 1 << 62
_STOPPING_US: Final = round(START_SECONDS * 1_000_000)


class _Frames(StrEnum):
    """What a connection's frames went through, as if it were an event of its own."""

    LOST = "its frames are lost"
    RESTORED = "its frames are kept again"


class Period(NamedTuple):
    """From `begin` up to `end`, in µs since 1970, a connection was asked for an instrument. `asked`: as of then, so
    that the first packet is the cached one."""

    token: int
    begin: int
    end: int
    asked: bool


class Wait(NamedTuple):
    """From `begin` up to `end` an instrument was wanted of a connection that was none."""

    token: int
    begin: int
    end: int


@dataclass
class Wanted:
    """What was wanted on a day: periods by stream and connection, and waits."""

    periods: dict[tuple[str, Connection], list[Period]] = field(default_factory=dict)
    waits: list[Wait] = field(default_factory=list)


def wanted_of(
    runs: Sequence[ServiceRun],
    before: Mapping[str, Sequence[Happening]],
    first_packets: Mapping[tuple[str, Connection], Mapping[int, int]],
) -> Wanted:
    """What the runs of a day were to bring. `before` is what happened to them on earlier days, by stream;
    `first_packets` when the day's first packet of each instrument was received, in µs, by stream and connection."""
    found = Wanted()
    left: list[tuple[int, int, ServiceRun]] = []
    for run in runs:
        happenings = [*before.get(run.stream, ()), *run.happenings]
        connections = {each.connection for each in happenings if each.connection is not None} | set(run.ticking)
        for connection in sorted(connections):
            place = run.stream, connection
            life = _Life(_of_connection(happenings, connection), first_packets.get(place, {}))
            left += [(token, at, run) for token, at in life.end(_us(run.end), stopped=run.stopped).items()]
            found.periods[place] = life.periods
            found.waits += life.waits
    found.waits += _between_runs(left, runs, found)
    return found


def _between_runs(
    left: Iterable[tuple[int, int, ServiceRun]], runs: Sequence[ServiceRun], found: Wanted
) -> Iterator[Wait]:
    """The waits for the next run: `left` is what was wanted when a run ended, and since when it was not brought."""
    begins = sorted((_us(run.begin), run.stream) for run in runs)
    first: dict[tuple[str, int], int] = {}
    for (stream, _), periods in found.periods.items():
        for period in periods:
            key = stream, period.token
            first[key] = min(period.begin, first.get(key, NEVER_US))
    for token, at, run in left:
        place = bisect_left(begins, (_us(run.end), ""))
        begin, stream = begins[place] if place < len(begins) else (NEVER_US, "")
        asked = first.get((stream, token))
        if asked is not None:
            yield Wait(token, at, asked)
        elif not run.stopped:
            yield Wait(token, at, begin)


def _of_connection(happenings: Sequence[Happening], connection: Connection) -> list[tuple[int, Happening]]:
    """What happened to it, with the times in µs; what was lost of its frames stands where that began and ended."""
    own = [(_us(each.at), each) for each in happenings if each.connection == connection]
    for each in happenings:
        data = each.data
        if each.event == ServiceEvent.FRAMES_LOST and (data.get("account"), data.get("connection")) == connection:
            for ns, event in ((data["first_ns"], _Frames.LOST), (data["last_ns"], _Frames.RESTORED)):
                at = ns // NS_PER_US
                place = next((number for number, (when, _) in enumerate(own) if when > at), len(own))
                own.insert(place, (at, Happening(each.at, connection, event)))
    return own


class _Life:
    """One connection in one run: what it holds, what it has lost and since when, and what became of it so far."""

    def __init__(self, happenings: Iterable[tuple[int, Happening]], first_packets: Mapping[int, int]) -> None:
        self.periods: list[Period] = []
        self.waits: list[Wait] = []
        self._held: dict[int, tuple[int, bool]] = {}
        self._lost: dict[int, int] = {}
        self._closed: dict[int, int] = {}
        self._muted: set[int] = set()
        self._opened = 0
        events = list(happenings)
        told = {token for _, each in events if each.event == Event.SUBSCRIBED for token in each.data["tokens"]}
        untold = {token: at for token, at in first_packets.items() if token not in told}
        pending = sorted((at, token) for token, at in untold.items())
        for at, each in events:
            while pending and pending[0][0] < at:
                self._hold(pending[0][0], [pending.pop(0)[1]], asked=True)
            self._take(at, each)
            if each.event == Event.CONNECTED:
                self._hold(at, [token for token, first in untold.items() if first <= at], asked=True)
        for at, token in pending:
            self._hold(at, [token], asked=True)

    def end(self, at: int, *, stopped: bool) -> dict[int, int]:
        """The run has ended. Returns what was wanted then, with the time since when it was not brought."""
        left = dict.fromkeys(self._held, at)
        if stopped:  # it closes its connections on purpose before
            left |= {token: closed for token, closed in self._closed.items() if at - closed <= _STOPPING_US}
        self._drop(at)
        for token, since in self._lost.items():
            self._wait(token, since, at)
            left.setdefault(token, at)
        return left

    def _take(self, at: int, each: Happening) -> None:
        match each.event:
            case Event.CONNECTED:
                self._drop(at)
                self._opened = at
            case Event.SUBSCRIBED:
                self._hold(at, each.data["tokens"], asked=True)
            case Event.UNSUBSCRIBED:
                for token in each.data["tokens"]:
                    self._release(token, at)
            case Event.RESUMED:
                self._forget(self._opened)
            case Event.SILENT:
                self._drop(at - round(each.data["silent_seconds"] * 1_000_000))
            case Event.CLOSED if "reason" not in each.data:
                self._closed = dict.fromkeys([*self._held, *self._lost], at)
                for token in list(self._held):
                    self._release(token, at)
                self._forget(at)
            case Event.CLOSED | Event.REFUSED | Event.FAILED:
                self._drop(at)
            case _Frames.LOST:
                muted = set(self._held)
                self._drop(at)
                self._muted = muted
            case _Frames.RESTORED:
                self._hold(at, self._muted & self._lost.keys(), asked=False)

    def _hold(self, at: int, tokens: Iterable[int], *, asked: bool) -> None:
        for token in tokens:
            if token in self._lost:
                self._wait(token, self._lost.pop(token), at)
            self._held.setdefault(token, (at, asked))

    def _release(self, token: int, at: int) -> None:
        if token in self._held:
            begin, asked = self._held.pop(token)
            if begin < at:
                self.periods.append(Period(token, begin, at, asked))

    def _drop(self, at: int) -> None:
        self._muted.clear()
        for token in list(self._held):
            begin = self._held[token][0]
            self._release(token, at)
            self._lost.setdefault(token, max(at, begin))

    def _forget(self, at: int) -> None:
        for token, since in self._lost.items():
            self._wait(token, since, at)
        self._lost.clear()

    def _wait(self, token: int, begin: int, end: int) -> None:
        if begin < end:
            self.waits.append(Wait(token, begin, end))


def _us(moment: dt.datetime) -> int:
    return nanoseconds(moment) // NS_PER_US
