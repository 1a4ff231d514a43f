"""What a feed should give, by a plain query and by sorting what was put into a folder."""

import datetime as dt
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa

import kitelake
from storage.layout import DataLayout
from storage.upkeep import compact_day
from tests.support.captured import Captured
from tests.support.random_days import RandomDays

NAMES = ["NSE:INFY", "NSE:TINY", "NSE:NIFTY 50", "NFO:NIFTY26NOVFUT"]
Row = dict[str, Any]


def random_days(root: Path, seed: int, days: int) -> Captured:
    """Days at random; what is not committed is in the journal."""
    with Captured(root) as captured:
        RandomDays(captured, Random(seed)).put(days)
    return captured


def seal(captured: Captured) -> None:
    """Commit everything, and lay each day anew."""
    captured.commit()
    layout = DataLayout(captured.root)
    with kitelake.open(captured.root) as lake:
        days = lake.look().dates("ticks")
    for day in days:
        compact_day(layout, day)


def expected(lake: kitelake.Lake, columns: list[str], where: str = "true") -> list[Row]:
    """The view `ticks` in the order of receipt."""
    names = ", ".join(columns)
    rows: list[Row] = (
        lake.sql(f"select {names} from ticks where {where} order by received_at, stream, seq").arrow().to_pylist()
    )
    return rows


def given(batches: Any) -> list[Row]:
    """The rows of batches."""
    return [row for batch in batches for row in batch.to_pylist()]


def table(batches: Any) -> pa.Table:
    """The batches as one table."""
    return pa.Table.from_batches(list(batches))


def moment_at(day: dt.date, time: str) -> dt.datetime:
    """In IST."""
    zone = dt.timezone(dt.timedelta(hours=5, minutes=30))
    return dt.datetime.combine(day, dt.time.fromisoformat(time), zone)
