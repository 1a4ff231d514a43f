"""Home slots: everything fits or nothing is placed, within the broker's limits, balanced, and the same every time."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from itertools import combinations
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import CapacityError
from ingest.manager.allocation import place
from ingest.manager.home_slots import all_fit, fits
from ingest.manager.replicas import Placement
from ingest.manager.want import LOAD, Connections, Slot, Want, slots_of
from ingest.settings import MAX_INSTRUMENTS, Strategy
from ingest.wire import Mode

LTP, QUOTE, FULL = Mode.LTP, Mode.QUOTE, Mode.FULL
MODES = st.sampled_from(list(Mode))
INSTRUMENTS = st.dictionaries(st.integers(1, 2**32 - 1), MODES, max_size=60)
ACCOUNTS = st.integers(1, 4).map(lambda n: [f"account-{i}" for i in range(n)])
NOTHING = Placement()


def ask(instruments: Mapping[int, Mode], replicas: int = 1, **how: int | tuple[str, ...]) -> dict[Want, list[int]]:
    """The heaviest first."""
    asked: dict[Want, list[int]] = {}
    for token, mode in sorted(instruments.items(), key=lambda item: -LOAD[item[1]]):
        asked.setdefault(Want(mode, replicas=replicas, **how), []).append(token)  # type: ignore[arg-type]
    return asked


def spread(
    instruments: Mapping[int, Mode],
    connections: Connections,
    before: Placement = NOTHING,
    replicas: int = 1,
) -> Placement:
    """All of them, or CapacityError."""
    after, _ = placed_with(ask(instruments, replicas), before, connections, leave_out=False)
    return after


def placed_with(
    asked: Mapping[Want, Sequence[int]], before: Placement, connections: Connections, *, leave_out: bool = True
) -> tuple[Placement, list[int]]:
    """The placement with what is asked for, and what is left out; the one before stays as it is."""
    after = deepcopy(before)
    return after, place(asked, after, connections, leave_out=leave_out)


def within(accounts: Iterable[str], connections: int = 3, capacity: int = MAX_INSTRUMENTS) -> Connections:
    return Connections(slots_of(accounts, connections), capacity=capacity)


def load(instruments: Mapping[int, Mode]) -> int:
    return sum(LOAD[mode] for mode in instruments.values())


@given(st.dictionaries(st.integers(1, 99), st.just(FULL), max_size=60), ACCOUNTS, st.integers(1, 3), st.integers(1, 20))
def test_all_or_nothing(instruments: dict[int, Mode], accounts: list[str], connections: int, capacity: int) -> None:
    there = within(accounts, connections, capacity)
    total = capacity * len(there.slots)
    if len(instruments) > total:
        with pytest.raises(CapacityError) as caught:
            spread(instruments, there)
        assert (caught.value.wanted, caught.value.capacity) == (len(instruments), total)
        return
    placed = spread(instruments, there).by_slot
    everything = [item for tokens in placed.values() for item in tokens.items()]
    assert sorted(everything) == sorted(instruments.items()), "each instrument once, in its mode"
    assert all(1 <= len(tokens) <= capacity for tokens in placed.values())
    assert set(placed) <= set(there.slots)


@given(INSTRUMENTS, ACCOUNTS, st.integers(1, 3))
def test_balanced_by_load(instruments: dict[int, Mode], accounts: list[str], connections: int) -> None:
    """Where room is no matter, no connection has more than the least loaded one has, and one heavy instrument."""
    there = within(accounts, connections)
    placed = spread(instruments, there).by_slot
    loads = [load(placed.get(slot, {})) for slot in there.slots]
    assert max(loads) - min(loads) <= max(LOAD.values())


@given(INSTRUMENTS, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(instruments: dict[int, Mode], random: object) -> None:
    items = list(instruments.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    there = within(["one", "two"], capacity=20)
    assert spread(dict(items), there).by_slot == spread(instruments, there).by_slot


@given(INSTRUMENTS, INSTRUMENTS, st.integers(1, 20))
def test_additions_leave_what_is_placed(first: dict[int, Mode], second: dict[int, Mode], capacity: int) -> None:
    there = within(["one", "two"], capacity=capacity)
    new = {token: mode for token, mode in second.items() if token not in first}
    total = capacity * len(there.slots)
    if len(first) > total:
        return
    before = spread(first, there)
    if len(first) + len(new) > total:
        with pytest.raises(CapacityError):
            spread(new, there, before)
        return
    after = spread(new, there, before)
    assert {token: after.replicas(token) for token in first} == {token: before.replicas(token) for token in first}
    everything = [item for tokens in after.by_slot.values() for item in tokens.items()]
    assert sorted(everything) == sorted((first | new).items())
    assert all(len(tokens) <= capacity for tokens in after.by_slot.values())


def test_full_house() -> None:
    there = within(["one", "two"])
    placed = spread(dict.fromkeys(range(1, 18_001), FULL), there).by_slot
    assert {slot: len(tokens) for slot, tokens in placed.items()} == dict.fromkeys(there.slots, MAX_INSTRUMENTS)


def test_too_many_are_refused_with_numbers() -> None:
    with pytest.raises(CapacityError, match=r"^9,001 instruments do not fit on 3 connections of 3,000: 9,000 is the "):
        spread(dict.fromkeys(range(1, 9_002), LTP), within(["one"]))


def test_heavy_modes_weigh_more() -> None:
    """One full instrument costs as much as many ltp ones, so those go elsewhere."""
    placed = spread({1: FULL, **dict.fromkeys(range(2, 12), LTP)}, within(["one"], 2)).by_slot
    assert placed == {Slot("one", 1): {1: FULL}, Slot("one", 2): dict.fromkeys(range(2, 12), LTP)}


def test_what_is_there_costs_nothing_when_one_more_comes() -> None:
    """So who subscribes thousands one at a time does not wait ever longer."""

    def steps(count: int) -> int:
        there, want = within(["one", "two"]), Want(FULL, replicas=1)
        before = spread(dict.fromkeys(range(1, count + 1), FULL), there)
        done = 0

        def trace(_frame: FrameType, _event: str, _argument: Any) -> Any:
            nonlocal done
            done += 1
            return trace

        others = sys.gettrace()
        sys.settrace(trace)
        try:
            place({want: [count + 1]}, before, there)
        finally:
            sys.settrace(others)
        return done

    assert 0 < steps(3000) <= steps(30) * 1.1


# Replicas.


def taken(slots: Iterable[Slot], rooms: Iterable[int], capacity: int) -> Placement:
    """A placement that leaves so much room on each slot."""
    before, tokens = NOTHING, iter(range(1000, 2000))
    for slot, room in zip(slots, rooms, strict=True):
        want = Want(LTP, replicas=1, accounts=(slot.account,), connection=slot.connection)
        some = [next(tokens) for _ in range(capacity - room)]
        before, _ = placed_with({want: some}, before, Connections(tuple(slots), capacity=capacity), leave_out=False)
    return before


@given(
    st.dictionaries(st.integers(1, 99), st.just(FULL), max_size=5),
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=2), min_size=1, max_size=4),
    st.integers(2, 3),
    st.sets(st.integers(0, 7)),
    st.sampled_from(list(Strategy)),
)
def test_replicas_are_placed_whenever_that_is_possible(
    instruments: dict[int, Mode], rooms: list[list[int]], replicas: int, late: set[int], strategy: Strategy
) -> None:
    """Whatever is there already, and whichever slots are lost; compared with trying everything."""
    slots = tuple(Slot(f"account-{i}", number) for i, each in enumerate(rooms) for number, _ in enumerate(each, 1))
    before = taken(slots, (room for each in rooms for room in each), 2)

    by_account = [sum(each) for each in rooms]
    fitting = max(n for n in range(len(instruments) + 1) if possible(n, by_account, replicas))
    assert fits(len(instruments), by_account, replicas) == fitting
    assert all_fit(len(instruments), by_account, replicas) == (fitting == len(instruments))
    lost = frozenset(slot for number, slot in enumerate(slots) if number in late)
    there = Connections(slots, lost, capacity=2, strategy=strategy)
    if fitting < len(instruments):
        with pytest.raises(CapacityError, match=f"^{replicas} copies of {len(instruments)} instruments ") as caught:
            spread(instruments, there, before, replicas)
        assert caught.value.wanted == 2 * len(slots) - sum(by_account) + len(instruments) * replicas
        assert caught.value.capacity == 2 * len(slots)
        return
    after = spread(instruments, there, before, replicas)
    for token in instruments:
        on = [home.account for home, _ in after.replicas(token)]
        assert len(on) == len(set(on)) == replicas
    homes = [home for _, each in after.there.values() for home, _ in each]
    assert all(homes.count(slot) <= 2 for slot in slots)


def possible(count: int, rooms: Iterable[int], replicas: int) -> bool:
    """Whether so many fit, by trying every choice of accounts for each."""
    states = {tuple(sorted(rooms))}
    for _ in range(count):
        states = {
            tuple(sorted(room - (i in chosen) for i, room in enumerate(state)))
            for state in states
            for chosen in combinations(range(len(state)), replicas)
            if all(state[i] for i in chosen)
        }
    return bool(states)


@given(INSTRUMENTS, st.integers(1, 3))
def test_replicas_are_balanced(instruments: dict[int, Mode], connections: int) -> None:
    """Two replicas on two accounts: each has all of them, and spreads them as if it were alone."""
    placed = spread(instruments, within(["one", "two"], connections), replicas=2).by_slot
    for name in "one", "two":
        alone = spread(instruments, within([name], connections)).by_slot
        assert {slot: tokens for slot, tokens in placed.items() if slot.account == name} == alone


def test_further_replicas_go_where_none_is_and_the_most_room() -> None:
    slots = slots_of(["one", "two", "three"], 1)
    there, want = Connections(slots, capacity=4), Want(LTP, replicas=1, accounts=("one",))
    before, _ = placed_with({want: [1, 2, 3]}, taken(slots, [3, 3, 2], 4), there)
    assert before.by_slot[slots[0]].keys() >= {1, 2, 3}
    after, left = placed_with({Want(LTP, replicas=2): [1, 2, 3]}, before, there)
    assert left == []
    assert sorted(after.replicas(token)[1].home_slot.account for token in (1, 2, 3)) == ["three", "two", "two"]
    assert [after.replicas(token)[0] for token in (1, 2, 3)] == [before.replicas(token)[0] for token in (1, 2, 3)]
    _, left = placed_with({Want(LTP, replicas=3): [1, 2, 3]}, before, there)
    assert left == [3], "five places for six"


@pytest.mark.parametrize("replicas", [1, 2])
def test_slots_that_are_lost_get_what_the_others_cannot_take(replicas: int) -> None:
    slots = slots_of(["one", "two", "three"], 1)
    there = Connections(slots, frozenset(slots[1:2]), capacity=4)

    def homes_on_the_lost_one(count: int) -> int:
        placed = spread(dict.fromkeys(range(1, count + 1), FULL), there, replicas=replicas)
        return sum(home == slots[1] for _, each in placed.there.values() for home, _ in each)

    assert homes_on_the_lost_one(4) == 0
    assert homes_on_the_lost_one(6) == {1: 0, 2: 4}[replicas]


def test_lost_slots_are_used_in_time() -> None:
    """If the first instrument took the two accounts that work, the second would find room on one only."""
    slots = slots_of(["one", "two", "three"], 1)
    there = Connections(slots, frozenset(slots[2:]), capacity=4)
    placed = spread({1: FULL, 2: FULL}, there, taken(slots, [1, 1, 4], 4), replicas=2)
    homes = [home.account for token in (1, 2) for home, _ in placed.replicas(token)]
    assert sorted(homes) == ["one", "three", "three", "two"]


def test_replicas_that_do_not_fit_are_refused_with_numbers() -> None:
    with pytest.raises(CapacityError) as caught:
        spread(dict.fromkeys(range(1, 6), LTP), within(["one", "two"], 2, capacity=2), replicas=2)
    assert str(caught.value) == (
        "2 copies of 5 instruments do not fit on 2 accounts with 4 connections of 2: "
        "there is room for 4, 1 are too many"
    )
    assert (caught.value.wanted, caught.value.capacity) == (10, 8)


@pytest.mark.parametrize(("accounts", "end"), [(["one", "two"], "got 2: one, two"), ([], "got 0")])
def test_more_replicas_than_accounts(accounts: list[str], end: str) -> None:
    with pytest.raises(CapacityError, match=f"^3 copies of 1 instruments need 3 accounts, {end}$"):
        spread({1: LTP}, within(accounts), replicas=3)


# In turn.


@given(st.lists(st.integers(1, 2**32 - 1), unique=True, max_size=60), ACCOUNTS, st.integers(1, 3))
def test_round_robin_deals_in_turn(tokens: list[int], accounts: list[str], connections: int) -> None:
    there = Connections(slots_of(accounts, connections), strategy=Strategy.ROUND_ROBIN)
    placed = spread(dict.fromkeys(tokens, LTP), there)
    found = {slot: [token for token in tokens if placed.replicas(token)[0].home_slot == slot] for slot in there.slots}
    assert found == {slot: tokens[i :: len(there.slots)] for i, slot in enumerate(there.slots)}


def test_round_robin_begins_where_the_fewest_are() -> None:
    slots = slots_of(["one"], 3)
    there = Connections(slots, capacity=3, strategy=Strategy.ROUND_ROBIN)
    placed = spread(dict.fromkeys([6, 5, 4, 3], QUOTE), there, taken(slots, [1, 2, 3], 3)).by_slot
    assert [[token for token in (6, 5, 4, 3) if token in placed[slot]] for slot in slots] == [[3], [5], [6, 4]]
