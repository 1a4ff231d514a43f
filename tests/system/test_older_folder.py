"""A data folder that version 0.1 wrote: today's code sees every row of it, and goes on where that left off.

`tests/data/folder-0.1.tar.xz` has the folder, `data/`, and what 0.1's own SQL said of it, `expected/`: the rows of each
table in the order of its key. It was made by the code of commit 5c52f82 in /tmp/kitelake, thus:

- `hold` for Kite. A stream of two accounts journals two segments of Monday, 2026-11-23, and one after midnight: full,
  quote, ltp and index packets of NSE, INDICES and MCX, order updates that both accounts get, events, heartbeats; a
  packet of an unknown length, a frame cut short and a text that is not JSON. It is closed and committed. Then Monday is
  sealed and the stream archived. Files that the sealed ones replaced are still there.
- A stream of Tuesday journals five segments. The first two are committed while it lives, the rest is not. Between its
  third and fourth a sync fails, so the fourth repeats records of the third. Then the process ends without closing it:
  the last segment has no seal.
- Instrument lists of both days, of which the second calls the future another name, with a note of its flaws; the
  records of both days, a status, the holder's file that a killed service leaves, a reserve of 4 KiB, checkpoints of the
  logs (every 5 versions instead of 100). Segments have the times of the days on which they were written.
"""

import datetime as dt
import struct
import tarfile
import threading
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import kitelake
from ingest.wire import JournalDecoder
from kitelake.report import read_record
from kitelake.telemetry import read_status
from storage.clock import IST
from storage.commit import SegmentWriter
from storage.datafolder import hold
from storage.errors import DataFolderError
from storage.journal import JournalWriter, Kind, segments, streams
from storage.layout import DataLayout
from storage.schema import TABLES
from storage.upkeep import remove_committed, remove_days
from storage.verify import verify
from tests.support.command import Ended, Run, command

__all__ = ["command"]  # the fixture

pytestmark = pytest.mark.slow

ARCHIVE = Path(__file__).parent.parent / "data" / "folder-0.1.tar.xz"
MONDAY, TUESDAY, WEDNESDAY = (dt.date(2026, 11, day) for day in (23, 24, 25))
CLOSED, KILLED, NEW = "20261123T034500-a1b2c3", "20261124T033000-d4e5f6", "20261125T033000-0a0b0c"
INFY = 408065
IN_TABLES = {CLOSED: 3, KILLED: 2}  # segments

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive's content, to be read only."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def expected(unpacked: Path) -> Rows:
    """All rows of each table, as 0.1 saw them."""
    return {name: pq.read_table(unpacked / "expected" / f"{name}.parquet").to_pylist() for name in TABLES}


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    """The folder, for one test to change."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return DataLayout(tmp_path / "data")


def rows_of(layout: DataLayout) -> Rows:
    """All rows that a query sees, in the order of each table's key."""
    found = {}
    with kitelake.open(layout.root) as lake:
        for name, spec in TABLES.items():
            key = ", ".join(f'"{column}"' for column in spec.key)
            table = "ticks_all" if name == "ticks" else name
            found[name] = lake.sql(f"select * from {table} order by {key}").arrow().to_pylist()
    return found


def committed(layout: DataLayout) -> dict[str, int]:
    """Commit whatever is complete; how many segments of each stream were."""
    done: dict[str, int] = {}
    writer = SegmentWriter(
        layout, JournalDecoder(), on_commit=lambda one: done.update({one.stream: done.get(one.stream, 0) + 1})
    )
    writer.run(poll_seconds=0.01, stop=threading.Event())
    return done


def printed(ended: Ended) -> str:
    """What a command of today's printed, in one line; it has to succeed."""
    assert ended.status == 0, ended
    return " ".join(ended.out.split())


def assert_sound(layout: DataLayout, compared: int) -> None:
    """Every file and row, and so many segments against their rows."""
    report = verify(layout, JournalDecoder())
    assert report.findings == []
    assert report.compared == compared


def test_a_query_sees_every_row_and_the_live_tail(unpacked: Path, expected: Rows) -> None:
    layout = DataLayout(unpacked / "data")
    assert {name: len(rows) for name, rows in expected.items()} == {
        "ticks": 1282,
        "instruments": 8,
        "orders": 10,
        "events": 7,
        "quarantine": 6,
    }
    assert len(segments(layout, KILLED)) == 5 > IN_TABLES[KILLED], "some of it is in the journal alone"
    seqs = [row["seq"] for row in expected["ticks"] if row["stream"] == KILLED]
    assert seqs == list(range(len(seqs))), "what was repeated counts once"
    assert rows_of(layout) == expected


def test_every_file_row_and_segment_of_it_is_sound(unpacked: Path, command: Run) -> None:
    assert_sound(DataLayout(unpacked / "data"), compared=sum(IN_TABLES.values()))
    assert "sound" in printed(command("verify", "--data", unpacked / "data"))


def test_a_writer_goes_on_with_it(layout: DataLayout, expected: Rows) -> None:
    assert committed(layout) == {KILLED: 3}
    assert rows_of(layout) == expected
    with hold(layout.root, "kite"):
        journal = JournalWriter(layout, NEW)
        channel = journal.channel("asha", 1)
        noon_ns = int(dt.datetime.combine(WEDNESDAY, dt.time(12), IST).timestamp()) * 10**9
        for number in range(10):
            packet = struct.pack(">HHIi", 1, 8, INFY, 150_000 + number)
            journal.append(Kind.BINARY, channel, noon_ns + number * 10**9, packet)
        journal.flush()
        assert [row["last_price"] for row in rows_of(layout)["ticks"][-10:]] == [1500 + n / 100 for n in range(10)]
        journal.close()
    assert committed(layout) == {NEW: 1}
    after = rows_of(layout)
    assert {name: rows for name, rows in after.items() if name != "ticks"} == {
        name: rows for name, rows in expected.items() if name != "ticks"
    }
    assert after["ticks"][:-10] == expected["ticks"]
    new = after["ticks"][-10:]
    assert {(row["stream"], row["date"], row["symbol"]) for row in new} == {(NEW, WEDNESDAY, "NSE:INFY")}
    assert_sound(layout, compared=9)


def test_it_can_be_sealed_and_rebuilt(layout: DataLayout, expected: Rows, command: Run) -> None:
    committed(layout)
    assert "ticks 2026-11-24/NSE: 401 rows" in printed(command("seal", "--data", layout.root))
    assert rows_of(layout) == expected
    for day, ticks in ((MONDAY, 481), (TUESDAY, 801)):
        assert f"{ticks} rows of ticks" in printed(command("rebuild", "--data", layout.root, "--date", str(day)))
    # Tuesday's list came after midnight: only now do the ticks from before it have its names.
    for row in expected["ticks"]:
        if row["date"] == TUESDAY and row["exchange"] == "MCX":
            row["symbol"] = "MCX:CRUDEOIL27JANFUT"
    assert rows_of(layout) == expected
    assert_sound(layout, compared=8)


def test_retention_removes_what_is_old_of_it(layout: DataLayout, expected: Rows) -> None:
    committed(layout)
    noon = dt.datetime.combine(WEDNESDAY, dt.time(12), IST)
    removed = remove_committed(layout, keep=dt.timedelta(hours=30), now=noon)
    assert [path.name for path in removed] == [f"{number:010d}.journal.zst" for number in range(3)]
    assert streams(layout) == [KILLED], "its segments are younger"
    assert rows_of(layout) == expected
    days = remove_days(layout, keep_days=1, most_bytes=None, today=WEDNESDAY)
    assert days == [MONDAY]
    stay = {name: [row for row in rows if row["date"] > MONDAY] for name, rows in expected.items()}
    assert rows_of(layout) == stay
    assert_sound(layout, compared=5)
    remove_committed(layout, keep=dt.timedelta(0), now=noon)
    assert streams(layout) == []
    assert rows_of(layout) == stay


def test_what_its_service_said_is_understood(layout: DataLayout) -> None:
    status = read_status(layout)
    assert status is not None
    assert (status.stream, status.doing, len(status.connections)) == (KILLED, "capturing until 15:35", 2)
    for day in (MONDAY, TUESDAY):
        record = read_record(layout.root, day)
        assert record is not None
        assert (record.date, [one.name for one in record.lists]) == (day, ["watched"])
        assert (record.reported_at is not None) == (day == MONDAY)
    with pytest.raises(DataFolderError, match="holds ticks from Kite"), hold(layout.root, "simulator"):
        pass
