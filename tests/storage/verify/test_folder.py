"""A data folder is sound when it is, whatever was done to it in good order."""

import datetime
import threading
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from storage.commit.decoder import Decoded
from storage.commit.rebuild import rebuild_day
from storage.commit.writer import SegmentWriter
from storage.layout import DataLayout
from storage.tables.symbols import write_instruments
from storage.tables.table import LakeTable
from storage.upkeep.archive import archive_committed
from storage.upkeep.compact import compact_day
from storage.upkeep.retention import remove_committed, remove_days
from storage.verify.findings import VerifyProgress, damaged_days
from storage.verify.folder import verify
from storage.verify.log import LogState, read_log
from tests.support.committing import commit_all as commit
from tests.support.disks import mount, unmount
from tests.support.lake import CRUDE, DAY_NS, INFY, Feed, ToyDecoder
from tests.support.lists import listed_on
from tests.support.verifying import (
    DAY,
    DAYS,
    STREAM,
    entries,
    fill,
    found,
    only,
    table,
)

pytestmark = pytest.mark.slow


def test_after_a_stream_has_ended(three_days: DataLayout) -> None:
    seen: list[VerifyProgress] = []
    report = verify(three_days, ToyDecoder(), on_progress=seen.append)
    assert report.is_sound
    assert report.rows == 6 * 4 + 6 + 3 + 6
    assert (report.segments, report.compared) == (7, 7)
    assert {each.what for each in seen} >= {"ticks", "orders", "events", "quarantine", "journal"}
    assert not damaged_days(report)


@pytest.mark.parametrize("date", DAYS)
def test_a_day_of_it(three_days: DataLayout, date: datetime.date) -> None:
    report = verify(three_days, ToyDecoder(), date=date)
    assert report.is_sound
    assert report.rows == 2 * 4 + 2 + 1 + 2


def test_while_a_stream_goes_on(tmp_path: Path) -> None:
    layout = DataLayout(tmp_path)
    with Feed(layout.root, STREAM) as feed:
        fill(feed)
        feed.tick((INFY, 5))
        feed.flush()
        assert verify(layout, ToyDecoder()).segments == 3
        assert not found(layout)


def test_an_empty_folder(tmp_path: Path) -> None:
    assert verify(DataLayout(tmp_path), ToyDecoder()).is_sound


def test_with_an_instrument_list(three_days: DataLayout) -> None:
    listed = listed_on(DAYS[0])
    write_instruments(three_days, DAYS[0], listed)
    report = verify(three_days, ToyDecoder())
    assert report.is_sound
    assert report.rows == 6 * 4 + 6 + 3 + 6 + len(listed)


@pytest.mark.slow
def test_after_archiving_compacting_and_rebuilding(three_days: DataLayout) -> None:
    rows = verify(three_days, ToyDecoder()).rows
    assert archive_committed(three_days, ToyDecoder()).segments == 7
    for date in DAYS[:2]:
        compact_day(three_days, date)
    compacted = verify(three_days, ToyDecoder())
    rebuild_day(three_days, ToyDecoder(), DAYS[0])
    rebuilt = verify(three_days, ToyDecoder())
    for report in (compacted, rebuilt):
        assert report.is_sound
        assert (report.rows, report.compared) == (rows, 7)
    assert all(verify(three_days, ToyDecoder(), date=date).is_sound for date in DAYS)


def test_oldest_days_that_were_removed_are_no_gap(three_days: DataLayout) -> None:
    assert remove_days(three_days, keep_days=2, most_bytes=None, today=DAYS[2] + DAY) == DAYS[:1]
    assert not found(three_days)
    for number in (0, 1):
        three_days.segment(STREAM, number).unlink()
    assert not found(three_days)
    assert not found(three_days, DAYS[1])


def test_all_days_removed_and_the_journal_not_yet(three_days: DataLayout) -> None:
    assert remove_days(three_days, keep_days=1, most_bytes=None, today=DAYS[2] + 30 * DAY) == DAYS
    assert not found(three_days)
    assert not archive_committed(three_days, ToyDecoder()).unverified
    assert not found(three_days)


def test_late_rows_of_a_day_that_was_removed(tmp_path: Path) -> None:
    layout = DataLayout(tmp_path)
    with Feed(tmp_path, STREAM) as feed:
        fill(feed, days=2)
    stop = threading.Event()
    SegmentWriter(layout, ToyDecoder(), on_commit=lambda _done: stop.set()).run(poll_seconds=0.01, stop=stop)
    assert table(layout, "ticks").transaction(STREAM) == 0
    later = DAYS[1] + 30 * DAY
    assert remove_days(layout, keep_days=5, most_bytes=None, today=later) == DAYS[:1]
    commit(layout)
    assert entries(layout, "ticks", DAYS[0])
    assert not found(layout)
    assert not archive_committed(layout, ToyDecoder()).unverified
    assert remove_days(layout, keep_days=30, most_bytes=None, today=later) == DAYS[:1]
    assert not entries(layout, "ticks", DAYS[0])
    assert not found(layout)


def test_a_day_that_was_removed_while_the_logs_are_read(three_days: DataLayout) -> None:
    def read(lake: LakeTable, version: int) -> tuple[LogState, list[str], bool]:
        if lake.spec.name == "events" and entries(three_days, "ticks", DAYS[0]):
            remove_days(three_days, keep_days=2, most_bytes=None, today=DAYS[2] + DAY)
            version += 1
        return read_log(lake, version)

    with patch("storage.verify.folder.read_log", side_effect=read):
        assert not found(three_days)


def test_a_rebuild_of_a_table_that_had_nothing_of_the_day(three_days: DataLayout) -> None:
    for path in sorted((three_days.table("orders") / "_delta_log").glob("*.json"))[1:]:
        path.unlink()  # the files stay, and no version has ever named them
    assert found(three_days)
    for day in DAYS:
        rebuild_day(three_days, ToyDecoder(), day)
    assert entries(three_days, "orders", DAYS[0])
    assert not found(three_days)


def test_a_rebuild_that_found_more_at_the_end_of_a_stream(tmp_path: Path) -> None:
    class Fewer(ToyDecoder):
        def decode(self, stream: str, segment: int, *args: Any, **options: Any) -> Decoded:
            if segment == 1:
                raise ValueError
            return super().decode(stream, segment, *args, **options)

    layout = DataLayout(tmp_path)
    with Feed(tmp_path, STREAM) as feed:
        feed.tick((INFY, 1))
        feed.roll()
        feed.tick((INFY, 2), (CRUDE, 3))
    SegmentWriter(layout, Fewer(), retry_seconds=0).run(poll_seconds=0.01, stop=threading.Event())
    assert table(layout, "ticks").transaction(f"{STREAM}/seq") == 1
    rebuild_day(layout, ToyDecoder(), DAYS[0])
    assert table(layout, "ticks").transaction(f"{STREAM}/seq") == 3
    assert not found(layout)


def test_on_a_read_only_file_system(layout: DataLayout) -> None:
    if not mount("--bind", "-o", "ro", str(layout.root), str(layout.root)):
        pytest.skip("mounting a file system is not permitted here")
    try:
        with pytest.raises(OSError, match="Read-only"):
            (layout.root / "x").touch()
        assert not found(layout)
    finally:
        unmount(layout.root)


@pytest.fixture
def over_midnight(tmp_path: Path) -> DataLayout:
    """One segment with rows of two days, of two exchanges each, between segments of one day."""
    layout = DataLayout(tmp_path)
    with Feed(layout.root, STREAM) as feed:
        fill(feed)
        feed.now_ns -= DAY_NS
        for part in range(2):
            feed.tick((CRUDE, part), (INFY, 7 + part), (CRUDE, 3))
            feed.event(f"night {part}")
            feed.now_ns += (1 - part) * DAY_NS
        feed.roll()
        feed.tick((INFY, 9))
    commit(layout)
    return layout


def test_a_segment_of_two_days_of_which_the_first_is_compacted(over_midnight: DataLayout) -> None:
    assert verify(over_midnight, ToyDecoder()).compared == 4
    compact_day(over_midnight, DAYS[0])
    for date in (None, *DAYS[:2]):
        assert not found(over_midnight, date)
    assert verify(over_midnight, ToyDecoder()).compared == 4


def test_a_day_of_which_one_exchange_is_compacted_yet(over_midnight: DataLayout) -> None:
    class EndedError(Exception):
        pass

    def end(step: str) -> None:
        if step == "committed":
            raise EndedError

    with pytest.raises(EndedError):
        compact_day(over_midnight, DAYS[0], after_step=end)
    names = {entry.relative.rpartition("/")[2][:6] for entry in entries(over_midnight, "ticks", DAYS[0])}
    assert len(names) > 1, "some are sealed, and some are not"
    assert not found(over_midnight)
    assert not found(over_midnight, DAYS[0])


def test_a_segment_with_rows_of_a_day_that_was_removed(over_midnight: DataLayout) -> None:
    now = datetime.datetime.combine(DAYS[1], datetime.time(), datetime.UTC)
    removed = remove_days(over_midnight, keep_days=2, most_bytes=None, today=DAYS[0] + datetime.timedelta(days=3))
    assert removed == [DAYS[0]]
    remove_committed(over_midnight, keep=datetime.timedelta(days=7), now=now)
    assert len(list(over_midnight.stream(STREAM).glob("*.journal"))) > 1
    for date in (None, *DAYS[:2]):
        assert not found(over_midnight, date)


def test_damage_that_is_in_quarantine(tmp_path: Path) -> None:
    layout = DataLayout(tmp_path)
    with Feed(layout.root, STREAM) as feed:
        fill(feed)
    path = layout.segment(STREAM, 0)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert found(layout)
    commit(layout)
    assert not found(layout)


def test_a_segment_that_was_gone_before_its_commit(tmp_path: Path) -> None:
    layout = DataLayout(tmp_path)
    with Feed(layout.root, STREAM) as feed:
        fill(feed, days=2)
    layout.segment(STREAM, 1).unlink()
    finding = only(found(layout))
    assert "segments 1 to 1 are not in the journal" in finding.text
    commit(layout)
    assert not found(layout)
