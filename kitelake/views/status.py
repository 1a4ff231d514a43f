"""The service's status for a reader: connections, lists, accounts, journal and jobs in 80 columns, times in IST."""

import datetime as dt
from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from ingest.connection import Status
from kitelake.telemetry import STOPPED, ConnectionStatus, Job, ListStatus, ServiceStatus, is_running, process_is_there
from kitelake.views.terminal import plain_table
from storage.clock import IST

SHOWN: Final = 20
"""So many texts of what is amiss are shown."""

_MOMENT: Final = "%a %d %b %Y %H:%M:%S"
_MINUTE: Final = "%a %d %b %H:%M"
_COLOURS: Final = {Status.HEALTHY: "green", Status.DEGRADED: "yellow", Status.CRITICAL: "red"}


def render_status(status: ServiceStatus, now: dt.datetime) -> RenderableType:
    """An overview for a terminal of 80 columns, in IST."""

    def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[RenderableType]:
        grid = plain_table(columns)
        for row in rows:
            grid.add_row(*(Text(_printable(cell)) for cell in row))
        return ["", grid] if rows else []

    running = is_running(status, now)
    if running:
        head = Text.assemble(
            ("running", "bold green"), f" since {_at(status.since, _MOMENT)}: {_printable(status.doing)}"
        )
    else:
        head = Text.assemble(("not running", "bold red"), f": {_last_heard(status, now)}")
    health = status.health
    amiss = _amiss(status)
    if len(amiss) > SHOWN:
        amiss[SHOWN:] = [f"and {len(amiss) - SHOWN:,} more"]
    return Group(
        head,
        Text(_printable(f"process {status.pid} on {status.host}, stream {status.stream}"), "dim"),
        "" if running else Text("\nWhat it said then:\n", "bold"),
        Text.assemble(
            (health.status.value, _COLOURS[health.status]),
            f": {health.percent:.1f} % of the instruments come as asked for",
        ),
        *(Text(f"- {_printable(text)}") for text in amiss),
        *table(
            ("connection", "state", ">instruments", ">packets", ">last frame", ">open for"),
            [_connection(one) for one in status.connections],
        ),
        *table(
            ("list", "mode", ">instruments", "hours", "now", ">left out", ">problems"),
            [_list(one) for one in status.lists],
        ),
        *table(("account", "access token"), [(one.name, one.token) for one in status.accounts]),
        *table(("", ""), _watermarks(status)),
        *table(("job", "next", ">", "last", "outcome"), [_job(job, now if running else None) for job in status.jobs]),
    )


def _amiss(status: ServiceStatus) -> list[str]:
    """What is not well, each said once: health has the problems of connections that carry instruments."""
    reasons = status.health.reasons
    others = [
        f"{one.account}/{one.connection} is {one.state}: {one.problem}"
        for one in status.connections
        if one.problem and not any(one.problem in reason for reason in reasons)
    ]
    return [*reasons, *others, *status.problems]


def _connection(one: ConnectionStatus) -> tuple[str, ...]:
    return (
        f"{one.account}/{one.connection}",
        one.state.value,
        f"{one.instruments:,}",
        "-" if one.packets is None else f"{one.packets:,}",
        _span(one.last_frame_age_seconds),
        _span(one.uptime_seconds),
    )


def _list(one: ListStatus) -> tuple[str, ...]:
    hours = ", ".join(map(str, one.hours)) or "not today"
    now = "streamed" if one.active else "not streamed"
    return one.name, one.mode.value, f"{one.instruments:,}", hours, now, f"{one.left_out:,}", f"{one.problems:,}"


def _watermarks(status: ServiceStatus) -> list[tuple[str, str]]:
    lines = []
    if (journal := status.journal) is not None:
        lines = [
            (
                "journal",
                f"received {journal.records:,}, written {journal.written_records:,}, "
                f"durable {journal.durable_records:,} records",
            ),
            ("", f"segment {journal.segment:,}, {journal.bytes / 2**20:,.1f} MiB"),
        ]
        if journal.unwritten_seconds is not None:
            lines.append(("", f"the oldest unwritten record waits for {_span(journal.unwritten_seconds)}"))
    if (tables := status.tables) is not None:
        lag = "" if tables.lag_seconds is None else f", {_span(tables.lag_seconds)} behind"
        waiting = "" if tables.segments_waiting is None else f", segments waiting: {tables.segments_waiting:,}"
        lines.append(("tables", f"{tables.rows:,} rows{lag}{waiting}"))
    return lines


def _job(job: Job, now: dt.datetime | None) -> tuple[str, str, str, str, str]:
    """`now` is None when the service does not run, and nothing is to come."""
    wait = ""
    if job.next_at is not None and now is not None:
        seconds = (job.next_at - now).total_seconds()
        wait = f"in {_span(seconds)}" if seconds > 0 else "now"
    return job.name, _at(job.next_at, _MINUTE), wait, _at(job.last_at, _MINUTE), job.outcome or ""


def _last_heard(status: ServiceStatus, now: dt.datetime) -> str:
    ago = _span((now - status.at).total_seconds())
    if status.doing == STOPPED:
        return f"it was stopped at {_at(status.at, _MOMENT)}, {ago} ago"
    is_there = (
        f"; process {status.pid} is still there: it hangs, or cannot write its status"
        if process_is_there(status)
        else ""
    )
    return f"last heard of at {_at(status.at, _MOMENT)}, {ago} ago{is_there}"


def _at(moment: dt.datetime | None, form: str) -> str:
    return "-" if moment is None else moment.astimezone(IST).strftime(form)


def _span(seconds: float | None) -> str:
    """`0.4 s`, `95 s`, `14 min`, `5 h`, `3 days`."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for size, unit, below in ((1, "s", 120), (60, "min", 7200), (3600, "h", 172_800)):
        if seconds < below:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def _printable(text: str) -> str:
    """Nothing in it may move the cursor or colour the terminal: some texts are the broker's."""
    return "".join(character if character.isprintable() else "?" for character in text)
