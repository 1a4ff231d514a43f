"""The service's status: a file that is whole or not there, what it means and how it reads."""

import datetime as dt
import io
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from rich.cells import cell_len
from rich.console import Console

from ingest.connection.session import State
from ingest.connection.stats import ConnectionStats, Health, ManagerStats, Status
from ingest.wire import Mode
from kitelake.telemetry.status import (
    AccountStatus,
    ConnectionStatus,
    Job,
    JournalStatus,
    ListStatus,
    ServiceStatus,
    TablesStatus,
    connections_of,
    is_running,
    journal_of,
    read_status,
    write_status,
)
from kitelake.views.status import SHOWN, render_status
from storage.clock import IST
from storage.errors import DataFolderError
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout
from storage.market.hours import Hours

NOW = dt.datetime(2026, 11, 23, 14, 3, 5, tzinfo=IST)
STATUS = ServiceStatus(
    at=NOW - dt.timedelta(seconds=1),
    pid=os.getpid(),
    host=socket.gethostname(),
    stream="20261123T031503-1f3a9c",
    since=dt.datetime(2026, 11, 23, 8, 45, 3, tzinfo=IST),
    phase="capturing",
    doing="capturing until 15:35",
    health=Health(Status.DEGRADED, 66.72, ("two/0 is unauthorized, 1,000 instruments: log in anew",)),
    connections=(
        ConnectionStatus(
            account="one",
            connection=0,
            state=State.OPEN,
            instruments=3000,
            packets=12_345_678,
            last_frame_age_seconds=0.04,
            uptime_seconds=19_000,
        ),
        ConnectionStatus(
            account="two",
            connection=0,
            state=State.UNAUTHORIZED,
            instruments=1000,
            packets=None,
            problem="log in anew",
        ),
        ConnectionStatus(
            account="two",
            connection=1,
            state=State.FAILED,
            instruments=0,
            packets=0,
            problem="[b]no[/] such\x1b[31m host",
        ),
    ),
    accounts=(
        AccountStatus(name="one", token="good, checked at 08:30"),
        AccountStatus(name="two", token="refused: log in anew"),
    ),
    lists=(
        ListStatus(name="nifty", mode=Mode.FULL, instruments=3000, active=True, left_out=0, problems=0),
        ListStatus(
            name="metals",
            mode=Mode.QUOTE,
            instruments=1000,
            active=False,
            left_out=12,
            hours=(Hours(dt.time(9), dt.time(15, 35)), Hours(dt.time(17), dt.time(23, 30))),
            problems=3,
        ),
    ),
    journal=JournalStatus(
        records=1_234_567,
        written_records=1_234_560,
        durable_records=1_234_000,
        unwritten_seconds=0.2,
        segment=12,
        bytes=36 << 20,
    ),
    tables=TablesStatus(rows=12_000_000, lag_seconds=12.3, segments_waiting=1),
    jobs=(
        Job(
            name="report",
            next_at=dt.datetime(2026, 11, 23, 14, 17, 5, tzinfo=IST),
            last_at=dt.datetime(2026, 11, 22, 16, 0, tzinfo=IST),
            outcome="failed: OSError: no room",
        ),
        Job(name="instruments", next_at=dt.datetime(2026, 11, 24, 8, 35, tzinfo=IST)),
    ),
    problems=("nifty: the list could not be fetched",),
)


def shown(status: ServiceStatus, now: dt.datetime = NOW) -> list[str]:
    console = Console(width=80, file=io.StringIO())
    console.print(render_status(status, now))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def changed(**values: object) -> ServiceStatus:
    return STATUS.model_copy(update=values)


def test_a_status_reads_back_as_it_was_written(tmp_path: Path) -> None:
    layout = DataLayout(tmp_path)
    assert read_status(layout) is None
    assert read_status(DataLayout(tmp_path / "nowhere")) is None
    assert write_status(layout, STATUS)
    assert read_status(layout) == STATUS
    least = changed(connections=(), accounts=(), lists=(), journal=None, tables=None, jobs=(), problems=())
    assert write_status(layout, least)
    assert read_status(layout) == least
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
TIMES = st.builds(
    lambda microseconds, zone: NOW.astimezone(zone) + dt.timedelta(microseconds=microseconds),
    st.integers(-(10**15), 10**15),
    st.sampled_from([IST, dt.UTC]),
)
JOBS = st.builds(Job, name=TEXTS, next_at=st.none() | TIMES, last_at=st.none() | TIMES, outcome=st.none() | TEXTS)


@given(jobs=st.lists(JOBS, max_size=3).map(tuple), doing=TEXTS, problems=st.lists(TEXTS).map(tuple), at=TIMES)
def test_whatever_a_status_says_it_reads_back_and_is_shown_in_80_columns(
    jobs: tuple[Job, ...], doing: str, problems: tuple[str, ...], at: dt.datetime
) -> None:
    status = changed(jobs=jobs, doing=doing, problems=problems, at=at)
    assert ServiceStatus.model_validate_json(status.model_dump_json()) == status
    lines = shown(status)
    assert len(lines) > 20
    assert all(line.isprintable() and cell_len(line) <= 80 for line in lines)


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755])
def test_who_may_read_the_folder_may_read_the_status(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    before = os.umask(0o077)
    try:
        assert write_status(DataLayout(tmp_path), STATUS)
    finally:
        os.umask(before)
    assert (tmp_path / "status.json").stat().st_mode & 0o777 == mode & 0o666


def test_a_disk_without_room_leaves_the_status_before(tmp_path: Path) -> None:
    layout = DataLayout(tmp_path)
    assert write_status(layout, STATUS)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        written = write_status(layout, changed(phase="stopping"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not written
    assert read_status(layout) == STATUS
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]
    assert not write_status(DataLayout(tmp_path / "gone"), STATUS)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", STATUS.model_dump_json()[:-1] + ', "mood": "good"}'])
def test_a_status_of_another_version_is_said_to_be_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "status.json").write_text(text)
    with pytest.raises(DataFolderError, match=r"status\.json: another version of Kitelake wrote it, or it is damaged$"):
        read_status(DataLayout(tmp_path))


def test_a_status_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "status.json").mkdir()
    with pytest.raises(DataFolderError, match=r"status\.json: cannot be read: Is a directory"):
        read_status(DataLayout(tmp_path))


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="should have timezone info"):
        Job.model_validate_json('{"name": "report", "next_at": "2026-11-23T09:00:00"}')


def test_running_is_who_was_heard_of_a_moment_ago_and_whose_process_is_there() -> None:
    assert is_running(STATUS, STATUS.at)
    assert is_running(STATUS, STATUS.at + dt.timedelta(seconds=10))
    assert not is_running(STATUS, STATUS.at + dt.timedelta(seconds=10.1))
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    assert not is_running(changed(pid=ended.pid), STATUS.at)
    elsewhere = changed(pid=ended.pid, host="elsewhere")
    assert is_running(elsewhere, STATUS.at), "processes of another host are not to be seen"
    assert not is_running(elsewhere, STATUS.at + dt.timedelta(seconds=10.1))
    assert is_running(changed(pid=1), STATUS.at), "another user's process is one"


def test_an_overview() -> None:
    assert shown(changed(pid=4242, host="elsewhere")) == [
        "running since Mon 23 Nov 2026 08:45:03: capturing until 15:35",
        "process 4242 on elsewhere, stream 20261123T031503-1f3a9c",
        "",
        "degraded: 66.7 % of the instruments come as asked for",
        "- two/0 is unauthorized, 1,000 instruments: log in anew",
        "- two/1 is failed: [b]no[/] such?[31m host",
        "- nifty: the list could not be fetched",
        "",
        "connection  state         instruments     packets  last frame  open for",
        "one/0       open                3,000  12,345,678       0.0 s       5 h",
        "two/0       unauthorized        1,000           -           -         -",
        "two/1       failed                  0           0           -         -",
        "",
        "list    mode   instruments  hours               now           left out  problems",
        "nifty   full         3,000  not today           streamed             0         0",
        "metals  quote        1,000  09:00-15:35,        not streamed        12         3",
        "                            17:00-23:30",
        "",
        "account  access token",
        "one      good, checked at 08:30",
        "two      refused: log in anew",
        "",
        "journal  received 1,234,567, written 1,234,560, durable 1,234,000 records",
        "         segment 12, 36.0 MiB",
        "         the oldest unwritten record waits for 0.2 s",
        "tables   12,000,000 rows, 12 s behind, segments waiting: 1",
        "",
        "job          next                         last              outcome",
        "report       Mon 23 Nov 14:17  in 14 min  Sun 22 Nov 16:00  failed: OSError: no",
        "                                                            room",
        "instruments  Tue 24 Nov 08:35    in 19 h  -",
    ]


def test_a_service_that_ended_is_said_to_have_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    lines = shown(changed(pid=ended.pid), NOW + dt.timedelta(minutes=5))
    assert lines[0] == "not running: last heard of at Mon 23 Nov 2026 14:03:04, 5 min ago"
    assert "What it said then:" in lines
    assert not any("in 9 min" in line for line in lines), "nothing is to come"
    assert " ".join(shown(STATUS, NOW + dt.timedelta(days=3))[:2]) == (
        "not running: last heard of at Mon 23 Nov 2026 14:03:04, 3 days ago; "
        f"process {os.getpid()} is still there: it hangs, or cannot write its status"
    )


def test_a_status_with_nothing_to_tell_has_no_empty_tables() -> None:
    least = changed(
        doing="waiting: NSE opens on Wed 25 Nov at 09:00",
        health=Health(Status.HEALTHY, 100.0, ()),
        connections=(),
        accounts=(),
        lists=(),
        journal=None,
        tables=None,
        jobs=(),
        problems=(),
    )
    lines = [line for line in shown(least) if line]
    assert " ".join(lines[:2]) == ("running since Mon 23 Nov 2026 08:45:03: waiting: NSE opens on Wed 25 Nov at 09:00")
    assert lines[-1] == "healthy: 100.0 % of the instruments come as asked for"
    assert len(lines) == 4


def test_many_problems_are_counted() -> None:
    lines = shown(changed(problems=tuple(f"problem {number}" for number in range(100))))
    assert sum(line.startswith("- ") for line in lines) == SHOWN + 1
    assert "- and 82 more" in lines


def test_connections_and_journal_are_told_as_they_are(tmp_path: Path) -> None:
    one = ConnectionStats(account="one", connection=2, state=State.WAITING, instruments=7, problem="429", packets=None)
    other = ConnectionStats(account="two", connection=0, state=State.OPEN, packets=5, uptime_seconds=1.5)
    assert connections_of(ManagerStats([one, other])) == (
        ConnectionStatus(account="one", connection=2, state=State.WAITING, instruments=7, problem="429"),
        ConnectionStatus(account="two", connection=0, state=State.OPEN, instruments=0, packets=5, uptime_seconds=1.5),
    )
    journal = JournalWriter(DataLayout(tmp_path), "stream")
    for _ in range(3):
        journal.append(Kind.EVENT, 0, 1, b"{}")
    told = journal_of(journal, 0.5)
    assert (told.records, told.written_records, told.unwritten_seconds, told.segment) == (3, 0, 0.5, 0)
    journal.close()
    told = journal_of(journal)
    assert (told.records, told.written_records, told.durable_records, told.unwritten_seconds) == (3, 3, 3, None)
    assert told.bytes == (tmp_path / "journal" / "stream" / "0000000000.journal").stat().st_size
