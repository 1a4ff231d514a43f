"""Which slots instruments get as their homes. Pure: the same input gives the same homes.

A replica takes a place of its home, also while it is away, and of the slot that streams it meanwhile. What has its
homes keeps them. What lacks some gets them where places are free, or, with `leave_out`, instead of what is less
important:

- One replica goes to the slot with the least load, so that whatever fits in total is placed.
- Replicas go to different accounts: those with the most room left. n instruments of k replicas fit if and only if the
  accounts' rooms, none counted beyond n, add up to n · k; taking the roomiest accounts keeps that true.
- A slot that is lost at present comes after those that work.
"""

import heapq
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ingest.errors import CapacityError
from ingest.manager.replicas import Placement, Replica
from ingest.manager.want import LOAD, Connections, Slot, Want
from ingest.settings import Strategy


@dataclass(slots=True)
class Space:
    """A slot while it is being filled."""

    slot: Slot
    works: bool
    capacity: int
    held: int = 0
    """Places that are taken: more than the capacity where it streams others instead of some whose home it is."""
    load: int = 0
    """The sum of the `LOAD` of what it streams."""

    @property
    def room(self) -> int:
        return max(self.capacity - self.held, 0)


def rooms_of(spaces: Iterable[Space]) -> dict[str, int]:
    """The free places of each account."""
    rooms: dict[str, int] = {}
    for space in spaces:
        rooms[space.slot.account] = rooms.get(space.slot.account, 0) + space.room
    return rooms


def all_fit(count: int, rooms: Iterable[int], replicas: int) -> bool:
    """Whether `count` instruments fit on accounts with so many free places each, every replica on another account."""
    return sum(min(room, count) for room in rooms) >= count * replicas


def fits(count: int, rooms: Collection[int], replicas: int) -> int:
    """How many of `count` instruments fit on accounts with so many free places each."""
    return bisect_left(range(1, count + 1), True, key=lambda some: not all_fit(some, rooms, replicas))


class HomeSlots:
    """A placement while homes are given. `wants` and `replicas` become those of the next one."""

    def __init__(self, placement: Placement, connections: Connections) -> None:
        self.wants = dict(placement.wants)
        self.replicas = dict(placement.replicas)
        self.given_up: list[int] = []
        """What gave way to something more important, in that order."""
        self._capacity = connections.capacity
        self._dealt = connections.strategy is Strategy.ROUND_ROBIN
        self._spaces = {
            slot: Space(slot, slot not in connections.lost, connections.capacity) for slot in connections.slots
        }
        self._are_counted = False

    @property
    def free(self) -> int:
        """Places that are not taken, by a home or by what is away from its own."""
        return sum(space.room for space in self._counted().values())

    def are_as(self, token: int, want: Want) -> bool:
        """Whether the instrument has the homes that are wanted."""
        replicas = self.replicas.get(token, ())
        return len(replicas) == want.replicas and (not want.accounts or all(want.allows(home) for home, _ in replicas))

    def give(self, tokens: Sequence[int], want: Want, *, leave_out: bool) -> list[int]:
        """Give homes to these, which lack some. Returns those that found no room: they keep what they have.

        With `leave_out`, what has no replica yet where it is wanted takes the place of what has a larger priority
        number, which then is gone from `wants`. Without, raises CapacityError when one of them finds no room; the draft
        is of no use then.
        """
        each = want.replicas or 1
        allowed = [space for slot, space in self._counted().items() if want.allows(slot)]
        entering: list[int] = []
        growing: dict[int, tuple[Replica, ...]] = {}
        for token in tokens:
            kept = self._kept(token, want) if token in self.replicas else ()
            if not kept:
                entering.append(token)
            elif len(kept) < each:
                growing[token] = kept
            else:
                self._put(token, want, kept)
        # Those of which a replica streams already take free places only: a further one is not worth another's only one.
        left = {token for token, kept in growing.items() if not self._grow(token, want, kept, allowed)}
        if left and not leave_out:
            places = sum(each - len(growing[token]) for token in left)
            fitting = len(growing) - len(left)
            raise _capacity_error(len(growing), fitting, allowed, capacity=self._capacity, replicas=each, places=places)
        if leave_out:
            self._make_room(len(entering), want, allowed)
        fitting = fits(len(entering), rooms_of(allowed).values(), each)
        if fitting < len(entering) and not leave_out:
            places = len(entering) * each
            raise _capacity_error(
                len(entering), fitting, allowed, capacity=self._capacity, replicas=each, places=places
            )
        left.update(entering[fitting:])
        self._enter(entering[:fitting], want, allowed)
        return [token for token in tokens if token in left]

    def _counted(self) -> dict[Slot, Space]:
        """The slots, with what they hold. It is counted when it is needed: a call that repeats another costs little."""
        if not self._are_counted:
            self._are_counted = True
            for token in self.wants:
                self._count(token, 1)
        return self._spaces

    def _kept(self, token: int, want: Want) -> tuple[Replica, ...]:
        """The replicas that may stay, no more than are wanted: those that are served before others, the oldest first.

        What is away, on a slot where it is wanted by hand, is at home there from now on if there is a place for a home:
        it need not move.
        """
        found = []
        for replica in self.replicas[token]:
            current = replica.current_slot
            if want.allows(replica.home_slot):
                found.append(replica)
            elif (
                current is not None
                and want.allows(current)
                and self._spaces[current].held <= self._spaces[current].capacity
            ):
                found.append(Replica(current, current))
        best = sorted(found, key=lambda replica: not self._is_served(replica))[: want.replicas]
        return tuple(replica for replica in found if replica in best)

    def _is_served(self, replica: Replica) -> bool:
        space = None if replica.current_slot is None else self._spaces.get(replica.current_slot)
        return space is not None and space.works

    def _put(self, token: int, want: Want, replicas: tuple[Replica, ...]) -> None:
        """Let the instrument have these replicas from now on."""
        if token in self.wants:
            self._count(token, -1)
        self.wants[token], self.replicas[token] = want, replicas
        self._count(token, 1)

    def _count(self, token: int, sign: int) -> None:
        load = LOAD[self.wants[token].mode]
        for home, current in self.replicas[token]:
            if (space := self._spaces.get(home)) is not None:
                space.held += sign
            if current is not None and (space := self._spaces.get(current)) is not None:
                space.load += sign * load
                if current != home:
                    space.held += sign

    def _grow(self, token: int, want: Want, kept: tuple[Replica, ...], allowed: Sequence[Space]) -> bool:
        """Give the instrument the replicas that it lacks beside those that it keeps, if there is room for all."""
        rooms, taken = rooms_of(allowed), set().union(*(replica.accounts for replica in kept))
        added: list[Replica] = []
        while len(kept) + len(added) < (want.replicas or 1):
            open_ones = [space for space in allowed if space.room and space.slot.account not in taken]
            if not open_ones:
                return False
            best = min(open_ones, key=lambda space: (not space.works, -rooms[space.slot.account], space.load))
            taken.add(best.slot.account)
            added.append(Replica(best.slot, best.slot))
        self._put(token, want, (*kept, *added))
        return True

    def _make_room(self, count: int, want: Want, allowed: Sequence[Space]) -> None:
        """Give up no more than it needs of what is less important, so that `count` find room: of the largest priority
        number first, and the latest subscribed first."""
        each, slots = want.replicas or 1, {space.slot for space in allowed}

        def enough(wanted: int) -> bool:
            return all_fit(wanted, rooms_of(allowed).values(), each)

        if enough(count):
            return
        less = sorted(
            (token for token, other in reversed(self.wants.items()) if other.priority > want.priority),
            key=lambda token: -self.wants[token].priority,
        )
        out = []
        for token in less:
            if enough(count):
                break
            if any(slot in slots for replica in self.replicas[token] for slot in replica):
                self._count(token, -1)
                out.append(token)
        # Replicas need room on different accounts, so some may have gone in vain: they stay, the important first.
        most = fits(count, rooms_of(allowed).values(), each)
        spared = set()
        for token in reversed(out):
            self._count(token, 1)
            if enough(most):
                spared.add(token)
            else:
                self._count(token, -1)
        for token in out:
            if token not in spared:
                del self.wants[token], self.replicas[token]
                self.given_up.append(token)

    def _enter(self, tokens: Sequence[int], want: Want, allowed: Sequence[Space]) -> None:
        """Give all replicas to instruments that are known to fit; what they have elsewhere is given up."""
        for token in tokens:
            if token in self.wants:
                self._count(token, -1)
        # Balanced, the result does not depend on the order in which instruments are named.
        ordered = tokens if self._dealt else sorted(tokens)
        chosen = _deal if want.replicas == 1 else _spread
        at_home: dict[tuple[Slot, ...], tuple[Replica, ...]] = {}  # one value for all that are on the same slots
        for token, slots in zip(ordered, chosen(len(ordered), allowed, want, self._dealt), strict=True):
            if (replicas := at_home.get(slots)) is None:
                replicas = at_home[slots] = tuple(Replica(slot, slot) for slot in slots)
            self.replicas[token] = replicas
        self.wants.update(dict.fromkeys(tokens, want))


def _deal(count: int, spaces: Sequence[Space], want: Want, dealt: bool) -> Iterator[tuple[Slot]]:
    """A slot for each of so many: of those that have room, one that works, with the least load (dealt: the fewest)."""
    load = LOAD[want.mode]
    slots = [(space.slot,) for space in spaces]
    heap = [
        (not space.works, space.held if dealt else space.load, place)
        for place, space in enumerate(spaces)
        if space.room
    ]
    heapq.heapify(heap)
    for _ in range(count):
        late, _, place = heap[0]
        space = spaces[place]
        space.held += 1
        space.load += load
        if space.held < space.capacity:
            heapq.heapreplace(heap, (late, space.held if dealt else space.load, place))
        else:
            heapq.heappop(heap)
        yield slots[place]


def _spread(count: int, spaces: Sequence[Space], want: Want, dealt: bool) -> Iterator[tuple[Slot, ...]]:
    """Slots of different accounts for each of so many, where it is known that all of them fit."""
    load, replicas = LOAD[want.mode], want.replicas or 1
    accounts: dict[str, list[Space]] = {}
    for space in spaces:
        accounts.setdefault(space.slot.account, []).append(space)
    rooms, early = rooms_of(spaces), dict.fromkeys(accounts, 0) | rooms_of(space for space in spaces if space.works)
    some_are_lost = not all(space.works for space in spaces)
    for remaining in reversed(range(count)):
        chosen = sorted(accounts, key=lambda name: (-early[name], -rooms[name]))[:replicas]
        # Were those that work filled first, the last instruments might find room on too few accounts.
        if some_are_lost and not (
            all(rooms[name] for name in chosen)
            and all_fit(remaining, (room - (name in chosen) for name, room in rooms.items()), replicas)
        ):
            chosen = sorted(accounts, key=lambda name: -rooms[name])[:replicas]
        found = []
        for name in chosen:
            space = min(
                (space for space in accounts[name] if space.held < space.capacity),
                key=lambda space: (not space.works, space.held if dealt else space.load),
            )
            space.held += 1
            space.load += load
            rooms[name] -= 1
            early[name] -= space.works
            found.append(space.slot)
        yield tuple(found)


def _capacity_error(
    count: int, fitting: int, spaces: Sequence[Space], *, capacity: int, replicas: int, places: int
) -> CapacityError:
    """That of `count` instruments, which need so many `places`, only so many are `fitting` on these slots."""
    taken, total = sum(min(space.held, capacity) for space in spaces), capacity * len(spaces)
    accounts = list(rooms_of(spaces))
    wanted = taken + places
    if replicas == 1:
        message = (
            f"{wanted:,} instruments do not fit on {len(spaces)} connections of {capacity:,}: "
            f"{total:,} is the capacity, {wanted - total:,} are too many"
        )
    elif replicas > len(accounts):
        names = f": {', '.join(accounts)}" if accounts else ""
        message = f"{replicas} copies of {count:,} instruments need {replicas} accounts, got {len(accounts)}{names}"
    else:
        message = (
            f"{replicas} copies of {count:,} instruments do not fit on {len(accounts)} accounts with {len(spaces)} "
            f"connections of {capacity:,}: there is room for {fitting:,}, {count - fitting:,} are too many"
        )
    return CapacityError(message, wanted=wanted, capacity=total)
