"""What a feed should give, by a plain query and by sorting what was put into a folder."""

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import kitelake
from storage.clock import IST
from storage.journal import Kind, SegmentReader, segments, streams
from storage.layout import DataLayout
from storage.upkeep import compact_day
from tests.support.captured import CRUDE, INFY, LISTED, NIFTY_50, NIFTY_FUT, TINY, Captured, Line, us_of
from tests.support.random_days import RandomDays

Fed = tuple[Captured, kitelake.Lake]
NOON = "2026-11-23 12:00"
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


def expected(lake: kitelake.Lake, columns: Sequence[str], where: str = "true") -> list[Row]:
    """The view `ticks` in the order of receipt."""
    names = ", ".join(columns)
    rows: list[Row] = (
        lake.sql(f"select {names} from ticks where {where} order by received_at, stream, seq").arrow().to_pylist()
    )
    return rows


def given(batches: Any) -> list[Row]:
    """The rows of batches."""
    return [row for batch in batches for row in batch.to_pylist()]


DAYS = tuple(dt.date(2026, 11, day) for day in (19, 23, 24))
_OTHER_LOT = LISTED.replace(",75,", ",65,")
_EVENING_US = us_of(dt.date(2026, 11, 18), "15:29:59")


def moment_at(day: dt.date, time: str) -> dt.datetime:
    """In IST."""
    return dt.datetime.combine(day, dt.time.fromisoformat(time), IST)


def three_days(root: Path) -> Captured:
    """What befalls a capture: a connection that drops, runs that end, two accounts with the same, ties, another list.

    The first day is sealed, the second committed, the third in the journal.
    """
    with Captured(root, DAYS[0]) as captured:
        captured.instruments()
        run = captured.run("08:55")
        line = run.line()
        line.begin("09:14:00", INFY, TINY, NIFTY_FUT)
        line.full("09:14:00.2", INFY, 1490, volume=900, traded=_EVENING_US, stamped=_EVENING_US)
        _trade(line, "09:15:00.25", 150)
        line.closed("09:20:01")
        line.begin("09:27:00", INFY, TINY, NIFTY_FUT)
        line.full("09:27:00.2", INFY, 1505, volume=950, traded="09:26:59", stamped="09:26:59")
        _trade(line, "09:27:01", 40)
        run.stopped("09:40")
        captured.commit()
        compact_day(captured.layout, DAYS[0])
        captured.on(DAYS[1]).instruments(_OTHER_LOT)
        run, other = captured.run("09:00"), captured.run("09:00:00.5")
        lines = [run.line(), run.line("ravi"), other.line("asha", 2)]
        lines[0].begin("09:14:10", INFY, NIFTY_FUT)
        lines[1].begin("09:14:11", INFY)
        lines[2].begin("09:14:12", TINY, NIFTY_50, CRUDE)
        for number in range(30):  # at the same moments in both streams
            at = us_of(captured.day, "09:15:00") + number * 4_000_000
            for each, token in ((0, INFY), (2, CRUDE), (1, INFY), (2, NIFTY_50), (0, NIFTY_FUT)):
                lines[each].full(at, token, 1500 + number + token % 7, volume=1000 + 10 * number)
            lines[2].quote(at + 1, TINY, 50 + number, volume=number)
        lines[2].ltp("09:18:00", CRUDE, 5000)
        run.stopped("09:30")
        other.stopped("09:30")
        captured.commit()
        run = captured.on(DAYS[2]).run("09:10")
        line = run.line()
        line.begin("09:16:00", INFY, NIFTY_FUT)
        _trade(line, "09:16:01.5", 90)
    return captured


def _trade(line: Line, start: str, count: int) -> None:
    """So many steps of two seconds, in each a packet or two; what is traded grows."""
    first = us_of(line.run.captured.day, start)
    for number in range(count):
        at = first + number * 2_000_000
        price = 1500 + 20 * math.sin(number / 9) + number % 5
        line.full(at, INFY, round(price * 20) / 20, volume=1000 + 10 * number, average=1500)
        if number % 3 == 0:
            line.full(at + 700_000, NIFTY_FUT, 24_500 + number, volume=75 * (number + 1), oi=5000 + number)


def frames(captured: Captured) -> Iterator[bytes]:
    """Those that the journal has, in its order."""
    for stream in streams(captured.layout):
        for segment in segments(captured.layout, stream):
            with SegmentReader(captured.layout.segment(stream, segment)) as reader:
                for block in reader.read():
                    yield from (payload for _, payload in block.payloads(Kind.BINARY))
