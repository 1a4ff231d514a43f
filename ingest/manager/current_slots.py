"""Which slot streams each replica at present: what becomes of instruments when slots are lost, and work again.

From the placement as it is, and the slots that work, to the placement as it should be. What holds then:

- A slot streams no more than its capacity.
- A replica is at its home where that works, unless the home is full of what is more important, or of what is as
  important, away from its own home and settled there. When every slot works, each is at home: no slot is the home of
  more than its capacity.
- A replica waits only if every slot that works, on an account that is free of the instrument's other replicas, is full
  of what is as important or more so.
- Nothing moves that need not: what streams from a slot that works leaves it to go home, or for what is more important.
- The same again changes nothing.

Only what is not where it should be is looked at, and where there is no room, what has to give way to it. The classes of
one priority are settled one after the other, the most important first. Each sees the places that those before it have
left, so what it does takes places of later ones only, which find other places in their turn.
"""

import heapq
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import groupby
from math import inf
from typing import TypeAlias

from ingest.manager.replicas import Placement, Replica, Replicas
from ingest.manager.want import LOAD, Connections, Slot, Want

_Copy: TypeAlias = tuple[int, int, int]
"""A replica: how old its subscription is (of one class, the later gives way), its token, and its place among those of
the instrument."""
_Kind: TypeAlias = tuple[int, str | None, frozenset[str]]
"""What a replica that needs a slot weighs, the account that comes first for it, and those on which it may not be."""


def settle(placement: Placement, connections: Connections) -> None:
    """Let each replica be on the slot that should stream it; homes stay as they are."""
    working = frozenset(connections.working)
    # They may be able to go home together from where they are now. Each turn brings home, or serves, more of the first
    # class that it changes, so there is a last one. What waits cannot go home alone: its home is full.
    while tokens := misplaced(placement, working):
        turn = _Turn(placement, connections, tokens)
        if not turn.settle() or not turn.some_could_swap:
            return


def misplaced(placement: Placement, working: frozenset[Slot]) -> list[int]:
    """Tokens with a replica that is on a slot that does not work, or on none, or away though its home works."""
    tokens = placement.away.union(*(there for slot, there in placement.by_slot.items() if slot not in working))
    return [
        token
        for _, replicas, some in placement.alike(tokens)
        if any(current not in working or (current != home and home in working) for home, current in replicas)
        for token in some
    ]


class _Turn:
    """Settles all classes once."""

    def __init__(self, placement: Placement, connections: Connections, tokens: list[int]) -> None:
        self.some_could_swap = False
        """Whether a replica streams from elsewhere though its home works."""
        self._placement = placement
        self._lost = connections.lost
        self._capacity = connections.capacity
        self._slots = connections.working
        self._streams = {slot: len(placement.by_slot.get(slot, ())) for slot in self._slots}
        """How many replicas each slot streams: more than the capacity if some of later classes have to give way."""
        self._load = {slot: placement.load[slot] for slot in self._slots}
        self._order = {token: order for order, token in enumerate(placement.wants)}
        self._ranks: dict[Slot, list[tuple[int, int, int, int]]] = {}
        self._now: dict[tuple[int, int], Slot | None] = {}
        """Where replicas are now, by token and place, that have moved or wait."""
        self._homing: dict[int, list[tuple[_Copy, Slot, Slot | None]]] = defaultdict(list)
        """Of each priority those that are away though their home works, with that home and the slot that streams them,
        if any."""
        self._searching: dict[int, list[_Copy]] = defaultdict(list)
        """The others: neither their home works nor the slot that they are on."""
        self._sort_into_classes(tokens)

    def settle(self) -> bool:
        """Whether anything has changed."""
        for priority in sorted({want.priority for want in self._placement.wants.values()}):
            self._go_home(priority)
            self._give_way(priority)
            self._find_slots(priority)
        return self._put()

    def _sort_into_classes(self, tokens: list[int]) -> None:
        wants, working, order = self._placement.wants, self._streams, self._order
        for token in sorted(tokens, key=order.__getitem__):
            priority = wants[token].priority
            for index, (home, current) in enumerate(self._placement.replicas[token]):
                streaming = current if current in working else None
                if streaming is None:
                    self._now[token, index] = None
                if home in working and current != home:
                    self._homing[priority].append(((order[token], token, index), home, streaming))
                elif streaming is None:
                    self._searching[priority].append((order[token], token, index))

    def _put(self) -> bool:
        replicas = self._placement.replicas
        waiting = {home: home if home in self._lost else None for each in set(replicas.values()) for home, _ in each}
        changed: dict[int, list[Replica]] = {}
        for (token, index), now in self._now.items():
            replica = replicas[token][index]
            after = Replica(replica.home_slot, now or waiting[replica.home_slot])
            if after != replica:
                changed.setdefault(token, list(replicas[token]))[index] = after
        alike: dict[tuple[Want, Replicas], list[int]] = {}
        for token, moved in changed.items():
            alike.setdefault((self._placement.wants[token], tuple(moved)), []).append(token)
        for (want, moved_to), some in alike.items():
            self._placement.put(some, want, moved_to)
        return bool(changed)

    def _excess(self, slot: Slot, priority: int, coming: int = 0) -> int:
        """How many too many it would stream of this priority and the more important, with so many more of them."""
        excess = self._streams[slot] + coming - self._capacity
        if excess <= 0:
            return excess
        ranks = self._ranked(slot)
        return excess - (len(ranks) - bisect_right(ranks, (priority, inf)))

    def _ranked(self, slot: Slot) -> list[tuple[int, int, int, int]]:
        """What it streamed at the beginning, the least important and latest last: those of later classes than the
        present one are all there still."""
        if (ranks := self._ranks.get(slot)) is None:
            wants, replicas, order = self._placement.wants, self._placement.replicas, self._order
            ranks = self._ranks[slot] = sorted(
                (wants[token].priority, order[token], token, [current for _, current in replicas[token]].index(slot))
                for token in self._placement.by_slot[slot]
            )
        return ranks

    def _go_home(self, priority: int) -> None:
        """Let all go home that fit there at once: two that are on each other's full home can do so together.

        At first all of them set out. Where too many arrive, the latest go back, and so take the places of some that
        arrive where they came from. What goes back once does not set out again, so this ends.
        """
        homing = self._homing.get(priority, ())
        leaving = Counter(current for _, _, current in homing)
        arriving: dict[Slot, list[tuple[_Copy, Slot | None]]] = {}
        for copy, home, current in homing:
            arriving.setdefault(home, []).append((copy, current))
        check = list(arriving)
        while check:
            slot = check.pop()
            there = arriving.get(slot, [])
            while there and self._excess(slot, priority, len(there) - leaving[slot]) > 0:
                copy, current = there.pop()
                if current is None:
                    self._searching[priority].append(copy)
                else:
                    self.some_could_swap = True
                    leaving[current] -= 1
                    check.append(current)
        for slot, there in arriving.items():
            for copy, current in there:
                self._move(copy, current, slot)

    def _give_way(self, priority: int) -> None:
        """Where more important ones took places, the latest of the class leave."""
        for slot in self._slots:
            if (excess := self._excess(slot, priority)) > 0:
                ranks = self._ranked(slot)
                first, end = bisect_left(ranks, (priority,)), bisect_right(ranks, (priority, inf))
                there = [copy for _, *copy in ranks[first:end] if self._now.get((copy[1], copy[2]), slot) == slot]
                for order, token, index in there[-excess:]:
                    self._move((order, token, index), slot, None)
                    self._searching[priority].append((order, token, index))

    def _find_slots(self, priority: int) -> None:
        """The heaviest get a slot first, of these the oldest; as long as there are any."""
        searching = self._searching.get(priority, [])
        loads = {token: LOAD[self._placement.wants[token].mode] for _, token, _ in searching}
        searching.sort(key=lambda copy: (-loads[copy[1]], copy))
        there_is_none = False
        for kind, alike in groupby(searching, self._kind):
            # Places only become fewer: without one for this, which may be anywhere, there is none for the others.
            if there_is_none:
                break
            slots = self._open_slots(priority, *kind)
            for copy in alike:
                if (slot := next(slots, None)) is None:
                    there_is_none = not kind[2]
                    break
                home = self._placement.replicas[copy[1]][copy[2]].home_slot
                self.some_could_swap = self.some_could_swap or home in self._streams
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

    def _kind(self, copy: _Copy) -> _Kind:
        """Its account comes first for what was placed there by hand, and for replicas, which leave others free that
        way. The accounts of the instrument's other replicas are not for it."""
        _, token, index = copy
        want, replicas = self._placement.wants[token], self._placement.replicas[token]
        load = LOAD[want.mode]
        if len(replicas) == 1:
            return load, replicas[0].home_slot.account if want.accounts else None, frozenset()
        others = [
            (home, self._now.get((token, place), current))
            for place, (home, current) in enumerate(replicas)
            if place != index
        ]
        taken = frozenset(slot.account for each in others for slot in each if slot is not None)
        return load, replicas[index].home_slot.account, taken

    def _open_slots(self, priority: int, load: int, account: str | None, taken: frozenset[str]) -> Iterator[Slot]:
        """The slot for one of a kind after the other, each of which moves there: of those with a free place the least
        loaded; else the one where the least important gives way.

        (Its home does not come into question: it is lost, or full of what stays.)
        """
        slots = [slot for slot in self._slots if slot.account not in taken]
        heap = [
            (slot.account != account, self._load[slot], place)
            for place, slot in enumerate(slots)
            if self._streams[slot] < self._capacity
        ]
        heapq.heapify(heap)
        while heap:
            elsewhere, _, place = heap[0]
            slot = slots[place]
            yield slot
            if self._streams[slot] < self._capacity:
                heapq.heapreplace(heap, (elsewhere, self._load[slot], place))
            else:
                heapq.heappop(heap)
        # Of a full slot, the last in (priority, order) of those that need not leave it already.
        less = [(self._next_to_give_way(slot, account), slot) for slot in slots if self._excess(slot, priority, 1) <= 0]
        heapq.heapify(less)
        while less:
            slot = less[0][1]
            yield slot
            if self._excess(slot, priority, 1) <= 0:
                heapq.heapreplace(less, (self._next_to_give_way(slot, account), slot))
            else:
                heapq.heappop(less)

    def _next_to_give_way(self, slot: Slot, account: str | None) -> tuple[int, bool, int]:
        priority, order, _, _ = self._ranked(slot)[-1 - (self._streams[slot] - self._capacity)]
        return -priority, slot.account != account, -order
