"""Where instruments live and where they stream, on the slots of accounts. Pure state; it sends nothing.

Each copy of an instrument has a home, the slot that it was placed on, and keeps it. A slot may be lost, or removed with
its account. Then its copies become guests on other slots that have room, and go home when the slot is back. Where there
is no room, less important instruments (of a larger `priority` number) give way to them: these become guests elsewhere
or wait, and go home when there is a place again.

- A slot is the home of no more than its capacity, whether at home or away, and streams no more than its capacity.
- The copies of an instrument have their homes, and are guests, on different accounts.
- A copy that finds no room waits: assigned to its home where that is lost, nowhere where that is removed or full. It
  waits only as long as every other slot that works, on an account that is free of the instrument's other copies, is
  full of what is as important or more so.
- When every slot works, each copy is at home.
- Nothing moves that need not. What raises changes nothing.

What is placed where in the first place is decided in `ingest.manager.allocation`.
"""

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf
from types import MappingProxyType
from typing import Final, TypeAlias

from ingest.errors import InstrumentError
from ingest.manager.placement import LOAD, Slot, slots_of
from ingest.wire import Mode

_Turn: TypeAlias = tuple[int, int, int, int]
"""When a token that waits gets room: by priority, the heaviest mode first, the oldest first; then the token."""
_Rank: TypeAlias = tuple[int, int, int]
"""Who gives way on a slot, the last first: the least important, of these the latest subscribed; then the token."""
_NOTHING: Final[Mapping[int, Mode]] = MappingProxyType({})


@dataclass(frozen=True)
class Moved:
    """What a change of slots did. Tokens in ascending order."""

    moved: tuple[int, ...]
    """Those that stream from another slot than before."""
    waiting: tuple[int, ...]
    """Those that stream from fewer slots than wanted now: a home is lost, removed or full, without room elsewhere."""


@dataclass(slots=True)
class Stream:
    """One instrument. `homes` says for each of its copies where that is now: at home, a guest, or nowhere (None)."""

    order: int
    priority: int
    by_hand: bool = False
    homes: dict[Slot, Slot | None] = field(default_factory=dict)

    def accounts(self, homes: Collection[Slot]) -> set[str]:
        """The accounts on which the copies of these homes live or are guests."""
        return {slot.account for copy in self.homes.items() if copy[0] in homes for slot in copy if slot is not None}

    def homes_on(self, slots: Collection[Slot]) -> list[Slot]:
        """The homes of the copies that live or are guests on `slots`."""
        return [home for home, now in self.homes.items() if home in slots or now in slots]


class Copies:
    """The copies of instruments on the slots of accounts. `at(slot)` is what the connection of that slot has to stream.

    A copy is known by its token and its home.
    """

    def __init__(self, accounts: Iterable[str], connections: int, capacity: int) -> None:
        """`connections` is the number an account, `capacity` what each of them holds.

        Raises ValueError for more connections than the broker allows and for accounts of the same name.
        """
        self._accounts = list(accounts)
        self._connections, self._capacity = connections, capacity
        self._slots = slots_of(self._accounts, connections)
        self._lost: set[Slot] = set()
        self._streams: dict[int, Stream] = {}
        self._modes: dict[int, Mode] = {}
        self._at: dict[Slot, dict[int, Mode]] = {slot: {} for slot in self._slots}
        self._load: dict[Slot, int] = dict.fromkeys(self._slots, 0)
        self._guests: dict[Slot, int] = dict.fromkeys(self._slots, 0)
        self._ranks: dict[Slot, list[_Rank]] = {slot: [] for slot in self._slots}  # of what each streams, sorted
        self._housed: defaultdict[Slot, set[int]] = defaultdict(set)  # also of removed slots: they may come back
        self._waiting: dict[int, _Turn] = {}
        self._queue: list[_Turn] = []  # the turns of those that wait, sorted
        self._levels: dict[Slot, float] = {}  # of the slots that work, after the last change
        self._subscribed = 0

    @property
    def slots(self) -> Sequence[Slot]:
        return tuple(self._slots)

    @property
    def lost(self) -> frozenset[Slot]:
        return frozenset(self._lost)

    @property
    def waiting(self) -> tuple[int, ...]:
        """Tokens that stream from fewer slots than wanted. See `Moved.waiting`."""
        return tuple(sorted(self._waiting))

    @property
    def unserved(self) -> tuple[int, ...]:
        """Tokens that stream from no slot at all, in ascending order: those of `waiting` without a copy elsewhere."""
        return tuple(token for token in self.waiting if not any(map(self._serves, self._streams[token].homes.values())))

    @property
    def modes(self) -> Mapping[int, Mode]:
        """Everything that is subscribed, in that order. A view."""
        return MappingProxyType(self._modes)

    @property
    def capacity(self) -> int:
        """Places in total, those of lost slots included."""
        return self._capacity * len(self._slots)

    @property
    def free(self) -> int:
        """Places that neither a home nor a guest holds."""
        return sum(self._room(slot) for slot in self._slots)

    def at(self, slot: Slot) -> Mapping[int, Mode]:
        """What this slot streams now, or will as soon as it works: guests included, away ones not. A view."""
        there = self._at.get(slot)
        return _NOTHING if there is None else MappingProxyType(there)

    def homes(self, token: int) -> tuple[Slot, ...]:
        """Where an instrument belongs, one slot a copy, in the order of placing; none when it is not subscribed."""
        return tuple(self._streams[token].homes) if token in self._streams else ()

    def placement(self) -> dict[Slot, dict[int, Mode]]:
        """What each slot streams now: token -> mode, for slots that stream any."""
        return {slot: dict(there) for slot, there in sorted(self._at.items()) if there}

    def set_mode(self, tokens: Iterable[int], mode: Mode) -> None:
        """Change the mode of instruments that are subscribed. Raises InstrumentError when one of them is not."""
        tokens = list(tokens)
        if unknown := [token for token in tokens if token not in self._streams]:
            raise InstrumentError(
                f"{len(unknown):,} of {len(tokens):,} instruments are not subscribed, as {unknown[0]!r}"
            )
        for token in tokens:
            self._set_mode(token, mode)
            if token in self._waiting:
                self._queue_up(token)

    def unsubscribe(self, tokens: Iterable[int]) -> None:
        """Stream these no more; their places are free, for those that wait first. Unknown ones are ignored."""
        for token in tokens:
            if token in self._streams:
                self._forget(token)
        self._settle()

    def lose(self, slots: Iterable[Slot]) -> Moved:
        """These slots serve nothing now: what they stream becomes a guest elsewhere, the important and heavy first.

        What is less important gives way to it where there is no room. Slots that are lost already, or are not there,
        change nothing.
        """
        losing = {slot for slot in slots if slot in self._at} - self._lost
        if not losing:
            return Moved((), self.waiting)
        self._lost |= losing
        return self._vacate({slot: tuple(self._at[slot]) for slot in sorted(losing)})

    def regain(self, slots: Iterable[Slot]) -> Moved:
        """These slots work again: their instruments come home, and so does what gave way to them.

        Slots that are not lost change nothing.
        """
        back = self._lost.intersection(slots)
        if not back:
            return Moved((), self.waiting)
        self._lost -= back
        return self._come_home(sorted(back))

    def add_account(self, name: str) -> Moved:
        """Use this account too. Instruments that had a home on it come home. Raises ValueError when it is there."""
        if name in self._accounts:
            raise ValueError(f"got account {name!r}, which is there already; expected another name")
        self._accounts.append(name)
        self._slots = slots_of(self._accounts, self._connections)
        opened = [slot for slot in self._slots if slot.account == name]
        self._at |= {slot: {} for slot in opened}
        self._load |= dict.fromkeys(opened, 0)
        self._guests |= dict.fromkeys(opened, 0)
        self._ranks |= {slot: [] for slot in opened}
        return self._come_home(opened)

    def remove_account(self, name: str) -> Moved:
        """Use this account no more: its instruments become guests elsewhere. Raises ValueError when it is not there."""
        self._check_account(name)
        self._accounts.remove(name)
        closed = [slot for slot in self._slots if slot.account == name]
        self._slots = slots_of(self._accounts, self._connections)
        self._lost.difference_update(closed)
        for slot in closed:
            del self._load[slot], self._guests[slot], self._ranks[slot]
        return self._vacate({slot: tuple(self._at.pop(slot)) for slot in closed})

    def _check_account(self, name: str) -> None:
        if name not in self._accounts:
            expected = f"one of {', '.join(self._accounts)}" if self._accounts else "none: no account was added"
            raise ValueError(f"got account {name!r}, expected {expected}")

    # Changing a copy.

    def _held(self, slot: Slot) -> int:
        """Places that homes and guests hold: more than the capacity where some that live there gave way to guests."""
        return len(self._housed[slot]) + self._guests[slot]

    def _room(self, slot: Slot) -> int:
        return max(self._capacity - self._held(slot), 0)

    def _serves(self, now: Slot | None) -> bool:
        return now is not None and now not in self._lost

    def _set_mode(self, token: int, mode: Mode) -> None:
        change = LOAD[mode] - LOAD[self._modes[token]]
        self._modes[token] = mode
        for now in self._streams[token].homes.values():
            if now is not None:
                self._at[now][token] = mode
                self._load[now] += change

    def _set_priority(self, token: int, priority: int) -> None:
        stream = self._streams[token]
        old, new = (stream.priority, stream.order, token), (priority, stream.order, token)
        if old == new:
            return
        stream.priority = priority
        for now in stream.homes.values():
            if now is not None:
                del self._ranks[now][bisect_left(self._ranks[now], old)]
                insort(self._ranks[now], new)

    def _add(self, token: int, mode: Mode, priority: int) -> None:
        """A new instrument, without a copy."""
        self._subscribed += 1
        self._streams[token] = Stream(self._subscribed, priority)
        self._modes[token] = mode

    def _house(self, token: int, home: Slot) -> None:
        """A new copy, at home."""
        self._streams[token].homes[home] = None
        self._housed[home].add(token)
        self._shift(token, home, home)

    def _leave(self, token: int, homes: Iterable[Slot]) -> None:
        """These copies are no more."""
        for home in homes:
            self._shift(token, home, None)
            del self._streams[token].homes[home]
            self._housed[home].discard(token)

    def _forget(self, token: int) -> None:
        self._leave(token, self.homes(token))
        self._queue_up(token)
        del self._streams[token], self._modes[token]

    def _move_in(self, token: int, slots: Collection[Slot]) -> None:
        """The copies, each on one of `slots` by now, live there: a guest does not move, it is at home."""
        for home, now in list(self._streams[token].homes.items()):
            if home not in slots and now is not None:
                self._leave(token, [home])
                self._house(token, now)

    def _shift(self, token: int, home: Slot, to: Slot | None) -> None:
        """Stream a copy from another slot, or from none."""
        stream = self._streams[token]
        now = stream.homes[home]
        if now == to:
            return
        load, rank = LOAD[self._modes[token]], (stream.priority, stream.order, token)
        if now in self._at:
            del self._at[now][token], self._ranks[now][bisect_left(self._ranks[now], rank)]
            self._load[now] -= load
            self._guests[now] -= now != home
        stream.homes[home] = to
        if to is not None:
            self._at[to][token] = self._modes[token]
            self._load[to] += load
            self._guests[to] += to != home
            insort(self._ranks[to], rank)

    def _send_away(self, token: int, slot: Slot) -> None:
        """Let the copy that streams from this slot wait."""
        home = next(home for home, now in self._streams[token].homes.items() if now == slot)
        self._shift(token, home, home if home in self._lost else None)

    def _vacate(self, there: Mapping[Slot, Sequence[int]]) -> Moved:
        """Give what streams from these lost or removed slots to others."""
        before = self._places()
        for slot, tokens in there.items():
            for token in tokens:
                self._send_away(token, slot)
        for slot in self._lost.intersection(there):
            for token in self._housed[slot]:  # what gave way to guests, which are gone
                if self._streams[token].homes[slot] is None:
                    self._shift(token, slot, slot)
        self._find_room(token for tokens in there.values() for token in tokens)
        return self._report(before)

    def _come_home(self, slots: Iterable[Slot]) -> Moved:
        """Bring those that live on these slots back from where they are guests or from nowhere."""
        before = self._places()
        living = [(token, slot) for slot in slots for token in self._housed[slot]]
        for token, slot in living:
            self._shift(token, slot, slot)
        self._settle(token for token, _ in living)
        return self._report(before)

    def _places(self) -> dict[int, tuple[Slot | None, ...]]:
        """Where everything streams from, or waits."""
        return {token: tuple(stream.homes.values()) for token, stream in self._streams.items()}

    def _report(self, before: Mapping[int, tuple[Slot | None, ...]]) -> Moved:
        moved = [
            token
            for token, places in before.items()
            if any(now not in places and self._serves(now) for now in self._streams[token].homes.values())
        ]
        return Moved(tuple(sorted(moved)), self.waiting)

    # Room for those that wait.

    def _settle(self, touched: Iterable[int] = ()) -> None:
        """Find room; then guests whose home works, since they gave way there, go home: all at once that fit there."""
        self._find_room(touched)
        going = sorted(
            (self._streams[token].priority, self._streams[token].order, token, home, now)
            for home in self._slots
            if home not in self._lost and self._held(home) > len(self._at[home])
            for token in self._housed[home]
            if (now := self._streams[token].homes[home]) is not None and now != home
        )
        streaming = Counter({slot: len(there) for slot, there in self._at.items()})
        streaming.update(home for *_, home, _ in going)
        streaming.subtract(now for *_, now in going)
        while any(streaming[home] > self._capacity for *_, home, _ in going):
            staying = set()
            for *_, token, home, now in reversed(going):
                if streaming[home] > self._capacity:
                    streaming[home] -= 1
                    streaming[now] += 1
                    staying.add((token, home))
            going = [one for one in going if one[2:4] not in staying]
        for *_, token, home, _ in going:
            self._shift(token, home, None)
        for *_, token, home, _ in going:
            self._shift(token, home, home)
        if going:
            self._find_room(token for *_, token, _, _ in going)

    def _find_room(self, touched: Iterable[int] = ()) -> None:
        """Find slots for copies that nothing serves. `touched`: tokens whose copies or priority changed.

        Others that wait are tried only where a slot is open to more of them than before, since the rest was of no use
        to them then.
        """
        touched = [token for token in touched if token in self._streams]
        for token in touched:
            self._queue_up(token)
        levels = {slot: self._level(slot) for slot in self._slots if slot not in self._lost}
        if all(level <= self._levels.get(slot, -inf) for slot, level in levels.items()):
            turns = sorted(self._waiting[token] for token in set(touched) if token in self._waiting)
        else:
            turns = self._queue.copy()
        # Sorted, and so a heap. What gives way gets its turn behind what it gave way to.
        while turns:
            priority, *_, token = heappop(turns)
            if priority >= max(levels.values(), default=-inf):
                break
            for home in [home for home, now in self._streams[token].homes.items() if not self._serves(now)]:
                if (slot := self._best_slot(token, home, levels)) is not None:
                    if len(self._at[slot]) == self._capacity:
                        *_, least = self._ranks[slot][-1]
                        self._send_away(least, slot)
                        self._queue_up(least)
                        heappush(turns, self._waiting[least])
                    self._shift(token, home, slot)
                    levels[slot] = self._level(slot)
            self._queue_up(token)
        self._levels = levels

    def _queue_up(self, token: int) -> None:
        """Put a token whose copies, mode or priority changed into the queue, or take it out."""
        if (turn := self._waiting.pop(token, None)) is not None:
            del self._queue[bisect_left(self._queue, turn)]
        stream = self._streams[token]
        if not all(map(self._serves, stream.homes.values())):
            self._waiting[token] = turn = (stream.priority, -LOAD[self._modes[token]], stream.order, token)
            insort(self._queue, turn)

    def _level(self, slot: Slot) -> float:
        """A working slot is open to smaller priority numbers than this: that of its least important, or any."""
        return self._ranks[slot][-1][0] if len(self._at[slot]) == self._capacity else inf

    def _best_slot(self, token: int, home: Slot, levels: Mapping[Slot, float]) -> Slot | None:
        """The slot that may take this copy: one that has room, the least loaded; else the one where the least important
        gives way.

        Its home comes first. Then does its account, for what was placed there by hand, and for copies, which leave
        others free that way.
        """
        stream = self._streams[token]
        taken = stream.accounts(stream.homes.keys() - {home})
        close = stream.by_hand or len(stream.homes) > 1
        return min(
            (slot for slot, level in levels.items() if level > stream.priority and slot.account not in taken),
            key=lambda slot: (
                -levels[slot],
                slot != home,
                close and slot.account != home.account,
                self._load[slot] if levels[slot] == inf else -self._ranks[slot][-1][1],
            ),
            default=None,
        )
