"""How an instrument is to be streamed, and on which connections that can be."""

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from ingest.settings import MAX_CONNECTIONS, MAX_INSTRUMENTS, Strategy
from ingest.wire import Mode

LOAD: Final[Mapping[Mode, int]] = {Mode.LTP: 10, Mode.QUOTE: 46, Mode.FULL: 186}
"""What an instrument costs its connection: bytes of a packet in that mode, with its length prefix."""


class Slot(NamedTuple):
    """A connection that may be opened: the account's name and the number of its connection, from 1."""

    account: str
    connection: int


@dataclass(frozen=True, slots=True)
class Want:
    """How an instrument is to be streamed."""

    mode: Mode
    priority: int = 0
    """Where there is no room for all, those of the largest number give way first."""
    replicas: int | None = None
    """On how many accounts. None: as the strategy says, or as many as there are."""
    accounts: tuple[str, ...] = ()
    """Placed by hand, on these; none stands for all."""
    connection: int | None = None
    """By hand on this connection of the one account."""

    def allows(self, slot: Slot) -> bool:
        """Whether it may have its home on this slot."""
        return (not self.accounts or slot.account in self.accounts) and self.connection in (None, slot.connection)


@dataclass(frozen=True)
class Connections:
    """The slots that there are, with what is known of them."""

    slots: tuple[Slot, ...]
    lost: frozenset[Slot] = frozenset()
    """Those of the slots that do not work at present."""
    capacity: int = MAX_INSTRUMENTS
    """Instruments that each may stream."""
    strategy: Strategy = Strategy.BALANCED

    @property
    def working(self) -> tuple[Slot, ...]:
        return tuple(slot for slot in self.slots if slot not in self.lost)


def slots_of(accounts: Iterable[str], connections: int = MAX_CONNECTIONS) -> tuple[Slot, ...]:
    """All slots: the first connection of every account, then the second ones, and so on.

    Raises ValueError for more connections than the broker allows, or an account that is named twice.
    """
    names = list(accounts)
    if not 1 <= connections <= MAX_CONNECTIONS:
        raise ValueError(f"got {connections} connections an account, expected 1 to {MAX_CONNECTIONS}")
    if len(set(names)) != len(names):
        raise ValueError(f"got accounts {', '.join(names)}, expected different names")
    return tuple(Slot(name, number) for number in range(1, connections + 1) for name in names)


def deal(slots: Iterable[tuple[Slot, int, bool, int]], step: int) -> Iterator[Slot]:
    """One of these after the other, as often as each has room. Each comes with that, whether it comes after the others,
    and its weight: the least comes first, and weighs more by a step from then on."""
    heap = [(late, weight, place, room, slot) for place, (slot, room, late, weight) in enumerate(slots) if room > 0]
    heapq.heapify(heap)
    while heap:
        late, weight, place, room, slot = heap[0]
        if room > 1:
            heapq.heapreplace(heap, (late, weight + step, place, room - 1, slot))
        else:
            heapq.heappop(heap)
        yield slot


def check_limits(capacity: int, replicas: int) -> None:
    """Raises ValueError for a capacity that the broker does not allow a connection, and for less than one replica."""
    if not 1 <= capacity <= MAX_INSTRUMENTS:
        raise ValueError(f"got a capacity of {capacity} instruments, expected 1 to {MAX_INSTRUMENTS}")
    if replicas < 1:
        raise ValueError(f"got {replicas} copies, expected 1 or more")


def check_want(want: Want, accounts: Collection[str], connections: int) -> None:
    """Raises ValueError for what contradicts itself, or names none of these accounts and their connections."""
    names = sorted(set(want.accounts))
    for name in names:
        check_account(name, accounts)
    if want.connection is not None and not names:
        raise ValueError(f"got connection {want.connection} without an account, expected account= with it")
    if want.connection is not None and len(names) > 1:
        raise ValueError(f"got connection {want.connection} of {len(names)} accounts, expected one account with it")
    if want.connection is not None and not 1 <= want.connection <= connections:
        raise ValueError(f"got connection {want.connection}, expected 1 to {connections}")
    if want.replicas is not None:
        check_limits(MAX_INSTRUMENTS, want.replicas)
        if names and want.replicas > len(names):
            in_order = ", ".join(name for name in accounts if name in names)
            raise ValueError(
                f"got {want.replicas} copies on {len(names)} accounts ({in_order}), expected at most one an account"
            )


def check_account(name: str, accounts: Collection[str]) -> None:
    """Raises ValueError for an account that is not among these."""
    if name not in accounts:
        expected = f"one of {', '.join(accounts)}" if accounts else "none: no account was added"
        raise ValueError(f"got account {name!r}, expected {expected}")
