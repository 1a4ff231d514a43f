"""What other engines need of the files and the log: encodings that they know, and the lines of docs/operations.md."""

import json
import random
import re
import shutil
import threading
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from ingest.instruments.listing import parse_instruments
from ingest.wire.journal import JournalDecoder
from queries.lake.lake import Lake
from storage.clock import day_bounds_ns
from storage.commit.rebuild import rebuild_day
from storage.commit.writer import SegmentWriter
from storage.journal.writer import JournalWriter, Kind
from storage.layout import DataLayout
from storage.schema import TABLES, TICKS, Table
from storage.tables.symbols import write_instruments
from storage.tables.table import LakeTable
from storage.upkeep.compact import compact_day
from tests.ingest.instruments.test_listing import HEADER, ROWS
from tests.support.packets import random_frame

DAY = date(2026, 11, 24)
OPEN_NS = day_bounds_ns(DAY)[0] + 33_300 * 10**9
STREAM = "20261124T034500-aaaaaa"
OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
# What the reader of Spark 4.2 has a case for: VectorizedColumnReader.getValuesReader, and dictionaries before that.
SPARK_READS = {
    *("PLAIN", "PLAIN_DICTIONARY", "RLE_DICTIONARY", "RLE", "BIT_PACKED"),
    *("DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"),
}


def fill(root: Path) -> DataLayout:
    """A data folder with rows of all tables, all of them committed, in two files a partition."""
    layout = DataLayout(root)
    write_instruments(layout, DAY, parse_instruments((HEADER + ROWS).encode(), date=DAY))
    rng = random.Random(7)
    writer = JournalWriter(layout, STREAM, segment_bytes=1 << 20, segment_seconds=1e9)
    channel = writer.channel("asha", 1)
    for part in range(2):
        at_ns = OPEN_NS + part * 10**9
        for i in range(400):
            writer.append(Kind.BINARY, channel, at_ns + i * 12_345, random_frame(rng, 3))
        update = {"type": "order", "data": {"order_id": str(part), "quantity": 5, "price": 1500.5}}
        writer.append(Kind.TEXT, channel, at_ns, json.dumps(update).encode())
        writer.append(Kind.EVENT, channel, at_ns, json.dumps({"event": "connected", "part": part}).encode())
        writer.append(Kind.BINARY, channel, at_ns, b"\x00\x02\x00\x08" + rng.randbytes(7))
        writer.flush()
        writer.segment_bytes = 0
        writer.flush()
        writer.segment_bytes = 1 << 20
    writer.close()
    SegmentWriter(layout, JournalDecoder()).run(poll_seconds=0.01, stop=threading.Event())
    return layout


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


def lines_of(engine: str) -> str:
    """The Python lines of docs/operations.md that read the ticks with this engine."""
    section = OPERATIONS.read_text(encoding="utf-8").partition("## Other engines\n")[2].partition("\n## ")[0]
    found = re.search(rf"\*\*{engine}\*\*.*?```python\n(.*?)```", section, re.DOTALL)
    assert found, engine
    return found[1]


def ours(layout: DataLayout) -> list[dict[str, Any]]:
    query = f"""SELECT epoch_us(received_at) AS us, symbol, last_price FROM ticks
        WHERE date = '{DAY}' AND exchange = 'NSE' ORDER BY ALL"""
    with Lake(layout.root, JournalDecoder()) as lake:
        rows: list[dict[str, Any]] = lake.sql(query).arrow().to_pylist()
    assert len(rows) > 100
    return rows


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
