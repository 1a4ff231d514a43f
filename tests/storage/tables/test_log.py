"""The log as its readers follow it: always what the library says of it, and nothing where only the library knows."""

import dataclasses
import datetime as dt
import json
import random
from pathlib import Path

import pytest
from deltalake import DeltaTable

from storage.errors import TableMissingError
from storage.files import DataFile
from storage.schema import EVENTS, ORDERS, TABLES, Table
from storage.tables.log import TableLog, Version, checkpoint_name, log_of, version_name
from storage.tables.table import LakeTable
from tests.support.scaled import scaled
from tests.support.tables import stage_events

Known = tuple[int, list[str], list[DataFile], dict[str, int | None]]


@pytest.fixture
def table(tmp_path: Path) -> LakeTable:
    table = LakeTable(tmp_path / "a b é" / "events", EVENTS).open(create=True)
    table.commit([stage_events(table, "a", "x")], transactions={"one": 1})
    return table


def said(log: TableLog) -> Known | None:
    newest = log.newest()
    return None if newest is None else of(newest)


def known(table: LakeTable) -> Known:
    return of(LakeTable(table.path, table.spec).open().snapshot_of_library())


def of(version: Version) -> Known:
    """Its number, its files, what is known of each, and how far the transactions are."""
    assert all(file.endswith(entry.relative) for file, entry in zip(version.files, version.entries, strict=True))
    entries = sorted(version.entries, key=lambda entry: entry.relative)
    transactions = {name: version.transaction(name) for name in ("one", "two", "none")}
    return version.version, sorted(version.files), entries, transactions


def append(table: LakeTable, *actions: object) -> None:
    """A version that another program wrote."""
    path = log_of(table.path) / version_name(table.snapshot().version + 1)
    path.write_text("".join(json.dumps(action) + "\n" for action in actions))


def test_until_when_rows_were_received(tmp_path: Path) -> None:
    table = LakeTable(tmp_path / "events", EVENTS).open(create=True)
    day, other, never = (dt.date(2026, 11, number) for number in (22, 23, 24))

    def add(stem: str, day: dt.date, stats: dict[str, object]) -> None:
        file = stage_events(table, stem, stem, day=day.isoformat())
        table.commit([dataclasses.replace(file, stats=json.dumps({"numRecords": 1} | stats))])

    for hour in (10, 11):
        add(f"{hour}", day, {"maxValues": {"received_at": f"2026-11-22T{hour}:00:00.123Z"}})
    DeltaTable(table.path.as_uri()).create_checkpoint()
    add("b", other, {"maxValues": {"received_at": "2026-11-23T09:00:00.000Z"}})
    log = TableLog(table.path, EVENTS)
    newest = log.newest()
    assert newest is not None
    assert newest.received_until(day) == dt.datetime(2026, 11, 22, 11, 0, 0, 123_000, dt.UTC)
    assert newest.received_until(other) == dt.datetime(2026, 11, 23, 9, tzinfo=dt.UTC)
    assert newest.received_until(never) is None
    assert table.snapshot_of_library().received_until(day) is None  # the library has it otherwise
    add("c", other, {})
    newest = log.newest()
    assert newest is not None
    assert newest.received_until(other) is None


@pytest.mark.slow
def test_as_the_library_has_it(table: LakeTable) -> None:
    """Whatever is committed, with checkpoints and versions cleaned away, to one who follows and one who comes new."""
    chance = random.Random(7)
    follower = TableLog(table.path, EVENTS)
    for step in range(scaled(25, 150)):
        entries = table.snapshot().entries
        removed = chance.sample(entries, chance.randrange(min(2, len(entries)) + 1))
        # Names that the log has to encode; and one that comes again after it was removed.
        added = [stage_events(table, f"ä %20 {chance.choice((step, 0))}", f"event {step}")]
        added = [file for file in added if file.relative not in {entry.relative for entry in entries}]
        table.commit(added, remove=removed, transactions={chance.choice(("one", "two")): step + 2})
        if chance.random() < 0.2:
            delta = DeltaTable(table.path.as_uri())
            delta.create_checkpoint()
            if chance.random() < 0.5:  # as the library does when they are old
                for version in range(delta.version()):
                    (log_of(table.path) / version_name(version)).unlink(missing_ok=True)
                table = LakeTable(table.path, EVENTS).open()
        if chance.random() < 0.7:
            assert said(follower) == known(table)
        assert said(TableLog(table.path, EVENTS)) == known(table)
    newest = follower.newest()
    assert newest is not None
    assert newest is follower.newest()
    table.commit([], transactions={"one": 1000})
    assert newest.transaction("one") != 1000  # it stays as it was


def test_another_table_in_its_place(table: LakeTable, tmp_path: Path) -> None:
    """Also one with more versions."""
    log = TableLog(table.path, EVENTS)
    assert said(log) == known(table)
    other = LakeTable(tmp_path / "other" / "events", EVENTS).open(create=True)
    for stem in ("b", "c", "d"):
        other.commit([stage_events(other, stem, stem)])
    table.path.rename(tmp_path / "gone")
    other.path.rename(table.path)
    assert said(log) == known(table)


@pytest.mark.parametrize("spec", TABLES.values(), ids=TABLES)
def test_every_table(tmp_path: Path, spec: Table) -> None:
    log = TableLog(tmp_path / spec.name, spec)
    with pytest.raises(TableMissingError, match="there is none"):
        log.newest()
    LakeTable(tmp_path / spec.name, spec).open(create=True)
    assert said(log) == (0, [], [], {"one": None, "two": None, "none": None})
    DeltaTable((tmp_path / spec.name).as_uri()).create_checkpoint()
    assert said(TableLog(tmp_path / spec.name, spec)) == said(log)


class TestIsForTheLibrary:
    """What a log says beyond what we write, and what is wrong with it: when it is opened, and later."""

    def test_newer_protocol(self, table: LakeTable) -> None:
        self.check(table, {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": []}})

    def test_other_columns(self, table: LakeTable) -> None:
        field = {"name": "event", "type": "integer", "nullable": True, "metadata": {}}
        schema = json.dumps({"type": "struct", "fields": [field]})
        self.check(table, {"metaData": {"schemaString": schema, "partitionColumns": ["date"]}})
        assert TableLog(table.path, ORDERS).newest() is None

    @pytest.mark.parametrize("action", [{"sidecar": {}}, {"add": {}}, {"txn": {"appId": "one", "version": "?"}}, [], 7])
    def test_unknown_actions(self, table: LakeTable, action: object) -> None:
        self.check(table, action)

    @pytest.mark.parametrize("content", [b"", b"garbage\n", b'{"add":', b"\xff\xff\n"])
    def test_damage(self, table: LakeTable, content: bytes) -> None:
        log = TableLog(table.path, EVENTS)
        assert log.newest() is not None
        (log_of(table.path) / version_name(2)).write_bytes(content)
        assert log.newest() is None
        assert TableLog(table.path, EVENTS).newest() is None

    def test_a_damaged_checkpoint(self, table: LakeTable) -> None:
        DeltaTable(table.path.as_uri()).create_checkpoint()
        (log_of(table.path) / checkpoint_name(1)).write_bytes(b"PAR1 garbage PAR1")
        assert TableLog(table.path, EVENTS).newest() is None

    def test_a_version_that_is_not_there(self, table: LakeTable) -> None:
        table.commit([], transactions={"one": 2})
        (log_of(table.path) / version_name(1)).unlink()
        assert TableLog(table.path, EVENTS).newest() is None

    @pytest.mark.parametrize("path", ["part-0.parquet", "exchange=NSE/part-0.parquet", "date=2026-11-22/NSE/0.parquet"])
    def test_a_file_whose_partition_is_in_the_log_alone(self, table: LakeTable, path: str) -> None:
        add = {"path": path, "partitionValues": {"date": "2026-11-22"}, "size": 1, "modificationTime": 0}
        self.check(table, {"add": add | {"dataChange": True}})
        assert [each.values for each in table.snapshot().entries if each.relative == path] == [{"date": "2026-11-22"}]

    def test_a_path_that_delta_would_decode(self, tmp_path: Path) -> None:
        log_of(tmp_path / "%20").mkdir(parents=True)
        (log_of(tmp_path / "%20") / version_name(0)).touch()
        assert TableLog(tmp_path / "%20", EVENTS).newest() is None

    def check(self, table: LakeTable, action: object) -> None:
        log = TableLog(table.path, EVENTS)
        assert log.newest() is not None
        append(table, action)
        assert log.newest() is None
        assert TableLog(table.path, EVENTS).newest() is None
