"""What other engines need of the files and the log: encodings that they know, and the lines of docs/operations.md."""

import shutil
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from ingest.wire.journal import JournalDecoder
from storage.commit.rebuild import rebuild_day
from storage.layout import DataLayout
from storage.schema import TABLES, TICKS, Table
from storage.tables.table import LakeTable
from storage.upkeep.compact import compact_day
from tests.support.filled import DAY, fill, lines_of, ours

# What the reader of Spark 4.2 has a case for: VectorizedColumnReader.getValuesReader, and dictionaries before that.
SPARK_READS = {
    *("PLAIN", "PLAIN_DICTIONARY", "RLE_DICTIONARY", "RLE", "BIT_PACKED"),
    *("DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"),
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> DataLayout:
    return fill(tmp_path_factory.mktemp("raw") / "data" / "kite")


@pytest.fixture(scope="module")
def sealed(raw: DataLayout, tmp_path_factory: pytest.TempPathFactory) -> DataLayout:
    root = tmp_path_factory.mktemp("sealed") / "data" / "kite"
    shutil.copytree(raw.root, root)
    assert {one.table for one in compact_day(DataLayout(root), DAY)} == {*TABLES} - {"instruments"}
    return DataLayout(root)


@pytest.fixture(scope="module")
def rebuilt(raw: DataLayout, tmp_path_factory: pytest.TempPathFactory) -> DataLayout:
    root = tmp_path_factory.mktemp("rebuilt") / "data" / "kite"
    shutil.copytree(raw.root, root)
    rebuild_day(DataLayout(root), JournalDecoder(), DAY)
    return DataLayout(root)


@pytest.fixture(params=["raw", "sealed", "rebuilt"])
def layout(request: pytest.FixtureRequest) -> DataLayout:
    layout: DataLayout = request.getfixturevalue(request.param)
    return layout


@pytest.mark.slow
@pytest.mark.parametrize("spec", TABLES.values(), ids=TABLES)
def test_every_column_has_an_encoding_that_spark_reads(layout: DataLayout, spec: Table) -> None:
    files = LakeTable(layout.table(spec.name), spec).open().snapshot().files
    assert files
    for file in files:
        metadata = pq.ParquetFile(file).metadata
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            for column in map(group.column, range(group.num_columns)):
                assert set(column.encodings) <= SPARK_READS, (file, column.path_in_schema, column.encodings)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["Polars", "pandas"])
def test_the_lines_in_operations_read_what_we_read(
    layout: DataLayout, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(layout.root.parent.parent)
    names: dict[str, Any] = {}
    exec(lines_of(engine), names)
    frame = names["frame"] if engine == "Polars" else pl.from_pandas(names["frame"])
    read = frame.select(pl.col("received_at").cast(pl.Int64).alias("us"), "symbol", "last_price")
    expected = pl.from_dicts(ours(layout), schema=read.schema)
    assert read.sort(pl.all()).equals(expected.sort(pl.all()))


def test_a_glob_counts_a_day_twice_that_was_compacted_within_the_hour(sealed: DataLayout) -> None:
    """Why operations.md says to go in by the log."""
    path = sealed.table(TICKS.name)
    by_the_log = pl.scan_delta(str(path)).select(pl.len()).collect().item()
    by_a_glob = pl.scan_parquet(f"{path}/date=*/**/*.parquet").select(pl.len()).collect().item()
    assert by_a_glob == 2 * by_the_log
