"""A lake and its results in a fork of the process that opened it."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from queries.lake.lake import SqlLake
from tests.support.forking import ANSWERED, in_fork
from tests.support.lake import Feed, ToyDecoder, ToyWriter
from tests.support.lake_queries import rows
from tests.support.waiting import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.slow

ENDLESS: Final = "select sum(hash(a.range * b.range)) from range(1_000_000) a, range(1_000_000) b"
ENDS: Final = """
import os, sys
from pathlib import Path
from queries.lake.lake import SqlLake
from tests.support.lake import ToyDecoder

lake = SqlLake(Path(sys.argv[1]), ToyDecoder())
count = lake.sql("select count(*) from ticks")
count.arrow()
if child := os.fork():
    _, status = os.waitpid(child, 0)
    print(status, SqlLake(Path(sys.argv[1]), ToyDecoder()).sql("select count(*) from ticks").arrow()[0][0])
"""


def test_nothing_of_a_lake_is_asked_in_a_fork(lake: SqlLake, half: ToyWriter, feed: Feed) -> None:
    state, result, worked_out = lake.look(), lake.sql("from ticks"), lake.look().rows(lake.sql("from ticks").arrow())
    begun = [result.reader(2), result.arrow(count=2), result.df(count=2), result.numpy(count=2), result.pl(count=2)]
    begun += [state.read(["FROM ticks"] * 4, many=many) for many in (True, False)]
    for each in begun:
        next(each)
    works: dict[str, Callable[[], object]] = {f"begun {at}": partial(next, each) for at, each in enumerate(begun)}
    works |= {
        "sql": lambda: lake.sql("select 1"),
        "look": lake.look,
        "connect": lake.connect,
        "interrupt": lake.interrupt,
        "progress": lake.progress,
        "a new query over a state": lambda: state.sql("from ticks"),
        "arrow": result.arrow,
        "df": result.df,
        "pl": result.pl,
        "numpy": result.numpy,
        "count": result.count,
        "head": lambda: result.head(1),
        "show": result.show,
        "repr": lambda: repr(result),
        "reader": result.reader,
        "columns": lambda: result.columns,
        "types": lambda: result.types,
        "relation": lambda: result.relation,
        "project": lambda: result.project("#1"),
        "rows that are there": worked_out.arrow,
    }
    found = in_fork(works)
    assert [name for name in works if "open it here, with kitelake.open" not in found[name]] == []
    assert in_fork({"its own": lambda: SqlLake(lake.root, ToyDecoder()).sql("from ticks").arrow()}) == {
        "its own": ANSWERED
    }
    assert sum(len(rows) for rows in begun[1]) == 4
    assert rows(lake, "select count(*) from ticks") == [(6,)]


def test_nor_while_another_thread_has_its_turn(lake: SqlLake) -> None:
    lake.follow_progress()
    result, endless = lake.sql("select 1"), lake.sql(ENDLESS)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(endless.arrow)
        try:
            wait_until(lambda: lake.progress() is not None)
            found = in_fork({"sql": lambda: lake.sql("select 1"), "arrow": result.arrow})
        finally:
            lake.interrupt()
        assert asked.exception()
    assert ANSWERED not in found.values()


def test_what_is_closed_and_let_go_in_a_fork_is_there_in_the_other(lake: SqlLake, half: ToyWriter) -> None:
    things = [lake.sql("from ticks"), SqlLake(lake.root, ToyDecoder())]
    reader, reading = lake.sql("from ticks").reader(2), lake.look().read(["FROM ticks"] * 4, many=True)
    things += [next(reader), next(reading), reader, reading]
    del reader, reading

    def let_go() -> None:
        lake.close()
        things.clear()
        gc.collect()

    assert in_fork({"close": let_go}) == {"close": ANSWERED}
    assert len(things) == 6
    assert rows(lake, "select count(*) from ticks") == [(6,)]


def test_a_fork_that_ends_as_processes_do_takes_nothing_with_it(tmp_path: Path) -> None:
    """Also of what a lake has in the system's folder for temporary files, for DuckDB to find it by a plain name."""
    root = tmp_path / "what=ever"
    (root / "journal").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", ENDS, str(root)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.stdout == "0 0\n", done.stderr
    assert list(tmp_path.glob("kitelake-*")) == []
