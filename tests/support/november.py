"""A market of November 2026, lists of it, and days on which trading is not as usual, for tests of the schedule."""

import datetime as dt
from collections.abc import Iterator

import pytest

from tests.support.schedule import HOLIDAY, USUAL
from tests.support.simulation import Simulation, simulation

OPTIONS = {
    "name": "options",
    "mode": "quote",
    "select": {"exchange": "NFO", "names": ["NIFTY"], "types": ["CE", "PE"], "strikes": {"around": "spot", "count": 1}},
    "every": "3h",
}
METALS = {"name": "metals", "mode": "ltp", "select": {"exchange": "MCX", "types": ["FUT"]}}
NOVEMBER = {
    "hours": USUAL,
    "special_days": [
        HOLIDAY,
        {"date": dt.date(2026, 11, 7), "exchanges": ["NSE", "NFO"], "hours": ["09:35-09:40", "11:50-11:55"]},
        {"date": dt.date(2026, 11, 8), "hours": "18:05-18:30", "note": "Muhurat"},
        {"date": dt.date(2026, 11, 10), "exchanges": ["MCX"], "hours": "17:20-23:10", "note": "evening session"},
    ],
}


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulation]:
    with simulation(instruments=300, rate=5, start="2026-11-07T06:00:00+00:00") as running:
        yield running
