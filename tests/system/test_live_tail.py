"""The live tail of a capture that goes on: whatever is read, and whenever, is what the simulator sent until then.

Afterwards the table is held against the simulator's record, packet for packet, and every answer against the table.
"""

import os
import signal
import time
from pathlib import Path
from random import Random
from typing import Any, Final

import duckdb
import pytest

import kitelake
from storage.schema import TICKS
from tests.support.accounting import assert_accounted
from tests.support.running import running
from tests.support.scaled import scaled
from tests.support.simulation import simulation
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

WRITER: Final = "writer"
READING_SECONDS: Final = scaled(2, 20)
SPAN: Final = 300
COUNT: Final = "select count(*) from ticks_all"
Answer = tuple[str, list[dict[str, Any]]]
"""A query, and its rows."""


def asked(lake: kitelake.Lake, random: Random) -> tuple[int, list[Answer]]:
    """How many ticks there are in one look, and its answers to some queries, each of another part of the tail."""
    state = lake.look()
    rows = state.sql(COUNT).arrow().column(0)[0].as_py()
    first = random.randrange(rows)
    columns = ", ".join(random.sample([column.name for column in TICKS.columns], 5))
    token = f"(select instrument_token from ticks_all where seq = {first})"
    queries = [
        "select stream, min(seq), max(seq), count(distinct seq), sum(volume_traded) from ticks_all group by all",
        f"select {columns} from ticks_all where seq between {first} and {first + SPAN} order by seq",
        f"select * from ticks_all where seq >= {rows - SPAN} and mode = 'full' order by seq",
        f"select {columns} from ticks_all where instrument_token = {token} order by seq",
    ]
    chosen = random.sample(queries, 2)
    return rows, [(query, state.sql(query).arrow().to_pylist()) for query in chosen]


def test_every_read_is_what_was_sent_until_then(tmp_path: Path) -> None:
    """A commit a second, a connection that drops, a writer that is killed; a lake that is kept, and new ones."""
    random = Random(12)
    reads: list[tuple[int, list[Answer]]] = []
    market = simulation(instruments=300, rate=10, record=tmp_path / "record")
    with market as simulator, running(tmp_path, simulator, journal={"segment_seconds": 1}) as service:
        wait_until(lambda: bool(service.rows("select 1 as n from ticks limit 1")))
        with kitelake.open(service.data) as kept:
            start = time.monotonic()
            while time.monotonic() - start < READING_SECONDS or len(reads) < 5:
                if len(reads) == 3:
                    os.kill(service.children()[WRITER], signal.SIGKILL)
                    simulator.fault("drop", how="rst", account="one")
                sent = simulator.stats()["packets"]
                if random.randrange(4):
                    reads.append(asked(kept, random))
                else:
                    with kitelake.open(service.data) as fresh:
                        reads.append(asked(fresh, random))
                # What was sent before a read comes soon, if not with it.
                wait_until(lambda sent=sent: kept.sql(COUNT).arrow().column(0)[0].as_py() >= sent)  # type: ignore[misc]
                time.sleep(random.uniform(0, 0.1))
        simulator.pause()
        service.stop()
        with kitelake.open(service.data) as lake:
            truth = lake.sql("select * from ticks_all").arrow()
        assert_accounted(service, simulator)
    assert [rows for rows, _ in reads] == sorted(rows for rows, _ in reads)
    with duckdb.connect() as plain:
        plain.execute("set timezone = 'Asia/Kolkata'")
        plain.register("truth", truth)
        for rows, answers in reads:
            plain.execute(f"create or replace view ticks_all as from truth where seq < {rows}")
            assert plain.execute(COUNT).fetchall() == [(rows,)]
            for query, answer in answers:
                assert answer == plain.sql(query).to_arrow_table().to_pylist(), query
