"""Sealing of a day that goes on: what there is of it becomes sets, of which most are not touched again."""

import datetime
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.commit.rebuild import rebuild_day
from storage.errors import SealError
from storage.files import DataFile
from storage.layout import DataLayout
from storage.schema import TICKS
from storage.tables.table import LakeTable
from storage.upkeep import sort
from storage.upkeep.archive import archive_committed
from storage.upkeep.compact import CompactedPartition, compact_day, loose_files
from storage.verify.folder import verify
from tests.support import works
from tests.support.compacting import (
    DAY,
    NSE,
    SMALL,
    STEPS,
    STREAM,
    Capture,
    check,
    minutes_of_ticks,
    names,
    put,
    stored,
    tick,
)
from tests.support.lake import ToyDecoder
from tests.support.lives import Life
from tests.support.scaled import scaled
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_stretches")]
SET = 75  # rows, by the stretches of these tests
MANY = 16  # files


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    return DataLayout(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def small_stretches() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sort, "STRETCH_ROWS", 100)
        patch.setattr(sort, "ROW_GROUP_ROWS", 30)
        yield


def seal_hour(layout: DataLayout) -> list[CompactedPartition]:
    return compact_day(layout, DAY, goes_on=True, memory_bytes=SMALL)


def put_small(layout: DataLayout, seqs: Sequence[int]) -> None:
    """A row a file."""
    for seq in seqs:
        put(layout, f"{STREAM}-{seq:010d}", [tick(seq)])


def seqs_of_sets(layout: DataLayout) -> list[list[int]]:
    """The `seq` in each sealed file, in order."""
    if not layout.table("ticks").exists():
        return []
    files = [path for path in LakeTable(layout.table("ticks"), TICKS).open().snapshot().files if "sealed-" in path]
    return sorted(sorted(pq.ParquetFile(path).read().column("seq").to_pylist()) for path in files)


def of_names(*names: tuple[str, int]) -> list[DataFile]:
    return [DataFile(f"date=2026-11-23/exchange=NSE/{name}.parquet", 1, NSE, rows, "") for name, rows in names]


A, B, C = ("sealed-" + digest * 16 for digest in "abc")
ONE, TWO, SEGMENT = "-0001-of-0001", "-0002-of-0002", (f"{STREAM}-0000000001", 1)
LATER = (f"{STREAM}-0000000002", 1)


@pytest.mark.parametrize(
    ("found", "loose"),
    [
        ([], []),
        ([SEGMENT], [SEGMENT]),
        ([(A + ONE, SET)], []),
        ([(A + ONE, SET), (B + ONE, SET)], []),
        ([(A + ONE, SET), LATER, SEGMENT], [SEGMENT, LATER]),
        # One that is not done is so nevertheless, as long as there is nothing to put it together with.
        ([(A + ONE, SET - 1)], []),
        ([(A + ONE, SET), (B + ONE, 1)], []),
        ([SEGMENT, (A + ONE, SET - 1)], [(A + ONE, SET - 1), SEGMENT]),
        ([(B + ONE, 1), (A + ONE, 2), (C + ONE, SET)], [(A + ONE, 2), (B + ONE, 1)]),
        # A set is done as a whole or not at all.
        ([(A + "-0001-of-0002", SET - 1), (A + TWO, 1)], []),
        ([(A + "-0001-of-0002", SET - 1), (A + TWO, 1), SEGMENT], [SEGMENT]),
        ([(A + TWO, SET)], [(A + TWO, SET)]),
        ([(A + ONE, 1), (A + TWO, 1)], [(A + ONE, 1), (A + TWO, 1)]),
    ],
)
def test_names_and_rows_say_what_is_loose(found: list[tuple[str, int]], loose: list[tuple[str, int]]) -> None:
    assert loose_files(of_names(*found)) == of_names(*loose)


def test_sets_follow_each_other_in_time_and_are_not_touched_again(layout: DataLayout) -> None:
    minutes_of_ticks(layout, files=7)
    before = stored(layout)
    sealed = seal_hour(layout)
    assert [(one.partition, one.rows, one.files_before, one.files) for one in sealed] == [(NSE, 120, 2, 1)] * 3
    assert seqs_of_sets(layout) == [list(range(at, at + 120)) for at in (0, 120, 240)]
    assert stored(layout).equals(before)
    version, done = LakeTable(layout.table("ticks"), TICKS).open().snapshot().version, set(names(layout))
    assert seal_hour(layout) == [], "one file is no set"
    assert LakeTable(layout.table("ticks"), TICKS).open().snapshot().version == version
    (last,) = compact_day(layout, DAY, memory_bytes=SMALL)
    assert (last.rows, last.files_before) == (60, 1)
    assert len(done & set(names(layout))) == 3
    assert compact_day(layout, DAY, memory_bytes=SMALL) == seal_hour(layout) == []
    assert stored(layout).equals(before)


def test_many_files_with_few_rows_become_a_set_that_is_loose(layout: DataLayout) -> None:
    put_small(layout, range(MANY - 1))
    assert seal_hour(layout) == []
    put_small(layout, [MANY - 1])
    (first,) = seal_hour(layout)
    assert (first.files_before, first.rows) == (MANY, MANY)
    put_small(layout, range(MANY, 2 * MANY - 2))
    assert seal_hour(layout) == [], "with the set one file too few"
    put_small(layout, range(2 * MANY - 2, SET + 5))
    (done,) = seal_hour(layout)
    assert (done.files_before, done.rows) == (1 + SET - MANY, SET), "the set of before comes first"
    assert seqs_of_sets(layout) == [list(range(SET))]
    assert stored(layout).column("seq").to_pylist() == list(range(SET + 5))


def test_a_file_that_is_longer_than_a_stretch_is_a_set_of_its_own(layout: DataLayout) -> None:
    put(layout, f"{STREAM}-0000000000", [tick(0)])
    put(layout, f"{STREAM}-0000000001", [tick(seq) for seq in range(1, 301)])
    put(layout, f"{STREAM}-0000000002", [tick(seq) for seq in range(301, 602)])
    assert [(one.rows, one.files_before) for one in seal_hour(layout)] == [(301, 2), (301, 1)]
    assert seal_hour(layout) == []


@settings(max_examples=scaled(15, 200), deadline=None)
@given(st.data())
def test_rows_stay_and_whatever_is_done_again_does_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    layout = DataLayout(tmp_path_factory.mktemp("lake"))
    seq = 0
    for number in range(data.draw(st.integers(1, 6))):
        for part in range(data.draw(st.integers(0, 20))):
            rows = data.draw(st.sampled_from((0, 1, 3, 40, 76, 230)))
            put(layout, f"{STREAM}-{100 * number + part:010d}", [tick(seq + at) for at in range(rows)])
            seq += rows
        if not data.draw(st.booleans()):
            continue
        goes_on = data.draw(st.booleans())
        compact_day(layout, DAY, goes_on=goes_on, memory_bytes=SMALL)
        assert compact_day(layout, DAY, goes_on=goes_on, memory_bytes=SMALL) == []
        assert layout.table("ticks").exists() or not seq
        if layout.table("ticks").exists():
            assert stored(layout).column("seq").to_pylist() == list(range(seq))
            entries = LakeTable(layout.table("ticks"), TICKS).open().snapshot().entries
            most = 0 if not goes_on else MANY - 1
            assert len(loose_files(entries)) <= most


def test_beside_a_capture_and_readers_and_killed_at_any_step(layout: DataLayout) -> None:
    chance = random.Random(5)
    with Capture(layout, segments=scaled(40, 200), pause_seconds=0.05) as capture:
        while len(seqs_of_sets(layout)) < scaled(3, 12) and not capture.errors:
            Life(works.compact_hour, layout.root, chance.choice(STEPS)).wait()
            seal_hour(layout)
        wait_until(lambda: capture.looks > 5 or capture.errors)
    check(layout, capture.feed)
    assert verify(layout, ToyDecoder(), date=DAY).findings == []
    outcome = archive_committed(layout, ToyDecoder())
    assert outcome.segments > 0
    assert outcome.unverified == []
    rebuild_day(layout, ToyDecoder(), DAY)
    check(layout, capture.feed)
    compact_day(layout, DAY, memory_bytes=SMALL)
    assert verify(layout, ToyDecoder(), date=DAY).findings == []
    check(layout, capture.feed)


def test_one_that_cannot_be_sealed_leaves_the_others_and_they_are_told(layout: DataLayout) -> None:
    minutes_of_ticks(layout, files=8)
    before = stored(layout)
    path = layout.table("ticks") / "date=2026-11-23" / "exchange=NSE" / f"{STREAM}-0000000003.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 0xFF]) + whole[101:])
    told: list[CompactedPartition] = []
    with pytest.raises(SealError, match=r"0000000003\.parquet is damaged"):
        compact_day(layout, DAY, goes_on=True, memory_bytes=SMALL, on_done=told.append)
    assert [one.rows for one in told] == [120] * 3
    path.write_bytes(whole)
    assert [one.rows for one in seal_hour(layout)] == [120]
    assert stored(layout).equals(before)


def test_a_set_with_the_same_rows_as_before_stays_as_it_is(layout: DataLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    put_small(layout, range(MANY))
    seal_hour(layout)
    (name,) = names(layout)
    path = layout.table("ticks") / "date=2026-11-23" / "exchange=NSE" / name
    before = path.read_bytes()
    put(layout, f"{STREAM}-0000000099", [])
    monkeypatch.setattr(sort, "ROW_GROUP_ROWS", 5)  # as another version may have it
    compact_day(layout, DAY, memory_bytes=SMALL)
    assert names(layout) == [name]
    assert path.read_bytes() == before
    assert seal_hour(layout) == []


def test_another_day_is_left_alone(layout: DataLayout) -> None:
    minutes_of_ticks(layout, files=4)
    assert compact_day(layout, DAY + datetime.timedelta(days=1), goes_on=True, memory_bytes=SMALL) == []
    assert len(names(layout)) == 4
