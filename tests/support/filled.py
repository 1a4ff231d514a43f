"""A data folder with rows of all tables, and what docs/operations.md says to read it with."""

import json
import random
import re
import threading
from datetime import date
from pathlib import Path
from typing import Any

from ingest.wire.journal import JournalDecoder
from queries.lake.lake import SqlLake
from storage.clock import day_bounds_ns
from storage.commit.writer import SegmentWriter
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout
from storage.tables.symbols import write_instruments
from tests.support.lists import listed_on
from tests.support.packets import random_frame

DAY = date(2026, 11, 24)
OPEN_NS = day_bounds_ns(DAY)[0] + 33_300 * 10**9
STREAM = "20261124T034500-aaaaaa"
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def fill(root: Path) -> DataLayout:
    """A data folder with rows of all tables, all of them committed, in two files a partition."""
    layout = DataLayout(root)
    write_instruments(layout, DAY, listed_on(DAY))
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


def lines_of(engine: str) -> str:
    """The Python lines of docs/operations.md that read the ticks with this engine."""
    section = OPERATIONS.read_text(encoding="utf-8").partition("## Other engines\n")[2].partition("\n## ")[0]
    found = re.search(rf"\*\*{engine}\*\*.*?```python\n(.*?)```", section, re.DOTALL)
    assert found, engine
    return found[1]


def ours(layout: DataLayout) -> list[dict[str, Any]]:
    query = f"""SELECT epoch_us(received_at) AS us, symbol, last_price FROM ticks
        WHERE date = '{DAY}' AND exchange = 'NSE' ORDER BY ALL"""
    with SqlLake(layout.root, JournalDecoder()) as lake:
        rows: list[dict[str, Any]] = lake.sql(query).arrow().to_pylist()
    assert len(rows) > 100
    return rows
