"""What `kitelake plan` takes as a whole command, against a plain script around the official client's parser.

    python -m benchmarks.bench_plan [--rows 100000] [--rounds 5] [--quick] [--json FILE]

Both are processes of their own, from their start to their end, on the same CSV of the simulator's list with a price of
NIFTY 50; they take turns, so that a busy moment hits both alike. Seconds of wall clock and of CPU time, the median of
the rounds.

    plan    kitelake plan --instruments: indices, options around spot, commodities, and all else of NSE, by connection
    peer    KiteConnect._parse_instruments, then plain Python: the options of NIFTY's two nearest expiries, 20 strikes
            on each side of the spot, and no more than that
"""

import datetime as dt
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.results import Claim, Findings, arguments, tell
from benchmarks.turns import median_of_each
from ingest.simulator import build_universe, to_csv

DAY: Final = dt.date(2026, 11, 25)
SPOT: Final = 24_512.35
ROOT: Final = Path(__file__).parent.parent
CONFIG: Final = """\
data: data
accounts:
  - {name: one, api_key: key-1, access_token: token-1}
  - {name: two, api_key: key-2, access_token: token-2}
subscriptions:
  - {name: indices, mode: full, instruments: [NSE:NIFTY 50, NSE:NIFTY BANK, BSE:SENSEX]}
  - name: options
    mode: full
    priority: 1
    select: {names: NIFTY, underlying: NSE:NIFTY 50, types: [CE, PE], expiries: 2, strikes: {around: spot, count: 20}}
  - {name: commodities, mode: quote, priority: 2, select: {segment: MCX-FUT}}
  - {name: rest, mode: ltp, priority: 9, select: {exchange: NSE}}
"""
PEER: Final = """\
import sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from kiteconnect import KiteConnect
rows = KiteConnect("key")._parse_instruments(Path(sys.argv[1]).read_bytes())
spot = next(row for row in rows if row["exchange"] == "NSE" and row["tradingsymbol"] == "NIFTY 50")["last_price"]
options = [row for row in rows if row["name"] == "NIFTY" and row["instrument_type"] in ("CE", "PE")]
chosen = []
for expiry in sorted({row["expiry"] for row in options})[:2]:
    chain = [row for row in options if row["expiry"] == expiry]
    strikes = sorted({row["strike"] for row in chain})
    middle = min(range(len(strikes)), key=lambda at: abs(strikes[at] - spot))
    wanted = set(strikes[max(0, middle - 20) : middle + 21])
    chosen += [row for row in chain if row["strike"] in wanted]
print(len(chosen))
"""


def seconds_of(command: list[str], folder: Path, statuses: tuple[int, ...]) -> tuple[float, float, str]:
    """Wall clock, CPU time, and what the process printed."""
    before, start = os.times(), time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, os.times()
    assert done.returncode in statuses, done.stderr
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return wall, cpu, done.stdout


def measure(rows: int, rounds: int) -> Findings:
    """Of both, after one round that does not count."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = to_csv(build_universe(rows, 1, DAY).instruments)
        text = text.replace('256265,1001,NIFTY 50,"NIFTY 50",0,', f'256265,1001,NIFTY 50,"NIFTY 50",{SPOT},')
        (folder / "instruments.csv").write_text(text, encoding="utf-8")
        (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
        plan = ["-m", "kitelake", "plan", "--instruments", "instruments.csv", "--date", DAY.isoformat()]
        tasks = {"plan": [sys.executable, *plan], "peer": [sys.executable, "-c", PEER, "instruments.csv"]}
        lines = seconds_of([*tasks["plan"], "--list"], folder, (0, 1))[2].splitlines()
        # An instrument has a line in every phase of the day.
        listed = {symbol: lists.split(", ") for _, symbol, *_, lists in (line.split("\t") for line in lines)}
        # The index and its next future are streamed with the options, for their price.
        options = sum("options" in lists for lists in listed.values()) - 2
        taken: dict[str, list[dict[str, float]]] = {task: [] for task in tasks}
        for number in range(rounds + 1):
            for task, command in tasks.items():
                wall, cpu, out = seconds_of(command, folder, (0, 1) if task == "plan" else (0,))
                assert task == "plan" or int(out) == options
                if number:
                    taken[task].append({"wall": wall, "cpu": cpu})
    ours, peer = (median_of_each(taken[task]) for task in ("plan", "peer"))
    wanted, chosen = len(listed), f"a script around kiteconnect for {options:,} of them"
    what = f"the whole command `kitelake plan`, {rows:,} rows, {wanted:,} instruments wanted"
    return Findings(
        [
            Claim(f"{what}: time", ours["wall"], "s", chosen, peer["wall"]),
            Claim(f"{what}: CPU", ours["cpu"], "s", chosen, peer["cpu"]),
        ]
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows, rounds = (20_000, 1) if options.quick else (options.rows, options.rounds)
    tell(measure(rows, rounds), options)


if __name__ == "__main__":
    main()
