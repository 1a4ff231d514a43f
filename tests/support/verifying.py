"""Small data folders to verify: filled, committed, and damaged so that only `verify` can tell."""

import datetime
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.files import DataFile
from storage.layout import DataLayout
from storage.schema import TABLES
from storage.tables.parquet import write_file
from storage.tables.table import LakeTable
from storage.verify.findings import VerifyFinding
from storage.verify.folder import verify
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


def found(layout: DataLayout, date: datetime.date | None = None) -> list[VerifyFinding]:
    return verify(layout, ToyDecoder(), date=date).findings


def only(findings: list[VerifyFinding]) -> VerifyFinding:
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


def with_symbols(rows: pa.Table) -> pa.Table:
    return change_column(rows, "symbol", lambda symbols: pa.chunked_array([["MCX:A"] * len(symbols)]))


def add_one(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.add(values, pa.scalar(datetime.timedelta(microseconds=1)) if pa.types.is_timestamp(values.type) else 1)
