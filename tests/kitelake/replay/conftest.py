"""A day of 120 seconds, captured."""

import pytest

import kitelake
from ingest.wire import encode_packets
from storage.schema import TICKS
from tests.support.hand_made import HandMade
from tests.support.replaying import a_day
from tests.support.served import SECONDS


@pytest.fixture(scope="package")
def made(tmp_path_factory: pytest.TempPathFactory) -> HandMade:
    return a_day(tmp_path_factory.mktemp("replayed"), SECONDS)


@pytest.fixture(scope="package")
def captured(made: HandMade) -> list[bytes]:
    """The day's packets in the order of receipt."""
    with kitelake.open(made.layout.root) as lake:
        columns = ", ".join(name for name in TICKS.schema.names if name != "symbol")
        rows = lake.sql(f"SELECT {columns} FROM ticks ORDER BY received_at, stream, seq").arrow()
    assert len(rows) == 3 * SECONDS + 1
    return encode_packets(rows)
