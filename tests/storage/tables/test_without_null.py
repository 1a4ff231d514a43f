"""Files of which some say that a column has no null, and others not: in one table and one day they are as one."""

import random
import shutil
import struct
import threading
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder

from ingest.wire.journal import JournalDecoder
from ingest.wire.plain import decode_frames
from queries.lake.lake import SqlLake
from storage.commit.rebuild import rebuild_day
from storage.commit.writer import SegmentWriter
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout
from storage.schema import TICKS
from storage.tables.table import LakeTable
from storage.upkeep.compact import compact_day
from storage.verify.folder import verify
from tests.support.filled import DAY, OPEN_NS
from tests.support.packets import frame_of, random_packet

STREAMS = ("20261124T034500-aaaaaa", "20261124T050000-bbbbbb")
MAY_BE_NULL = {"account", "connection", "symbol", "last_trade_time", "exchange_timestamp"}
NAMES = [name for name in TICKS.file_schema.names if name not in ("received_at", "stream", "account", "connection")]
WANTED = pa.schema([TICKS.file_schema.field(name) for name in ("stream", *NAMES)])
FULL, QUOTE, LTP = (184,), (44,), (8,)


def packet(rng: random.Random, lengths: tuple[int, ...]) -> bytes:
    """Of NSE; now and then of an instrument that had no trade yet."""
    made = bytearray(random_packet(rng, lengths))
    made[:4] = bytes((0, 0, rng.randrange(8), 1))
    if len(made) == FULL[0] and rng.random() < 0.1:
        struct.pack_into(">I", made, 44, 0)
    return bytes(made)


def capture(layout: DataLayout, stream: str, segments: list[tuple[int, ...]], frames: list[bytes]) -> None:
    """A segment of packets of each of these lengths, all of them committed. `frames` is added to."""
    rng = random.Random(len(frames))
    writer = JournalWriter(layout, stream, segment_bytes=1 << 20, segment_seconds=1e9)
    for lengths in segments:
        for _ in range(50):
            frames.append(frame_of([packet(rng, lengths) for _ in range(3)]))
            writer.append(Kind.BINARY, writer.channel("asha", 1), OPEN_NS + len(frames), frames[-1])
        writer.flush()
        writer.segment_bytes = 0
        writer.flush()
        writer.segment_bytes = 1 << 20
    writer.close()
    commit(layout)


def commit(layout: DataLayout) -> None:
    SegmentWriter(layout, JournalDecoder()).run(poll_seconds=0.01, stop=threading.Event())


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataLayout, list[dict[str, Any]]]:
    """A day of which a part is sealed, and what the wire brought, in its order."""
    layout = DataLayout(tmp_path_factory.mktemp("captured") / "data")
    frames: list[bytes] = []
    capture(layout, STREAMS[0], [FULL, QUOTE], frames)
    assert compact_day(layout, DAY)
    capture(layout, STREAMS[1], [FULL, FULL + QUOTE + LTP, QUOTE, LTP, FULL], frames)
    rows, _ = decode_frames(frames)
    for number, row in enumerate(rows):
        row["seq"] = number if number < 300 else number - 300
    return layout, rows


@pytest.fixture
def layout(captured: tuple[DataLayout, list[dict[str, Any]]]) -> DataLayout:
    return captured[0]


@pytest.fixture
def expected(captured: tuple[DataLayout, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [{name: row.get(name) for name in NAMES} for row in captured[1]]


def table_of(layout: DataLayout) -> LakeTable:
    return LakeTable(layout.table(TICKS.name), TICKS).open()


def in_order(rows: pa.Table | pl.DataFrame) -> list[dict[str, Any]]:
    table = rows.to_arrow() if isinstance(rows, pl.DataFrame) else pa.table(rows)
    plain = table.select(WANTED.names).cast(WANTED).sort_by([("stream", "ascending"), ("seq", "ascending")])
    found: list[dict[str, Any]] = plain.drop_columns(["stream"]).to_pylist()
    return found


def by_duckdb(query: str, files: list[str]) -> pa.Table:
    with duckdb.connect() as con:
        return con.sql(query, params={"files": files}).to_arrow_table()


def without_null(path: str) -> set[str]:
    """The columns of which a file says so."""
    return {column.name for column in pq.ParquetFile(path).schema if not column.max_definition_level}


def test_a_file_says_it_of_the_columns_that_all_of_its_packets_carry(layout: DataLayout) -> None:
    kinds = set()
    for path in table_of(layout).snapshot().files:
        rows = pq.ParquetFile(path).read()
        said = without_null(path)
        full = {name for name in rows.column_names if not rows[name].null_count}
        if "sealed" in path:
            assert full - MAY_BE_NULL <= said <= full
        else:
            assert said == full - MAY_BE_NULL
        kinds.add(len(said))
    assert len(kinds) == 3


def readers(layout: DataLayout) -> dict[str, Any]:
    folder = str(layout.table(TICKS.name))
    files = sorted(table_of(layout).snapshot().files)
    delta = DeltaTable(folder)
    return {
        "ours": table_of(layout).read(),
        "pyarrow, Delta": delta.to_pyarrow_table(),
        "pyarrow": ds.dataset(files).to_table(),
        "pyarrow, backwards": ds.dataset(files[::-1]).to_table(),
        "DataFusion": QueryBuilder().register("ticks", delta).execute("SELECT * FROM ticks").read_all(),
        "DuckDB": by_duckdb("SELECT * FROM read_parquet($files)", files),
        "DuckDB, by name": by_duckdb("SELECT * FROM read_parquet($files, union_by_name = true)", files[::-1]),
        "Polars, Delta": pl.scan_delta(folder).collect(),
        "Polars": pl.scan_parquet(files).collect(),
        "Polars, backwards": pl.scan_parquet(files[::-1]).collect(),
    }


def test_every_reader_has_the_rows_of_the_wire(layout: DataLayout, expected: list[dict[str, Any]]) -> None:
    for name, rows in readers(layout).items():
        assert in_order(rows) == expected, name


@pytest.mark.parametrize("column", ["oi", "last_traded_quantity", "ask_price_5", "price_change", "last_price"])
def test_every_reader_finds_what_is_null(layout: DataLayout, expected: list[dict[str, Any]], column: str) -> None:
    count = sum(row[column] is None for row in expected)
    folder = str(layout.table(TICKS.name))
    files = sorted(table_of(layout).snapshot().files)
    delta = DeltaTable(folder)
    engine = QueryBuilder().register("ticks", delta)
    for test, wanted in (("IS NULL", count), ("IS NOT NULL", len(expected) - count)):
        is_null = test == "IS NULL"
        by_arrow = pc.field(column).is_null() if is_null else pc.field(column).is_valid()
        by_polars = pl.col(column).is_null() if is_null else pl.col(column).is_not_null()
        counted = f"SELECT count(*) AS n FROM {{}} WHERE {column} {test}"
        for paths in (files, files[::-1]):
            assert ds.dataset(paths).count_rows(filter=by_arrow) == wanted
            assert pl.scan_parquet(paths).filter(by_polars).collect().height == wanted
            assert by_duckdb(counted.format("read_parquet($files)"), paths).to_pylist() == [{"n": wanted}]
        assert delta.to_pyarrow_dataset().count_rows(filter=by_arrow) == wanted
        assert pl.scan_delta(folder).filter(by_polars).collect().height == wanted
        assert pa.table(engine.execute(counted.format("ticks")).read_all()).to_pylist() == [{"n": wanted}]
        with SqlLake(layout.root, JournalDecoder()) as lake:
            assert lake.sql(counted.format("ticks")).arrow().to_pylist() == [{"n": wanted}]


def test_a_lake_gives_one_schema_whatever_files_its_rows_are_in(layout: DataLayout) -> None:
    with SqlLake(layout.root, JournalDecoder()) as lake:
        schemas = [
            lake.sql("SELECT * FROM ticks WHERE mode = $mode AND stream = $stream", {"mode": mode, "stream": stream})
            .arrow()
            .schema
            for mode in ("full", "ltp")
            for stream in STREAMS
        ]
    assert all(schema == schemas[0] for schema in schemas)
    assert all(field.nullable for field in schemas[0])


def test_what_a_rebuild_and_a_seal_make_of_them(
    layout: DataLayout, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    again = DataLayout(tmp_path / "data")
    shutil.copytree(layout.root, again.root)
    assert verify(again, JournalDecoder()).findings == []
    rebuild_day(again, JournalDecoder(), DAY)
    assert in_order(table_of(again).read()) == expected
    assert all(without_null(path) for path in table_of(again).snapshot().files)
    assert verify(again, JournalDecoder()).findings == []
    assert compact_day(again, DAY)
    assert in_order(table_of(again).read()) == expected
    assert verify(again, JournalDecoder()).findings == []


def test_a_segment_that_is_committed_again_is_the_same_file(layout: DataLayout, tmp_path: Path) -> None:
    again = DataLayout(tmp_path / "data")
    shutil.copytree(layout.journal, again.journal)
    commit(again)
    files = [path for path in layout.table(TICKS.name).rglob("*.parquet") if "sealed" not in path.name]
    assert len(files) == 7
    for path in files:
        assert (again.root / path.relative_to(layout.root)).read_bytes() == path.read_bytes()
