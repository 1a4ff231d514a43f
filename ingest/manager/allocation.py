"""Who streams what: what is wanted, and its placement on the slots of accounts. It sends nothing.

`place` is the whole of it: from what is asked for, the slots that work and the placement as it is to the placement as
it should be, which moves as little as it can. An account that is lost, works again, comes or goes, and a list that
grows, are the same call. What is in its place already is not looked at: a call costs what it changes. `Allocation`
remembers what is asked for; who calls it sends the difference of two placements.

Each replica of an instrument has a home slot (see `ingest.manager.home_slots`) and a current slot (see
`ingest.manager.current_slots`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from ingest.errors import CapacityError, InstrumentError
from ingest.manager.current_slots import misplaced, settle
from ingest.manager.home_slots import HomeSlots
from ingest.manager.replicas import Placement
from ingest.manager.want import Connections, Slot, Want, check_account, check_limits, check_want, slots_of
from ingest.settings import MAX_CONNECTIONS, MAX_INSTRUMENTS, Strategy
from ingest.wire import Mode

_NOTHING: Final[Mapping[int, Mode]] = MappingProxyType({})


def place(
    asked: Mapping[Want, Sequence[int]], placement: Placement, connections: Connections, *, leave_out: bool = True
) -> list[int]:
    """Let there be what is asked for. Returns which of its tokens have no room, after those that gave way for good.

    One that is there already and finds no room where it is wanted now stays where it is, in its new mode and with its
    new priority. Without `leave_out` raises CapacityError when anything finds no room; nothing is changed then.
    """
    placement.changes.clear()
    shared = [(placement.shared(want), tokens) for want, tokens in asked.items()]
    wants = placement.wants
    for want, tokens in shared:
        changing = [token for token in tokens if token in wants and wants[token] is not want]
        for was, replicas, some in placement.alike(changing):
            now = replace(was, mode=want.mode, priority=want.priority)
            if now != was:
                placement.put(some, now, replicas)
    groups = sorted(shared, key=lambda group: group[0].priority)
    left: list[int] = []
    given_up: dict[int, None] = {}
    while True:
        found_none: list[int] = []
        for want, tokens in groups:
            if lacking := [token for token in tokens if wants.get(token) is not want]:
                try:
                    none, gone = HomeSlots(placement, connections, want).give(lacking, leave_out=leave_out)
                except CapacityError:
                    placement.undo()
                    raise
                found_none += none
                given_up |= dict.fromkeys(gone)
        settle(placement, connections)
        # What gave way, or moved since, may have left places: the same call again must not find any.
        if found_none in ([], left):
            break
        left = found_none
    if not found_none and not given_up:
        return []
    none_of = set(found_none)
    all_asked = dict.fromkeys(token for tokens in asked.values() for token in tokens)
    return [
        *(token for token in given_up if token not in all_asked),
        *(token for token in all_asked if token in none_of),
    ]


@dataclass(frozen=True)
class Moved:
    """What a change of slots did. Tokens in ascending order."""

    moved: tuple[int, ...]
    """Those that stream from another slot than before."""
    waiting: tuple[int, ...]
    """Those that stream from fewer slots than wanted now: a home is lost, removed or full, without room elsewhere."""


class Allocation:
    """What is wanted of the accounts, and the placement that follows from it. What raises changes nothing."""

    def __init__(
        self,
        accounts: Iterable[str],
        *,
        connections: int = MAX_CONNECTIONS,
        capacity: int = MAX_INSTRUMENTS,
        strategy: Strategy = Strategy.BALANCED,
        replicas: int = 2,
    ) -> None:
        """`connections` is the number an account, `capacity` what each of them holds; `replicas` is for REDUNDANT,
        where a want does not say another number.

        Raises ValueError for numbers beyond the broker's limits and for accounts of the same name.
        """
        check_limits(capacity, replicas)
        self._accounts = list(accounts)
        self._each = connections
        self._connections = Connections(slots_of(self._accounts, connections), capacity=capacity, strategy=strategy)
        self._replicas = replicas if strategy is Strategy.REDUNDANT else 1
        self._placement = Placement()

    @property
    def slots(self) -> tuple[Slot, ...]:
        return self._connections.slots

    @property
    def lost(self) -> frozenset[Slot]:
        return self._connections.lost

    @property
    def waiting(self) -> tuple[int, ...]:
        """Tokens that stream from fewer slots than wanted, in ascending order. See `Moved.waiting`."""
        return self._short_of(all)

    @property
    def unserved(self) -> tuple[int, ...]:
        """Those of `waiting` that stream from no slot at all."""
        return self._short_of(any)

    @property
    def wants(self) -> Mapping[int, Want]:
        """Everything that is subscribed, in that order."""
        return MappingProxyType(self._placement.wants)

    @property
    def capacity(self) -> int:
        """Places in total, those of lost slots included."""
        return self._connections.capacity * len(self.slots)

    @property
    def free(self) -> int:
        """Places that are not taken, by a home or by what is away from its own."""
        held, capacity = self._placement.held, self._connections.capacity
        return sum(max(capacity - held[slot], 0) for slot in self.slots)

    def at(self, slot: Slot) -> Mapping[int, Mode]:
        """What this slot streams now, or will as soon as it works, wherever its home is."""
        return MappingProxyType(self._placement.by_slot.get(slot, _NOTHING))

    def home_slots(self, token: int) -> tuple[Slot, ...]:
        """Where an instrument belongs, one slot a replica, in the order of placing; none when it is not subscribed."""
        return tuple(home for home, _ in self._placement.replicas(token))

    def placement(self) -> dict[Slot, dict[int, Mode]]:
        """What each slot streams now: token -> mode, for slots that stream any."""
        return {slot: dict(there) for slot, there in sorted(self._placement.by_slot.items()) if there}

    def subscribe(self, tokens: Iterable[int], want: Want, *, leave_out: bool = False) -> list[int]:
        """Stream these, too. One that is there already gets its new mode and priority where it is.

        Without a number of replicas and accounts, what is there keeps those that it has. With a number, it gets so
        many. With accounts, those of its replicas that are on one of them stay where they are; they become more or
        fewer there, and those elsewhere are given up. What is new gets one replica, or with REDUNDANT the strategy's
        number, but no more than accounts are named; so does what is there and is placed by hand.

        What does not fit raises CapacityError. With `leave_out` it is left out and returned. Then new and moving
        instruments take the places of those of a larger `priority` number: of the largest first, and the latest
        subscribed first. These are unsubscribed and returned, before the others. After that the last of `tokens` are
        left out; one that is there already stays where it is. Further replicas of what is there take nobody's place.
        The same call again changes nothing.

        A lost slot has places, too. What gets one there streams elsewhere meanwhile if there is room, or something less
        important that gives way. That stays subscribed, and is not returned: it waits.

        Raises ValueError for a want that contradicts itself or names what is not there.
        """
        check_want(want, self._accounts, self._each)
        anew, keeps = self._counted(want), want.replicas is None and not want.accounts
        there = self._placement.wants
        tokens = list(dict.fromkeys(tokens))
        asked: dict[Want, list[int]] = {}
        if others := [token for token in tokens if token not in there] if keeps else tokens:
            asked[anew] = others
        self._check_by_hand(asked)
        if len(others) < len(tokens):
            for before, _, some in self._placement.alike(token for token in tokens if token in there):
                asked.setdefault(replace(before, mode=want.mode, priority=want.priority), []).extend(some)
        return place(asked, self._placement, self._connections, leave_out=leave_out)

    def bring_to(self, wants: Mapping[int, Want]) -> list[int]:
        """Stream these and nothing else, the important first. Returns those that have no room: they are left out, or
        stay where they are.

        Otherwise as `subscribe` with `leave_out`. Raises ValueError for a want that contradicts itself or names what is
        not there.
        """
        wants = dict(wants)
        same: dict[int, list[int]] = {}  # by identity, which needs no hash: many share what they want
        for token, want in wants.items():
            same.setdefault(id(want), []).append(token)
        asked: dict[Want, list[int]] = {}
        for tokens in same.values():
            want = wants[tokens[0]]
            check_want(want, self._accounts, self._each)
            asked.setdefault(self._counted(want), []).extend(tokens)
        self._check_by_hand(asked)
        self._placement.remove([token for token in self._placement.wants if token not in wants])
        return place(asked, self._placement, self._connections)

    def set_mode(self, tokens: Iterable[int], mode: Mode) -> None:
        """Change the mode of instruments that are subscribed. Raises InstrumentError when one of them is not."""
        tokens, wants = list(tokens), self._placement.wants
        if unknown := [token for token in tokens if token not in wants]:
            raise InstrumentError(
                f"{len(unknown):,} of {len(tokens):,} instruments are not subscribed, as {unknown[0]!r}"
            )
        for want, replicas, some in self._placement.alike(dict.fromkeys(tokens)):
            self._placement.put(some, replace(want, mode=mode), replicas)

    def unsubscribe(self, tokens: Iterable[int]) -> None:
        """Stream these no more; their places are free, for those that wait first. Unknown ones are ignored."""
        self._placement.remove(tokens)
        settle(self._placement, self._connections)

    def lose(self, slots: Iterable[Slot]) -> Moved:
        """These slots serve nothing now: others stream what they had, the important and heavy first.

        What is less important gives way to it where there is no room. Slots that are lost already, or are not there,
        change nothing.
        """
        losing = self.lost.union(slots).intersection(self.slots)
        return self._settle(replace(self._connections, lost=losing))

    def regain(self, slots: Iterable[Slot]) -> Moved:
        """These slots work again: their instruments come home, and so does what gave way to them.

        Slots that are not lost change nothing.
        """
        return self._settle(replace(self._connections, lost=self.lost.difference(slots)))

    def add_account(self, name: str) -> Moved:
        """Use this account too. Instruments that had a home on it come home. Raises ValueError when it is there."""
        if name in self._accounts:
            raise ValueError(f"got account {name!r}, which is there already; expected another name")
        return self._use([*self._accounts, name])

    def remove_account(self, name: str) -> Moved:
        """Use this account no more: others stream its instruments. Raises ValueError when it is not there."""
        check_account(name, self._accounts)
        return self._use([other for other in self._accounts if other != name])

    def _use(self, accounts: list[str]) -> Moved:
        slots = slots_of(accounts, self._each)
        self._accounts = accounts
        return self._settle(replace(self._connections, slots=slots, lost=self.lost.intersection(slots)))

    def _settle(self, connections: Connections) -> Moved:
        placement = self._placement
        placement.changes.clear()
        self._connections = connections
        settle(placement, connections)
        working = frozenset(connections.working)
        moved = []
        for _, after, tokens in placement.alike(placement.changes):
            now = {current for _, current in after if current in working}
            befores = {id(before): before for before in map(placement.changes.__getitem__, tokens) if before}
            moving = {
                key: bool(now.difference(current for _, current in before)) for key, (_, before) in befores.items()
            }
            moved += [token for token in tokens if moving[id(placement.changes[token])]]
        return Moved(tuple(sorted(moved)), self.waiting)

    def _short_of(self, enough: Callable[[Iterable[bool]], bool]) -> tuple[int, ...]:
        """Tokens of whose replicas not all, or not any, stream."""
        working, placement = frozenset(self._connections.working), self._placement
        return tuple(
            sorted(
                token
                for _, replicas, some in misplaced(placement, working)
                if not enough(current in working for _, current in replicas)
                for token in some
            )
        )

    def _counted(self, want: Want) -> Want:
        """The same with the number of replicas that it stands for."""
        if want.replicas is not None:
            return want
        return replace(want, replicas=min(self._replicas, len(set(want.accounts))) if want.accounts else self._replicas)

    def _check_by_hand(self, asked: Mapping[Want, Sequence[int]]) -> None:
        if self._connections.strategy is not Strategy.MANUAL:
            return
        wants = self._placement.wants
        new = sum(token not in wants for want, tokens in asked.items() if not want.accounts for token in tokens)
        if new:
            raise ValueError(f"got {new:,} new instruments without an account, expected account=: placement is manual")
