"""What a captured replay says of its packets: the same as the day that was replayed, whenever it was captured."""

import datetime as dt
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import kitelake
from tests.support.captured import INFY, NIFTY_50, NIFTY_FUT, SECOND_US, TINY, Captured, Line, moment, us_of

pytestmark = pytest.mark.slow

REPLAYED, SUNDAY = dt.date(2026, 11, 17), dt.date(2026, 11, 22)
SHIFT = SUNDAY - REPLAYED
EVENING = us_of(dt.date(2026, 11, 16), "15:29:59")
TOKENS = (INFY, TINY, NIFTY_50, NIFTY_FUT)
Rows = list[dict[str, Any]]
Ask = Callable[[kitelake.Lake], Any]


def us(time: str) -> int:
    return us_of(REPLAYED, time)


def packets() -> Iterator[tuple[int, Callable[[Line, int], None]]]:
    """When each was received on the replayed day, and what puts it on a line at another time."""
    yield us("08:50:00.2"), lambda line, at: line.full(at, INFY, 1490, volume=900, traded=EVENING, stamped=EVENING)
    yield us("08:50:00.3"), lambda line, at: line.full(at, NIFTY_FUT, 24_000, traded=None, stamped=EVENING)
    yield us("08:50:00.4"), lambda line, at: line.full(at, NIFTY_50, 24_100, stamped=EVENING)
    yield us("08:50:00.5"), lambda line, at: line.quote(at, TINY, 50, volume=5)
    for second in range(0, 300, 7):
        time = us("09:15:02") + second * SECOND_US
        yield from _at(time, second)


def _at(time: int, second: int) -> Iterator[tuple[int, Callable[[Line, int], None]]]:
    price, volume, trade = 1500 + second % 11, 10 + second, time - second % 3 * SECOND_US
    yield (
        time + 400_000,
        lambda line, at: line.full(at, INFY, price, volume=volume, traded=trade, stamped=time, high=1511, low=1500),
    )
    yield time + 400_001, lambda line, at: line.full(at, NIFTY_50, 24_100 + second, stamped=time)
    yield time + 400_002, lambda line, at: line.quote(at, TINY, 50 + second % 5, volume=5 + second)
    yield (
        time + 400_003,
        lambda line, at: line.full(at, NIFTY_FUT, 24_200 + second, volume=75 * second, traded=time, stamped=time),
    )


def original(root: Path) -> Path:
    """The day as it was."""
    with Captured(root, REPLAYED) as captured:
        captured.instruments()
        line = captured.run("08:49").line()
        line.begin("08:50", *TOKENS)
        for at, put in packets():
            put(line, at)
    return root


def replayed(root: Path, begin: str, since: str = "00:00", *, commit: bool = False) -> Path:
    """A capture of its replay, ten times as fast, which began at this time of a Sunday and with packets of `since`."""
    with Captured(root, SUNDAY) as captured:
        captured.replayed(str(REPLAYED))
        captured.instruments()
        line = captured.run(begin).line()
        begin_us = us_of(SUNDAY, begin) + SECOND_US
        line.begin(begin_us, *TOKENS)
        rest = [(at, put) for at, put in packets() if at >= us(since)]
        for number, (at, put) in enumerate(rest):
            put(line, begin_us + 100_000 + number + (at - rest[0][0]) // 10)
        if commit:
            captured.commit()
    return root


def rows_of(lake: kitelake.Lake, ask: Callable[[kitelake.Lake], Any], *times: str) -> Rows:
    """Rows, with these columns as of the Sunday where they are of the replayed day."""
    rows: Rows = ask(lake).arrow().to_pylist()
    for row in rows:
        for name in times:
            row[name] += SHIFT if row[name].date() == REPLAYED else dt.timedelta()
    return rows


BEGINS = ("00:20", "21:00")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kitelake.Lake]:
    """The day as it was."""
    with kitelake.open(original(tmp_path_factory.mktemp("one"))) as lake:
        yield lake


@pytest.fixture(scope="module")
def expected(one: kitelake.Lake) -> Callable[[Ask], Rows]:
    """What it says, with times as of the Sunday; each is asked once."""
    return functools.cache(lambda ask: rows_of(one, ask, "time"))


@pytest.fixture(scope="module", params=BEGINS)
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[kitelake.Lake]:
    """A capture of its replay, in the journal alone."""
    with kitelake.open(replayed(tmp_path_factory.mktemp("other"), request.param)) as lake:
        yield lake


@pytest.mark.parametrize(
    "ask",
    [
        lambda lake: lake.bars(["NSE:INFY", "NSE:NIFTY 50", "NFO:NIFTY26NOVFUT"], "1m"),
        lambda lake: lake.sql(
            "from bars(['NSE:INFY', 'NSE:NIFTY 50', 'NFO:NIFTY26NOVFUT'], width := '1 minute') order by symbol, time"
        ),
        lambda lake: lake.bars(["NSE:INFY", "NFO:NIFTY26NOVFUT"], "5 ticks"),
    ],
    ids=["method", "macro", "ticks"],
)
def test_bars_by_the_exchanges_clock_are_those_of_the_day(
    expected: Callable[[Ask], Rows], other: kitelake.Lake, ask: Ask
) -> None:
    rows = expected(ask)
    assert rows_of(other, ask, "time") == rows
    assert {row["clock"] for row in rows} <= {"last_trade_time", "exchange_timestamp"}
    assert sum(row["volume"] or 0 for row in rows) > 0


TRADES = "select symbol, time, price, quantity, clock from"
ALL_TRADES: Ask = lambda lake: lake.sql(f"{TRADES} trades where clock <> 'received_at' order by all")  # noqa: E731
TRADES_OF_ONE: Ask = lambda lake: lake.sql(f"{TRADES} trades('NSE:INFY') order by all")  # noqa: E731
TRADES_BY_METHOD: Ask = lambda lake: lake.trades("NSE:INFY")  # noqa: E731


@pytest.mark.parametrize("begin", BEGINS)
def test_trades_are_those_of_the_day(expected: Callable[[Ask], Rows], tmp_path: Path, begin: str) -> None:
    with kitelake.open(replayed(tmp_path, begin, commit=True)) as other:
        for ask in (ALL_TRADES, TRADES_OF_ONE):
            assert rows_of(other, ask, "time") == expected(ask) != []
        method = [row["quantity"] for row in rows_of(other, TRADES_BY_METHOD)]
    assert method == [row["quantity"] for row in expected(TRADES_BY_METHOD)]


def test_by_the_clock_of_receipt_bars_are_when_it_was_captured(one: kitelake.Lake, other: kitelake.Lake) -> None:
    def ask(lake: kitelake.Lake) -> Any:
        return lake.bars(["NSE:INFY", "NSE:TINY"], "1d", clock="received", sessions="all")

    expected, found = rows_of(one, ask), rows_of(other, ask)
    assert {row["time"].date() for row in found} == {SUNDAY}
    for name in ("open", "high", "low", "close", "volume", "ticks"):
        assert [row[name] for row in found] == [row[name] for row in expected], name


@pytest.mark.parametrize("begin", BEGINS)
def test_what_was_served_first_is_cached_and_no_trade(tmp_path: Path, begin: str) -> None:
    """From the middle of the day on: the first packet of an instrument is what the replay had of it."""
    root = replayed(tmp_path, begin, "09:17")
    with kitelake.open(root) as lake:
        marks = lake.feed(["NSE:INFY", "NSE:TINY"], columns=["symbol", "cached", "volume_traded"]).batches()
        rows = [row for batch in marks for row in batch.to_pylist()]
        bars = lake.bars("NSE:INFY", "1m").arrow().to_pylist()
    infy = [row for row in rows if row["symbol"] == "NSE:INFY"]
    assert [row["cached"] for row in infy] == [True] + [False] * (len(infy) - 1)
    assert {row["cached"] for row in rows if row["symbol"] == "NSE:TINY"} == {None}
    first, last = infy[0]["volume_traded"], infy[-1]["volume_traded"]
    assert sum(row["volume"] for row in bars) == last
    assert [row["volume_missed"] for row in bars] == [first] + [0] * (len(bars) - 1)


def test_packets_of_the_day_before_are_of_another_day(tmp_path: Path) -> None:
    root = replayed(tmp_path, "14:00")
    with kitelake.open(root) as lake:
        rows = [
            row
            for batch in lake.feed("NSE:INFY", columns=["exchange_timestamp", "cached"]).batches()
            for row in batch.to_pylist()
        ]
        assert [row["exchange_timestamp"] for row in rows if row["cached"]] == [moment(EVENING)]
        assert lake.sql("select min(exchange_timestamp) as at from ticks").arrow()["at"].to_pylist() == [
            moment(EVENING)
        ]  # as they came
        dated = lake.sql("select min(exchange_timestamp) as at from dated_ticks").arrow()["at"].to_pylist()
        assert dated == [moment(EVENING) + SHIFT]


@pytest.mark.parametrize("begin", BEGINS)
def test_what_instruments_show_is_that_of_the_day(tmp_path: Path, begin: str) -> None:
    """But not the packet of the day before. By method and as a macro."""
    with Captured(tmp_path, SUNDAY) as captured:
        captured.replayed(str(REPLAYED))
        listed = "12345602,48225,NIFTY26DECFUT,NIFTY,0,2026-12-29,0,0.05,75,FUT,NFO-FUT,NFO\n"
        captured.instruments("256265,1001,NIFTY 50,NIFTY 50,0,,0,0,0,EQ,INDICES,NSE\n" + listed)
        line = captured.run(begin).line()
        at = us_of(SUNDAY, begin) + SECOND_US
        line.begin(at, NIFTY_FUT, NIFTY_50)
        line.full(at + 1, NIFTY_FUT, 24_000, volume=7, traded=EVENING, stamped=EVENING)
        line.full(at + 2, NIFTY_50, 24_100, stamped=us("09:15:02"))
        captured.flush()
        with kitelake.open(tmp_path) as lake:
            assert shown(lake, at + 3) == [(None, 24_100)] * 2
        line.full(at + 4, NIFTY_FUT, 24_150, volume=8, traded=us("09:15:03"), stamped=us("09:15:03"))
        captured.flush()
        with kitelake.open(tmp_path) as lake:
            assert shown(lake, at + 5) == [(24_150, 24_100)] * 2


def shown(lake: kitelake.Lake, at: int) -> Sequence[tuple[float | None, float]]:
    method = lake.futures("NIFTY", moment(at)).arrow().to_pylist()
    macro = lake.sql("from futures('NIFTY', moment := $at)", {"at": moment(at)}).arrow().to_pylist()
    return [(row["last"], row["spot"]) for row in (*method, *macro)]


def test_coverage_counts_them_as_live(other: kitelake.Lake) -> None:
    for silent in (60, 0.5):
        rows = other.intervals(SUNDAY, "NSE:INFY", silent=silent).arrow().to_pylist()
        states = [row["state"] for row in rows]
        assert states[:3] == ["not subscribed", "not yet served", "cached packet only"]
        assert set(states[3:]) == ({"served", "silent"} if silent < 1 else {"served"})
        assert not any(row["volume_missed"] for row in rows)
    assert other.latency(SUNDAY).arrow().num_rows == 0  # its clock is another one
