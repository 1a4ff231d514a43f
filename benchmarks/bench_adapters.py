"""Ticks of our feed as objects, beside quotes of NautilusTrader's catalog; and what it takes to write either.

    python -m benchmarks.bench_adapters [--cache FOLDER] [--rounds 3] [--quick] [--json FILE]

The generated sealed day of `benchmarks.market_day`. The catalog, written by our adapter into a temporary folder, has
instruments of that day that have a million packets together. The feed gives the ticks of the same ones, and all ticks
of the day: it reads stretches of millions of rows, whose cost is that of all of them. Times include finding and reading
the files, not imports; "after the first block" is of a million ticks that were read. Written are the quotes of the
catalog once more, by its `write_data`, and the whole ticks of the same instruments by our writer of Parquet. All run in
one process, in turns: the medians of CPU time. It is one of the environment in .venv-adapters/nautilus, which is made
if it is not there.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, Final

import kitelake
from benchmarks.hand_queries import DAY
from benchmarks.market_day import CACHE, MarketDays
from benchmarks.results import Claim, Findings, LeftOut, arguments, tell
from benchmarks.turns import medians
from kitelake.adapters import write_catalog
from storage.schema import TICKS
from storage.tables import canonical_rows, write_parquet
from tests.support.frameworks import FRAMEWORKS, environment_of

ROWS: Final = 1_000_000


_began: Final = [0.0, 0.0]


def start_clock() -> None:
    """From here on it counts."""
    _began[:] = time.process_time(), time.perf_counter()


def of_feed(lake: kitelake.Lake, symbols: list[str] | None, *, read: bool = True) -> int:
    """`read`: with finding and reading the files, to the end of the day; else so many of the rows that are there."""
    ticks = iter(lake.feed(symbols, DAY))
    start_clock()
    if not read:
        next(ticks)
        start_clock()
    count, total = 0, 0.0
    for tick in ticks if read else islice(ticks, ROWS):
        total += tick.last_price + tick.instrument_token  # type: ignore[union-attr]
        count += 1
    return count


def of_catalog(catalog: Any) -> int:
    start_clock()
    count, total = 0, 0.0
    for quote in catalog.quote_ticks():
        total += quote.bid_price.as_double() + quote.ts_init
        count += 1
    return count


def objects_of_catalog(catalog: Any) -> int:
    start_clock()
    return len(catalog.quote_ticks())


def chosen(lake: kitelake.Lake) -> list[str]:
    """Instruments of the first exchange until they have a million packets."""
    counts = lake.sql(
        f"select symbol, count(*) as n from ticks where date = '{DAY}' and symbol is not null and bid_price_1 > 0 "
        "and ask_price_1 > 0 group by symbol order by symbol"
    ).arrow()
    found, total = [], 0
    for symbol, count in zip(counts["symbol"].to_pylist(), counts["n"].to_pylist(), strict=True):
        if total >= ROWS:
            break
        found.append(symbol)
        total += count
    return found


def write_quotes(catalog: Any, quotes: list[Any]) -> int:
    """Into a catalog that has none of them."""
    start_clock()
    catalog.write_data(quotes)
    return len(quotes)


def write_ticks(lake: kitelake.Lake, rows: Any, folder: Path) -> int:
    """All columns, as the day is sealed."""
    start_clock()
    write_parquet(rows, folder / "ticks.parquet")
    return len(rows)


def compare(options: argparse.Namespace) -> Findings:
    """In an environment with NautilusTrader."""
    from nautilus_trader.persistence.catalog import ParquetDataCatalog

    days = MarketDays(sealed=True)
    if options.quick:
        days = replace(days, ticks=100_000, segments=5, instruments=300)
    with tempfile.TemporaryDirectory() as temporary, kitelake.open(days.make(options.cache)) as lake:
        folder = Path(temporary)
        symbols = chosen(lake)
        catalog = write_catalog(lake, folder / "catalog", symbols, DAY)
        quotes = catalog.quote_ticks()
        where = ", ".join(f"'{symbol}'" for symbol in symbols)
        columns = ", ".join(f'"{name}"' for name in TICKS.file_schema.names)
        found = lake.sql(f"select {columns} from ticks where date = '{DAY}' and symbol in ({where})").arrow(tz="UTC")
        rows = canonical_rows(TICKS, found.cast(TICKS.file_schema))
        number = iter(range(1_000))
        ways: dict[str, Callable[[], int]] = {
            "feed, the same instruments": lambda: of_feed(lake, symbols),
            "feed, all instruments": lambda: of_feed(lake, None),
            "feed, after the first block": lambda: of_feed(lake, None, read=False),
            "catalog": lambda: of_catalog(catalog),
            "objects": lambda: objects_of_catalog(catalog),
            "write ticks": lambda: write_ticks(lake, rows, folder),
            "write quotes": lambda: write_quotes(ParquetDataCatalog(str(folder / f"new-{next(number)}")), quotes),
        }
        ns = medians(1 if options.quick else options.rounds, {name: ns_of(way) for name, way in ways.items()})
    peer = "NautilusTrader, a quote, two fields read"
    names = ("feed, the same instruments", "feed, all instruments", "feed, after the first block")
    claims = [Claim(f"an object, two fields read: {name}", ns[name], "ns", peer, ns["catalog"]) for name in names]
    bare = "NautilusTrader, the object alone"
    claims.append(Claim(f"an object, two fields read: {names[1]}", ns[names[1]], "ns", bare, ns["objects"]))
    what = "write a tick of all columns, as sealed"
    return Findings([*claims, Claim(what, ns["write ticks"], "ns", "NautilusTrader, a quote", ns["write quotes"])])


def ns_of(way: Callable[[], int]) -> Callable[[], float]:
    """Nanoseconds of CPU a row, since it has started the clock."""

    def measured() -> float:
        rows = way()
        return (time.process_time() - _began[0]) / rows * 1e9

    return measured


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if find_spec("nautilus_trader") is not None:
        tell(compare(options), options)
        return
    framework = next(one for one in FRAMEWORKS if one.extra == "nautilus")
    try:
        python = environment_of(framework, sys.executable)
    except subprocess.CalledProcessError as error:
        why = f"its environment could not be made: it ended with {error.returncode}"
        tell(Findings(left_out=[LeftOut("NautilusTrader", why)]), options)
        return
    command = [str(python), "-m", "benchmarks.bench_adapters", *sys.argv[1:]]
    sys.exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
