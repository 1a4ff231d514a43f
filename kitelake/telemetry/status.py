"""What the running service says of itself: a file in the data folder, written every second, for other processes.

`status.json` is replaced whole, so that whoever reads it never sees half of it. It is not synced, since it means
nothing after the machine has gone down. It holds no secret: texts in it have passed a redactor.
"""

import datetime as dt
import os
import socket
from pathlib import Path
from typing import Final, Literal

from pydantic import AwareDatetime, Field, ValidationError

from ingest.connection import Health, ManagerStats, State
from ingest.wire import Mode
from kitelake.config import Section
from storage.errors import DataFolderError
from storage.files import write_whole
from storage.journal import JournalWriter
from storage.layout import DataLayout
from storage.market import Hours

STALE_SECONDS: Final = 10.0
"""A status older than this is of a service that no longer runs, or hangs."""

STOPPED: Final = "stopped"
"""What a service does, in words, after a clean end: its last status says so."""


class Job(Section):
    """Something that the service does at set times."""

    name: str
    next_at: AwareDatetime | None = Field(default=None, description="when it is due; None while it is paused")
    last_at: AwareDatetime | None = Field(default=None, description="when the outcome became known")
    outcome: str | None = Field(default=None, description='of the last time: "running", "done", "missed", "failed: …"')


class ListStatus(Section):
    """A subscription list."""

    name: str
    mode: Mode
    instruments: int
    active: bool = Field(description="whether it is streamed now")
    left_out: int = Field(description="instruments without room on any connection")
    hours: tuple[Hours, ...] = Field(default=(), description="when it is streamed today, in IST; none: not today")
    problems: int = Field(description="names that the day's instrument list does not know")


class ConnectionStatus(Section):
    """A connection of an account: the part of `ingest.connection.stats.ConnectionStats` that tells how it stands."""

    account: str
    connection: int
    state: State
    instruments: int
    packets: int | None = Field(default=None, description="good ones; None with `capture.raw_only`")
    last_frame_age_seconds: float | None = Field(default=None, description="None before the first byte")
    uptime_seconds: float | None = Field(default=None, description="of this socket; None while it is not open")
    problem: str | None = Field(default=None, description="why it is not open")


class AccountStatus(Section):
    """An account."""

    name: str
    token: str = Field(description='how its access token stands, in words: "good, checked at 08:30"')


class JournalStatus(Section):
    """How far the journal has come. Records count from the start of the stream."""

    records: int = Field(description="received")
    written_records: int = Field(description="safe from the end of the process")
    durable_records: int = Field(description="safe from the end of the machine")
    unwritten_seconds: float | None = Field(default=None, description="how long the oldest unwritten one has waited")
    segment: int = Field(description="the number of the segment being written")
    bytes: int = Field(description="of all segments of the stream")


class TablesStatus(Section):
    """How far the tables have come with this stream."""

    rows: int = Field(description="committed")
    lag_seconds: float | None = Field(default=None, description="the age of the newest committed row")
    segments_waiting: int | None = Field(default=None, description="sealed and not yet committed")


class ServiceStatus(Section):
    """The whole service at the moment `at`."""

    at: AwareDatetime
    pid: int = Field(gt=0, lt=2**31)
    host: str
    stream: str
    since: AwareDatetime
    phase: Literal["capturing", "waiting", "stopping"]
    doing: str = Field(description='in words: "capturing until 15:35", "waiting: NSE opens on Wed 25 Nov at 09:00"')
    health: Health
    connections: tuple[ConnectionStatus, ...] = ()
    accounts: tuple[AccountStatus, ...] = ()
    lists: tuple[ListStatus, ...] = ()
    journal: JournalStatus | None = Field(default=None, description="None before it is begun")
    tables: TablesStatus | None = Field(default=None, description="None before the writer runs")
    jobs: tuple[Job, ...] = ()
    problems: tuple[str, ...] = Field(default=(), description="what else is amiss, in words")


def connections_of(stats: ManagerStats) -> tuple[ConnectionStatus, ...]:
    """The connections, ordered as in `stats`."""
    return tuple(
        ConnectionStatus(**{name: getattr(one, name) for name in ConnectionStatus.model_fields})
        for one in stats.connections
    )


def journal_of(journal: JournalWriter, unwritten_seconds: float | None = None) -> JournalStatus:
    """How far `journal` has come. For the thread that appends to it."""
    return JournalStatus(
        records=journal.records,
        written_records=journal.written_records,
        durable_records=journal.durable_records,
        unwritten_seconds=unwritten_seconds,
        segment=journal.segment,
        bytes=journal.written_bytes,
    )


def write_status(layout: DataLayout, status: ServiceStatus) -> bool:
    """Replace the file, with the folder's permissions. Returns False if the system did not take it, as a full disk."""
    try:
        mode = layout.root.stat().st_mode & 0o666
        write_whole(_path(layout), status.model_dump_json(), mode=mode, durable=False)
    except OSError:
        return False
    return True


def read_status(layout: DataLayout) -> ServiceStatus | None:
    """What the service of this folder said last; None if none ever did. Raises DataFolderError if it is unreadable."""
    path = _path(layout)
    try:
        return ServiceStatus.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataFolderError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError:
        raise DataFolderError(f"{path}: another version of Kitelake wrote it, or it is damaged") from None


def is_running(status: ServiceStatus, now: dt.datetime) -> bool:
    """Whether the service has been heard of within STALE_SECONDS and, if it is of this host, its process is there."""
    return (now - status.at).total_seconds() <= STALE_SECONDS and process_is_there(status) is not False


def process_is_there(status: ServiceStatus) -> bool | None:
    """Whether the service's process is; None if it is of another host, whose processes are not to be seen."""
    if status.host != socket.gethostname():
        return None
    try:
        os.kill(status.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _path(layout: DataLayout) -> Path:
    return layout.root / "status.json"
