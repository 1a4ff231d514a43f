"""A capture as people write it around the official client, beside ours: CPU and bytes for each tick that is stored.

    python -m benchmarks.bench_store [--rounds 3] [--quick] [--json FILE]

Full packets of 3,000 instruments from `benchmarks.load`, 5 a frame, as fast as they are taken; everybody takes turns.

    kitelake          `kitelake run` and its writer: journalled, synced, committed; bytes as before the day is sealed
    official-parquet  kiteconnect's ticks to files by pandas, 10,000 a file
    official-sqlite   kiteconnect's ticks to SQLite, a column a field, 1,000 a transaction

The peers are in `benchmarks.peer_clients`, and get fewer packets, since they are slow. CPU counts from the first packet
on, without start-up, and of ours that of both processes.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.bench_end_to_end import at_full_speed
from benchmarks.peers import NoPeerError, run_client
from benchmarks.results import Claim, Findings, arguments, tell
from benchmarks.service import Load
from benchmarks.turns import median_of_each

PEERS: Final = ("official-parquet", "official-sqlite")
PER_FRAME: Final = 5


def of_ours(packets: int, instruments: int) -> dict[str, float]:
    sizes = argparse.Namespace(
        load=("--instruments", instruments), until=("--packets", packets), segment_seconds=60.0
    )  # fmt: skip
    measured, _ = at_full_speed(PER_FRAME, sizes)
    return {"cpu": measured["service"] + measured["writer"], "bytes": measured["bytes"]}


def of_peer(kind: str, packets: int, instruments: int) -> dict[str, float]:
    """Raises NoPeerError."""
    size = ("--instruments", instruments, "--packets", packets, "--per-frame", PER_FRAME, "--connections", 1)
    with tempfile.TemporaryDirectory() as folder, Load(*size) as load:
        found = run_client(kind, load.urls["ws"], load.tokens(), packets, Path(folder))
    return {"cpu": found["cpu"] / packets * 1e6, "bytes": found["bytes"] / packets}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ours, theirs, instruments, rounds = 1_000_000, 60_000, 3_000, options.rounds
    if options.quick:
        ours, theirs, instruments, rounds = 30_000, 5_000, 300, 1
    found = Findings()
    records: dict[str, list[dict[str, float]]] = {"kitelake": [], **{kind: [] for kind in PEERS}}
    for _ in range(rounds):
        records["kitelake"].append(of_ours(ours, instruments))
        for kind in PEERS:
            try:
                records[kind].append(of_peer(kind, theirs, instruments))
            except NoPeerError as error:
                found.left_out += [error.left_out] * (error.left_out not in found.left_out)
    medians = {kind: median_of_each(several) for kind, several in records.items() if several}
    mine = medians.pop("kitelake")
    for what, unit in (("cpu", "µs"), ("bytes", "bytes")):
        name = f"store a full tick: {'CPU' if what == 'cpu' else 'size'}"
        if not medians:
            found.claims.append(Claim(name, mine[what], unit))
        found.claims += [Claim(name, mine[what], unit, kind, one[what]) for kind, one in medians.items()]
    tell(found, options)


if __name__ == "__main__":
    main()
