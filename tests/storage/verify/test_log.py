"""A table's log that is damaged, or lost in part."""

import shutil
from unittest.mock import patch

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from storage.layout import DataLayout
from storage.tables.symbols import write_instruments
from storage.tables.table import LakeTable
from storage.upkeep.retention import remove_days
from tests.support.lists import listed_on
from tests.support.verifying import (
    DAY,
    DAYS,
    STREAM,
    edit,
    entries,
    found,
    log_file,
    only,
    rewrite,
    table,
    with_symbols,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["ticks", "orders", "events", "quarantine"])
@pytest.mark.parametrize("what", ["", "_delta_log", "_delta_log/*.json"])
def test_a_table_or_its_log_that_is_not_there(layout: DataLayout, name: str, what: str) -> None:
    for path in [*layout.table(name).glob(what)] if what else [layout.table(name)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    finding = next(finding for finding in found(layout) if finding.kind == "log")
    assert (finding.table, finding.repairable) == (name, False)
    assert ("got" if what else "it is not there") in finding.text


def test_instrument_lists_that_are_not_there(layout: DataLayout) -> None:
    write_instruments(layout, DAYS[0], listed_on(DAYS[0]))
    rewrite(layout, "ticks", with_symbols)
    shutil.rmtree(layout.table("instruments"))
    assert only(found(layout)).text == "it is not there, and ticks have symbols"


def test_a_version_that_is_empty(three_days: DataLayout) -> None:
    log_file(three_days, "ticks", 7).write_bytes(b"")
    assert "version 7: changes nothing" in {finding.text for finding in found(three_days)}


@pytest.mark.parametrize("name", ["ticks", "orders", "events", "quarantine"])
def test_versions_that_are_lost_with_the_journal(three_days: DataLayout, name: str) -> None:
    newest = sorted((three_days.table(name) / "_delta_log").glob("*.json"))[-2:]
    versions = [path.read_bytes() for path in newest]
    for path in newest:
        path.unlink()
    if name == "ticks":  # this is what a writer leaves that died before its last commit
        assert not found(three_days)
    shutil.rmtree(three_days.journal)
    findings = found(three_days)
    assert {(finding.kind, finding.table) for finding in findings} == {("log", name)}
    assert any("files of segments that no version names" in finding.text for finding in findings)
    for path, version in zip(newest, versions, strict=True):
        path.write_bytes(version)
    assert not found(three_days)


def test_what_ticks_lack_is_known_by_other_tables(three_days: DataLayout) -> None:
    for path in sorted((three_days.table("ticks") / "_delta_log").glob("*.json"))[-2:]:
        path.unlink()
    for path in three_days.table("ticks").glob(f"date={DAYS[2]}/**/*.parquet"):
        path.unlink()
    three_days.segment(STREAM, 5).unlink()
    texts = {finding.text for finding in found(three_days)}
    assert "segment 5 is committed to events, and neither to ticks nor in the journal" in texts


def test_a_version_that_is_not_there(three_days: DataLayout) -> None:
    log_file(three_days, "events", 2).unlink()
    assert {finding.kind for finding in found(three_days)} == {"log"}


def test_nonsense_in_one_table_hides_nothing_in_others(layout: DataLayout) -> None:
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
        ("orders", 1, '"dataChange":true', '"dataChange":true,"tags":{}'),
    ],
)
def test_a_byte_of_a_version(three_days: DataLayout, name: str, version: int, old: str, new: str) -> None:
    edit(log_file(three_days, name, version), old, new)
    assert "log" in {finding.kind for finding in found(three_days)}


@pytest.mark.parametrize("ordinal", ["-39579", "0", f"{10**20}", f"{(DAYS[0]).toordinal()}"])
def test_a_first_day_that_cannot_be(three_days: DataLayout, ordinal: str) -> None:
    remove_days(three_days, keep_days=2, most_bytes=None, today=DAYS[2] + DAY)
    edit(log_file(three_days, "ticks", 8), f'"version":{DAYS[1].toordinal()}', f'"version":{ordinal}')
    assert ("log", "ticks") in {(finding.kind, finding.table) for finding in found(three_days)}


def test_a_checkpoint_that_says_otherwise(layout: DataLayout) -> None:
    log = layout.table("events") / "_delta_log"
    table(layout, "events")._fresh().create_checkpoint()
    assert not found(layout)
    (path,) = log.glob("*.checkpoint.parquet")
    rows = pq.read_table(path)
    pq.write_table(rows.slice(1) if rows["add"][0].is_valid else rows.slice(0, len(rows) - 1), path)
    assert "log" in {finding.kind for finding in found(layout)}


def test_a_checkpoint_that_cannot_be_read_is_kept_from_the_library(layout: DataLayout) -> None:
    table(layout, "events")._fresh().create_checkpoint()
    (path,) = (layout.table("events") / "_delta_log").glob("*.checkpoint.parquet")
    path.write_bytes(path.read_bytes()[:-100])
    with patch.object(LakeTable, "open", side_effect=LakeTable.open, autospec=True) as opened:
        findings = found(layout)
    assert {(finding.table, finding.kind) for finding in findings} == {("events", "log")}
    assert {call.args[0].spec.name for call in opened.call_args_list} == {"ticks", "orders", "quarantine"}


def test_a_panic_of_the_library_hides_nothing(layout: DataLayout) -> None:
    class PanicException(BaseException):
        pass

    (layout.table("events") / entries(layout, "events", DAYS[0])[0].relative).unlink()
    real = DeltaTable

    def panic(address: str, **options: object) -> DeltaTable:
        if address.endswith("ticks"):
            raise PanicException("crashed")
        return real(address, **options)  # type: ignore[arg-type]

    with patch("deltalake.DeltaTable", panic):
        findings = found(layout)
    assert ("log", "ticks", "cannot be read: crashed") in {
        (finding.kind, finding.table, finding.text) for finding in findings
    }
    assert ("file", "events") in {(finding.kind, finding.table) for finding in findings}


def test_versions_before_a_checkpoint_may_be_gone(layout: DataLayout) -> None:
    table(layout, "events")._fresh().create_checkpoint()
    for path in sorted((layout.table("events") / "_delta_log").glob("*.json"))[:-1]:
        path.unlink()
    assert not found(layout)
