"""Ticks of our feed as objects, beside quotes that the catalog of NautilusTrader reads: two fields of each are read.

    make adapters
    .venv-adapters/nautilus/bin/python -m benchmarks.bench_adapters --cache FOLDER [--rounds 3]

The generated sealed day of `benchmarks.market_day`. The catalog, written by our adapter into a temporary folder, has
instruments of that day that have a million packets together; the feed gives the first million ticks of all
instruments, and the ticks of the same ones. Times include finding and reading the files, not imports. Both run in this
process, in turns; the best CPU time counts. Elsewhere than in an environment with NautilusTrader it says so and ends.
"""

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Final

import kitelake
from benchmarks.hand_queries import DAY
from benchmarks.market_day import MarketDays
from kitelake.adapters import write_catalog

ROWS: Final = 1_000_000


_began: Final = [0.0, 0.0]


def start_clock() -> None:
    """From here on it counts."""
    _began[:] = time.process_time(), time.perf_counter()


def of_feed(lake: kitelake.Lake, symbols: list[str] | None, *, read: bool = True) -> int:
    """`read`: with finding and reading the first block, which is of up to four million rows."""
    ticks = iter(lake.feed(symbols, DAY))
    start_clock()
    if not read:
        next(ticks)
        start_clock()
    count, total = 0, 0.0
    for tick in islice(ticks, ROWS):
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


def main() -> None:
    """Write the catalog, and take turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if importlib.util.find_spec("nautilus_trader") is None:
        print("bench_adapters: left out, for NautilusTrader is not installed here; see its docstring")
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = MarketDays(sealed=True).make(arguments.cache or Path(temporary) / "day")
        with kitelake.open(root) as lake:
            symbols = chosen(lake)
            began = time.perf_counter()
            catalog = write_catalog(lake, Path(temporary) / "catalog", symbols, DAY)
            print(f"catalog of {len(symbols)} instruments written in {time.perf_counter() - began:.1f} s", flush=True)
            ways: dict[str, Callable[[], int]] = {
                "feed, the same instruments, two fields": lambda: of_feed(lake, symbols),
                "feed, all instruments, two fields": lambda: of_feed(lake, None),
                "the same, after the first block": lambda: of_feed(lake, None, read=False),
                "catalog, quotes, two fields": lambda: of_catalog(catalog),
                "catalog, quotes, objects alone": lambda: objects_of_catalog(catalog),
            }
            best: dict[str, tuple[float, int, float]] = {}
            for _ in range(arguments.rounds):
                for name, way in ways.items():
                    rows = way()
                    took = time.process_time() - _began[0], rows, time.perf_counter() - _began[1]
                    best[name] = min(best.get(name, took), took)
    for name, (cpu, rows, wall) in best.items():
        print(f"{name:40} {rows:>10,} rows, CPU {cpu:6.2f} s, {rows / cpu / 1e6:5.2f} M/s, wall {wall:6.2f} s")


if __name__ == "__main__":
    main()
