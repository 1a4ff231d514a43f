"""What loads no library of tables: a command that needs only a clock or a path begins in a moment."""

import subprocess
import sys
from pathlib import Path

import pytest

MARKET = Path(__file__).parents[2] / "storage" / "market"
LIGHT = [
    *(f"storage.{name}" for name in ("clock", "datafolder", "errors", "files", "layout")),
    *(f"storage.market.{path.stem}" for path in sorted(MARKET.glob("*.py")) if path.stem != "__init__"),
]
JOURNAL = ["storage.journal.backlog", "storage.journal.folder", "storage.journal.reserve", "storage.journal.writer"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modules", "unwanted"), [(LIGHT, {"duckdb", "numpy", "pyarrow"}), (JOURNAL, {"duckdb", "pyarrow"})]
)
def test_modules_that_load_no_library_of_tables(modules: list[str], unwanted: set[str]) -> None:
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert unwanted & set(done.stdout.split()) == set()


@pytest.mark.slow
def test_a_lake_of_our_own_needs_no_delta_library(tmp_path: Path) -> None:
    """It takes a tenth of the memory that a writer has, and a thread for each processor."""
    program = """
import datetime, sys
from pathlib import Path
from storage.layout import DataLayout
from storage.schema import INSTRUMENTS, TABLES
from storage.tables import LakeTable, read_instruments, write_instruments
layout, day = DataLayout(Path(sys.argv[1])), datetime.date(2026, 11, 22)
tables = {name: LakeTable(layout.table(name), spec).open(create=True) for name, spec in TABLES.items()}
for _ in range(2):
    tables["ticks"].commit([], transactions={"stream": 1})
    write_instruments(layout, day, INSTRUMENTS.schema.empty_table())
assert read_instruments(layout, day).num_rows == 0
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "deltalake" not in done.stdout.split()
