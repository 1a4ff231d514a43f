"""Rows for tests of tables."""

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from storage.files import DataFile
from storage.schema import EVENTS, Table
from storage.tables.parquet import write_file
from storage.tables.table import LakeTable

DAY = {"date": "2026-11-22"}
STREAM = "20261122T034500-aaaaaa"


def sample_rows(spec: Table, rows: int, seed: int = 1) -> pa.Table:
    """Rows of all types with nulls in them."""
    rng = np.random.default_rng(seed)
    arrays = []
    for field in spec.file_schema:
        mask = rng.random(rows) < 0.2
        numbers = rng.integers(0, 1 << 20, rows)
        if pa.types.is_string(field.type):
            arrays.append(pa.array([f"name {n % 7}" for n in numbers], mask=mask))
        elif pa.types.is_binary(field.type):
            arrays.append(pa.array([bytes([n % 256]) * 3 for n in numbers], pa.binary(), mask=mask))
        elif pa.types.is_floating(field.type):
            arrays.append(pa.array(numbers / 20, mask=mask))
        elif pa.types.is_date(field.type):
            arrays.append(pa.array(numbers.astype(np.int32), mask=mask).cast(pa.date32()))
        else:
            arrays.append(pa.array(numbers, mask=mask).cast(field.type))
    return pa.Table.from_arrays(arrays, schema=spec.file_schema)


def event_rows(*events: str) -> pa.Table:
    values = {
        "stream": ["20261122T034500-aaaaaa"] * len(events),
        "record": list(range(len(events))),
        "event": list(events),
    }
    columns = {f.name: pa.array(values.get(f.name, [None] * len(events)), f.type) for f in EVENTS.file_schema}
    return pa.table(columns)


def for_the_library(table: LakeTable, **properties: str) -> None:
    """Make the table's log one that only the library may write to: by a newer protocol, or by these properties."""
    chosen = properties or {"delta.enableChangeDataFeed": "true"}
    DeltaTable(table.path.as_uri()).alter.set_table_properties(chosen)


def stage_events(table: LakeTable, stem: str, *events: str, day: str = "2026-11-22") -> DataFile:
    staging = table.path.parent / "staging"
    return write_file(
        EVENTS, event_rows(*events), values={"date": day}, stem=stem, table_folder=table.path, staging=staging
    )


def events_of(table: LakeTable) -> list[str]:
    return sorted(table.read().column("event").to_pylist())
