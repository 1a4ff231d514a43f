"""What reading and asking the instrument list costs, against the official client's parser in the same run.

    python -m benchmarks.bench_instruments [--rows 100000] [--rounds 5] [--quick] [--json FILE]

Seconds of CPU time, the median of the rounds; the cases take turns, so that a busy moment hits all alike.

    parse       parse_instruments: the CSV to rows of the instruments table, checked
    official    kiteconnect's KiteConnect._parse_instruments: the same CSV to dictionaries
    resolve     Instruments.resolve: 1,000 names to tokens, by a list that was not asked before
    references  references: whose prices strikes around spot need, for all options of the two nearest expiries
    select      select: those options, five strikes on each side

The list is the simulator's, in the broker's form.
"""

import datetime as dt
import warnings
from collections.abc import Callable
from typing import Any, Final

from benchmarks.results import Claim, Findings, arguments, tell
from benchmarks.turns import cpu_of, medians
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


def measure(rows: int, rounds: int, official: Any) -> Findings:
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
    seconds = medians(rounds, {name: cpu_of(task) for name, task in tasks.items()})
    chosen = select(Instruments(table), CHAINS, price_of)
    what = f"instrument list of {table.num_rows:,} rows"
    return Findings(
        [
            Claim(f"{what}: read", seconds["parse"], "s", "kiteconnect", seconds["official"]),
            Claim(f"{what}: {len(names):,} names to tokens", seconds["resolve"], "s"),
            Claim(f"{what}: whose prices {len(chosen.tokens):,} options around spot need", seconds["references"], "s"),
            Claim(f"{what}: select those options", seconds["select"], "s"),
        ]
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the official client's dependencies
        from kiteconnect import KiteConnect
    rows, rounds = (2_000, 1) if options.quick else (options.rows, options.rounds)
    tell(measure(rows, rounds, KiteConnect("key")), options)


if __name__ == "__main__":
    main()
