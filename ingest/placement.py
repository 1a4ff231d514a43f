"""Which connection streams which instrument. Pure: the same input gives the same placement.

Balanced placement gives each instrument, heaviest first, to the connection with the least load that has room. Since a
connection has room until it is full, whatever fits in total is placed; what does not fit is refused as a whole.

Limits of the broker (Kite Connect v3 streaming docs): 3000 instruments a connection, 3 connections an API key.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ingest.errors import CapacityError
from ingest.wire import Mode

MAX_CONNECTIONS: Final = 3
MAX_INSTRUMENTS: Final = 3000

LOAD: Final[Mapping[Mode, int]] = {Mode.LTP: 10, Mode.QUOTE: 46, Mode.FULL: 186}
"""What an instrument costs its connection: bytes of a packet in that mode, with its length prefix."""


@dataclass(frozen=True, order=True)
class Slot:
    """A connection that may be opened: the account's name and the number of its connection, from 1."""

    account: str
    connection: int


def slots_of(accounts: Iterable[str], connections: int = MAX_CONNECTIONS) -> list[Slot]:
    """All slots: the first connection of every account, then the second ones, and so on.

    Raises ValueError for more connections than the broker allows, or an account that is named twice.
    """
    names = list(accounts)
    if not 1 <= connections <= MAX_CONNECTIONS:
        raise ValueError(f"got {connections} connections an account, expected 1 to {MAX_CONNECTIONS}")
    if len(set(names)) != len(names):
        raise ValueError(f"got accounts {', '.join(names)}, expected different names")
    return [Slot(name, number) for number in range(1, connections + 1) for name in names]


def place(
    instruments: Mapping[int, Mode],
    slots: Sequence[Slot],
    *,
    capacity: int = MAX_INSTRUMENTS,
    placed: Mapping[Slot, Mapping[int, Mode]] | None = None,
) -> dict[Slot, dict[int, Mode]]:
    """Spread `instruments` (token -> mode) over `slots` beside those that are `placed` there already.

    Returns the additions, for slots that get any. Instruments that are placed already must not be among
    `instruments`. Raises CapacityError, with nothing placed, when there is not enough room in total.
    """
    if not 1 <= capacity <= MAX_INSTRUMENTS:
        raise ValueError(f"got a capacity of {capacity} instruments, expected 1 to {MAX_INSTRUMENTS}")
    there = placed or {}
    taken = [len(there.get(slot, {})) for slot in slots]
    wanted, total = sum(taken) + len(instruments), capacity * len(slots)
    if wanted > total:
        raise CapacityError(
            f"{wanted:,} instruments do not fit on {len(slots)} connections of {capacity:,}: "
            f"{total:,} is the capacity, {wanted - total:,} are too many",
            wanted=wanted,
            capacity=total,
        )
    # Equal loads are told apart by the slot's place in the sequence.
    heap = [
        (sum(LOAD[mode] for mode in there.get(slot, {}).values()), place, taken[place])
        for place, slot in enumerate(slots)
        if taken[place] < capacity
    ]
    heapq.heapify(heap)
    additions: dict[Slot, dict[int, Mode]] = {slot: {} for slot in slots}
    for token, mode in sorted(instruments.items(), key=lambda item: (-LOAD[item[1]], item[0])):
        load, at, count = heap[0]
        additions[slots[at]][token] = mode
        if count + 1 < capacity:
            heapq.heapreplace(heap, (load + LOAD[mode], at, count + 1))
        else:
            heapq.heappop(heap)
    return {slot: tokens for slot, tokens in additions.items() if tokens}
