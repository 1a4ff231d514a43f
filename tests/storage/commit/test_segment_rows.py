"""The rows of one segment: merged by partition, checked, with what is said of damage, and what is stored once."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from storage import schema
from storage.commit.decoder import Decoded, Part
from storage.commit.segment_rows import (
    JOURNAL_TABLES,
    count_rows,
    decode_segment,
    first_of_each,
    segment_stat,
    with_damage,
)
from storage.errors import RowsError, SegmentMissingError
from storage.journal import Damage
from storage.layout import DataLayout

STREAM = "20261123T034500-aaaaaa"
NSE, MCX = ({"date": "2026-11-23", "exchange": exchange} for exchange in ("NSE", "MCX"))
DAY = {"date": "2026-11-23"}


def rows(spec: schema.Table, count: int, *, encoded: bool = False) -> pa.Table:
    """Rows in the table's columns, all null; strings dictionary-encoded if told."""
    found = pa.Table.from_pylist([dict.fromkeys(spec.file_schema.names)] * count, schema=spec.file_schema)
    if not encoded:
        return found
    columns = [c.dictionary_encode() if pa.types.is_string(c.type) else c for c in found.columns]
    return pa.table(columns, names=found.schema.names)


class Given:
    """A decoder that gives what it was given."""

    def __init__(self, parts: Mapping[str, list[Part]], packets: int) -> None:
        self.decoded = Decoded(parts, packets)

    def decode(self, *_arguments: object, **_options: object) -> Decoded:
        return self.decoded


def decode(parts: Mapping[str, list[Part]], packets: int) -> Decoded:
    return decode_segment(Given(parts, packets), STREAM, 0, [], first_seq=0, symbols=lambda _day: None)


class TestDecode:
    def test_one_part_a_partition_of_every_table(self) -> None:
        ticks = [
            Part(NSE, rows(schema.TICKS, 2)),
            Part(MCX, rows(schema.TICKS, 1)),
            Part(NSE, rows(schema.TICKS, 3, encoded=True)),
        ]
        events = [Part(DAY, rows(schema.EVENTS, 0))]
        decoded = decode({"ticks": ticks, "events": events}, 6)
        assert list(decoded.parts) == [spec.name for spec in JOURNAL_TABLES]
        assert [(dict(part.values), len(part.rows)) for part in decoded.parts["ticks"]] == [(NSE, 5), (MCX, 1)]
        assert decoded.parts["ticks"][0].rows.schema == schema.TICKS.file_schema
        assert not any(decoded.parts[name] for name in ("events", "orders", "quarantine"))
        assert (decoded.packets, count_rows(decoded.parts["ticks"])) == (6, 6)

    @pytest.mark.parametrize(
        ("parts", "packets", "message"),
        [
            ({"candles": []}, 0, r"decoder: got rows for \['candles'\], expected \['events', 'orders'"),
            ({"ticks": [Part(NSE, rows(schema.TICKS, 2))]}, 3, "got 2 rows of ticks, expected as many as packets: 3"),
            ({}, 1, "got 0 rows of ticks, expected as many as packets: 1"),
            ({"ticks": [Part(DAY, rows(schema.TICKS, 1))]}, 1, r"rows for ticks: got partition {'date': '2026-11-23'}"),
            ({"events": [Part(DAY, rows(schema.ORDERS, 1))]}, 0, "rows for events: got event as None"),
        ],
    )
    def test_what_is_refused(self, parts: Mapping[str, list[Part]], packets: int, message: str) -> None:
        with pytest.raises(RowsError, match=message):
            decode(parts, packets)


class TestDamage:
    @pytest.fixture
    def layout(self, tmp_path: Path) -> DataLayout:
        layout = DataLayout(tmp_path)
        layout.stream(STREAM).mkdir(parents=True)
        return layout

    def with_some(self, layout: DataLayout, damage: Sequence[tuple[int, Damage]]) -> Mapping[str, list[Part]]:
        there = {"quarantine": [Part(DAY, rows(schema.QUARANTINE, 1))]}
        return with_damage(there, layout, STREAM, 3, damage, [])

    @pytest.mark.parametrize("archived", [False, True])
    def test_is_of_the_day_on_which_the_segment_was_written(self, layout: DataLayout, archived: bool) -> None:
        path = (layout.archive if archived else layout.segment)(STREAM, 3)
        path.write_bytes(b"12345")
        os.utime(path, (1_795_405_500, 1_795_405_500))  # 09:15 IST on the 23rd
        damage = [(2, Damage(0, 0, "a gap")), (3, Damage(0, 5, "torn"))]
        (part,) = self.with_some(layout, damage)["quarantine"]
        assert dict(part.values) == DAY
        assert part.rows["reason"].to_pylist() == [None, "a gap", "torn"]
        assert part.rows["segment"].to_pylist() == [None, 2, 3]
        assert segment_stat(layout, STREAM, 3) == (5, 1_795_405_500_000_000_000)

    def test_a_segment_that_has_gone(self, layout: DataLayout) -> None:
        with pytest.raises(SegmentMissingError, match=f"segment {STREAM}/3: cannot look at it"):
            self.with_some(layout, [(3, Damage(0, 5, "torn"))])
        (part,) = self.with_some(layout, [])["quarantine"]
        assert part.rows.num_rows == 1


def test_the_first_of_each_is_kept() -> None:
    found = pa.table({"date": ["a", "a", "b", "a"], "id": [1, 1, 1, 2]})
    assert first_of_each(found, ["date", "id"], set()).to_pylist() == [
        {"date": "a", "id": 1},
        {"date": "b", "id": 1},
        {"date": "a", "id": 2},
    ]
    seen: set[tuple[object, ...]] = {(2,)}
    assert first_of_each(found, ["id"], seen).num_rows == 1
    assert first_of_each(found, ["id"], seen).num_rows == 0
    assert seen == {(1,), (2,)}
