"""What reading and asking the instrument list costs, against the official client's parser in the same run.

    python -m benchmarks.bench_instruments [--rows 100000] [--rounds 5] [--json FILE]

Seconds of CPU time, the best of the rounds; the cases take turns, so that a busy moment hits all alike.

    parse       parse_instruments: the CSV to rows of the instruments table, checked
    official    kiteconnect's KiteConnect._parse_instruments: the same CSV to dictionaries
    resolve     Instruments.resolve: 1,000 names to tokens, by a list that was not asked before
    references  references: whose prices strikes around spot need, for all options of the two nearest expiries
    select      select: those options, five strikes on each side

`times faster` is official / parse. The list is the simulator's, in the broker's form.
"""

import argparse
import datetime as dt
import json
import platform
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ingest.instruments import Instruments, Price, Select, parse_instruments, references, select
from ingest.simulator import build_universe, to_csv

DAY: Final = dt.date(2026, 11, 24)
NAMES: Final = 1_000
CHAINS: Final = Select.model_validate(
    {"segment": ["NFO-OPT", "BFO-OPT", "MCX-OPT"], "expiries": 2, "strikes": {"around": "spot", "count": 5}}
)


def price_of(token: int) -> Price:
    """Some price."""
    return Price(500.0 + token % 1_000, "the benchmark")


def measure(rows: int, rounds: int, official: Any) -> dict[str, Any]:
    """Seconds of each case, and how much they are about."""
    data = to_csv(build_universe(rows, 1, DAY).instruments).encode()
    table = parse_instruments(data, date=DAY)
    assert len(official._parse_instruments(data)) == table.num_rows
    names = table["symbol"].to_pylist()[:: max(1, rows // NAMES)][:NAMES]
    tasks: dict[str, Callable[[], object]] = {
        "parse": lambda: parse_instruments(data, date=DAY),
        "official": lambda: official._parse_instruments(data),
        "resolve": lambda: Instruments(table).resolve(names),
        "references": lambda: references(Instruments(table), CHAINS),
        "select": lambda: select(Instruments(table), CHAINS, price_of),
    }
    best = dict.fromkeys(tasks, float("inf"))
    for _ in range(rounds):
        for name, call in tasks.items():
            start = time.process_time()
            result = call()
            spent = time.process_time() - start
            del result  # freed outside of the measurement
            best[name] = min(best[name], spent)
    selection = select(Instruments(table), CHAINS, price_of)
    return {
        "rows": table.num_rows,
        "bytes": len(data),
        "prices": len(selection.references),
        "selected": len(selection.tokens),
        "seconds": best,
        "times_faster": best["official"] / best["parse"],
    }


def show(result: dict[str, Any]) -> None:
    print(f"{result['rows']:,} rows, {result['bytes'] / 1e6:.1f} MB of CSV; the selection is of ", end="")
    print(f"{result['selected']:,} options around {result['prices']:,} prices\n")
    print("".join(f"{title:>14}" for title in (*result["seconds"], "times faster")))
    print("".join(f"{seconds:>14.3f}" for seconds in result["seconds"].values()) + f"{result['times_faster']:>14.1f}")


def machine() -> str:
    """The processor and the versions that matter."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
    return f"{model}, CPython {platform.python_version()}, numpy {np.__version__}, pyarrow {pa.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description="seconds to read and to ask the instrument list")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the results to this file as well")
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the official client's dependencies
        from kiteconnect import KiteConnect
    result = measure(options.rows, options.rounds, KiteConnect("key"))
    print(f"python -m benchmarks.bench_instruments {' '.join(sys.argv[1:])}".rstrip())
    print(machine())
    print(f"seconds of CPU time, best of {options.rounds} rounds\n")
    show(result)
    if options.json:
        document = {"machine": machine(), "rounds": options.rounds, "result": result}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
