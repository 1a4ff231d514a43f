"""Parquet files against the log: what is damaged in which, and of which day."""

import datetime
import random

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from storage.layout import DataLayout
from storage.tables.digest import stamp
from storage.verify.files import check_file
from storage.verify.findings import VerifyFinding, VerifyProgress, damaged_days
from storage.verify.folder import verify
from storage.verify.log import read_log
from tests.support.lake import ToyDecoder
from tests.support.verifying import (
    DAYS,
    STREAM,
    change_column,
    edit,
    entries,
    found,
    log_file,
    only,
    rewrite,
    table,
)

pytestmark = pytest.mark.slow


def test_one_that_is_not_there(three_days: DataLayout) -> None:
    entry = entries(three_days, "ticks", DAYS[1])[0]
    path = three_days.table("ticks") / entry.relative
    path.unlink()
    report = verify(three_days, ToyDecoder())
    assert report.findings == [
        VerifyFinding("file", "it is not there", "ticks", str(path), date=DAYS[1], rows=entry.rows, repairable=True)
    ]
    assert damaged_days(report) == {DAYS[1]: True}
    assert not found(three_days, DAYS[0])
    assert only(found(three_days, DAYS[1])).repairable


def test_what_the_journal_does_not_hold_cannot_be_repaired(three_days: DataLayout) -> None:
    for date in DAYS[:2]:
        (three_days.table("ticks") / entries(three_days, "ticks", date)[0].relative).unlink()
    for number in (0, 1):
        three_days.segment(STREAM, number).unlink()
    assert damaged_days(verify(three_days, ToyDecoder())) == {DAYS[0]: False, DAYS[1]: False}


@pytest.mark.parametrize("name", ["ticks", "orders", "events", "quarantine"])
def test_damage_on_other_days_is_not_of_the_day(three_days: DataLayout, name: str) -> None:
    (three_days.table(name) / entries(three_days, name, DAYS[1])[0].relative).write_bytes(b"PAR1")
    assert [finding.table for finding in found(three_days, DAYS[1])] == [name]
    assert not found(three_days, DAYS[0])
    assert not found(three_days, DAYS[2])


def test_one_that_left_the_table_meanwhile(three_days: DataLayout) -> None:
    def compact(progress: VerifyProgress) -> None:
        if progress.what == "ticks" and progress.done == 0:
            for entry in entries(three_days, "ticks", DAYS[2]):
                table(three_days, "ticks").commit([], remove=[entry])
                (three_days.table("ticks") / entry.relative).unlink()

    report = verify(three_days, ToyDecoder(), on_progress=compact)
    assert not [finding for finding in report.findings if finding.kind == "file"]


def test_one_cut_short(layout: DataLayout) -> None:
    path = layout.table("events") / entries(layout, "events", DAYS[0])[0].relative
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    assert only(found(layout)).text == f"got {size - 1} bytes, expected {size}"


def test_one_that_another_wrote(layout: DataLayout) -> None:
    entry = entries(layout, "events", DAYS[0])[0]
    path = layout.table("events") / entry.relative
    pq.write_table(pq.ParquetFile(path).read().replace_schema_metadata(None), path)
    edit(log_file(layout, "events", 1), f'"size":{entry.size}', f'"size":{path.stat().st_size}')
    assert only(found(layout)).text == "got a file without a digest"


@pytest.mark.parametrize("name", ["ticks", "events"])
def test_pages_are_checked_even_where_the_digest_is_right(layout: DataLayout, name: str) -> None:
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
def test_what_the_log_says_of_one(layout: DataLayout, old: str, new: str, text: str) -> None:
    edit(log_file(layout, "ticks", 1), old, new)
    assert text in {finding.text for finding in found(layout) if finding.kind == "file"}


def test_rows_of_another_day(layout: DataLayout) -> None:
    def a_day_later(rows: pa.Table) -> pa.Table:
        return change_column(rows, "received_at", lambda times: pc.add(times, pa.scalar(datetime.timedelta(days=1))))

    rewrite(layout, "ticks", a_day_later)
    texts = [finding.text for finding in found(layout)]
    assert any("rows that were not received on 2026-11-23" in text for text in texts)
