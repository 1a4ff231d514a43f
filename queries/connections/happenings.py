"""The day's runs of the service, with what happened in them, as the table `events` has it."""

import datetime as dt
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from queries.connections.runs import Connection, Happening, ServiceRun, Stretch, run_of
from queries.lake import LakeState, literal
from storage.clock import IST
from storage.events import Event, ServiceEvent
from storage.journal import is_alive
from storage.layout import DataLayout

OF_CONNECTIONS: Final = (Event.CONNECTED, Event.CLOSED, Event.SILENT)
"""Events whose particulars tell when a connection was open."""
OF_INSTRUMENTS: Final = (*OF_CONNECTIONS, Event.SUBSCRIBED, Event.UNSUBSCRIBED, Event.MODE, ServiceEvent.FRAMES_LOST)
"""… and those that tell what it was to bring."""

LastRow = tuple[str, Connection, dt.datetime]
"""The stream, a connection of it with ticks on the day, and when the last of these was received."""

_ONE_DAY: Final = dt.timedelta(days=1)


def span_of_day(date: dt.date, now: dt.datetime) -> Stretch:
    """The IST day, as far as it has passed."""
    begin = dt.datetime.combine(date, dt.time(), IST)
    return begin, max(begin, min(begin + _ONE_DAY, now))


def last_rows_of(state: LakeState, date: dt.date) -> list[LastRow]:
    """Of each connection with ticks on the day the time of the last one."""
    found = state.sql(
        "SELECT stream, account, connection, max(received_at) AS last FROM ticks_all WHERE date = $date GROUP BY ALL",
        {"date": date},
    ).arrow()
    return [(row["stream"], (row["account"], row["connection"]), row["last"]) for row in found.to_pylist()]


def runs_of_day(
    state: LakeState, span: Stretch, last_rows: Iterable[LastRow], particulars: Collection[str]
) -> list[ServiceRun]:
    """The runs, by their start. Happenings have their data if they are one of `particulars`."""
    date = span[0].date()
    happenings = _read(state, f"date = DATE '{date}'", particulars)
    ticking: dict[str, dict[Connection, dt.datetime]] = {}
    for stream, connection, last in last_rows:
        ticking.setdefault(stream, {})[connection] = last
    later = state.sql("SELECT DISTINCT stream FROM events WHERE date = $date", {"date": date + _ONE_DAY}).arrow()
    outlived = set(later.column("stream").to_pylist())
    layout = DataLayout(state.root)
    return [
        run_of(
            stream,
            span,
            happenings.get(stream, []),
            ticking.get(stream, {}).keys(),
            max(ticking.get(stream, {}).values(), default=None),
            lives_on=stream in outlived or is_alive(layout, stream),
        )
        for stream in sorted(happenings.keys() | ticking.keys())
    ]


def happened_before(state: LakeState, date: dt.date, runs: Iterable[ServiceRun]) -> Mapping[str, Sequence[Happening]]:
    """What happened on days before to the connections of runs that had begun by then, by stream."""
    streams = ", ".join(literal(run.stream) for run in runs if run.begun_before)
    if not streams:
        return {}
    events = ", ".join(literal(event) for event in (*OF_INSTRUMENTS, Event.RESUMED, Event.REFUSED, Event.FAILED))
    where = f"date < DATE '{date}' AND stream IN ({streams}) AND account IS NOT NULL AND event IN ({events})"
    return _read(state, where, OF_INSTRUMENTS)


def _read(state: LakeState, where: str, particulars: Collection[str]) -> dict[str, list[Happening]]:
    told = ", ".join(map(literal, particulars))
    rows = state.sql(
        f"SELECT stream, received_at, account, connection, event, CASE WHEN event IN ({told}) THEN data END AS data "
        f"FROM events WHERE {where} ORDER BY stream, record"
    ).arrow()
    found: dict[str, list[Happening]] = {}
    for row in rows.to_pylist():
        happening = Happening(row["received_at"], _connection(row), row["event"], json.loads(row["data"] or "{}"))
        found.setdefault(row["stream"], []).append(happening)
    return found


def _connection(row: Mapping[str, Any]) -> Connection | None:
    return None if row["account"] is None else (row["account"], row["connection"])
