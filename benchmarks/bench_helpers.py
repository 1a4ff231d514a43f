"""What the helpers of a lake cost, against queries that an expert would write by hand for the bare engine.

    python -m benchmarks.bench_helpers [--cache FOLDER] [--rounds 5] [--only TEXT] [--quick] [--json FILE]

The generated day of `benchmarks.market_day`: 20.5 million full ticks of 3,000 instruments, as committed (1,479 files),
with its hours sealed, and sealed; and 250 sealed days of 20,000 ticks of 100 instruments. Making them takes some
minutes; they stay in the cache folder. Helper and hand query take turns in one process, each after one turn that is not
counted, everything in the page cache: medians of milliseconds, of time and of CPU. The hand query
(`benchmarks.hand_queries`) runs in a database of its own with `parquet_metadata_cache`, over the folder's files by
pattern.

    bars             one instrument's one-minute bars with volume, value, vwap, open interest and ticks, by the
                     exchange's clock. The hand query reads the same columns: it takes volume and value from the
                     differences between bars, leaves packets of another day out, has high and low reach the day's
                     where these moved, and says until when there were packets
    … received       by the clock of receipt
    … raw            of the day as committed, no hour of it sealed
    … today          of the day as the service has it shortly before it seals an hour
    … all            of all instruments
    plain …          the hand query without the last three: fewer columns to read, and simpler bars
    OHLC …           the hand query without what is beside open, high, low and close: to tell what that costs
    days 25 …        one instrument's daily bars of so many days; a day's cost must not grow
    latest           the newest row of each instrument, of six columns
    chain            200 strikes with greeks at 11:00; by hand, the newest row of each of the options
    open             a new process up to its first answer, one instrument's last price in the day as committed: CPU
    live             the same of an open lake, while 50,000 ticks/s arrive and a writer commits them
"""

import datetime as dt
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import duckdb

import kitelake
from benchmarks.hand_queries import (
    CLOCKS,
    DAY,
    LAST_PRICE,
    OF_INDICES_TOO,
    books,
    day_bars,
    files_of,
    minute_bars,
    minute_prices,
    newest,
    plain_minute_bars,
)
from benchmarks.market_day import CACHE, MarketDays
from benchmarks.market_listing import FIRST_OPTION, LAST_DAY
from benchmarks.results import Claim, Findings, arguments, tell
from benchmarks.turns import cpu_seconds
from storage.layout import DataLayout
from storage.schema import TICKS

AFTER: Final = (LAST_DAY + dt.timedelta(days=1)).isoformat()
ALL: Final = ["NSE:*", "NFO:*"]
ONE: Final = "NSE:INFY"
ONE_TOKEN: Final = 408065
MANY_DAYS: Final = (25, 125, 250)
COLUMNS: Final = ["last_price", "volume_traded", "oi", "bid_price_1", "ask_price_1"]
IN_A_NEW_PROCESS: Final = {
    "lake": "import kitelake; kitelake.open({root!r}).sql({query!r}).arrow()",
    "hand": "import duckdb; duckdb.sql('SET enable_progress_bar = false'); duckdb.sql({query!r}).to_arrow_table()",
}
Found = dict[str, float]


@dataclass(frozen=True)
class Line:
    """A question of a folder: by hand, and of a lake. Goals: times as much as by hand, milliseconds, those of CPU."""

    name: str
    root: Path
    by_hand: str
    ask: Callable[[Any], Any] | None = None
    times: float | None = None
    goal_ms: float | None = None
    goal_cpu_ms: float | None = None


def lines(raw: Path, today: Path, sealed: Path, many: Path, counts: tuple[int, ...]) -> Iterator[Line]:
    day, instrument = f"date = DATE '{DAY}'", f"exchange = 'NSE' AND instrument_token = {ONE_TOKEN}"
    one = f"{day} AND {instrument}"
    for clock in CLOCKS:

        def bars(lake: Any, symbols: str | list[str] = ONE, clock: str = clock) -> Any:
            return lake.bars(symbols, "1 minute", DAY, clock=clock)

        def all_bars(lake: Any, bars: Callable[..., Any] = bars) -> Any:
            return bars(lake, ALL)

        end = "" if clock == "exchange" else " received"
        yield Line(f"bars{end}", sealed, minute_bars(sealed, one, CLOCKS[clock]), bars, 1.3)
        yield Line(f"bars{end} raw", raw, minute_bars(raw, one, CLOCKS[clock]), bars, 1.2, 150)
        yield Line(f"bars{end} today", today, minute_bars(today, one, CLOCKS[clock]), bars, 1.2, 150)
        yield Line(f"bars{end} all", sealed, minute_bars(sealed, day, OF_INDICES_TOO[clock]), all_bars, 1.3)
        yield Line(f"plain{end}", sealed, plain_minute_bars(sealed, one, CLOCKS[clock]))
        yield Line(f"plain{end} raw", raw, plain_minute_bars(raw, one, CLOCKS[clock]))
        yield Line(f"plain{end} all", sealed, plain_minute_bars(sealed, day, OF_INDICES_TOO[clock]))
    yield Line("OHLC", sealed, minute_prices(sealed, one, CLOCKS["exchange"]))
    yield Line("OHLC raw", raw, minute_prices(raw, one, CLOCKS["exchange"]))
    yield Line("OHLC all", sealed, minute_prices(sealed, day, OF_INDICES_TOO["exchange"]))

    dates = MarketDays(days=counts[-1]).dates
    for count in counts:
        first = dates[-count].isoformat()

        def days(lake: Any, first: str = first) -> Any:
            return lake.bars(ONE, "1 day", first, AFTER)

        where = f"date >= DATE '{first}' AND {instrument}"
        yield Line(f"days {count}", many, day_bars(many, where), days)

    def latest(lake: Any) -> Any:
        return lake.latest(None, f"{DAY} 15:45", COLUMNS)

    def chain(lake: Any) -> Any:
        return lake.chain("NIFTY", f"{DAY} 11:00")

    yield Line("latest", sealed, newest(sealed, day), latest, goal_cpu_ms=500)
    lowest, highest = (token << 8 | 2 for token in (FIRST_OPTION, FIRST_OPTION + 399))
    options = f"{day} AND exchange = 'NFO' AND instrument_token BETWEEN {lowest} AND {highest}"
    until = f"received_at < TIMESTAMPTZ '{DAY} 11:00:00+05:30'"
    yield Line("chain", sealed, books(sealed, f"{options} AND {until}"), chain, goal_ms=80)


def milliseconds(work: Callable[[], object]) -> tuple[float, float]:
    """Of time, and of CPU time of this process and of children that ended meanwhile."""
    start, cpu = time.perf_counter(), cpu_seconds()
    work()
    return (time.perf_counter() - start) * 1000, (cpu_seconds() - cpu) * 1000


def medians(rounds: int, works: Mapping[str, Callable[[], object]]) -> Found:
    """They take turns; the first is not counted."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            one = milliseconds(work)
            if turn:
                taken[name].append(one)
    found: Found = {}
    for name, pairs in taken.items():
        found[name], found[f"{name} CPU"] = (statistics.median(each) for each in zip(*pairs, strict=True))
    return found


def measure(line: Line, rounds: int) -> Found:
    with kitelake.open(line.root) as lake, duckdb.connect() as plain:
        plain.execute("SET TimeZone = 'Asia/Kolkata'; SET parquet_metadata_cache = true")
        plain.execute("SET enable_progress_bar = false")
        works: dict[str, Callable[[], object]] = {"hand": lambda: plain.sql(line.by_hand).to_arrow_table()}
        ask = line.ask
        if ask is not None:
            works["lake"] = lambda: ask(lake).arrow()
        return medians(rounds, works)


def measure_open(root: Path, rounds: int) -> Found:
    where = f"date = DATE '{DAY}' AND exchange = 'NSE' AND instrument_token = {ONE_TOKEN}"
    works = {}
    for name, text in IN_A_NEW_PROCESS.items():
        query = LAST_PRICE.format(files="ticks" if name == "lake" else files_of(root), where=where)
        command = [sys.executable, "-c", text.format(root=str(root), query=query)]
        works[name] = partial(subprocess.run, command, check=True)
    return medians(rounds, works)


def measure_live(folder: Path, seconds: float) -> Found:
    """While `benchmarks.live_feed` goes on; the first third of it is not counted."""
    where = f"date = current_date AND exchange = 'NSE' AND instrument_token = {ONE_TOKEN}"
    query = LAST_PRICE.format(files="ticks", where=where)
    layout = DataLayout(folder)
    command = [sys.executable, "-m", "benchmarks.live_feed", str(folder), "--seconds", str(seconds)]
    with subprocess.Popen(command) as feed:
        while not layout.table(TICKS.name).exists() and feed.poll() is None:
            time.sleep(0.1)
        if feed.poll() is not None:
            raise RuntimeError("there is no feed: see above")
        start, taken = time.monotonic(), []
        with kitelake.open(folder) as lake:
            while time.monotonic() - start < seconds - 5:
                one = milliseconds(lambda: lake.sql(query).arrow())
                if time.monotonic() - start > seconds / 3:
                    taken.append(one)
                time.sleep(0.25)
    times, used = zip(*taken, strict=True)
    return {"lake": statistics.median(times), "lake CPU": statistics.median(used), "lake, longest": max(times)}


def claims_of(name: str, line: Line, found: Found) -> Iterator[Claim]:
    if "lake" not in found:
        yield Claim(f"{name}: by hand alone", found["hand"], "ms")
        return
    peer = "by hand in DuckDB" if "hand" in found else None
    ratio = None if line.times is None else 1 / line.times
    yield Claim(f"{name}: time", found["lake"], "ms", peer, found.get("hand"), line.goal_ms, ratio)
    yield Claim(f"{name}: CPU", found["lake CPU"], "ms", peer, found.get("hand CPU"), line.goal_cpu_ms)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--live-seconds", type=float, default=60)
    parser.add_argument("--only", default="", help="lines whose name begins so")
    options = parser.parse_args()
    day, rounds = MarketDays(), options.rounds
    counts: tuple[int, ...] = MANY_DAYS
    many = MarketDays(instruments=100, ticks=20_000, segments=1, days=MANY_DAYS[-1])
    if options.quick:
        day, rounds, counts = replace(day, ticks=200_000, segments=5), 1, (2, 5)
        many = replace(many, days=counts[-1], ticks=5_000)
    raw, today = day.make(options.cache), replace(day, hourly=True).make(options.cache)
    sealed = replace(day, sealed=True).make(options.cache)
    found = Findings()
    with tempfile.TemporaryDirectory() as folder:
        asked = {line.name: line for line in lines(raw, today, sealed, many.make(options.cache), counts)}
        works: dict[str, Callable[[], Found]] = {name: partial(measure, line, rounds) for name, line in asked.items()}
        works["open"] = partial(measure_open, raw, rounds)
        works["live"] = partial(measure_live, Path(folder) / "live", 12 if options.quick else options.live_seconds)
        asked["open"] = Line("open", raw, "", goal_cpu_ms=850)
        asked["live"] = Line("live", raw, "", goal_ms=150)
        for name, work in works.items():
            if name.startswith(options.only):
                found.claims += claims_of(f"helper: {name}", asked[name], work())
    tell(found, options)


if __name__ == "__main__":
    main()
