"""Real Spark with its Delta package, Polars, pandas and Dask: every row, and a sum of every column, as we read them.

They are in an environment of their own, which `make engines` makes.
"""

import json
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from ingest.wire.journal import JournalDecoder
from queries.lake.lake import SqlLake
from storage.clock import IST
from storage.layout import DataLayout
from storage.schema import TABLES, TICKS
from storage.upkeep.compact import compact_day
from tests.support.engines import ENGINES, UNITS, Columns
from tests.support.filled import fill, lines_of, ours
from tests.support.running import running
from tests.support.simulation import simulation

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-engines" / "bin" / "python"
PACKETS = 30_000

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not (ROOT / ".venv-engines" / "stamp").exists(), reason="Spark is not installed: `make engines` does it"
    ),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[DataLayout]:
    """A captured market, raw and sealed, and a folder that has rows of all tables, raw and sealed."""
    root = tmp_path_factory.mktemp("engines")
    market = simulation(instruments=2_000, rate=20, order_seconds=0.2)
    with market as simulator, running(root, simulator) as service:
        simulator.wait_for(lambda stats: stats["packets"] > PACKETS, 120)
        service.stop()
    made = [DataLayout(service.data), fill(root / "all" / "data" / "kite")]
    for name, layout in zip(("captured", "all"), list(made), strict=True):
        made.append(DataLayout(root / f"{name}-sealed" / "data" / "kite"))
        shutil.copytree(layout.root, made[-1].root)
        days = {path.name.removeprefix("date=") for path in layout.table(TICKS.name).glob("date=*")}
        assert [compact_day(made[-1], datetime.fromisoformat(day).replace(tzinfo=IST).date()) for day in days]
    return made


def told(*arguments: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [PYTHON, ROOT / "tests" / "support" / "engines.py", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stdout


def expected(layout: DataLayout, table: str) -> tuple[int, Columns]:
    """The same of our own reader."""
    sums = []
    for field in TABLES[table].schema:
        name = f'"{field.name}"'
        if pa.types.is_floating(field.type):
            whole = f"round({name} * {UNITS})::hugeint"
        elif pa.types.is_timestamp(field.type):
            whole = f"epoch_us({name})"
        elif pa.types.is_date(field.type):
            whole = f"{name} - DATE '1970-01-01'"
        elif pa.types.is_string(field.type):
            whole = f"strlen({name})"
        else:
            whole = name if pa.types.is_integer(field.type) else f"octet_length({name})"
        sums += [f"count({name})", f"coalesce(sum({whole}), 0)::varchar"]
    with SqlLake(layout.root, JournalDecoder()) as lake:
        found = lake.sql(f"SELECT count(*), {', '.join(sums)} FROM {table}").arrow()
    rows, *values = (column[0].as_py() for column in found.columns)
    pairs = zip(values[::2], values[1::2], strict=True)
    names = TABLES[table].schema.names
    return rows, {name: (count, int(total)) for name, (count, total) in zip(names, pairs, strict=True)}


@pytest.mark.parametrize("engine", ENGINES)
def test_every_row_and_a_sum_of_every_column(folders: list[DataLayout], engine: str) -> None:
    tables = {str(layout.table(name)): (layout, name) for layout in folders for name in TABLES}
    truth = {path: expected(*where) for path, where in tables.items()}
    filled = [path for path, (rows, _) in truth.items() if rows]
    got = json.loads(told(engine, *filled))
    for path in filled:
        rows, columns = got[path]
        assert rows == truth[path][0], path
        assert {name: tuple(pair) for name, pair in columns.items()} == truth[path][1], path
    ticks = sum(truth[str(layout.table(TICKS.name))][0] for layout in folders)
    assert ticks > 2 * PACKETS
    print(f"{engine}: {len(filled)} tables, {sum(truth[path][0] for path in filled):,} rows, {ticks:,} of them ticks")


@pytest.mark.parametrize(("engine", "count"), [("Spark", "frame.count()"), ("Dask", "len(frame)")])
def test_the_lines_in_operations(folders: list[DataLayout], tmp_path: Path, engine: str, count: str) -> None:
    layout = folders[-1]
    lines = tmp_path / "lines.py"
    lines.write_text(f"{lines_of(engine)}\nprint('rows:', {count})\n")
    assert f"rows: {len(ours(layout))}\n" in told("run", str(lines), cwd=layout.root.parent.parent)
