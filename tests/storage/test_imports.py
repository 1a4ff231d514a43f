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


@pytest.mark.parametrize(
    ("modules", "unwanted"), [(LIGHT, {"duckdb", "numpy", "pyarrow"}), (JOURNAL, {"duckdb", "pyarrow"})]
)
def test_modules_that_load_no_library_of_tables(modules: list[str], unwanted: set[str]) -> None:
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert unwanted & set(done.stdout.split()) == set()
