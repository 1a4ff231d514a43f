"""How costs grow with the work: instruments, accounts, packets a frame, days, versions of the log, active files.

    python -m benchmarks.bench_growth [--quick] [--json FILE] [--only capture|tables] [--rounds 3]

A table each. CPU time, user and system, medians of rounds that take turns; nothing may be worse than linear, and the
notes say what is not flat.

    plan         the day's plan, from the subscription list on
    allocation   who streams what, from nothing
    subscribe    from the call until the first packet: connections opened, instruments asked for
    receive      a tick, from the sockets into the journal, at 40,000 a second or what the frames allow
    commit       a tick by the writer; or one commit of one file to the table
    open         a lake until its ticks can be asked
    refresh      an open lake learns what was committed since
    look         the least query of ticks, after that
    instrument's day   one instrument's prices of one day

`benchmarks.growth_capture` and `benchmarks.growth_tables` say how each is measured.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.growth_capture import PER_ACCOUNT, figures
from benchmarks.growth_tables import ACTIVE, DAYS, VERSIONS, grow_days, grow_files, grow_versions
from benchmarks.results import Findings, Table, arguments, tell
from benchmarks.turns import median_of_each

MOST_FRAMES: Final = 8_000
"""A second: a busy machine keeps up with so many."""
RATE: Final = 40_000


class Point(NamedTuple):
    """What is captured: instruments on accounts, in frames of so many packets."""

    instruments: int
    accounts: int
    packets: int


INSTRUMENTS: Final = (100, 1_000, 3_000, 9_000, 18_000)
ACCOUNTS: Final = (1, 2, 4, 6)
PACKETS: Final = (1, 5, 20, 50, 100, 200)
STEPS: Final = {"plan": "ms", "allocation": "ms", "subscribe": "ms", "receive": "µs", "commit": "µs"}


def grow_capture(quick: bool, rounds: int) -> list[Table]:
    by_instruments = [Point(many, -(-many // PER_ACCOUNT), 50) for many in INSTRUMENTS]
    by_accounts = [Point(PER_ACCOUNT, many, 50) for many in ACCOUNTS]
    by_packets = [Point(1_000, 1, many) for many in PACKETS]
    lines = [by_instruments, by_accounts, by_packets]
    if quick:
        lines = [by_instruments[:2], by_accounts[:1], by_packets[:1]]
    points = list(dict.fromkeys(point for line in lines for point in line))
    runs: dict[Point, list[dict[str, float]]] = {point: [] for point in points}
    for turn in range(rounds):
        for number, point in enumerate(points, 1):
            say(f"capture: round {turn + 1} of {rounds}, point {number} of {len(points)}")
            rate = min(RATE, MOST_FRAMES * point.packets)
            runs[point].append(figures(*point, rate, 0.5 if quick else 2.0))
    found = {point: median_of_each(each) for point, each in runs.items()}

    def table(title: str, line: Sequence[Point], field: str, note: str) -> Table:
        columns = [field.replace("packets", "packets a frame"), *(f"{step} {unit}" for step, unit in STEPS.items())]
        rows = [[getattr(point, field), *(found[point][step] for step in STEPS)] for point in line]
        return Table(title, columns, rows, f"CPU; receive and commit are of a tick. {note}")

    return [
        table(
            "Growth with instruments", lines[0], "instruments",
            "Plan, allocation and subscribing are linear, on top of what opening a connection costs.",
        ),
        table(
            "Growth with accounts", lines[1], "accounts",
            "9,000 instruments in all, 50 packets a frame. Subscribing grows with the connections, three an account.",
        ),
        table(
            "Growth with packets a frame", lines[2], "packets",
            "1,000 instruments. A frame costs the same whatever it holds, so that a tick is cheaper in larger ones.",
        ),
    ]  # fmt: skip


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("capture", "tables"))
    options = parser.parse_args()
    found = Findings()
    if options.only != "tables":
        found.tables += grow_capture(options.quick, 1 if options.quick else options.rounds)
    if options.only != "capture":
        with tempfile.TemporaryDirectory() as folder:
            cache, rounds = Path(folder), 1 if options.quick else 4 * options.rounds
            days, versions = ((1, 10), (10, 50)) if options.quick else (DAYS, VERSIONS)
            active = dict(list(ACTIVE.items())[: 1 if options.quick else None])
            files = grow_files(cache, active, rounds, say)
            found.claims += files.claims
            found.tables += [grow_days(cache, days, rounds, say), grow_versions(cache, versions, rounds, say)]
            found.tables += files.tables
    tell(found, options)


if __name__ == "__main__":
    main()
