"""Sealing: fewer files, the same rows, in one step; and nothing at all if anything is not as it must be."""

import datetime
import json
import math
import struct
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.commit.writer import SegmentWriter
from storage.errors import DataFolderError, SealError, TableChangedError, TableError
from storage.files import DataFile
from storage.layout import DataLayout
from storage.schema import EVENTS, ORDERS, QUARANTINE, TICKS
from storage.tables import lock
from storage.tables.digest import is_as_stamped
from storage.tables.parquet import column_stats
from storage.tables.table import LakeTable
from storage.upkeep import sort
from storage.upkeep.compact import CompactProgress, compact_day
from storage.upkeep.stretches import read_stretch
from tests.support.compacting import DAY, NSE, SMALL, STREAM, check, minutes_of_ticks, names, put, stored, tick
from tests.support.lake import CRUDE, INFY, Feed, ToyDecoder
from tests.support.scaled import scaled

pytestmark = pytest.mark.slow
MICROSECONDS = pa.schema([(name, pa.int64()) for name in ("last_trade_time", "exchange_timestamp")])


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    return DataLayout(tmp_path / "données, 100 % & more")


@pytest.fixture
def small_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sort, "STRETCH_ROWS", 100)
    monkeypatch.setattr(sort, "ROW_GROUP_ROWS", 30)


def table(layout: DataLayout) -> LakeTable:
    return LakeTable(layout.table("ticks"), TICKS).open()


class TestOrder:
    @pytest.mark.usefixtures("small_stretches")
    def test_stretches_follow_each_other_and_instruments_inside_of_them(self, layout: DataLayout) -> None:
        minutes_of_ticks(layout)
        before = stored(layout)
        (sealed,) = compact_day(layout, DAY, memory_bytes=SMALL)
        assert stored(layout).equals(before)
        assert (sealed.table, sealed.partition, sealed.rows) == ("ticks", NSE, 480)
        assert (sealed.files_before, sealed.files) == (8, 1)
        (path,) = table(layout).snapshot().files
        rows = pq.ParquetFile(path).read().to_pylist()
        assert rows == sorted(rows, key=lambda r: (r["seq"] // 100, r["instrument_token"], r["stream"], r["seq"]))
        metadata = pq.ParquetFile(path).metadata
        groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        assert groups == [30, 30, 30, 10] * 4 + [30, 30, 20]

    @pytest.mark.usefixtures("small_stretches")
    def test_a_clock_that_jumps_back_does_not_reorder_a_stream(self, layout: DataLayout) -> None:
        times = [10, 20, 5, 6, 30]
        rows = [tick(seq) | {"received_at": tick(at)["received_at"]} for seq, at in enumerate(times)]
        put(layout, "a", rows[:3])
        put(layout, "b", rows[3:])
        compact_day(layout, DAY, memory_bytes=SMALL)
        (path,) = table(layout).snapshot().files
        assert pq.ParquetFile(path).read().column("seq").to_pylist() == [0, 1, 2, 3, 4]

    def test_with_little_memory_stretches_are_shorter(
        self, layout: DataLayout, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        minutes_of_ticks(layout)
        before = stored(layout)
        read: list[int] = []

        def noted(*arguments: Any) -> pa.Table:
            rows = read_stretch(*arguments)
            read.append(rows.num_rows)
            return rows

        monkeypatch.setattr(sort, "read_stretch", noted)
        compact_day(layout, DAY, memory_bytes=100_000)
        # A row has 54 columns of eight bytes, and something beside them is for what is read of a file.
        assert read == [*read[:1] * (len(read) - 1), read[-1]]
        assert sum(read) == 480
        assert 100 < read[0] <= 100_000 / (54 * 8)
        assert stored(layout).equals(before)

    def test_a_column_is_required_if_no_file_has_a_null_in_it(self, layout: DataLayout) -> None:
        time, later = (tick(seq)["received_at"] for seq in (0, 60))
        put(layout, "a", [tick(0, last_trade_time=time, exchange_timestamp=time)])
        put(layout, "b", [tick(1, last_trade_time=time)])
        compact_day(layout, DAY, memory_bytes=SMALL)
        (path,) = table(layout).snapshot().files
        required = {field.name for field in pq.ParquetFile(path).schema_arrow if not field.nullable}
        assert required == {"received_at", "stream", "seq", "instrument_token", "last_trade_time"}
        put(layout, "c", [tick(2, exchange_timestamp=later)])
        compact_day(layout, DAY, memory_bytes=SMALL)
        (path,) = table(layout).snapshot().files
        assert pq.ParquetFile(path).schema_arrow.field("last_trade_time").nullable
        times = stored(layout).select(["last_trade_time", "exchange_timestamp"]).cast(MICROSECONDS)
        assert times.to_pydict() == {"last_trade_time": [time, time, None], "exchange_timestamp": [time, None, later]}

    @pytest.mark.usefixtures("small_stretches")
    def test_several_files_of_bounded_size(self, layout: DataLayout) -> None:
        minutes_of_ticks(layout)
        before = stored(layout)
        (sealed,) = compact_day(layout, DAY, memory_bytes=SMALL, file_bytes=10_000)
        assert sealed.files > 2
        assert stored(layout).equals(before)
        assert sealed.bytes == sum(Path(path).stat().st_size for path in table(layout).snapshot().files)
        stems = {name.rpartition("-of-")[2] for name in names(layout)}
        assert stems == {f"{sealed.files:04d}.parquet"}
        assert compact_day(layout, DAY, memory_bytes=SMALL, file_bytes=10_000) == []

    def test_the_other_tables_in_the_order_of_their_keys(self, layout: DataLayout) -> None:
        with Feed(layout.root, STREAM) as feed:
            for number in range(5):
                feed.event(f"event {number}")
                feed.order(f"order {number}")
                feed.junk(b"junk %d" % number)
                feed.tick((INFY, number + 1), (CRUDE, number + 1))
                feed.roll()
        SegmentWriter(layout, ToyDecoder()).run(poll_seconds=0.01, stop=threading.Event())
        sealed = compact_day(layout, DAY, memory_bytes=SMALL)
        assert [
            (each.table, *each.partition.values(), each.rows, each.files_before, each.files) for each in sealed
        ] == [
            ("ticks", "2026-11-23", "MCX", 5, 5, 1),
            ("ticks", "2026-11-23", "NSE", 5, 5, 1),
            ("orders", "2026-11-23", 5, 5, 1),
            ("events", "2026-11-23", 5, 5, 1),
            ("quarantine", "2026-11-23", 5, 5, 1),
        ]
        check(layout, feed)
        for spec in (ORDERS, EVENTS, QUARANTINE):
            (path,) = LakeTable(layout.table(spec.name), spec).open().snapshot().files
            records = pq.ParquetFile(path).read().column("record").to_pylist()
            assert records == sorted(records)

    def test_files_are_stamped_and_the_log_has_their_bounds(self, layout: DataLayout) -> None:
        put(layout, "a", [tick(0, symbol="NSE:INFY"), tick(1, exchange_timestamp=tick(7)["received_at"])])
        put(layout, "b", [tick(2, symbol="NSE:" + "Z" * 100)])
        compact_day(layout, DAY, memory_bytes=SMALL)
        log = max((table(layout).path / "_delta_log").glob("*.json"))
        (add,) = (line["add"] for line in map(json.loads, log.read_text().splitlines()) if "add" in line)
        (path,) = map(Path, table(layout).snapshot().files)
        assert is_as_stamped(path)
        assert add["size"] == path.stat().st_size
        assert json.loads(add["stats"]) == column_stats(pq.ParquetFile(path).read(), TICKS.stats)


class TestOnce:
    def test_what_is_compacted_is_left_alone(self, layout: DataLayout) -> None:
        minutes_of_ticks(layout)
        assert len(compact_day(layout, DAY, memory_bytes=SMALL)) == 1
        version, (name,) = table(layout).snapshot().version, names(layout)
        assert compact_day(layout, DAY, memory_bytes=SMALL) == []
        assert (table(layout).snapshot().version, names(layout)) == (version, [name])
        assert not (layout.staging / "seal").exists()

    def test_what_came_after_is_compacted_with_the_rest(self, layout: DataLayout) -> None:
        minutes_of_ticks(layout, files=2)
        compact_day(layout, DAY, memory_bytes=SMALL)
        put(layout, "late", [tick(1000)])
        (sealed,) = compact_day(layout, DAY, memory_bytes=SMALL)
        assert (sealed.rows, sealed.files_before, sealed.files) == (121, 2, 1)
        assert stored(layout).column("seq").to_pylist() == [*range(120), 1000]

    def test_other_days_and_an_empty_folder_are_left_alone(self, layout: DataLayout) -> None:
        assert compact_day(layout, DAY, memory_bytes=SMALL) == []
        minutes_of_ticks(layout, files=2)
        assert compact_day(layout, DAY + datetime.timedelta(days=1), memory_bytes=SMALL) == []
        assert len(names(layout)) == 2

    def test_a_file_without_rows_goes(self, layout: DataLayout) -> None:
        put(layout, "empty", [])
        put(layout, "full", [tick(0)])
        (sealed,) = compact_day(layout, DAY, memory_bytes=SMALL)
        before = names(layout)
        assert (sealed.rows, sealed.files_before, sealed.files) == (1, 2, 1)
        put(layout, "empty", [])  # beside a sealed file: the rows are the same, and so is the name of their file
        (sealed,) = compact_day(layout, DAY, memory_bytes=SMALL)
        assert (sealed.files, names(layout)) == (1, before)
        assert stored(layout).num_rows == 1


class TestRefused:
    def damage(self, layout: DataLayout, name: str, change: bytes | None) -> None:
        path = layout.table("ticks") / "date=2026-11-23/exchange=NSE" / f"{name}.parquet"
        data = path.read_bytes()
        if change is None:
            path.unlink()
        elif change:
            path.write_bytes(data + change)
        else:
            path.write_bytes(data[:100] + bytes([data[100] ^ 0xFF]) + data[101:])

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            (b"", "file date=2026-11-23/exchange=NSE/b.parquet is damaged: it does not have the digest in its footer"),
            (b"x", "file date=2026-11-23/exchange=NSE/b.parquet has "),
            (None, "cannot read date=2026-11-23/exchange=NSE/b.parquet: No such file or directory"),
        ],
    )
    def test_a_damaged_file_is_not_compacted_and_the_others_are(
        self, layout: DataLayout, change: bytes | None, text: str
    ) -> None:
        for name in ("a", "b"):
            put(layout, name, [tick(ord(name))])
            put(layout, name, [tick(ord(name))], values=NSE | {"exchange": "ZZZ"})
        self.damage(layout, "b", change)
        with pytest.raises(SealError) as raised:
            compact_day(layout, DAY, memory_bytes=SMALL)
        assert str(raised.value).startswith("ticks/2026-11-23/NSE: ")
        assert text in str(raised.value)
        found = sorted(Path(path).parent.name + "/" + Path(path).name[:6] for path in table(layout).snapshot().files)
        assert found == ["exchange=NSE/a.parq", "exchange=NSE/b.parq", "exchange=ZZZ/sealed"]

    def test_rows_that_the_log_does_not_count_are_not_compacted(self, layout: DataLayout) -> None:
        file = put(layout, "a", [tick(0)])
        wrong = DataFile(
            file.relative, file.size, file.values, 2, file.stats.replace('"numRecords":1', '"numRecords":2')
        )
        table(layout).commit([wrong])
        with pytest.raises(SealError, match=r"ticks/2026-11-23/NSE: file .*a.parquet has 1 rows, 2 expected"):
            compact_day(layout, DAY, memory_bytes=SMALL)

    @pytest.mark.parametrize("wrong", ["lost", "doubled", "changed"])
    def test_other_rows_than_before_are_not_swapped_in(
        self, layout: DataLayout, monkeypatch: pytest.MonkeyPatch, wrong: str
    ) -> None:
        minutes_of_ticks(layout, files=2)
        before = table(layout).snapshot().version, names(layout)
        groups = sort._groups
        at = TICKS.file_schema.names.index("last_price")

        def bad(*arguments: Any) -> Any:
            for rows in groups(*arguments):
                if wrong == "lost":
                    yield rows.slice(1)
                elif wrong == "doubled":
                    yield pa.concat_tables([rows.slice(1), rows.slice(rows.num_rows - 1)])
                else:
                    yield rows.set_column(at, "last_price", pa.array([*([None] * 119), 0.05]))

        monkeypatch.setattr(sort, "_groups", bad)
        with pytest.raises(SealError) as raised:
            compact_day(layout, DAY, memory_bytes=SMALL)
        count = 119 if wrong == "lost" else 120
        assert str(raised.value).startswith(
            f"ticks/2026-11-23/NSE: nothing was swapped: the new files have {count} rows with the digest "
        )
        assert ", expected 120 rows with the digest " in str(raised.value)
        assert (table(layout).snapshot().version, names(layout)) == before
        assert not (layout.staging / "seal").exists()
        assert len(list(layout.table("ticks").glob("*/*/*"))) == 2

    @pytest.mark.parametrize("step", ["checked", "moved"])
    def test_a_file_that_went_meanwhile_is_not_brought_back(self, layout: DataLayout, step: str) -> None:
        minutes_of_ticks(layout, files=3)

        def remove(done: str) -> None:
            if done == step:
                table(layout).commit([], remove=[table(layout).snapshot().entries[0]])

        with pytest.raises(SealError, match="1 of 3 files to remove are not in it any more"):
            compact_day(layout, DAY, memory_bytes=SMALL, after_step=remove)
        assert len(names(layout)) == 2
        assert stored(layout).num_rows == 120
        (sealed,) = compact_day(layout, DAY, memory_bytes=SMALL)
        assert sealed.rows == 120

    def test_a_file_that_is_cut_short_meanwhile(self, layout: DataLayout) -> None:
        minutes_of_ticks(layout, files=2)
        path = Path(table(layout).snapshot().files[1])

        def cut(done: str) -> None:
            if done == "checked":
                path.write_bytes(path.read_bytes()[:500])

        with pytest.raises(TableError):
            compact_day(layout, DAY, memory_bytes=SMALL, after_step=cut)
        assert len(names(layout)) == 2
        assert not (layout.staging / "seal").exists()

    def test_while_another_process_holds_the_tables(self, layout: DataLayout, monkeypatch: pytest.MonkeyPatch) -> None:
        minutes_of_ticks(layout, files=2)
        monkeypatch.setattr(lock, "LOCK_SECONDS", 0.05)
        with FileLock(layout.seal_lock), pytest.raises(DataFolderError, match=r"seal\.lock: another process"):
            compact_day(layout, DAY, memory_bytes=SMALL)
        assert len(compact_day(layout, DAY, memory_bytes=SMALL)) == 1


def test_a_file_that_is_not_in_the_table_cannot_be_removed(layout: DataLayout) -> None:
    """The log would take the removal and add the other files, and rows would be there twice."""
    file, other = put(layout, "a", [tick(0)]), put(layout, "b", [tick(1)])
    stale = table(layout)
    table(layout).commit([], remove=[file])
    version = stale.snapshot().version
    with pytest.raises(TableChangedError, match=r"1 of 2 files to remove are not in it any more, as .*/a\.parquet"):
        stale.commit([], remove=[file, other])
    assert stale.snapshot().version == version


def test_progress_goes_through_the_steps(layout: DataLayout) -> None:
    minutes_of_ticks(layout, files=20)
    seen: list[CompactProgress] = []
    compact_day(layout, DAY, memory_bytes=SMALL, on_progress=seen.append)
    assert [(each.step, each.rows) for each in seen] == [
        ("checking", 960),
        ("checking", 1200),
        ("writing", 1200),
        ("comparing", 1200),
    ]
    assert {(each.table, each.total) for each in seen} == {("ticks", 1200)}


FLOATS = st.none() | st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324]) | st.floats(width=64)
INTEGERS = st.none() | st.integers(-(2**63), 2**63 - 1)
TICK = st.fixed_dictionaries(
    {
        "received_at": st.integers(OPEN_DAY := 1_795_372_200_000_000, OPEN_DAY + 86_400_000_000 - 1),
        "stream": st.sampled_from([STREAM, "20261123T050000-bbbbbb", "ü"]),
        "seq": st.integers(0, 2**40),
        "instrument_token": st.sampled_from([INFY, 257, 2**32 - 255]),
        "symbol": st.none() | st.text(st.characters(codec="utf-8"), max_size=70),
        "last_price": FLOATS,
        "open": FLOATS,
        "volume_traded": INTEGERS,
        "oi": INTEGERS,
        "bid_price_1": FLOATS,
        "last_trade_time": st.none() | st.integers(-(10**15), 4 * 10**15),
    }
)


def multiset(rows: pa.Table) -> Counter[tuple[Any, ...]]:
    """The rows, floating-point numbers by their bits."""
    listed = (row.values() for row in rows.to_pylist())
    return Counter(
        tuple(struct.pack(">d", value) if isinstance(value, float) else value for value in row) for row in listed
    )


@settings(max_examples=scaled(3, 12), deadline=None)
@given(files=st.lists(st.lists(TICK, max_size=20), min_size=1, max_size=4), file_bytes=st.sampled_from([1, 1 << 30]))
def test_every_bit_of_every_row_is_there_after_compaction(files: list[list[dict[str, Any]]], file_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sort, "STRETCH_ROWS", 10)
        patch.setattr(sort, "ROW_GROUP_ROWS", 4)
        layout = DataLayout(Path(folder))
        for number, rows in enumerate(files):
            put(layout, f"{STREAM}-{number:010d}", [dict.fromkeys(TICKS.file_schema.names) | row for row in rows])
        before = multiset(table(layout).read())
        compact_day(layout, DAY, memory_bytes=SMALL, file_bytes=file_bytes)
        assert multiset(table(layout).read()) == before
        assert all(name.startswith("sealed-") for name in names(layout))
