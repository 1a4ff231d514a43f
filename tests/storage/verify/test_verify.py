"""`verify` says of a data folder that it is sound when it is, and what is damaged, where and on which day, when not."""

import datetime
import io
import itertools
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.instruments.listing import parse_instruments
from storage.commit.decoder import Decoded
from storage.commit.rebuild import replay_day
from storage.commit.writer import SegmentWriter
from storage.files import DataFile
from storage.journal.writer import segments
from storage.layout import DataLayout
from storage.schema import TABLES, TICKS
from storage.tables.digest import is_as_stamped, stamp
from storage.tables.parquet import write_file
from storage.tables.symbols import write_instruments
from storage.tables.table import LakeTable
from storage.upkeep.archive import archive_committed
from storage.upkeep.compact import seal
from storage.upkeep.retention import remove_committed, remove_days
from storage.verify.files import check_file
from storage.verify.folder import Finding, Progress, VerifyReport, damaged_days, verify
from storage.verify.log import LogState, read_log
from storage.verify.sequence import Sequence
from tests.ingest.instruments.test_listing import HEADER, ROWS
from tests.storage.tables.test_parquet import sample
from tests.support.disks import mount, unmount
from tests.support.lake import CRUDE, DAY_NS, INFY, NIFTY_FUT, Feed, ToyDecoder

STREAM = "20261123T034500-aaaaaa"
DAY = datetime.timedelta(days=1)
DAYS = [datetime.date(2026, 11, 23 + n) for n in range(3)]


def fill(feed: Feed, days: int = 1) -> None:
    """Two segments a day, each with rows of every table."""
    for part in range(2 * days):
        feed.tick((INFY, 100 + part), (CRUDE, part))
        feed.event(f"event {part}")
        feed.order(f"order {part // 2}")  # each twice
        feed.junk(b"junk %d" % part)
        feed.tick((NIFTY_FUT, part), (INFY, part + 1))
        feed.roll()
        if part % 2:
            feed.now_ns += DAY_NS


def commit(layout: DataLayout) -> None:
    SegmentWriter(layout, ToyDecoder(), retry_seconds=0).run(poll_seconds=0.01, stop=threading.Event())


def found(layout: DataLayout, date: datetime.date | None = None) -> list[Finding]:
    return verify(layout, ToyDecoder(), date=date).findings


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def table(layout: DataLayout, name: str) -> LakeTable:
    return LakeTable(layout.table(name), TABLES[name]).open()


def entries(layout: DataLayout, name: str, date: datetime.date) -> list[DataFile]:
    there = [e for e in table(layout, name).snapshot().entries if e.values["date"] == date.isoformat()]
    return sorted(there, key=lambda entry: entry.relative)


def rewrite(layout: DataLayout, name: str, change: Callable[[pa.Table], pa.Table], *, keep: bool = False) -> None:
    """Put a file with changed rows in the place of the first one, or beside it: all in good order, but for the rows."""
    lake = table(layout, name)
    old = entries(layout, name, DAYS[0])[0]
    rows = change(pq.ParquetFile(lake.path / old.relative).read())
    new = write_file(lake.spec, rows, values=old.values, stem="new", table_folder=lake.path, staging=layout.staging)
    lake.commit([new], remove=[] if keep else [old])


def change_column(rows: pa.Table, name: str, change: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> pa.Table:
    field = rows.schema.field(name)
    return rows.set_column(rows.schema.get_field_index(name), field, change(rows.column(name)).cast(field.type))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def log_file(layout: DataLayout, name: str, version: int) -> Path:
    return layout.table(name) / "_delta_log" / f"{version:020d}.json"


@pytest.fixture(scope="module")
def three_days(tmp_path_factory: pytest.TempPathFactory) -> DataLayout:
    layout = DataLayout(tmp_path_factory.mktemp("verify") / "data %")
    with Feed(layout.root, STREAM) as feed:
        fill(feed, days=3)
    commit(layout)
    return layout


@pytest.fixture
def layout(tmp_path: Path, three_days: DataLayout) -> DataLayout:
    """Three days of one stream, committed."""
    shutil.copytree(three_days.root, tmp_path / "data %")
    return DataLayout(tmp_path / "data %")


class TestSound:
    def test_after_a_stream_has_ended(self, layout: DataLayout) -> None:
        seen: list[Progress] = []
        report = verify(layout, ToyDecoder(), on_progress=seen.append)
        assert report.is_sound
        assert report.rows == 6 * 4 + 6 + 3 + 6
        assert (report.segments, report.compared) == (7, 7)
        assert {each.what for each in seen} >= {"ticks", "orders", "events", "quarantine", "journal"}
        assert not damaged_days(report)

    @pytest.mark.parametrize("date", DAYS)
    def test_a_day_of_it(self, layout: DataLayout, date: datetime.date) -> None:
        report = verify(layout, ToyDecoder(), date=date)
        assert report.is_sound
        assert report.rows == 2 * 4 + 2 + 1 + 2

    def test_while_a_stream_goes_on(self, tmp_path: Path) -> None:
        layout = DataLayout(tmp_path)
        with Feed(layout.root, STREAM) as feed:
            fill(feed)
            feed.tick((INFY, 5))
            feed.flush()
            assert verify(layout, ToyDecoder()).segments == 3
            assert not found(layout)

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        assert verify(DataLayout(tmp_path), ToyDecoder()).is_sound

    def test_with_an_instrument_list(self, layout: DataLayout) -> None:
        listed = parse_instruments((HEADER + ROWS).encode(), date=DAYS[0])
        write_instruments(layout, DAYS[0], listed)
        report = verify(layout, ToyDecoder())
        assert report.is_sound
        assert report.rows == 6 * 4 + 6 + 3 + 6 + len(listed)

    @pytest.mark.slow
    def test_after_archiving_sealing_and_replay(self, layout: DataLayout) -> None:
        rows = verify(layout, ToyDecoder()).rows
        assert archive_committed(layout, ToyDecoder()).segments == 7
        for date in DAYS[:2]:
            seal(layout, date)
        sealed = verify(layout, ToyDecoder())
        replay_day(layout, ToyDecoder(), DAYS[0])
        replayed = verify(layout, ToyDecoder())
        for report in (sealed, replayed):
            assert report.is_sound
            assert (report.rows, report.compared) == (rows, 7)
        assert all(verify(layout, ToyDecoder(), date=date).is_sound for date in DAYS)

    def test_oldest_days_that_were_removed_are_no_gap(self, layout: DataLayout) -> None:
        assert remove_days(layout, keep_days=2, most_bytes=None, today=DAYS[2] + DAY) == DAYS[:1]
        assert not found(layout)
        for number in (0, 1):
            layout.segment(STREAM, number).unlink()
        assert not found(layout)
        assert not found(layout, DAYS[1])

    def test_all_days_removed_and_the_journal_not_yet(self, layout: DataLayout) -> None:
        assert remove_days(layout, keep_days=1, most_bytes=None, today=DAYS[2] + 30 * DAY) == DAYS
        assert not found(layout)
        assert not archive_committed(layout, ToyDecoder()).unverified
        assert not found(layout)

    def test_late_rows_of_a_day_that_was_removed(self, tmp_path: Path) -> None:
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

    def test_a_day_that_was_removed_while_the_logs_are_read(self, layout: DataLayout) -> None:
        def read(lake: LakeTable, version: int) -> tuple[LogState, list[str], bool]:
            if lake.spec.name == "events" and entries(layout, "ticks", DAYS[0]):
                remove_days(layout, keep_days=2, most_bytes=None, today=DAYS[2] + DAY)
                version += 1
            return read_log(lake, version)

        with patch("storage.verify.folder.read_log", side_effect=read):
            assert not found(layout)

    def test_a_replay_of_a_table_that_had_nothing_of_the_day(self, layout: DataLayout) -> None:
        for path in sorted((layout.table("orders") / "_delta_log").glob("*.json"))[1:]:
            path.unlink()  # the files stay, and no version has ever named them
        assert found(layout)
        for day in DAYS:
            replay_day(layout, ToyDecoder(), day)
        assert entries(layout, "orders", DAYS[0])
        assert not found(layout)

    def test_a_replay_that_found_more_at_the_end_of_a_stream(self, tmp_path: Path) -> None:
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
        replay_day(layout, ToyDecoder(), DAYS[0])
        assert table(layout, "ticks").transaction(f"{STREAM}/seq") == 3
        assert not found(layout)

    def test_on_a_read_only_file_system(self, layout: DataLayout) -> None:
        if not mount("--bind", "-o", "ro", str(layout.root), str(layout.root)):
            pytest.skip("mounting a file system is not permitted here")
        try:
            with pytest.raises(OSError, match="Read-only"):
                (layout.root / "x").touch()
            assert not found(layout)
        finally:
            unmount(layout.root)

    @pytest.fixture
    def over_midnight(self, tmp_path: Path) -> DataLayout:
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

    def test_a_segment_of_two_days_of_which_the_first_is_sealed(self, over_midnight: DataLayout) -> None:
        assert verify(over_midnight, ToyDecoder()).compared == 4
        seal(over_midnight, DAYS[0])
        for date in (None, *DAYS[:2]):
            assert not found(over_midnight, date)
        assert verify(over_midnight, ToyDecoder()).compared == 4

    def test_a_day_of_which_one_exchange_is_sealed_yet(self, over_midnight: DataLayout) -> None:
        class EndedError(Exception):
            pass

        def end(step: str) -> None:
            if step == "committed":
                raise EndedError

        with pytest.raises(EndedError):
            seal(over_midnight, DAYS[0], after_step=end)
        names = {entry.relative.rpartition("/")[2][:6] for entry in entries(over_midnight, "ticks", DAYS[0])}
        assert len(names) > 1, "some are sealed, and some are not"
        assert not found(over_midnight)
        assert not found(over_midnight, DAYS[0])

    def test_a_segment_with_rows_of_a_day_that_was_removed(self, over_midnight: DataLayout) -> None:
        now = datetime.datetime.combine(DAYS[1], datetime.time(), datetime.UTC)
        removed = remove_days(over_midnight, keep_days=2, most_bytes=None, today=DAYS[0] + datetime.timedelta(days=3))
        assert removed == [DAYS[0]]
        remove_committed(over_midnight, keep=datetime.timedelta(days=7), now=now)
        assert len(list(over_midnight.stream(STREAM).glob("*.journal"))) > 1
        for date in (None, *DAYS[:2]):
            assert not found(over_midnight, date)

    def test_damage_that_is_in_quarantine(self, tmp_path: Path) -> None:
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

    def test_a_segment_that_was_gone_before_its_commit(self, tmp_path: Path) -> None:
        layout = DataLayout(tmp_path)
        with Feed(layout.root, STREAM) as feed:
            fill(feed, days=2)
        layout.segment(STREAM, 1).unlink()
        finding = only(found(layout))
        assert "segments 1 to 1 are not in the journal" in finding.text
        commit(layout)
        assert not found(layout)


class TestFiles:
    def test_one_that_is_not_there(self, layout: DataLayout) -> None:
        entry = entries(layout, "ticks", DAYS[1])[0]
        path = layout.table("ticks") / entry.relative
        path.unlink()
        report = verify(layout, ToyDecoder())
        assert report.findings == [
            Finding("file", "it is not there", "ticks", str(path), date=DAYS[1], rows=entry.rows, repairable=True)
        ]
        assert damaged_days(report) == {DAYS[1]: True}
        assert not found(layout, DAYS[0])
        assert only(found(layout, DAYS[1])).repairable

    def test_what_the_journal_does_not_hold_cannot_be_repaired(self, layout: DataLayout) -> None:
        for date in DAYS[:2]:
            (layout.table("ticks") / entries(layout, "ticks", date)[0].relative).unlink()
        for number in (0, 1):
            layout.segment(STREAM, number).unlink()
        assert damaged_days(verify(layout, ToyDecoder())) == {DAYS[0]: False, DAYS[1]: False}

    @pytest.mark.parametrize("name", ["ticks", "orders", "events", "quarantine"])
    def test_damage_on_other_days_is_not_of_the_day(self, layout: DataLayout, name: str) -> None:
        (layout.table(name) / entries(layout, name, DAYS[1])[0].relative).write_bytes(b"PAR1")
        assert [finding.table for finding in found(layout, DAYS[1])] == [name]
        assert not found(layout, DAYS[0])
        assert not found(layout, DAYS[2])

    def test_one_that_left_the_table_meanwhile(self, layout: DataLayout) -> None:
        def compact(progress: Progress) -> None:
            if progress.what == "ticks" and progress.done == 0:
                for entry in entries(layout, "ticks", DAYS[2]):
                    table(layout, "ticks").commit([], remove=[entry])
                    (layout.table("ticks") / entry.relative).unlink()

        report = verify(layout, ToyDecoder(), on_progress=compact)
        assert not [finding for finding in report.findings if finding.kind == "file"]

    def test_one_cut_short(self, layout: DataLayout) -> None:
        path = layout.table("events") / entries(layout, "events", DAYS[0])[0].relative
        size = path.stat().st_size
        path.write_bytes(path.read_bytes()[:-1])
        assert only(found(layout)).text == f"got {size - 1} bytes, expected {size}"

    def test_one_that_another_wrote(self, layout: DataLayout) -> None:
        entry = entries(layout, "events", DAYS[0])[0]
        path = layout.table("events") / entry.relative
        pq.write_table(pq.ParquetFile(path).read().replace_schema_metadata(None), path)
        edit(log_file(layout, "events", 1), f'"size":{entry.size}', f'"size":{path.stat().st_size}')
        assert only(found(layout)).text == "got a file without a digest"

    @pytest.mark.parametrize("name", ["ticks", "events"])
    def test_pages_are_checked_even_where_the_digest_is_right(self, layout: DataLayout, name: str) -> None:
        lake = table(layout, name)
        state, _, _ = read_log(lake, lake.snapshot().version)
        file = next(iter(state.files.values()))
        path = lake.path / file.relative
        whole, rows = path.read_bytes(), pq.ParquetFile(path).read()
        footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
        refused = 0
        for at in random.Random(1).sample(range(4, footer), 80):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
            stamp(path)
            if list(check_file(lake.spec, lake.path, file, lambda _rows: None)):
                refused += 1
            else:
                assert pq.ParquetFile(path).read().equals(rows)
        assert refused > 40

    @pytest.mark.parametrize(
        ("old", "new", "text"),
        [
            ('\\"numRecords\\":2', '\\"numRecords\\":3', "got 2 rows, expected 3"),
            ('\\"seq\\":0', '\\"seq\\":1', "got other statistics in the log than its rows have: minValues"),
            ("T03:45:00.000Z", "T03:44:59.999Z", "got other statistics in the log than its rows have: minValues"),
            ('\\"symbol\\":2', '\\"symbol\\":1', "got other statistics in the log than its rows have: nullCount"),
        ],
    )
    def test_what_the_log_says_of_one(self, layout: DataLayout, old: str, new: str, text: str) -> None:
        edit(log_file(layout, "ticks", 1), old, new)
        assert text in {finding.text for finding in found(layout) if finding.kind == "file"}

    def test_rows_of_another_day(self, layout: DataLayout) -> None:
        def a_day_later(rows: pa.Table) -> pa.Table:
            return change_column(
                rows, "received_at", lambda times: pc.add(times, pa.scalar(datetime.timedelta(days=1)))
            )

        rewrite(layout, "ticks", a_day_later)
        texts = [finding.text for finding in found(layout)]
        assert any("rows that were not received on 2026-11-23" in text for text in texts)


class TestRows:
    def test_ticks_that_are_there_twice(self, layout: DataLayout) -> None:
        rewrite(layout, "ticks", lambda rows: rows, keep=True)
        texts = [finding.text for finding in found(layout)]
        assert "1 seq are there twice" in texts

    @pytest.mark.parametrize("name", ["orders", "events", "quarantine"])
    def test_records_that_are_there_twice(self, layout: DataLayout, name: str) -> None:
        rewrite(layout, name, lambda rows: rows, keep=True)
        assert any("rows are there twice by" in finding.text for finding in found(layout))

    def test_ticks_that_are_missing(self, layout: DataLayout) -> None:
        entry = entries(layout, "ticks", DAYS[1])[0]
        assert entry.rows == 1
        table(layout, "ticks").commit([], remove=[entry])
        for findings in (found(layout), found(layout, DAYS[1])):
            missing = only([finding for finding in findings if finding.kind == "sequence"])
            assert (missing.text, missing.stream, missing.date, missing.rows) == (
                "seq 9 to 9 are missing",
                STREAM,
                DAYS[1],
                1,
            )
            assert missing.repairable

    def test_the_last_ticks_of_a_stream(self, layout: DataLayout) -> None:
        for entry in entries(layout, "ticks", DAYS[2]):
            table(layout, "ticks").commit([], remove=[entry])
        missing = only([finding for finding in found(layout) if finding.kind == "sequence"])
        assert missing.text == "seq 16 to 23 are missing"

    def test_a_day_in_the_middle_is_no_retention(self, layout: DataLayout) -> None:
        table(layout, "ticks").commit([], remove=entries(layout, "ticks", DAYS[1]))
        missing = only([finding for finding in found(layout) if finding.kind == "sequence"])
        assert missing.text == "seq 8 to 15 are missing"

    @pytest.mark.parametrize("column", ["last_price", "account", "connection", "received_at"])
    def test_ticks_that_the_journal_does_not_give(self, layout: DataLayout, column: str) -> None:
        def other(values: pa.ChunkedArray) -> pa.ChunkedArray:
            return pc.binary_join_element_wise(values, "x", "") if column == "account" else add_one(values)

        rewrite(layout, "ticks", lambda rows: change_column(rows, column, other))
        finding = only(found(layout))
        assert finding.text == f"segment 0: got other values than the journal gives in {column}"
        assert (finding.kind, finding.date, finding.repairable) == ("rows", DAYS[0], True)

    def test_the_columns_of_large_row_groups_one_after_the_other(self, layout: DataLayout) -> None:
        rewrite(layout, "ticks", lambda rows: change_column(rows, "last_price", add_one))
        with patch("storage.verify.files.SMALL_VALUES", 0):
            finding = only(found(layout))
        assert finding.text == "segment 0: got other values than the journal gives in last_price"

    def test_symbols_are_not_compared(self, layout: DataLayout) -> None:
        write_instruments(layout, DAYS[0], parse_instruments((HEADER + ROWS).encode(), date=DAYS[0]))
        rewrite(layout, "ticks", with_symbols)
        assert not found(layout)

    @pytest.mark.parametrize("name", ["orders", "events", "quarantine"])
    def test_records_that_the_journal_does_not_give(self, layout: DataLayout, name: str) -> None:
        def other(values: pa.ChunkedArray) -> pa.ChunkedArray:
            return pc.add(values, 1)

        rewrite(layout, name, lambda rows: change_column(rows, "connection", other))
        assert "others than the journal gives" in only(found(layout)).text

    @pytest.mark.parametrize("name", ["orders", "events", "quarantine"])
    def test_records_that_are_missing(self, layout: DataLayout, name: str) -> None:
        rewrite(layout, name, lambda rows: rows.slice(1))
        finding = found(layout)[-1]  # an order that came twice is missing in both segments
        assert "segment 0: 1 rows are missing" in finding.text
        assert finding.table == name


def with_symbols(rows: pa.Table) -> pa.Table:
    return change_column(rows, "symbol", lambda symbols: pa.chunked_array([["MCX:A"] * len(symbols)]))


def add_one(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.add(values, pa.scalar(datetime.timedelta(microseconds=1)) if pa.types.is_timestamp(values.type) else 1)


class TestLog:
    @pytest.mark.parametrize("name", ["ticks", "orders", "events", "quarantine"])
    @pytest.mark.parametrize("what", ["", "_delta_log", "_delta_log/*.json"])
    def test_a_table_or_its_log_that_is_not_there(self, layout: DataLayout, name: str, what: str) -> None:
        for path in [*layout.table(name).glob(what)] if what else [layout.table(name)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        finding = next(finding for finding in found(layout) if finding.kind == "log")
        assert (finding.table, finding.repairable) == (name, False)
        assert ("got" if what else "it is not there") in finding.text

    def test_instrument_lists_that_are_not_there(self, layout: DataLayout) -> None:
        write_instruments(layout, DAYS[0], parse_instruments((HEADER + ROWS).encode(), date=DAYS[0]))
        rewrite(layout, "ticks", with_symbols)
        shutil.rmtree(layout.table("instruments"))
        assert only(found(layout)).text == "it is not there, and ticks have symbols"

    def test_a_version_that_is_empty(self, layout: DataLayout) -> None:
        log_file(layout, "ticks", 7).write_bytes(b"")
        assert "version 7: changes nothing" in {finding.text for finding in found(layout)}

    @pytest.mark.parametrize("name", ["ticks", "orders", "events", "quarantine"])
    def test_versions_that_are_lost_with_the_journal(self, layout: DataLayout, name: str) -> None:
        newest = sorted((layout.table(name) / "_delta_log").glob("*.json"))[-2:]
        versions = [path.read_bytes() for path in newest]
        for path in newest:
            path.unlink()
        if name == "ticks":  # this is what a writer leaves that died before its last commit
            assert not found(layout)
        shutil.rmtree(layout.journal)
        findings = found(layout)
        assert {(finding.kind, finding.table) for finding in findings} == {("log", name)}
        assert any("files of segments that no version names" in finding.text for finding in findings)
        for path, version in zip(newest, versions, strict=True):
            path.write_bytes(version)
        assert not found(layout)

    def test_what_ticks_lack_is_known_by_other_tables(self, layout: DataLayout) -> None:
        for path in sorted((layout.table("ticks") / "_delta_log").glob("*.json"))[-2:]:
            path.unlink()
        for path in layout.table("ticks").glob(f"date={DAYS[2]}/**/*.parquet"):
            path.unlink()
        layout.segment(STREAM, 5).unlink()
        texts = {finding.text for finding in found(layout)}
        assert "segment 5 is committed to events, and neither to ticks nor in the journal" in texts

    def test_a_version_that_is_not_there(self, layout: DataLayout) -> None:
        log_file(layout, "events", 2).unlink()
        assert {finding.kind for finding in found(layout)} == {"log"}

    def test_nonsense_in_one_table_hides_nothing_in_others(self, layout: DataLayout) -> None:
        log_file(layout, "events", 1).write_text("nonsense")
        (layout.table("ticks") / entries(layout, "ticks", DAYS[0])[0].relative).unlink()
        assert {(finding.table, finding.kind) for finding in found(layout)} == {("events", "log"), ("ticks", "file")}

    @pytest.mark.parametrize(
        ("name", "version", "old", "new"),
        [
            ("ticks", 2, '"version":1}', '"version":2}'),
            ("ticks", 2, f'"{STREAM}/seq","version":8', f'"{STREAM}/seq","version":9'),
            ("ticks", 6, f'"{STREAM}/seq","version":24', f'"{STREAM}/seq","version":25'),
            ("ticks", 7, f'"{STREAM}/record","version":', f'"{STREAM}/record","version":1'),
            ("events", 2, f'"appId":"{STREAM}"', f'"appId":"{STREAM[:-1]}b"'),
            ("events", 2, '{"txn":', '{"txm":'),
            ("events", 2, '{"add":', '{"ade":'),
            ("events", 2, '"date":"2026-11-23"', '"date":"2026-11-22"'),
            ("orders", 1, '"tags":null', '"tags":{}'),
        ],
    )
    def test_a_byte_of_a_version(self, layout: DataLayout, name: str, version: int, old: str, new: str) -> None:
        edit(log_file(layout, name, version), old, new)
        assert "log" in {finding.kind for finding in found(layout)}

    @pytest.mark.parametrize("ordinal", ["-39579", "0", f"{10**20}", f"{(DAYS[0]).toordinal()}"])
    def test_a_first_day_that_cannot_be(self, layout: DataLayout, ordinal: str) -> None:
        remove_days(layout, keep_days=2, most_bytes=None, today=DAYS[2] + DAY)
        edit(log_file(layout, "ticks", 8), f'"version":{DAYS[1].toordinal()}', f'"version":{ordinal}')
        assert ("log", "ticks") in {(finding.kind, finding.table) for finding in found(layout)}

    def test_a_checkpoint_that_says_otherwise(self, layout: DataLayout) -> None:
        log = layout.table("events") / "_delta_log"
        table(layout, "events")._fresh().create_checkpoint()
        assert not found(layout)
        (path,) = log.glob("*.checkpoint.parquet")
        rows = pq.read_table(path)
        pq.write_table(rows.slice(1) if rows["add"][0].is_valid else rows.slice(0, len(rows) - 1), path)
        assert "log" in {finding.kind for finding in found(layout)}

    def test_a_checkpoint_that_cannot_be_read_is_kept_from_the_library(self, layout: DataLayout) -> None:
        table(layout, "events")._fresh().create_checkpoint()
        (path,) = (layout.table("events") / "_delta_log").glob("*.checkpoint.parquet")
        path.write_bytes(path.read_bytes()[:-100])
        with patch.object(LakeTable, "open", side_effect=LakeTable.open, autospec=True) as opened:
            findings = found(layout)
        assert {(finding.table, finding.kind) for finding in findings} == {("events", "log")}
        assert {call.args[0].spec.name for call in opened.call_args_list} == {"ticks", "orders", "quarantine"}

    def test_a_panic_of_the_library_hides_nothing(self, layout: DataLayout) -> None:
        class PanicException(BaseException):
            pass

        (layout.table("events") / entries(layout, "events", DAYS[0])[0].relative).unlink()
        real = DeltaTable

        def panic(address: str, **options: object) -> DeltaTable:
            if address.endswith("ticks"):
                raise PanicException("crashed")
            return real(address, **options)  # type: ignore[arg-type]

        with patch("storage.tables.delta.DeltaTable", panic):
            findings = found(layout)
        assert ("log", "ticks", "cannot be read: crashed") in {
            (finding.kind, finding.table, finding.text) for finding in findings
        }
        assert ("file", "events") in {(finding.kind, finding.table) for finding in findings}

    def test_versions_before_a_checkpoint_may_be_gone(self, layout: DataLayout) -> None:
        table(layout, "events")._fresh().create_checkpoint()
        for path in sorted((layout.table("events") / "_delta_log").glob("*.json"))[:-1]:
            path.unlink()
        assert not found(layout)


class TestJournal:
    def test_damage_that_came_after_the_commit(self, layout: DataLayout) -> None:
        path = layout.segment(STREAM, 2)
        data = bytearray(path.read_bytes())
        data[-20] ^= 1
        path.write_bytes(data)
        report = verify(layout, ToyDecoder())
        finding = only(report.findings)
        assert (finding.kind, finding.path, finding.stream) == ("journal", str(path), STREAM)
        assert report.compared == 7
        assert not damaged_days(report)

    def test_what_the_decoder_refuses(self, layout: DataLayout) -> None:
        class Broken(ToyDecoder):
            def decode(self, stream: str, segment: int, *args: object, **options: object) -> object:  # type: ignore[override]
                if segment == 1:
                    raise RuntimeError("no")
                return super().decode(stream, segment, *args, **options)  # type: ignore[arg-type]

        finding = only(verify(layout, Broken()).findings)  # type: ignore[arg-type]
        assert finding.text == "cannot be decoded: RuntimeError"

    def test_a_journal_that_is_gone_is_no_finding(self, layout: DataLayout) -> None:
        for number in segments(layout, STREAM):
            layout.segment(STREAM, number).unlink()
        report = verify(layout, ToyDecoder())
        assert report.is_sound
        assert report.segments == 0


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 80), max_size=30), max_size=4), st.integers(0, 80), st.integers(0, 30))
def test_a_sequence_knows_what_is_there_and_what_is_not(batches: list[list[int]], first: int, more: int) -> None:
    ordinals = [*range(16, 32), *itertools.chain(*batches)]
    there = set(ordinals)
    with patch("storage.verify.sequence.CHUNK", 16):
        sequence = Sequence()
        sequence.add(np.arange(16, 32))  # a full chunk among others
        for batch in batches:
            sequence.add(np.array(batch, np.int64))
        missing = [n for low, high in sequence.missing(first, first + more) for n in range(low, high + 1)]
    assert sequence.repeated == len(ordinals) - len(there)
    assert (sequence.low, sequence.high) == (min(there), max(there))
    assert missing == [n for n in range(first, first + more) if n not in there]


def test_a_file_knows_each_of_its_bytes(tmp_path: Path) -> None:
    file = write_file(
        TICKS,
        sample(TICKS, 20),
        values={"date": "2026-11-22", "exchange": "NSE"},
        stem="a",
        table_folder=tmp_path,
        staging=tmp_path / "staging",
    )
    path = tmp_path / file.relative
    whole = path.read_bytes()
    assert is_as_stamped(path)
    for at in range(0, len(whole), 11):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert not is_as_stamped(path)


def test_a_file_without_a_place_for_a_digest_cannot_be_stamped() -> None:
    with pytest.raises(ValueError, match=r"got a file without kitelake\.sha256 in its footer"):
        stamp(io.BytesIO(b"PAR1"))


def test_a_report_with_nothing_found_has_no_days() -> None:
    report = VerifyReport(findings=[Finding("log", "x"), Finding("journal", "y", date=DAYS[0])])
    assert not report.is_sound
    assert not damaged_days(report)
