"""Which slot streams each replica at present: what becomes of instruments when slots are lost, and work again.

Pure: from the placement as it is, and the slots that work, to the placement as it should be. What holds then:

- A slot streams no more than its capacity.
- A replica is at its home where that works, unless the home is full of what is more important, or of what is as
  important, away from its own home and settled there. When every slot works, each is at home: no slot is the home of
  more than its capacity.
- A replica waits only if every slot that works, on an account that is free of the instrument's other replicas, is full
  of what is as important or more so.
- Nothing moves that need not: what streams from a slot that works leaves it to go home, or for what is more important.
- The same again changes nothing.

The classes of one priority are settled one after the other, the most important first. Each sees the places that those
before it have left, so what it does takes places of later ones only, which find other places in their turn.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from ingest.manager.replicas import Placement, Replica
from ingest.manager.want import LOAD, Connections, Slot

_Copy: TypeAlias = tuple[int, int, int]
"""A replica: how old its subscription is (of one class, the later gives way), its token, and its place among those of
the instrument."""


@dataclass(slots=True)
class _Class:
    """The replicas of one priority, in the order of subscribing."""

    staying: dict[Slot, list[_Copy]] = field(default_factory=dict)
    """By the slot that streams them: those that are at home, and those whose home does not work."""
    homing: list[tuple[_Copy, Slot, Slot | None]] = field(default_factory=list)
    """Those that are away though their home works, with that home and the slot that streams them, if any."""
    searching: list[_Copy] = field(default_factory=list)
    """The others: neither their home works nor the slot that they are on."""

    def streamed_by(self, slot: Slot) -> Iterator[_Copy]:
        yield from self.staying.get(slot, ())
        yield from (copy for copy, _, current in self.homing if current == slot)


def settle(placement: Placement, connections: Connections) -> Placement:
    """The same homes, with each replica on the slot that should stream it."""
    working = frozenset(connections.working)
    while not _all_at_home(placement, working):
        turn = _Turn(placement, connections)
        after = turn.settled()
        # They may be able to go home together from where they are now. Each turn brings home, or serves, more of the
        # first class that it changes, so there is a last one. What waits cannot go home alone: its home is full.
        if not turn.some_could_swap or after == placement:
            return after
        placement = after
    return placement


def _all_at_home(placement: Placement, working: frozenset[Slot]) -> bool:
    distinct = {id(replicas): replicas for replicas in placement.replicas.values()}  # most share one value
    return all(home == current and home in working for replicas in distinct.values() for home, current in replicas)


class _Turn:
    """Settles all classes once."""

    def __init__(self, placement: Placement, connections: Connections) -> None:
        self.some_could_swap = False
        """Whether a replica streams from elsewhere though its home works."""
        self._placement = placement
        self._connections = connections
        self._capacity = connections.capacity
        self._settled = dict.fromkeys(connections.working, 0)
        """How many replicas of the classes so far each slot streams."""
        self._streams = dict.fromkeys(connections.working, 0)
        """The same and, of the later classes, those that it streams at the beginning: more than the capacity if some of
        these have to give way."""
        self._load = dict.fromkeys(connections.working, 0)
        self._classes: dict[int, _Class] = {}
        self._ranks: dict[Slot, list[tuple[int, int]]] = {}
        self._now: dict[tuple[int, int], Slot | None] = {}
        self._sort_into_classes()

    def settled(self) -> Placement:
        for _, group in sorted(self._classes.items(), key=lambda entry: entry[0]):
            for slot, copies in group.staying.items():
                self._settled[slot] += len(copies)
            self._go_home(group)
            self._give_way(group)
            self._find_slots(group)
        replicas = dict(self._placement.replicas)
        alone: dict[tuple[Slot, Slot | None], tuple[Replica]] = {}  # one value for all that moved alike
        for (token, index), now in self._now.items():
            before = replicas[token]
            home = before[index].home_slot
            if len(before) > 1:
                replicas[token] = (*before[:index], Replica(home, now), *before[index + 1 :])
            elif (moved := alone.get((home, now))) is not None:
                replicas[token] = moved
            else:
                replicas[token] = alone[home, now] = (Replica(home, now),)
        return Placement(self._placement.wants, replicas)

    def _sort_into_classes(self) -> None:
        streams, loads, all_replicas = self._streams, self._load, self._placement.replicas
        for order, (token, want) in enumerate(self._placement.wants.items()):
            if (group := self._classes.get(want.priority)) is None:
                group = self._classes[want.priority] = _Class()
            for index, (home, current) in enumerate(all_replicas[token]):
                copy = (order, token, index)
                if current in streams:
                    streams[current] += 1
                    loads[current] += LOAD[want.mode]
                    if current == home or home not in streams:
                        group.staying.setdefault(current, []).append(copy)
                    else:
                        group.homing.append((copy, home, current))
                    continue
                self._now[token, index] = None
                if home in streams:
                    group.homing.append((copy, home, None))
                else:
                    group.searching.append(copy)

    def _go_home(self, group: _Class) -> None:
        """Let all go home that fit there at once: two that are on each other's full home can do so together.

        At first all of them set out. Where too many arrive, the latest go back, and so take the places of some that
        arrive where they came from. What goes back once does not set out again, so this ends.
        """
        arriving: dict[Slot, list[tuple[_Copy, Slot | None]]] = {}
        for copy, home, current in group.homing:
            arriving.setdefault(home, []).append((copy, current))
        check = list(arriving)
        while check:
            slot = check.pop()
            there = arriving.get(slot, [])
            while there and self._settled[slot] + len(there) > self._capacity:
                copy, current = there.pop()
                if current is None:
                    group.searching.append(copy)
                else:
                    self.some_could_swap = True
                    self._settled[current] += 1
                    group.staying.setdefault(current, []).append(copy)
                    check.append(current)
        for slot, there in arriving.items():
            self._settled[slot] += len(there)
            for copy, current in there:
                self._move(copy, current, slot)

    def _give_way(self, group: _Class) -> None:
        """Where more important ones took places, the latest of the class leave."""
        for slot, there in group.staying.items():
            if (excess := self._settled[slot] - self._capacity) > 0:
                there.sort()
                for copy in there[-excess:]:
                    self._move(copy, slot, None)
                    group.searching.append(copy)
                self._settled[slot] = self._capacity

    def _find_slots(self, group: _Class) -> None:
        """The heaviest get a slot first, of these the oldest; as long as there are any."""
        wants = self._placement.wants
        group.searching.sort(key=lambda copy: (-LOAD[wants[copy[1]].mode], copy))
        there_is_none = False
        for copy in group.searching:
            _, token, index = copy
            home = self._placement.replicas[token][index].home_slot
            slot = None
            if not there_is_none:
                taken = self._accounts_of_others(copy)
                slot = self._best_slot(copy, taken)
                # Places only become fewer: without one for this, which may be anywhere, there is none for the others.
                there_is_none = slot is None and not taken
            if slot is None:
                self._now[token, index] = home if home in self._connections.lost else None
            else:
                self.some_could_swap = self.some_could_swap or home in self._settled
                self._settled[slot] += 1
                self._move(copy, None, slot)

    def _move(self, copy: _Copy, slot: Slot | None, to: Slot | None) -> None:
        _, token, index = copy
        load = LOAD[self._placement.wants[token].mode]
        if slot is not None:
            self._streams[slot] -= 1
            self._load[slot] -= load
        if to is not None:
            self._streams[to] += 1
            self._load[to] += load
        self._now[token, index] = to

    def _accounts_of_others(self, copy: _Copy) -> set[str]:
        """The accounts of the instrument's other replicas."""
        _, token, index = copy
        if len(self._placement.replicas[token]) == 1:
            return set()
        others = [
            replica._replace(current_slot=self._now.get((token, place), replica.current_slot))
            for place, replica in enumerate(self._placement.replicas[token])
            if place != index
        ]
        return {account for replica in others for account in replica.accounts}

    def _best_slot(self, copy: _Copy, taken: Collection[str]) -> Slot | None:
        """The slot that may take this replica: one with a free place, the least loaded; else the one where the least
        important gives way.

        Its account comes first for what was placed there by hand, and for replicas, which leave others free that way.
        (Its home does not come into question: it is lost, or full of what stays.)
        """
        _, token, index = copy
        replicas = self._placement.replicas[token]
        by_hand = bool(self._placement.wants[token].accounts)
        account = replicas[index].home_slot.account if by_hand or len(replicas) > 1 else None
        free = [slot for slot, count in self._streams.items() if count < self._capacity and slot.account not in taken]
        if free:
            return min(free, key=lambda slot: (slot.account != account, self._load[slot]))
        victims = {
            slot: self._next_to_give_way(slot)
            for slot, count in self._settled.items()
            if count < self._capacity and slot.account not in taken
        }
        return max(
            victims,
            key=lambda slot: (victims[slot][0], slot.account == account, victims[slot][1]),
            default=None,
        )

    def _next_to_give_way(self, slot: Slot) -> tuple[int, int]:
        """Of a full slot that streams something less important: the last in (priority, order) of those that need not
        leave it already."""
        if (ranks := self._ranks.get(slot)) is None:
            ranks = self._ranks[slot] = sorted(
                (priority, copy[0]) for priority, group in self._classes.items() for copy in group.streamed_by(slot)
            )
        return ranks[-1 - (self._streams[slot] - self._capacity)]
