"""A lake that is partly committed and partly in the journal; and one that is restricted, with a secret beside it."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from queries.lake.lake import SqlLake
from queries.lake.restricted import RESTRICTED
from tests.support.lake import CRUDE, DAY_NS, INFY, NIFTY_FUT, Feed, ToyDecoder, ToyWriter
from tests.support.lake_queries import STREAM
from tests.support.restricted import SECRET, OurLake


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
    return half_of(tmp_path, feed)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlLake]:
    """A lake of the same, for tests that leave it as it was."""
    root = tmp_path_factory.mktemp("still")
    with Feed(root, STREAM) as feed, SqlLake(root, ToyDecoder()) as lake:
        half_of(root, feed)
        yield lake


def half_of(root: Path, feed: Feed) -> ToyWriter:
    writer = ToyWriter(root)
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


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the secret in every form."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret.csv").write_text(f"secret\n{SECRET}\n")
    (folder / "secret.json").write_text(f'{{"secret": "{SECRET}"}}\n')
    with duckdb.connect() as con:
        con.execute(f"copy (select '{SECRET}' as secret) to '{folder}/secret.parquet'")
    with duckdb.connect(folder / "secret.db") as con:
        con.execute(f"create table secrets as select '{SECRET}' as secret")
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, outside: Path) -> Iterator[Path]:
    """Six ticks, half of them committed, and links in the tables' folders that lead out."""
    root = tmp_path_factory.mktemp("lake") / "data"
    with Feed(root, STREAM) as feed:
        feed.tick((INFY, 150_000), (NIFTY_FUT, 2_600_005), (CRUDE, 500_000))
        feed.event("connected")
        feed.roll()
        ToyWriter(root).commit_all()
        feed.now_ns += DAY_NS
        feed.tick((INFY, 150_005), (NIFTY_FUT, 2_600_010), (CRUDE, 500_100))
        feed.flush()
        for name in ("secret.csv", "secret.parquet", "secret.db"):
            (root / "ticks" / name).symlink_to(outside / name)
        (root / "ticks" / "out").symlink_to(outside, target_is_directory=True)
        yield root


@pytest.fixture(scope="module")
def shut(root: Path) -> Iterator[OurLake]:
    with OurLake(root, ToyDecoder(), restricted=True, limits=RESTRICTED) as lake:
        yield lake
