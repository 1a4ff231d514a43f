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
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from ingest.manager.replicas import Alike, Placement, Replica
from ingest.manager.want import LOAD, Connections, Slot, deal

_NO_ACCOUNTS: Final[frozenset[str]] = frozenset()


def settle(placement: Placement, connections: Connections) -> None:
    """Let each replica be on the slot that should stream it; homes stay as they are."""
    working = frozenset(connections.working)
    # They may be able to go home together from where they are now. Each turn brings home, or serves, more of the first
    # class that it changes, so there is a last one. What waits cannot go home alone: its home is full.
    while some := misplaced(placement, working):
        turn = _Turn(placement, connections, some)
        if not turn.settle() or not turn.some_could_swap:
            return


def misplaced(placement: Placement, working: frozenset[Slot]) -> list[Alike]:
    """What has a replica that is on a slot that does not work, or on none, or away though its home works."""
    at_home = {token: None for slot, there in placement.by_slot.items() if slot not in working for token in there}
    some = [(want, replicas, list(tokens)) for (want, replicas), tokens in placement.away.items()]
    some += [alike for alike in placement.alike(at_home) if alike[:2] not in placement.away]
    return [
        (want, replicas, tokens)
        for want, replicas, tokens in some
        if any(current not in working or (current != home and home in working) for home, current in replicas)
    ]


class _Turn:
    """Settles all classes once.

    A replica is a number: that of its instrument in the order of subscribing (of one class, the later gives way), times
    the stride, and its place among those of the instrument.
    """

    def __init__(self, placement: Placement, connections: Connections, misplaced: Sequence[Alike]) -> None:
        self.some_could_swap = False
        """Whether a replica streams from elsewhere though its home works."""
        self._placement = placement
        self._lost = connections.lost
        self._capacity = connections.capacity
        self._slots = connections.working
        self._streams = {slot: len(placement.by_slot.get(slot, ())) for slot in self._slots}
        """How many replicas each slot streams: more than the capacity if some of later classes have to give way."""
        self._load = {slot: placement.load[slot] for slot in self._slots}
        self._tokens = list(placement.wants)
        self._order = {token: order for order, token in enumerate(self._tokens)}
        self._stride = placement.most_replicas
        self._ranks: dict[Slot, tuple[list[int], list[int]]] = {}
        self._now: dict[int, Slot | None] = {}
        """Where the replicas are now that have moved or wait."""
        self._homing: dict[int, dict[int, tuple[Slot, Slot | None]]] = defaultdict(dict)
        """Of each priority those that are away though their home works, with that home and the slot that streams them,
        if any."""
        self._searching: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        """The others, by priority and load: neither their home works nor the slot that they are on."""
        for want, replicas, tokens in misplaced:
            for index, (home, current) in enumerate(replicas):
                copies = [self._order[token] * self._stride + index for token in tokens]
                streaming = current if current in self._streams else None
                if streaming is None:
                    self._now.update(dict.fromkeys(copies))
                if home in self._streams and current != home:
                    self._homing[want.priority].update(dict.fromkeys(copies, (home, streaming)))
                elif streaming is None:
                    self._searching[want.priority][LOAD[want.mode]] += copies

    def settle(self) -> bool:
        """Whether anything has changed."""
        for priority in sorted({want.priority for want in self._placement.wants.values()}):
            self._go_home(priority)
            self._give_way(priority)
            self._find_slots(priority)
        return self._put()

    def _put(self) -> bool:
        any_moved = False
        tokens = [self._tokens[order] for order in dict.fromkeys(copy // self._stride for copy in self._now)]
        for want, were, some in self._placement.alike(tokens):
            groups: dict[tuple[Slot | None, ...], list[int]] = defaultdict(list)
            firsts = [self._order[token] * self._stride for token in some]
            nows = [
                [self._now.get(first + index, current) for first in firsts] for index, (_, current) in enumerate(were)
            ]
            for token, now in zip(some, zip(*nows, strict=True), strict=True):
                groups[now].append(token)
            for now, alike in groups.items():
                after = tuple(
                    Replica(home, slot or (home if home in self._lost else None))
                    for (home, _), slot in zip(were, now, strict=True)
                )
                if after != were:
                    any_moved = True
                    self._placement.put(alike, want, after)
                self.some_could_swap |= any(home in self._streams and slot not in (None, home) for home, slot in after)
        return any_moved

    def _excess(self, slot: Slot, priority: int, coming: int = 0) -> int:
        """How many too many it would stream of this priority and the more important, with so many more of them."""
        excess = self._streams[slot] + coming - self._capacity
        if excess <= 0:
            return excess
        priorities, _ = self._ranked(slot)
        return excess - (len(priorities) - bisect_right(priorities, priority))

    def _ranked(self, slot: Slot) -> tuple[list[int], list[int]]:
        """What it streamed at the beginning, the least important and latest last: the priorities, and the replicas.
        Those of later classes than the present one are all there still."""
        if (ranked := self._ranks.get(slot)) is None:
            classes: dict[int, list[int]] = {}
            for want, replicas, tokens in self._placement.alike(self._placement.by_slot[slot]):
                index = [current for _, current in replicas].index(slot)
                there = classes.setdefault(want.priority, [])
                there += [self._order[token] * self._stride + index for token in tokens]
            ranked = self._ranks[slot] = [], []
            for priority, there in sorted(classes.items()):
                ranked[0].extend([priority] * len(there))
                ranked[1].extend(sorted(there))
        return ranked

    def _go_home(self, priority: int) -> None:
        """Let all go home that fit there at once: two that are on each other's full home can do so together.

        At first all of them set out. Where too many arrive, the latest go back, and so take the places of some that
        arrive where they came from. What goes back once does not set out again, so this ends.
        """
        homing = self._homing.get(priority, {})
        leaving = Counter(current for _, current in homing.values())
        arriving: dict[Slot, list[int]] = {}
        for copy in sorted(homing):
            arriving.setdefault(homing[copy][0], []).append(copy)
        check = list(arriving)
        while check:
            slot = check.pop()
            there = arriving.get(slot, [])
            while there and self._excess(slot, priority, len(there) - leaving[slot]) > 0:
                copy = there.pop()
                current = homing[copy][1]
                if current is None:
                    self._searching[priority][self._load_of(copy)].append(copy)
                else:
                    self.some_could_swap = True
                    leaving[current] -= 1
                    check.append(current)
        routes: dict[tuple[Slot, Slot | None], list[int]] = {}
        for there in arriving.values():
            for copy in there:
                routes.setdefault(homing[copy], []).append(copy)
        for (home, current), copies in routes.items():
            self._move(copies, current, home)

    def _give_way(self, priority: int) -> None:
        """Where more important ones took places, the latest of the class leave."""
        for slot in self._slots:
            if (excess := self._excess(slot, priority)) > 0:
                priorities, copies = self._ranked(slot)
                of_class = copies[bisect_left(priorities, priority) : bisect_right(priorities, priority)]
                latest = [copy for copy in of_class if self._now.get(copy, slot) == slot][-excess:]
                self._move(latest, slot, None)
                for copy in latest:
                    self._searching[priority][self._load_of(copy)].append(copy)

    def _find_slots(self, priority: int) -> None:
        """The heaviest get a slot first, of these the oldest; as long as there are any."""
        for load, copies in sorted(self._searching.get(priority, {}).items(), reverse=True):
            for (account, taken), alike in groupby(sorted(copies), self._preference):
                slots = self._open_slots(priority, load, account, taken)
                for copy, slot in zip(alike, slots, strict=False):
                    self._now[copy] = slot
                    self._streams[slot] += 1
                    self._load[slot] += load
                # Places only become fewer: without one for this, which may be anywhere, there is none for the others.
                if not taken and next(slots, None) is None:
                    return

    def _load_of(self, copy: int) -> int:
        return LOAD[self._placement.wants[self._tokens[copy // self._stride]].mode]

    def _move(self, copies: Sequence[int], slot: Slot | None, to: Slot | None) -> None:
        load = sum(map(self._load_of, copies))
        for changed, sign in ((slot, -1), (to, 1)):
            if changed is not None:
                self._streams[changed] += sign * len(copies)
                self._load[changed] += sign * load
        self._now.update(dict.fromkeys(copies, to))

    def _preference(self, copy: int) -> tuple[str | None, frozenset[str]]:
        """The account that comes first for it: its own, for what was placed there by hand, and for replicas, which
        leave others free that way. And those on which it may not be: those of the instrument's other replicas."""
        order, index = divmod(copy, self._stride)
        want, replicas = self._placement.there[self._tokens[order]]
        if len(replicas) == 1:
            return replicas[0].home_slot.account if want.accounts else None, _NO_ACCOUNTS
        others = [
            (home, self._now.get(other, current))
            for other, (home, current) in enumerate(replicas, copy - index)
            if other != copy
        ]
        taken = frozenset(slot.account for each in others for slot in each if slot is not None)
        return replicas[index].home_slot.account, taken

    def _open_slots(self, priority: int, load: int, account: str | None, taken: frozenset[str]) -> Iterator[Slot]:
        """The slot for one of a kind after the other, each of which moves there: of those with a free place the least
        loaded; else the one where the least important gives way.

        (Its home does not come into question: it is lost, or full of what stays.)
        """
        slots = [slot for slot in self._slots if slot.account not in taken]
        yield from deal(
            ((slot, self._capacity - self._streams[slot], slot.account != account, self._load[slot]) for slot in slots),
            load,
        )
        for _, _, _, slot in heapq.merge(*(self._giving_way(slot, priority, account) for slot in slots)):
            yield slot

    def _giving_way(self, slot: Slot, priority: int, account: str | None) -> Iterator[tuple[int, bool, int, Slot]]:
        """What gives way on a full slot to one after the other of this priority: the last in (priority, order), but for
        what must leave already."""
        places = 1 - self._excess(slot, priority, 1)
        priorities, copies = self._ranked(slot)
        last = len(copies) - 1 - (self._streams[slot] - self._capacity)
        for rank in range(last, last - places, -1):
            yield -priorities[rank], slot.account != account, -copies[rank], slot
