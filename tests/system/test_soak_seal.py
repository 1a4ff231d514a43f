"""Sealing for long: killed again and again beside a capture and readers, and a day that is larger than memory."""

import datetime
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from storage.layout import DataLayout
from storage.schema import TABLES, TICKS
from storage.tables.parquet import write_file
from storage.tables.table import LakeTable
from storage.upkeep.compact import compact_day
from storage.upkeep.vacuum import vacuum_tables
from tests.support import works
from tests.support.compacting import (
    DAY,
    NSE,
    OPEN_US,
    STEPS,
    STREAM,
    Capture,
    check,
    kill_compact,
    names,
)
from tests.support.lives import Life

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

KILLS = 100
GRACE = datetime.timedelta(seconds=20)
FILES, FILE_ROWS = 100, 200_000
MEMORY_MIB, MOST_MIB = 512, 1200
SEAL = """
import datetime, sys
from pathlib import Path
from storage.layout import DataLayout
from storage.upkeep.compact import compact_day
(sealed,) = compact_day(DataLayout(Path(sys.argv[1])), datetime.date(2026, 11, 23), memory_bytes=int(sys.argv[2]) << 20)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(sealed.rows, sealed.files, peak.split()[1])
"""


def test_killed_a_hundred_times_beside_a_capture_and_readers(tmp_path: Path) -> None:
    layout = DataLayout(tmp_path)
    chance = random.Random(11)
    killed = finished = 0
    with Capture(layout, segments=1000, pause_seconds=0.5) as capture:
        usual = 1.0
        while killed < KILLS and not capture.errors:
            if chance.random() < 0.1:
                started = time.monotonic()
                assert not Life(works.compact, layout.root).wait()
                usual = time.monotonic() - started
                finished += 1
                vacuum_tables(layout, grace=GRACE, now=datetime.datetime.now(datetime.UTC))
            elif chance.random() < 0.3:
                killed += Life(works.compact, layout.root, chance.choice(STEPS)).wait()
            else:
                killed += kill_compact(layout, chance.uniform(0, usual))
    assert finished
    check(layout, capture.feed)
    compact_day(layout, DAY)
    vacuum_tables(layout, grace=datetime.timedelta(0), now=datetime.datetime.now(datetime.UTC))
    check(layout, capture.feed)
    for name in ("ticks", "events", "orders", "quarantine"):
        found = names(layout, TABLES[name])
        assert len(found) == (3 if name == "ticks" else 1)
        assert sorted(path.name for path in layout.table(name).glob("*=*/**/*.parquet")) == found
    assert not (layout.staging / "seal").exists()


def segment_of_ticks(number: int) -> pa.Table:
    """Ticks of 3,000 instruments with every column filled."""
    source = np.random.default_rng(number)
    seq = np.arange(number * FILE_ROWS, (number + 1) * FILE_ROWS)
    columns = {}
    for field in TICKS.file_schema:
        if pa.types.is_floating(field.type):
            columns[field.name] = pa.array(source.integers(1000, 9000, FILE_ROWS) / 20)
        elif pa.types.is_integer(field.type):
            columns[field.name] = pa.array(source.integers(0, 5000, FILE_ROWS))
        elif pa.types.is_timestamp(field.type):
            columns[field.name] = pa.array(OPEN_US + seq * 1000, field.type)
        else:
            columns[field.name] = pa.array([STREAM if field.name == "stream" else "full"] * FILE_ROWS)
    columns["instrument_token"] = pa.array(source.integers(1, 3001, FILE_ROWS) * 256 + 1)
    columns["seq"] = pa.array(seq)
    return pa.table(columns, schema=TICKS.file_schema)


def test_a_day_that_is_larger_than_memory(tmp_path: Path) -> None:
    layout = DataLayout(tmp_path)
    table = LakeTable(layout.table("ticks"), TICKS).open(create=True)
    for number in range(FILES):
        rows = segment_of_ticks(number)
        stem = f"{STREAM}-{number:010d}"
        staging = layout.staging / "test"
        table.commit([write_file(TICKS, rows, values=NSE, stem=stem, table_folder=table.path, staging=staging)])
    command = [sys.executable, "-c", SEAL, str(tmp_path), str(MEMORY_MIB)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rows_sealed, files, peak_kib = map(int, done.stdout.split())
    assert rows_sealed == FILES * FILE_ROWS
    assert files == len(names(layout))
    assert peak_kib < MOST_MIB * 1024, f"{peak_kib // 1024} MiB"
