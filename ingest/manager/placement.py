"""Which connection streams which instrument. Pure: the same input gives the same placement.

Balanced placement gives each instrument, heaviest first, to the connection with the least load that has room. Since a
connection has room until it is full, whatever fits in total is placed; what does not fit is refused as a whole.

Copies of an instrument go to different accounts: those with the most room left. n instruments of k copies fit if and
only if the accounts' rooms, none counted beyond n, add up to n · k; taking the roomiest accounts keeps that true.

Limits of the broker (Kite Connect v3 streaming docs): 3000 instruments a connection, 3 connections an API key.
"""

import heapq
from bisect import bisect_left
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from ingest.errors import CapacityError
from ingest.settings import MAX_CONNECTIONS, MAX_INSTRUMENTS, Strategy
from ingest.wire import Mode

LOAD: Final[Mapping[Mode, int]] = {Mode.LTP: 10, Mode.QUOTE: 46, Mode.FULL: 186}
"""What an instrument costs its connection: bytes of a packet in that mode, with its length prefix."""


class Slot(NamedTuple):
    """A connection that may be opened: the account's name and the number of its connection, from 1."""

    account: str
    connection: int


class Fill(NamedTuple):
    """What a slot holds already: how many instruments, and the sum of their `LOAD`."""

    instruments: int
    load: int


class Further(NamedTuple):
    """Copies that an instrument is to get beside those on `accounts`."""

    copies: int
    accounts: Collection[str]


@dataclass(slots=True)
class _Space:
    """A slot while it is being filled; `place` is its place in the sequence, which tells equal ones apart."""

    slot: Slot
    room: int
    late: bool
    weight: int
    place: int

    @property
    def rank(self) -> tuple[bool, int, int]:
        return self.late, self.weight, self.place


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


def check_limits(capacity: int, copies: int) -> None:
    """Raises ValueError for a capacity of a connection that the broker does not allow, and for less than one copy."""
    if not 1 <= capacity <= MAX_INSTRUMENTS:
        raise ValueError(f"got a capacity of {capacity} instruments, expected 1 to {MAX_INSTRUMENTS}")
    if copies < 1:
        raise ValueError(f"got {copies} copies, expected 1 or more")


def all_fit(count: int, rooms: Iterable[int], copies: int = 1) -> bool:
    """Whether `count` instruments fit on accounts with so many free places each, every copy on another account."""
    return sum(min(room, count) for room in rooms) >= count * copies


def fits(count: int, rooms: Collection[int], copies: int = 1) -> int:
    """How many of `count` instruments fit on accounts with so many free places each. See `rooms_of`."""
    return bisect_left(range(1, count + 1), True, key=lambda some: not all_fit(some, rooms, copies))


def rooms_of(fills: Mapping[Slot, Fill], capacity: int) -> dict[str, int]:
    """The free places of each account, by what its slots hold."""
    rooms: dict[str, int] = {}
    for slot, fill in fills.items():
        rooms[slot.account] = rooms.get(slot.account, 0) + max(capacity - fill.instruments, 0)
    return rooms


def capacity_error(
    count: int, fitting: int, fills: Mapping[Slot, Fill], *, capacity: int, copies: int, places: int
) -> CapacityError:
    """That of `count` instruments, which need so many `places`, only so many are `fitting` on these slots."""
    taken, total = sum(min(fill.instruments, capacity) for fill in fills.values()), capacity * len(fills)
    accounts = list(dict.fromkeys(slot.account for slot in fills))
    wanted = taken + places
    if copies == 1:
        message = (
            f"{wanted:,} instruments do not fit on {len(fills)} connections of {capacity:,}: "
            f"{total:,} is the capacity, {wanted - total:,} are too many"
        )
    elif copies > len(accounts):
        names = f": {', '.join(accounts)}" if accounts else ""
        message = f"{copies} copies of {count:,} instruments need {copies} accounts, got {len(accounts)}{names}"
    else:
        message = (
            f"{copies} copies of {count:,} instruments do not fit on {len(accounts)} accounts with {len(fills)} "
            f"connections of {capacity:,}: there is room for {fitting:,}, {count - fitting:,} are too many"
        )
    return CapacityError(message, wanted=wanted, capacity=total)


def place(
    instruments: Mapping[int, Mode],
    slots: Sequence[Slot],
    *,
    capacity: int = MAX_INSTRUMENTS,
    placed: Mapping[Slot, Mapping[int, Mode] | Fill] | None = None,
    strategy: Strategy = Strategy.BALANCED,
    copies: int = 1,
    last: Container[Slot] = (),
) -> dict[Slot, dict[int, Mode]]:
    """Spread `instruments` (token -> mode) over `slots` beside those that are `placed` there already.

    Each goes to `copies` slots of different accounts; to slots among `last` only where the others are full. Every
    strategy but ROUND_ROBIN balances.

    Returns the additions, for slots that get any. Instruments that are placed already must not be among
    `instruments`. Raises CapacityError, with nothing placed, when there is not enough room in total.
    """
    check_limits(capacity, copies)
    fills = {slot: _fill((placed or {}).get(slot, {})) for slot in slots}
    rooms = rooms_of(fills, capacity)
    if not all_fit(len(instruments), rooms.values(), copies):
        fitting = fits(len(instruments), rooms.values(), copies)
        places = len(instruments) * copies
        raise capacity_error(len(instruments), fitting, fills, capacity=capacity, copies=copies, places=places)
    dealt = strategy is Strategy.ROUND_ROBIN
    spaces = [
        _Space(slot, capacity - fill.instruments, slot in last, fill.instruments if dealt else fill.load, place)
        for place, (slot, fill) in enumerate(fills.items())
        if fill.instruments < capacity
    ]
    ordered = list(instruments.items())
    if not dealt:
        ordered.sort(key=lambda item: (-LOAD[item[1]], item[0]))
    steps = [(token, 1 if dealt else LOAD[mode]) for token, mode in ordered]
    additions: dict[Slot, dict[int, Mode]] = {slot: {} for slot in slots}
    for token, slot in _single(steps, spaces) if copies == 1 else _copied(steps, spaces, copies):
        additions[slot][token] = instruments[token]
    return {slot: tokens for slot, tokens in additions.items() if tokens}


def place_further(
    further: Mapping[int, Further],
    mode: Mode,
    fills: dict[Slot, Fill],
    *,
    capacity: int = MAX_INSTRUMENTS,
    last: Container[Slot] = (),
) -> tuple[dict[Slot, list[int]], set[int]]:
    """Place copies of instruments that have some, in order, each on the account with the most room among the others.

    Returns the additions, which `fills` then counts, and the tokens that find room for less than all their copies and
    get none.
    """
    rooms = rooms_of(fills, capacity)
    added: dict[Slot, list[int]] = {}
    left = set()
    for token, wanted in further.items():
        accounts, spots = set(wanted.accounts), []
        for _ in range(wanted.copies):
            spot = min(
                (slot for slot, fill in fills.items() if fill.instruments < capacity and slot.account not in accounts),
                key=lambda slot: (slot in last, -rooms[slot.account], fills[slot].load),
                default=None,
            )
            if spot is not None:
                accounts.add(spot.account)
                spots.append(spot)
        if len(spots) < wanted.copies:
            left.add(token)
            continue
        for spot in spots:
            rooms[spot.account] -= 1
            fills[spot] = Fill(fills[spot].instruments + 1, fills[spot].load + LOAD[mode])
            added.setdefault(spot, []).append(token)
    return added, left


def _fill(there: Mapping[int, Mode] | Fill) -> Fill:
    return there if isinstance(there, Fill) else Fill(len(there), sum(LOAD[mode] for mode in there.values()))


def _single(steps: Iterable[tuple[int, int]], spaces: Iterable[_Space]) -> Iterable[tuple[int, Slot]]:
    """Each instrument, of so much weight, once: to the first slot by rank that has room."""
    heap = [(space.rank, space) for space in spaces]
    heapq.heapify(heap)
    for token, step in steps:
        space = heap[0][1]
        yield token, space.slot
        space.weight += step
        space.room -= 1
        if space.room:
            heapq.heapreplace(heap, (space.rank, space))
        else:
            heapq.heappop(heap)


def _copied(steps: Sequence[tuple[int, int]], spaces: Iterable[_Space], copies: int) -> Iterable[tuple[int, Slot]]:
    """Each instrument, of so much weight, on several accounts, where it is known that all of them fit."""
    accounts: dict[str, list[_Space]] = {}
    for space in spaces:
        accounts.setdefault(space.slot.account, []).append(space)
    for done, (token, step) in enumerate(steps):
        for account in _roomiest(accounts, copies, len(steps) - done):
            space = min((space for space in accounts[account] if space.room), key=lambda space: space.rank)
            yield token, space.slot
            space.weight += step
            space.room -= 1


def _roomiest(accounts: Mapping[str, Sequence[_Space]], copies: int, remaining: int) -> list[str]:
    """The accounts for the next of the `remaining` instruments: the roomiest, without counting late slots if possible.

    An account whose room is all needed, one place for each of the remaining, may be passed over no more often than
    there are places to spare. Otherwise the last instruments would find room on too few accounts.
    """
    rooms = {name: sum(space.room for space in spaces) for name, spaces in accounts.items()}
    early = {name: sum(space.room for space in spaces if not space.late) for name, spaces in accounts.items()}
    ranked = sorted((name for name in accounts if rooms[name]), key=lambda name: (-early[name], -rooms[name]))
    needed = [name for name in ranked if rooms[name] >= remaining]
    spare = sum(min(room, remaining) for room in rooms.values()) - remaining * copies
    chosen = [*needed[: max(len(needed) - spare, 0)], *ranked]
    return list(dict.fromkeys(chosen))[:copies]
