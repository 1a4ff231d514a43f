"""Commits to a table: each happens once or not at all, and a snapshot is one version."""

import contextlib
import datetime
import errno
import json
import subprocess
import sys
import threading
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from storage.errors import TableChangedError, TableError
from storage.schema import EVENTS, TICKS
from storage.tables.delta import CHECKPOINT_INTERVAL
from storage.tables.log import Watermark
from storage.tables.parquet import write_file
from storage.tables.table import LakeTable
from tests.support.scaled import scaled
from tests.support.tables import DAY, STREAM, events_of, for_the_library, stage_events


class TestCommit:
    def test_files_rows_and_transactions_together(self, table: LakeTable) -> None:
        before = table.snapshot()
        assert table.commit(
            [stage_events(table, "a", "x", "y"), stage_events(table, "b", "z", day="2026-11-23")],
            transactions={STREAM: 0},
        )
        after = table.snapshot()
        assert (before.version, before.files, before.transaction(STREAM)) == (0, [], None)
        assert (after.version, after.transaction(STREAM)) == (1, 0)
        assert sorted((e.relative, e.rows, dict(e.values)) for e in after.entries) == [
            ("date=2026-11-22/a.parquet", 2, {"date": "2026-11-22"}),
            ("date=2026-11-23/b.parquet", 1, {"date": "2026-11-23"}),
        ]
        assert table.read(date=datetime.date(2026, 11, 23), columns=["event", "date"]).to_pylist() == [
            {"event": "z", "date": datetime.date(2026, 11, 23)}
        ]

    def test_once(self, table: LakeTable) -> None:
        file = stage_events(table, "a", "x")
        transactions = {STREAM: 3, f"{STREAM}/seq": 10}
        assert table.commit([file], transactions=transactions)
        other = LakeTable(table.path, EVENTS).open()
        assert not table.commit([file], transactions=transactions)
        assert not other.commit([file], transactions=transactions)
        assert not other.commit([file], transactions={STREAM: 2, f"{STREAM}/seq": 10})
        assert table.snapshot().version == 1
        assert table.commit([], transactions={STREAM: 4, f"{STREAM}/seq": 10})
        assert table.snapshot().watermark(STREAM) == Watermark(4, 10)
        assert events_of(table) == ["x"]

    def test_nothing_is_no_version(self, table: LakeTable) -> None:
        assert not table.commit([])
        assert table.snapshot().version == 0

    def test_a_snapshot_stays_what_it_was(self, table: LakeTable) -> None:
        table.commit([stage_events(table, "a", "x")], transactions={STREAM: 0, f"{STREAM}/seq": 1})
        old = table.snapshot()
        for i in range(1, 4):
            table.commit([], transactions={STREAM: i, f"{STREAM}/seq": 1})
        assert old.watermark(STREAM) == Watermark(0, 1)
        assert old.watermark("another") is None
        assert table.snapshot().watermark(STREAM) == Watermark(3, 1)
        assert table.transaction(STREAM) == 3
        assert table.snapshot() is table.snapshot()

    def test_two_writers_of_different_streams(self, table: LakeTable) -> None:
        """Neither knows of the other's commits before it makes its own."""
        other = LakeTable(table.path, EVENTS).open()
        for i in range(5):
            assert table.commit([stage_events(table, f"a{i}", f"a{i}")], transactions={"a": i})
            assert other.commit([stage_events(other, f"b{i}", f"b{i}")], transactions={"b": i})
        assert events_of(table) == [f"{name}{i}" for name in "ab" for i in range(5)]

    def test_two_writers_of_the_same_segment_at_once(self, table: LakeTable) -> None:
        outcomes: list[bool] = []
        barrier = threading.Barrier(3)

        def commit() -> None:
            mine = LakeTable(table.path, EVENTS).open()
            for i in range(4):
                barrier.wait()
                outcomes.append(mine.commit([file_of[i]], transactions={STREAM: i}))

        file_of = [stage_events(table, f"s{i}", f"e{i}") for i in range(4)]
        threads = [threading.Thread(target=commit) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(outcomes) == 4
        assert events_of(table) == ["e0", "e1", "e2", "e3"]
        assert table.snapshot().version == 4

    @pytest.mark.slow
    def test_transactions_outlive_checkpoints_and_logs(self, table: LakeTable) -> None:
        table.commit([stage_events(table, "a", "x")], transactions={"old": 7})
        for i in range(CHECKPOINT_INTERVAL + 3):
            table.commit([], transactions={STREAM: i})
        logs = sorted((table.path / "_delta_log").glob("*.json"))
        assert list((table.path / "_delta_log").glob("*.checkpoint.parquet"))
        for log in logs[:CHECKPOINT_INTERVAL]:  # what clean-up does when they are old
            log.unlink()
        again = LakeTable(table.path, EVENTS).open()
        assert again.transaction("old") == 7
        assert again.transaction(STREAM) == CHECKPOINT_INTERVAL + 2
        assert events_of(again) == ["x"]
        assert not again.commit([], transactions={"old": 7})

    def test_the_statistics_serve_other_readers(self, tmp_path: Path) -> None:
        ticks = LakeTable(tmp_path / "ticks", TICKS).open(create=True)
        day = int(datetime.datetime(2026, 11, 22, 4, tzinfo=datetime.UTC).timestamp()) * 1_000_000
        for i in range(3):
            values = {"received_at": [day + i * 1000, day + i * 1000 + 1], "instrument_token": [i, i + 10]}
            columns = {f.name: pa.array(values.get(f.name, [None, None]), f.type) for f in TICKS.file_schema}
            partition = {"date": "2026-11-22", "exchange": "NSE"}
            file = write_file(
                TICKS,
                pa.table(columns),
                values=partition,
                stem=f"s{i}",
                table_folder=ticks.path,
                staging=tmp_path / "staging",
            )
            ticks.commit([file])
        delta = DeltaTable(ticks.path)
        assert len(delta.file_uris(file_pruning_predicate="instrument_token > 11")) == 1
        assert len(delta.file_uris(file_pruning_predicate="received_at >= '2026-11-22T04:00:00.002Z'")) >= 1
        assert len(delta.file_uris(file_pruning_predicate="received_at > '2026-11-22T04:00:00.004Z'")) == 0
        assert len(delta.file_uris(file_pruning_predicate="exchange = 'NFO'")) == 0


class TestByHandOrByTheLibrary:
    """A version of our own log is written by hand; what is in it is what the library writes."""

    NAMES = ("a", "ä %20 x", "b=c,d;e'f(g)h!i~j@k&l+m$n#o?p[q]r{s}t^u|v`w\"x<y>z:", "d*e\\g")

    def test_the_same_actions(self, tmp_path: Path) -> None:
        written = []
        for name in ("hand", "library"):
            table = LakeTable(tmp_path / name / "events", EVENTS).open(create=True)
            if name == "library":
                for_the_library(table)
            files = [stage_events(table, stem, stem) for stem in self.NAMES]
            first = table.snapshot().version + 1
            assert table.commit(files, transactions={STREAM: 3, f"{STREAM}/seq": 10})
            assert not table.commit(files, transactions={STREAM: 3, f"{STREAM}/seq": 10})
            assert table.commit([], remove=files[:3], transactions={STREAM: 4})
            with pytest.raises(TableChangedError, match="1 of 2 files to remove are not in it any more"):
                table.commit([], remove=files[2:])
            assert events_of(LakeTable(table.path, EVENTS).open()) == [self.NAMES[3]]
            written.append([actions_of(table, version) for version in (first, first + 1)])
            assert not list((table.path / "_delta_log").glob("*.tmp"))
        assert written[0] == written[1]

    def test_what_a_version_costs_does_not_grow(self, table: LakeTable) -> None:
        """The library, which takes all files anew, is not asked."""
        with patch.object(DeltaTable, "update_incremental", side_effect=AssertionError):
            for number in range(3):
                table.commit([stage_events(table, f"{number}", "x")], transactions={STREAM: number})
                assert table.transaction(STREAM) == number
        assert events_of(table) == ["x"] * 3

    def test_nothing_is_removed_where_that_is_forbidden(self, table: LakeTable) -> None:
        file = stage_events(table, "a", "x")
        table.commit([file])
        for_the_library(table, **{"delta.appendOnly": "true"})
        for again in (table, LakeTable(table.path, EVENTS).open()):
            with pytest.raises(TableError, match=r"cannot commit: .*append"):
                again.commit([], remove=[file])
        DeltaTable(table.path.as_uri()).create_checkpoint()
        with pytest.raises(TableError, match=r"cannot commit: .*append"):
            LakeTable(table.path, EVENTS).open().commit([], remove=[file])
        assert events_of(table) == ["x"]

    def test_a_disk_that_takes_no_version(self, table: LakeTable) -> None:
        file = stage_events(table, "a", "x")
        full = OSError(errno.ENOSPC, "No space left on device")
        with (
            patch("storage.tables.delta.sync_data", side_effect=full),
            pytest.raises(TableError, match="events: cannot commit: No space left on device"),
        ):
            table.commit([file], transactions={STREAM: 0})
        assert sorted(path.name for path in (table.path / "_delta_log").iterdir()) == [f"{0:020d}.json"]
        assert table.commit([file], transactions={STREAM: 0})

    def test_without_a_checkpoint_it_goes_on(self, table: LakeTable) -> None:
        with patch.object(DeltaTable, "create_checkpoint", side_effect=DeltaError("no room")) as asked:
            for number in range(CHECKPOINT_INTERVAL + 1):
                assert table.commit([], transactions={STREAM: number})
        asked.assert_called_once()
        assert LakeTable(table.path, EVENTS).open().transaction(STREAM) == CHECKPOINT_INTERVAL


def actions_of(table: LakeTable, version: int) -> list[dict[str, object]]:
    """What a version says, without times and what the library leaves empty."""
    found: list[dict[str, object]] = []
    for line in (table.path / "_delta_log" / f"{version:020d}.json").read_text().splitlines():
        ((name, values),) = json.loads(line).items()
        if name != "commitInfo":
            kept = {key: value for key, value in values.items() if value is not None and not key.endswith("ime")}
            kept.pop("deletionTimestamp", None)
            found.append({name: kept})
    return sorted(found, key=str)


class TestReplace:
    def test_one_version_old_files_stay(self, table: LakeTable) -> None:
        table.commit(
            [
                stage_events(table, "a", "x"),
                stage_events(table, "b", "y"),
                stage_events(table, "c", "other", day="2026-11-23"),
            ]
        )
        old = table.snapshot()
        assert table.replace(DAY, [stage_events(table, "d", "new")])
        assert table.snapshot().version == old.version + 1
        assert events_of(table) == ["new", "other"]
        assert all(Path(path).exists() for path in old.files)

    def test_the_same_again_changes_nothing(self, table: LakeTable) -> None:
        file = stage_events(table, "a", "x")
        assert table.replace(DAY, [file])
        assert not table.replace(DAY, [file])
        assert table.snapshot().version == 1

    def test_what_stays_is_neither_removed_nor_added(self, table: LakeTable) -> None:
        first, second = stage_events(table, "a", "x"), stage_events(table, "b", "y")
        table.replace(DAY, [first])
        assert table.replace(DAY, [first, second])
        assert events_of(table) == ["x", "y"]
        assert table.replace(DAY, [])
        assert events_of(table) == []


def test_a_missing_file_is_said(table: LakeTable) -> None:
    table.commit([stage_events(table, "a", "x")])
    Path(table.snapshot().files[0]).unlink()
    with pytest.raises(TableError, match=r"a.parquet: cannot read: "):
        table.read()


WRITER = """
import sys
from pathlib import Path
from typing import Any
from storage.schema import EVENTS
from storage.tables.table import LakeTable
from tests.support.tables import stage_events

table = LakeTable(Path(sys.argv[1]), EVENTS).open()
for i in range(int(sys.argv[2])):
    files = [stage_events(table, f"{i}-{j}", f"{i}", day=f"2026-11-{1 + j}") for j in range(3)]
    table.commit(files, transactions={"s": i, "s/seq": 3 * (i + 1)})
    if i % 3 == 2:
        sys.stdin.readline()  # the reader has seen one more version: it is never far behind
    if i % 5 == 4:
        table.replace({"date": "2026-12-01"}, [stage_events(table, f"daily-{i}", str(i), day="2026-12-01")])
"""


@pytest.mark.slow
def test_a_reader_beside_a_committing_writer(table: LakeTable) -> None:
    """Each snapshot has as many rows as its own watermark says, and exactly one daily file."""
    commits = scaled(35, 60)
    command = [sys.executable, "-c", WRITER, str(table.path), str(commits)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdin is not None
    seen = set()
    try:
        ended = False
        while not ended:
            ended = process.poll() is not None
            snapshot = table.snapshot()
            if snapshot.version not in seen and not ended:
                with contextlib.suppress(BrokenPipeError):  # it has ended meanwhile
                    process.stdin.write("\n")
                    process.stdin.flush()
            seen.add(snapshot.version)
            daily = [e for e in snapshot.entries if e.values["date"] == "2026-12-01"]
            mark = snapshot.watermark("s")
            assert sum(e.rows for e in snapshot.entries) - len(daily) == (mark.next_seq if mark else 0)
            assert len(daily) == (1 if mark and snapshot.version > 5 else 0)
            assert all(Path(path).exists() for path in snapshot.files)
            if snapshot.version % 7 == 0:
                fresh = LakeTable(table.path, EVENTS).open().snapshot()
                assert fresh.version >= snapshot.version
    finally:
        process.kill()
        _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert max(seen) == commits + commits // 5
    assert len(seen) > 10
