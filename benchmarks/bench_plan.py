"""What `kitelake plan` takes as a whole command, against a plain script around the official client's parser.

    python -m benchmarks.bench_plan [--rows 100000] [--rounds 5] [--json FILE]

Both are processes of their own, from their start to their end, on the same CSV of the simulator's list with a price of
NIFTY 50; they take turns, so that a busy moment hits both alike. Seconds of wall clock and of CPU time, the best of the
rounds.

    plan    kitelake plan --instruments: indices, options around spot, commodities, and all else of NSE, by connection
    peer    KiteConnect._parse_instruments, then plain Python: the options of NIFTY's two nearest expiries, 20 strikes
            on each side of the spot, and no more than that

`ratio` is plan / peer, in seconds of wall clock: below 1, the whole plan takes less than the peer's part of it.
"""

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.bench_instruments import machine
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


def measure(rows: int, rounds: int) -> dict[str, Any]:
    """Seconds of both, after one round that does not count."""
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
        best = {task: {"wall": float("inf"), "cpu": float("inf")} for task in tasks}
        for number in range(rounds + 1):
            for task, command in tasks.items():
                wall, cpu, out = seconds_of(command, folder, (0, 1) if task == "plan" else (0,))
                assert task == "plan" or int(out) == options
                if number:
                    best[task] = {"wall": min(best[task]["wall"], wall), "cpu": min(best[task]["cpu"], cpu)}
    return {
        "rows": rows,
        "bytes": len(text),
        "options": options,
        "wanted": len(listed),
        "seconds": best,
        "ratio": best["plan"]["wall"] / best["peer"]["wall"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="seconds of the whole command `kitelake plan`")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the results to this file as well")
    options = parser.parse_args()
    result = measure(options.rows, options.rounds)
    print(f"python -m benchmarks.bench_plan {' '.join(sys.argv[1:])}".rstrip())
    print(machine())
    print(f"seconds, best of {options.rounds} rounds\n")
    print(
        f"{result['rows']:,} rows, {result['bytes'] / 1e6:.1f} MB of CSV; {result['wanted']:,} instruments are wanted,"
    )
    print(f"of them {result['options']:,} options around spot\n")
    print(f"{'':8}{'wall':>8}{'cpu':>8}")
    for task, seconds in result["seconds"].items():
        print(f"{task:8}{seconds['wall']:>8.2f}{seconds['cpu']:>8.2f}")
    print(f"\nratio {result['ratio']:.2f}")
    if options.json:
        document = {"machine": machine(), "rounds": options.rounds, "result": result}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
