"""A lake that is partly committed and partly in the journal."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from queries.lake.lake import SqlLake
from tests.support.lake import CRUDE, DAY_NS, INFY, NIFTY_FUT, Feed, ToyDecoder, ToyWriter
from tests.support.lake_queries import STREAM


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Feed]:
    with Feed(tmp_path, STREAM) as feed:
        yield feed


@pytest.fixture
def lake(tmp_path: Path, feed: Feed) -> Iterator[SqlLake]:
    with SqlLake(tmp_path, ToyDecoder()) as lake:
        yield lake


@pytest.fixture
def half(tmp_path: Path, feed: Feed) -> ToyWriter:
    """Six ticks on two days, an event and two orders: the first half committed."""
    writer = ToyWriter(tmp_path)
    feed.tick((INFY, 150_000), (NIFTY_FUT, 2_600_005))
    feed.tick((CRUDE, 500_000))
    feed.event("connected")
    feed.order("bought")
    feed.roll()
    writer.commit_all()
    feed.now_ns += DAY_NS
    feed.tick((INFY, 150_005), (NIFTY_FUT, 2_600_010), (CRUDE, 500_100))
    feed.order("bought")
    feed.order("sold")
    feed.junk(b"what?")
    feed.flush()
    return writer
