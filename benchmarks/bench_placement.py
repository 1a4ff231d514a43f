"""What it costs to decide who streams what: 18,000 instruments, all that two accounts of three connections hold.

    python -m benchmarks.bench_placement [--rounds 7] [--quick] [--json FILE]

Milliseconds of CPU time, the median of the rounds, from the call to what each connection shall stream.

    new         all of them, from nothing
    twice       9,000 on both accounts, from nothing
    again       the same call again, which changes nothing
    one more    one, beside 17,999
    in turn     1,000 one after the other, beside 17,000
    too many    9,000 beside 18,000, which are left out
    important   9,000 for which as many of 18,000 give way for good
    lost        an account, with no room on the other: 9,000 wait
    back        the account works again
    elsewhere   an account of which 4,500 find room on the other
    gives way   an account of 9,000 that are more important than those of the other
    home        the account works again, and all go home
"""

import gc
from collections.abc import Callable
from functools import partial
from typing import Final

from benchmarks.results import Claim, Findings, arguments, tell
from benchmarks.turns import cpu_of, medians
from ingest.manager import Allocation, Slot, Want
from ingest.wire import Mode

ALL: Final = range(1, 18_001)
OTHERS: Final = range(20_001, 29_001)
WANT: Final = Want(Mode.FULL)
ONE: Final = tuple(Slot("one", number) for number in (1, 2, 3))


def placed(count: int = len(ALL), priority: int = 0) -> Allocation:
    allocation = Allocation(["one", "two"])
    allocation.subscribe(ALL[:count], Want(Mode.FULL, priority))
    return allocation


def ranked() -> Allocation:
    allocation = Allocation(["one", "two"])
    allocation.subscribe(ALL[:9000], Want(Mode.FULL, accounts=("one",)))
    allocation.subscribe(OTHERS, Want(Mode.FULL, 9))
    return allocation


def without_one(allocation: Allocation) -> Allocation:
    allocation.lose(ONE)
    return allocation


CASES: Final[dict[str, tuple[Callable[[], Allocation], Callable[[Allocation], object]]]] = {
    "new": (lambda: placed(0), lambda there: there.subscribe(ALL, WANT)),
    "twice": (lambda: placed(0), lambda there: there.subscribe(ALL[:9000], Want(Mode.FULL, replicas=2))),
    "again": (placed, lambda there: there.subscribe(ALL, WANT)),
    "one more": (lambda: placed(17_999), lambda there: there.subscribe(OTHERS[:1], WANT)),
    "in turn": (lambda: placed(17_000), lambda there: [there.subscribe([token], WANT) for token in OTHERS[:1000]]),
    "too many": (placed, lambda there: there.subscribe(OTHERS, WANT, leave_out=True)),
    "important": (lambda: placed(priority=9), lambda there: there.subscribe(OTHERS, WANT, leave_out=True)),
    "lost": (placed, lambda there: there.lose(ONE)),
    "back": (lambda: without_one(placed()), lambda there: there.regain(ONE)),
    "elsewhere": (lambda: placed(9000), lambda there: there.lose(ONE)),
    "gives way": (ranked, lambda there: there.lose(ONE)),
    "home": (lambda: without_one(ranked()), lambda there: there.regain(ONE)),
}


def seconds(prepare: Callable[[], Allocation], call: Callable[[Allocation], object]) -> float:
    there = prepare()
    gc.collect()

    def decide() -> None:
        call(there)
        for slot in there.slots:
            there.at(slot)

    return cpu_of(decide)()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    found = medians(rounds, {name: partial(seconds, *case) for name, case in CASES.items()})
    claims = [Claim(f"who streams what of 18,000: {name}", value * 1000, "ms") for name, value in found.items()]
    tell(Findings(claims), options)


if __name__ == "__main__":
    main()
