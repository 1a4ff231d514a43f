"""A day of the service that tests go on with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.layout import DataLayout
from storage.tables import write_instruments
from tests.support.quotes import NIFTY, QuoteStream
from tests.support.reports import DAY, INFY, TCS, at, instruments


@pytest.fixture
def day(tmp_path: Path) -> Iterator[QuoteStream]:
    """A service that runs from 09:00 on and has asked for INFY at 09:00:02; the exchange opens at 09:15."""
    write_instruments(DataLayout(tmp_path), DAY, instruments((INFY, "INFY"), (TCS, "TCS"), (NIFTY, "NIFTY 50")))
    with QuoteStream(tmp_path, at("09:00:00")) as stream:
        stream.event(at("09:00:01"), "connected", opening=1)
        stream.event(at("09:00:02"), "subscribed", tokens=[INFY])
        stream.event(at("09:00:02"), "mode", tokens=[INFY], mode="full")
        yield stream
