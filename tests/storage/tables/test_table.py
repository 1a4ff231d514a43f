"""Tables as they are opened: made, found, or damaged; and odd paths are just paths."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from storage.errors import TableError, TableMissingError
from storage.schema import EVENTS, ORDERS, TABLES, Table
from storage.tables.delta import CHECKPOINT_INTERVAL
from storage.tables.table import LakeTable
from tests.support.tables import DAY, STREAM, events_of, stage_events


def first_actions(table: Path) -> dict[str, dict[str, Any]]:
    """What says what the table is, by its kind, without what differs from one table to another."""
    lines = (table / "_delta_log" / f"{0:020d}.json").read_text().splitlines()
    found = {kind: each for line in lines for kind, each in json.loads(line).items() if kind != "commitInfo"}
    own = ("id", "createdTime")
    return {kind: {name: value for name, value in each.items() if name not in own} for kind, each in found.items()}


class TestOpen:
    @pytest.mark.parametrize("spec", TABLES.values(), ids=TABLES)
    def test_create_and_open(self, tmp_path: Path, spec: Table) -> None:
        LakeTable(tmp_path / spec.name, spec).open(create=True)
        table = LakeTable(tmp_path / spec.name, spec).open()
        assert table.snapshot().version == 0
        assert table.snapshot().files == []
        assert table.read().schema.equals(spec.schema)
        metadata = DeltaTable(tmp_path / spec.name).metadata()
        assert (metadata.name, metadata.description) == (spec.name, spec.summary)
        assert tuple(metadata.partition_columns) == spec.partition_by
        assert metadata.configuration["delta.checkpointInterval"] == str(CHECKPOINT_INTERVAL)
        LakeTable(tmp_path / spec.name, spec).open(create=True)
        assert table.snapshot().version == 0

    @pytest.mark.parametrize("spec", TABLES.values(), ids=TABLES)
    def test_it_begins_as_one_of_the_library(self, tmp_path: Path, spec: Table) -> None:
        ours = LakeTable(tmp_path / "ours", spec).open(create=True)
        theirs = DeltaTable.create(
            tmp_path / "theirs",
            spec.schema,
            partition_by=list(spec.partition_by),
            name=spec.name,
            description=spec.summary,
            configuration={
                "delta.checkpointInterval": str(CHECKPOINT_INTERVAL),
                "delta.dataSkippingStatsColumns": ",".join(spec.stats),
            },
        )
        assert first_actions(ours.path) == first_actions(tmp_path / "theirs")
        assert DeltaTable(ours.path).schema() == theirs.schema()

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(TableMissingError, match=r"events: there is none"):
            LakeTable(tmp_path / "events", EVENTS).open()
        assert not (tmp_path / "events").exists()

    def test_another_table(self, table: LakeTable) -> None:
        with pytest.raises(TableError, match=r"got other columns than expected: .*average_price.*update_id"):
            LakeTable(table.path, ORDERS).open()

    @pytest.mark.parametrize("content", [b"", b"garbage\n", b'{"add":'])
    def test_a_damaged_log(self, table: LakeTable, content: bytes) -> None:
        table.commit([stage_events(table, "a", "x")])
        (table.path / "_delta_log" / f"{1:020d}.json").write_bytes(content)
        if content:
            with pytest.raises(TableError, match=r"events: cannot read its log: ") as caught:
                LakeTable(table.path, EVENTS).open()
            assert "\n" not in str(caught.value)
        (table.path / "_delta_log" / f"{0:020d}.json").write_bytes(content)
        with pytest.raises(TableError, match=r"events: cannot read its log: "):
            LakeTable(table.path, EVENTS).open()

    def test_a_log_that_is_damaged_later(self, table: LakeTable) -> None:
        table.commit([stage_events(table, "a", "x")])
        reader = LakeTable(table.path, EVENTS).open()
        assert reader.snapshot().version == 1
        log = table.path / "_delta_log" / f"{2:020d}.json"
        log.write_bytes(b"garbage")
        with pytest.raises(TableError, match="cannot read its log"):
            reader.snapshot()
        with pytest.raises(TableError, match="cannot read its log"):
            reader.commit([], transactions={"s": 1})
        log.unlink()
        assert reader.snapshot().version == 1

    def test_an_empty_log_folder_is_no_table(self, tmp_path: Path) -> None:
        (tmp_path / "events" / "_delta_log").mkdir(parents=True)
        with pytest.raises(TableMissingError, match="there is none"):
            LakeTable(tmp_path / "events", EVENTS).open()
        assert LakeTable(tmp_path / "events", EVENTS).open(create=True).snapshot().version == 0

    @pytest.mark.parametrize("create", [True, False])
    def test_a_path_that_is_too_long(self, tmp_path: Path, create: bool) -> None:
        with pytest.raises(TableError, match=r"events: cannot read its log: File name too long$"):
            LakeTable(tmp_path / ("a" * 300) / "events", EVENTS).open(create=create)

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "events").write_text("")
        with pytest.raises(TableError, match=r"events: cannot create: (File exists|Not a directory)"):
            LakeTable(tmp_path / "events", EVENTS).open(create=True)

    def test_created_by_many_at_once(self, tmp_path: Path) -> None:
        problems: list[Exception] = []
        barrier = threading.Barrier(4)

        def create() -> None:
            barrier.wait()
            try:
                LakeTable(tmp_path / "events", EVENTS).open(create=True).commit([], transactions={"x": 1})
            except TableError as error:
                problems.append(error)

        threads = [threading.Thread(target=create) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        assert LakeTable(tmp_path / "events", EVENTS).open().snapshot().version == 1
        assert [path.name for path in tmp_path.iterdir()] == ["events"]


@pytest.mark.parametrize("name", ["with space", "a=b", "données ₹", "100%", "a#b?c", "a+b&c", "'quoted\"", "%2"])
def test_paths(tmp_path: Path, name: str) -> None:
    table = LakeTable(tmp_path / name / "events", EVENTS).open(create=True)
    table.commit([stage_events(table, "a b=c é %", "x")], transactions={STREAM: 1})
    again = LakeTable(tmp_path / name / "events", EVENTS).open()
    assert again.snapshot().files == [str(tmp_path / name / "events" / "date=2026-11-22" / "a b=c é %.parquet")]
    assert events_of(again) == ["x"]
    assert again.replace(DAY, [stage_events(again, "b", "y")])
    assert events_of(again) == ["y"]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_path_that_delta_would_decode(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="got a path with '%' and two hex digits, which Delta would decode"):
        LakeTable(tmp_path / "a%20b" / "events", EVENTS).open(create=True)


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = LakeTable(Path("data/events"), EVENTS).open(create=True)
    table.commit([stage_events(table, "a", "x")])
    assert table.snapshot().files == [str(tmp_path / "data/events/date=2026-11-22/a.parquet")]
