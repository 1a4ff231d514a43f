"""When connections were not connected, worked out from the day's events. Pure.

What is known of a connection's life is in its events and in those of the service: see
`storage.events`. A process that is killed leaves no event: its run then ends with the last row of its stream.

- A gap begins with `closed`, or with the last bytes before it if `silent` says that there were none; or with the end of
  a run. It ends with the next `connected`.
- A connection exists from the beginning of a run, and the first run of the day begins with the day. But connections
  are opened as they are needed: one whose first event comes later than `START_SECONDS` after the beginning of its first
  run exists from that event on. It exists up to the end of the last run that has it.
- What we close on purpose, with no attempt to follow, is no gap as long as the run lasts.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from storage.events import Event, ServiceEvent

Stretch = tuple[dt.datetime, dt.datetime]
Connection = tuple[str, int]

START_SECONDS: Final = 60.0
_UNCONNECTED: Final = (Event.CONNECTED, Event.REFUSED, Event.FAILED)  # what happens to those that are not connected


@dataclass(frozen=True)
class Happening:
    """A row of the events table. `connection` is None for the service itself."""

    at: dt.datetime
    connection: Connection | None
    event: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ServiceRun:
    """One run of the service, as far as it lies in the day. `ticking` are connections with rows of ticks.

    `begun_before` the day; `stopped`: as it should, while one that was killed or still runs was not.
    """

    stream: str
    begin: dt.datetime
    end: dt.datetime
    happenings: Sequence[Happening]
    ticking: Collection[Connection]
    begun_before: bool
    stopped: bool

    def has(self, connection: Connection) -> bool:
        return connection in self.ticking or any(each.connection == connection for each in self.happenings)


def run_of(
    stream: str,
    day: Stretch,
    happenings: Sequence[Happening],
    ticking: Collection[Connection],
    last_row: dt.datetime | None,
    *,
    lives_on: bool,
) -> ServiceRun:
    """A stream's run. `happenings` in their order; `last_row` of its ticks; `lives_on` if it outlasts the day."""
    times = {each.event: each.at for each in reversed(happenings) if each.connection is None}
    seen = [*(each.at for each in happenings), *([last_row] if last_row is not None else [])]
    end = times.get(ServiceEvent.STOPPED, day[1] if lives_on else max(seen))
    return ServiceRun(
        stream,
        times.get(ServiceEvent.STARTED, day[0]),
        end,
        happenings,
        ticking,
        begun_before=ServiceEvent.STARTED not in times,
        stopped=ServiceEvent.STOPPED in times,
    )


def outages(runs: Sequence[ServiceRun], day: Stretch) -> dict[Connection, list[Stretch]]:
    """When each connection that there was on that day was not connected, in order."""
    there = {each.connection for run in runs for each in run.happenings if each.connection is not None}
    there |= {connection for run in runs for connection in run.ticking}
    return {connection: _outages(connection, runs, day) for connection in sorted(there)}


def _outages(connection: Connection, runs: Sequence[ServiceRun], day: Stretch) -> list[Stretch]:
    present = [number for number, run in enumerate(runs) if run.has(connection)]
    first, last = present[0], present[-1]
    found = [(day[0], runs[0].begin), (runs[-1].end, day[1])]
    found += [(earlier.end, later.begin) for earlier, later in pairwise(runs)]
    for number in range(first, last + 1):
        run = runs[number]
        found += _in_run(connection, run, day) if number in present else [(run.begin, run.end)]
    since = _since(connection, runs[first], day, is_first=first == 0)
    until = day[1] if last == len(runs) - 1 else runs[last].end
    return within(found, [(since, until)])


def _since(connection: Connection, run: ServiceRun, day: Stretch, *, is_first: bool) -> dt.datetime:
    """When the connection began to exist, by the first run that has it."""
    event = _first_event(connection, run)
    if not _is_open_at_first(event, run, day):
        assert event is not None
        if run.begin == day[0] or event.at - run.begin > dt.timedelta(seconds=START_SECONDS):
            return event.at
    return day[0] if is_first else run.begin


def _first_event(connection: Connection, run: ServiceRun) -> Happening | None:
    return next((each for each in run.happenings if each.connection == connection), None)


def _is_open_at_first(event: Happening | None, run: ServiceRun, day: Stretch) -> bool:
    """Whether the connection whose first event this is, if any, was connected before, as runs from the day before."""
    return event is None or (run.begin == day[0] and event.event not in _UNCONNECTED)


def _in_run(connection: Connection, run: ServiceRun, day: Stretch) -> list[Stretch]:
    found: list[Stretch] = []
    lost = None if _is_open_at_first(_first_event(connection, run), run, day) else run.begin
    for each in run.happenings:
        if each.connection != connection:
            continue
        on_purpose = each.event == Event.CLOSED and "reason" not in each.data
        if lost is not None and (each.event == Event.CONNECTED or on_purpose):
            found.append((lost, each.at))
            lost = None
        elif lost is None and each.event == Event.SILENT:
            lost = each.at - dt.timedelta(seconds=each.data["silent_seconds"])
        elif lost is None and not on_purpose and each.event in (Event.CLOSED, Event.REFUSED):
            lost = each.at
    return found if lost is None else [*found, (lost, run.end)]


def merged(stretches: Iterable[Stretch]) -> list[Stretch]:
    """The same times in as few stretches as possible, in order, without empty ones."""
    found: list[Stretch] = []
    for begin, end in sorted(stretches):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        elif begin < end:
            found.append((begin, end))
    return found


def within(stretches: Iterable[Stretch], hours: Iterable[Stretch]) -> list[Stretch]:
    """What of the stretches lies in the hours, merged."""
    others = merged(hours)
    parts = ((max(b, begin), min(e, end)) for b, e in merged(stretches) for begin, end in others)
    return merged(part for part in parts if part[0] < part[1])
