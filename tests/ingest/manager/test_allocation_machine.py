"""Allocation, whatever happens in whatever order: within the limits, nothing lost or streamed twice, and nothing moves
that need not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ingest.errors import CapacityError, InstrumentError
from ingest.manager.allocation import Allocation, Moved
from ingest.manager.home_slots import fits
from ingest.manager.want import Slot, Want, slots_of
from ingest.settings import Strategy
from ingest.wire import Mode
from tests.support.placement import state

pytestmark = pytest.mark.slow

NAMES = ("one", "two", "three")
TOKENS = st.integers(1, 24)
MODES = st.sampled_from(Mode)
ACCOUNTS = st.lists(st.sampled_from(NAMES), max_size=4).map(tuple)
SLOTS = st.lists(st.builds(Slot, st.sampled_from(NAMES), st.integers(1, 3)), max_size=4)


def want_of(mode: Mode, priority: int, replicas: int | None, accounts: tuple[str, ...], connection: int | None) -> Want:
    return Want(mode, priority, replicas, accounts, connection if len(set(accounts)) == 1 else None)


WANTS = st.builds(
    want_of,
    MODES,
    st.integers(0, 2),
    st.none() | st.integers(1, 3),
    st.just(()) | ACCOUNTS,
    st.none() | st.integers(1, 3),
)


@dataclass(frozen=True)
class Seen:
    """What can be seen of an allocation at one moment."""

    capacity: int
    slots: tuple[Slot, ...]
    working: frozenset[Slot]
    wants: Mapping[int, Want]
    homes: Mapping[int, tuple[Slot, ...]]
    at: Mapping[Slot, Mapping[int, Mode]]
    waiting: tuple[int, ...]

    @classmethod
    def of(cls, allocation: Allocation, capacity: int) -> "Seen":
        return cls(
            capacity,
            allocation.slots,
            frozenset(allocation.slots) - allocation.lost,
            dict(allocation.wants),
            {token: allocation.home_slots(token) for token in allocation.wants},
            {slot: dict(allocation.at(slot)) for slot in allocation.slots},
            allocation.waiting,
        )

    def where(self, token: int) -> set[Slot]:
        return {slot for slot, there in self.at.items() if token in there}

    def serving(self, token: int) -> set[Slot]:
        return self.where(token) & self.working

    def away(self) -> set[int]:
        """Tokens with a replica that is not at home though that works: it gave way there."""
        return {token for token, homes in self.homes.items() if (set(homes) & self.working) - self.serving(token)}

    def held(self, slot: Slot) -> set[int]:
        return {token for token, homes in self.homes.items() if slot in homes} | set(self.at[slot])

    def rooms(self, slots: Iterable[Slot]) -> dict[str, int]:
        """The free places of each account, counted from homes and placement."""
        rooms: dict[str, int] = {}
        for slot in slots:
            rooms[slot.account] = rooms.get(slot.account, 0) + max(self.capacity - len(self.held(slot)), 0)
        return rooms

    def open_to(self, priority: int, slot: Slot) -> bool:
        """Whether there is room, or something less important."""
        there = self.at[slot]
        return len(there) < self.capacity or any(self.wants[other].priority > priority for other in there)


def gave_way(token: int, slot: Slot, before: Seen, after: Seen) -> bool:
    """Whether this slot, which streamed the token before, is full of what is more important, some of it new."""
    priorities = {other: after.wants[other].priority for other in after.at[slot]}
    priority = after.wants[token].priority
    more = any(priorities[other] < priority for other in priorities.keys() - before.at[slot].keys())
    return more and len(priorities) == after.capacity and max(priorities.values()) <= priority


def check_still(token: int, before: Seen, after: Seen) -> None:
    """A token is where it was, or gave way, or went home."""
    assert after.homes[token] == before.homes[token]
    now = after.where(token)
    for slot in before.serving(token) - now:
        assert slot not in after.working or gave_way(token, slot, before, after) or now & set(after.homes[token])


class Machine(RuleBasedStateMachine):
    @initialize(
        accounts=st.integers(0, 3),
        connections=st.integers(1, 3),
        capacity=st.integers(2, 4),
        strategy=st.sampled_from(Strategy),
    )
    def begin(self, accounts: int, connections: int, capacity: int, strategy: Strategy) -> None:
        self.allocation = Allocation(NAMES[:accounts], connections=connections, capacity=capacity, strategy=strategy)
        self.connections, self.capacity, self.strategy = connections, capacity, strategy
        self.modes: dict[int, Mode] = {}
        self.replicas: dict[int, int] = {}
        self.by_hand: dict[int, frozenset[str]] = {}

    def call(self, name: str, *args: Any, **options: Any) -> Any:
        """What raises changes nothing."""
        before = state(self.allocation)
        try:
            result = getattr(self.allocation, name)(*args, **options)
        except (ValueError, CapacityError, InstrumentError):
            assert state(self.allocation) == before
            raise
        return result

    def seen(self) -> Seen:
        return Seen.of(self.allocation, self.capacity)

    @property
    def accounts(self) -> set[str]:
        return {slot.account for slot in self.allocation.slots}

    def number(self, want: Want) -> int:
        """How many replicas what is new gets."""
        default = 2 if self.strategy is Strategy.REDUNDANT else 1
        return want.replicas or (min(default, len(set(want.accounts))) if want.accounts else default)

    def is_wrong(self, want: Want, new: int) -> bool:
        unknown = not set(want.accounts) <= self.accounts
        beyond = want.connection is not None and want.connection > self.connections
        many = bool(want.accounts) and want.replicas is not None and want.replicas > len(set(want.accounts))
        return unknown or beyond or many or (self.strategy is Strategy.MANUAL and bool(new) and not want.accounts)

    @rule(tokens=st.lists(TOKENS, min_size=1, max_size=9), want=WANTS, leave_out=st.booleans())
    def subscribe(self, tokens: list[int], want: Want, leave_out: bool) -> None:
        before = self.seen()
        new = [token for token in dict.fromkeys(tokens) if token not in self.modes]
        rooms = before.rooms(slot for slot in before.slots if want.allows(slot))
        fitting = fits(len(new), rooms.values(), self.number(want))
        only_new_ones_need_room = len(new) == len(set(tokens)) or (not want.accounts and want.replicas is None)
        if self.is_wrong(want, len(new)):
            with pytest.raises(ValueError, match="expected"):
                self.call("subscribe", tokens, want, leave_out=leave_out)
            return
        try:
            left = self.call("subscribe", tokens, want, leave_out=leave_out)
        except CapacityError:
            assert not leave_out
            assert not only_new_ones_need_room or fitting < len(new)
            return
        assert leave_out or not left
        self.check_the_same_again(left, "subscribe", tokens, want, leave_out=leave_out)
        after = self.seen()
        removed = [token for token in left if token not in tokens]
        self.check_removed(removed, want.priority, before)
        if only_new_ones_need_room:
            missing = [token for token in new if token in left]
            assert new[len(new) - len(missing) :] == missing, "the last ones"
            assert not removed or fitting < len(new)
            assert removed or len(missing) == len(new) - fitting or before.waiting or before.away()
        self.note(tokens, want, left)
        for token in before.wants.keys() & after.wants.keys():
            if token not in tokens or token in left or (not want.accounts and want.replicas is None):
                check_still(token, before, after)

    def check_the_same_again(
        self, left: list[int], name: str, tokens: Iterable[int], *args: Any, **options: Any
    ) -> None:
        after = state(self.allocation)
        again = self.call(name, tokens, *args, **options)
        assert state(self.allocation) == after, "the same again changes nothing"
        assert len(left) == len(set(left))
        assert again == [token for token in left if token in tokens]

    def check_removed(self, removed: list[int], priority: int, before: Seen) -> None:
        """The less important, of these the latest, first."""
        ranks = [(-before.wants[token].priority, -list(before.wants).index(token)) for token in removed]
        assert ranks == sorted(ranks)
        assert all(before.wants[token].priority > priority for token in removed)
        self.forget(removed)

    def note(self, tokens: Iterable[int], want: Want, left: list[int]) -> None:
        """What is to be expected from now on."""
        for token in dict.fromkeys(tokens):
            if token not in self.modes and token in left:
                continue
            if token not in left:
                new = token not in self.modes
                if new or want.accounts or want.replicas is not None:
                    self.replicas[token] = self.number(want)
                    self.by_hand[token] = frozenset(want.accounts)
            self.modes[token] = want.mode

    @rule(wants=st.dictionaries(TOKENS, WANTS, max_size=14))
    def bring_to(self, wants: dict[int, Want]) -> None:
        before = self.seen()
        if any(self.is_wrong(want, token not in self.modes) for token, want in wants.items()):
            with pytest.raises(ValueError, match="expected"):
                self.call("bring_to", wants)
            return
        left = self.call("bring_to", wants)
        self.check_the_same_again(left, "bring_to", wants)
        after = self.seen()
        self.forget(before.wants.keys() - after.wants.keys())
        assert set(wants) - set(left) <= after.wants.keys() <= wants.keys()
        for token, want in wants.items():
            if token not in left:
                self.replicas[token], self.by_hand[token] = self.number(want), frozenset(want.accounts)
            if token in after.wants:
                assert after.wants[token].priority == want.priority
                self.modes[token] = want.mode
            elif self.number(want) == 1:
                slots = {slot for slot in after.slots if want.allows(slot)}
                assert not sum(after.rooms(slots).values()), "there was a place for it"
                held = set().union(*(after.held(slot) for slot in slots))
                assert all(after.wants[other].priority <= want.priority for other in held)

    @rule(tokens=st.lists(TOKENS, max_size=3), mode=MODES)
    def set_mode(self, tokens: list[int], mode: Mode) -> None:
        if set(tokens) <= set(self.modes):
            before = self.allocation.placement()
            self.call("set_mode", tokens, mode)
            self.modes |= dict.fromkeys(tokens, mode)
            assert {slot: set(there) for slot, there in self.allocation.placement().items()} == {
                slot: set(there) for slot, there in before.items()
            }
        else:
            with pytest.raises(InstrumentError, match=f"of {len(tokens)} instruments are not subscribed, as "):
                self.call("set_mode", tokens, mode)

    @rule(tokens=st.lists(TOKENS, max_size=9))
    def unsubscribe(self, tokens: list[int]) -> None:
        before, free = self.seen(), self.allocation.free
        self.call("unsubscribe", tokens)
        self.forget(tokens)
        after = self.seen()
        for token in self.modes:
            check_still(token, before, after)
        if not before.waiting and not before.away():
            gone = before.wants.keys() - after.wants.keys()
            assert self.allocation.free == free + sum(len(before.held(slot) & gone) for slot in before.slots)

    def forget(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            for kept in (self.modes, self.replicas, self.by_hand):
                kept.pop(token, None)

    @rule(slots=SLOTS)
    def lose(self, slots: list[Slot]) -> None:
        self.moved("lose", slots)

    @rule(slots=SLOTS)
    def regain(self, slots: list[Slot]) -> None:
        self.moved("regain", slots)

    @rule(name=st.sampled_from(NAMES))
    def whole_account(self, name: str) -> None:
        slots = slots_of([name], self.connections)
        self.moved("regain" if set(slots) & self.allocation.lost else "lose", slots)

    @rule(name=st.sampled_from(NAMES))
    def add_or_remove_account(self, name: str) -> None:
        there = name in self.accounts
        with pytest.raises(ValueError, match="got account"):
            self.call("add_account" if there else "remove_account", name)
        self.moved("remove_account" if there else "add_account", name)

    def moved(self, name: str, argument: object) -> None:
        before = self.seen()
        result = self.call(name, argument)
        after = self.seen()
        assert after.homes == before.homes
        assert result.waiting == after.waiting
        # What waited at a lost home streams from there once it is back, which is no move.
        assert result.moved == tuple(sorted(t for t in self.modes if after.serving(t) - before.where(t)))
        if (before.working, before.slots) == (after.working, after.slots):
            assert result == Moved((), before.waiting)
            assert after == before
        for token in self.modes:
            back = (after.serving(token) - before.serving(token)) & set(after.homes[token])
            for slot in (before.serving(token) - after.serving(token)) & after.working:
                assert back or gave_way(token, slot, before, after), "it left a slot that works"

    @invariant()
    def all_holds(self) -> None:
        seen = self.seen()
        self.check_limits_and_modes(seen)
        self.check_each_instrument_is_where_it_must_be(seen)
        self.check_what_waits_has_no_slot_that_is_open_to_it(seen)
        self.check_when_every_slot_works_each_is_at_home(seen)

    def check_limits_and_modes(self, seen: Seen) -> None:
        assert {token: want.mode for token, want in seen.wants.items()} == self.modes
        capacity = seen.capacity
        homes = [home for each in seen.homes.values() for home in each]
        assert all(homes.count(home) <= capacity for home in homes)
        assert all(len(there) <= capacity for there in seen.at.values())
        assert self.allocation.capacity == capacity * len(seen.slots)
        assert self.allocation.free == sum(seen.rooms(seen.slots).values())
        assert all(self.modes[token] is mode for there in seen.at.values() for token, mode in there.items())
        placement = self.allocation.placement()
        assert placement == {slot: there for slot, there in seen.at.items() if there}
        assert list(placement) == sorted(placement)

    def check_each_instrument_is_where_it_must_be(self, seen: Seen) -> None:
        for token, homes in seen.homes.items():
            at = seen.where(token)
            assert len({home.account for home in homes}) == len(homes) == self.replicas[token]
            assert len({slot.account for slot in at}) == len(at) <= len(homes)
            assert at - seen.working <= set(homes), "a lost slot streams what it is the home of"
            assert not (at - set(homes) and at >= set(homes)), "what is away has a home that it is away from"
            assert not self.by_hand[token] or {home.account for home in homes} <= self.by_hand[token]
        served = {token: len(seen.serving(token)) for token in seen.wants}
        waiting = [token for token, homes in seen.homes.items() if served[token] < len(homes)]
        assert seen.waiting == tuple(sorted(waiting))
        assert self.allocation.unserved == tuple(sorted(token for token in waiting if not served[token]))

    def check_what_waits_has_no_slot_that_is_open_to_it(self, seen: Seen) -> None:
        for token in seen.waiting:
            homes, at = set(seen.homes[token]), seen.where(token)
            # Which of the replicas waits is not seen from outside when some are away.
            if at & seen.working <= homes:
                for home in homes - (at & seen.working):
                    others = {slot.account for slot in (*homes, *at) if slot != home}
                    for slot in seen.working:
                        assert slot.account in others or not seen.open_to(seen.wants[token].priority, slot)

    def check_when_every_slot_works_each_is_at_home(self, seen: Seen) -> None:
        if seen.working == set(seen.slots) >= {home for homes in seen.homes.values() for home in homes}:
            assert not seen.away()
            assert seen.waiting == ()

    def teardown(self) -> None:
        """When everything is back, each is at home."""
        if not hasattr(self, "allocation"):
            return
        for name in NAMES:
            if name not in self.accounts:
                self.call("add_account", name)
        self.call("regain", self.allocation.slots)
        seen = self.seen()
        assert seen.waiting == ()
        assert all(seen.where(token) == set(homes) for token, homes in seen.homes.items())


TestMachine = pytest.mark.timeout(1200)(Machine.TestCase)  # as many examples as the profile says
