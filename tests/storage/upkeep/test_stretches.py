"""Rows of files, one stretch of time after another: all of them, once, as they are."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import SealError
from storage.schema import QUARANTINE, TICKS
from storage.tables.content import digester
from storage.tables.parquet import write_parquet
from storage.upkeep.stretches import (
    Source,
    Stretch,
    look_at,
    read_stretch,
    schema_of,
    stretches,
    with_texts_in_use,
)
from tests.support.compacting import OPEN_US, tick
from tests.support.scaled import scaled


def source(folder: Path, rows: Sequence[dict[str, Any]], *, group_rows: int = 1000) -> Source:
    path = folder / f"{len(list(folder.iterdir()))}.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows), schema=TICKS.file_schema), path, row_group_size=group_rows)
    return look_at(TICKS, path)


def plain(rows: pa.Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rows.cast(TICKS.file_schema).to_pylist()
    return found


class TestFooter:
    def test_of_rows_in_several_groups(self, tmp_path: Path) -> None:
        found = source(
            tmp_path, [tick(seq, oi=seq, high=None if seq == 4 else 1.0) for seq in (7, 3, 9, 4)], group_rows=2
        )
        assert (found.rows, found.first_us, found.last_us) == (4, OPEN_US + 3_000_000, OPEN_US + 9_000_000)
        assert found.full == {"received_at", "stream", "seq", "instrument_token", "oi"}
        assert found.width > 0

    def test_of_no_rows(self, tmp_path: Path) -> None:
        assert source(tmp_path, []).rows == 0

    def test_columns_that_are_required_or_not_counted(self, tmp_path: Path) -> None:
        rows = pa.Table.from_pylist([tick(0, oi=1, high=1.0)], schema=TICKS.file_schema)
        fields = [field.with_nullable(field.name != "oi") for field in TICKS.file_schema]
        pq.write_table(rows.cast(pa.schema(fields)), tmp_path / "x", write_statistics=["received_at", "high"])
        assert look_at(TICKS, tmp_path / "x").full == {"received_at", "oi", "high"}

    @pytest.mark.parametrize(
        "other",
        [QUARANTINE.file_schema, TICKS.file_schema.remove(9), TICKS.file_schema.set(2, pa.field("seq", pa.int32()))],
    )
    def test_of_a_file_with_other_columns(self, tmp_path: Path, other: pa.Schema) -> None:
        pq.write_table(other.empty_table(), tmp_path / "x")
        with pytest.raises(SealError, match="file x has other columns than those of ticks"):
            look_at(TICKS, tmp_path / "x")

    def test_the_schema_is_that_of_all_sources(self, tmp_path: Path) -> None:
        some = [source(tmp_path, [tick(0, oi=1, low=2.0)]), source(tmp_path, [tick(1, oi=2, symbol="X")])]
        schema = schema_of(TICKS, some)
        assert {field.name for field in schema if not field.nullable} == some[0].full & some[1].full
        assert schema.field("symbol").type == pa.dictionary(pa.int32(), pa.string())


@settings(max_examples=scaled(15, 200), deadline=None)
@given(seed=st.integers(0, 2**32), at_once=st.integers(1, 40), files=st.integers(1, 5))
def test_each_row_is_in_one_stretch(
    tmp_path_factory: pytest.TempPathFactory, seed: int, at_once: int, files: int
) -> None:
    chance = random.Random(seed)
    folder = tmp_path_factory.mktemp("files")
    made = []
    for _ in range(files):
        seqs = chance.sample(range(60), chance.randint(1, 20))
        made.append([tick(seq, symbol=chance.choice([None, "B", "A"]), oi=chance.choice([None, 5])) for seq in seqs])
    sources = [source(folder, rows, group_rows=chance.randint(1, 20)) for rows in made]
    with digester() as con:
        found = list(stretches(con, sources, at_once))
    rest = [row for rows in made for row in rows]
    assert [one.end_us for one in found[:-1]] == [one.first_us for one in found[1:]]
    for place, stretch in enumerate(found):
        rows = [row for row in rest if stretch.first_us <= row["received_at"] < stretch.end_us]
        rest = [row for row in rest if row not in rows]
        assert len(rows) == stretch.rows
        assert place == len(found) - 1 or len(rows) >= at_once
        read = read_stretch(TICKS, sources, stretch)
        assert all(column.num_chunks == 1 for column in read.columns)
        expected = pa.Table.from_pylist(rows, schema=TICKS.file_schema).to_pylist()
        assert plain(read) == expected
        texts = read.column("symbol").chunk(0).dictionary.to_pylist()
        assert texts == sorted(texts)
    assert rest == []


@pytest.mark.parametrize(
    ("rows", "text"), [(2, "more rows were read than 2 counted"), (4, "3 rows were read, 4 counted")]
)
def test_other_rows_than_were_counted(tmp_path: Path, rows: int, text: str) -> None:
    one = source(tmp_path, [tick(0), tick(1), tick(2)])
    with pytest.raises(SealError, match=text):
        read_stretch(TICKS, [one], Stretch(one.first_us, one.last_us + 1, rows))


def test_columns_of_bytes(tmp_path: Path) -> None:
    row = dict.fromkeys(QUARANTINE.file_schema.names) | {"received_at": OPEN_US, "data": b"\0x"}
    rows = pa.Table.from_pylist([row, row | {"data": None}], schema=QUARANTINE.file_schema)
    write_parquet(rows, tmp_path / "x")
    one = look_at(QUARANTINE, tmp_path / "x")
    assert read_stretch(QUARANTINE, [one], Stretch(OPEN_US, OPEN_US + 1, 2)).cast(QUARANTINE.file_schema).equals(rows)


@pytest.mark.parametrize(
    ("values", "used"),
    [(["C", "A", "C"], ["A", "C"]), ([None, "B"], ["B"]), ([None, None], []), ([], [])],
)
def test_texts_in_use(values: list[str | None], used: list[str]) -> None:
    codes = [None if value is None else "ABC".index(value) for value in values]
    column = pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), ["A", "B", "C"])])
    found = with_texts_in_use(column)
    assert found.to_pylist() == values
    assert found.dictionary.to_pylist() == used
    numbers = pa.chunked_array([[1, 2]])
    assert with_texts_in_use(numbers) is numbers


def test_times_before_the_epoch_and_a_row_group_without_rows(tmp_path: Path) -> None:
    rows = pa.Table.from_pylist([tick(0, received_at=us) for us in (-1_500_000, -1, 0, 1)], schema=TICKS.file_schema)
    with pq.ParquetWriter(tmp_path / "x", rows.schema) as writer:
        for piece in (rows, rows[:0], rows):
            writer.write_table(piece)
    one = look_at(TICKS, tmp_path / "x")
    with digester() as con:
        found = list(stretches(con, [one], 1))
    assert [stretch.rows for stretch in found] == [2, 2, 4]
    assert [len(read_stretch(TICKS, [one], stretch)) for stretch in found] == [2, 2, 4]
