"""Placement: everything fits or nothing is placed, within the broker's limits, balanced, and the same every time."""

from collections.abc import Iterable
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import CapacityError
from ingest.manager.placement import LOAD, Fill, Further, Slot, all_fit, fits, place, place_further, rooms_of, slots_of
from ingest.settings import MAX_INSTRUMENTS, Strategy
from ingest.wire import Mode

MODES = st.sampled_from(list(Mode))
INSTRUMENTS = st.dictionaries(st.integers(1, 2**32 - 1), MODES, max_size=60)
ACCOUNTS = st.integers(1, 4).map(lambda n: [f"account-{i}" for i in range(n)])


def load(instruments: dict[int, Mode]) -> int:
    return sum(LOAD[mode] for mode in instruments.values())


@given(INSTRUMENTS, ACCOUNTS, st.integers(1, 3), st.integers(1, 20))
def test_all_or_nothing(instruments: dict[int, Mode], accounts: list[str], connections: int, capacity: int) -> None:
    slots = slots_of(accounts, connections)
    total = capacity * len(slots)
    if len(instruments) > total:
        with pytest.raises(CapacityError) as caught:
            place(instruments, slots, capacity=capacity)
        assert (caught.value.wanted, caught.value.capacity) == (len(instruments), total)
        return
    placed = place(instruments, slots, capacity=capacity)
    everything = [item for there in placed.values() for item in there.items()]
    assert sorted(everything) == sorted(instruments.items()), "each instrument once, in its mode"
    assert all(1 <= len(there) <= capacity for there in placed.values())
    assert set(placed) <= set(slots)


@given(INSTRUMENTS, ACCOUNTS, st.integers(1, 3))
def test_balanced_by_load(instruments: dict[int, Mode], accounts: list[str], connections: int) -> None:
    """Where room is no matter, no connection has more than the least loaded one has, and one heavy instrument."""
    slots = slots_of(accounts, connections)
    placed = place(instruments, slots)
    loads = [load(placed.get(slot, {})) for slot in slots]
    assert max(loads) - min(loads) <= max(LOAD.values())


@given(INSTRUMENTS, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(instruments: dict[int, Mode], random: object) -> None:
    slots = slots_of(["one", "two"])
    items = list(instruments.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    assert place(dict(items), slots, capacity=20) == place(instruments, slots, capacity=20)


@given(INSTRUMENTS, INSTRUMENTS, st.integers(1, 20))
def test_additions_leave_what_is_placed(first: dict[int, Mode], second: dict[int, Mode], capacity: int) -> None:
    slots = slots_of(["one", "two"])
    new = {token: mode for token, mode in second.items() if token not in first}
    total = capacity * len(slots)
    if len(first) > total:
        return
    before = place(first, slots, capacity=capacity)
    if len(first) + len(new) > total:
        with pytest.raises(CapacityError):
            place(new, slots, capacity=capacity, placed=before)
        return
    added = place(new, slots, capacity=capacity, placed=before)
    assert sorted(item for there in added.values() for item in there.items()) == sorted(new.items())
    for slot in slots:
        assert len(before.get(slot, {})) + len(added.get(slot, {})) <= capacity


def test_full_house() -> None:
    slots = slots_of(["one", "two"])
    instruments = dict.fromkeys(range(1, 18_001), Mode.FULL)
    placed = place(instruments, slots)
    assert {slot: len(there) for slot, there in placed.items()} == dict.fromkeys(slots, MAX_INSTRUMENTS)


def test_too_many_are_refused_with_numbers() -> None:
    with pytest.raises(CapacityError, match=r"^9,001 instruments do not fit on 3 connections of 3,000: 9,000 is the "):
        place(dict.fromkeys(range(1, 9_002), Mode.LTP), slots_of(["one"]))


def test_heavy_modes_weigh_more() -> None:
    """One full instrument costs as much as many ltp ones, so those go elsewhere."""
    placed = place({1: Mode.FULL, **dict.fromkeys(range(2, 12), Mode.LTP)}, slots_of(["one"], 2))
    assert placed == {
        Slot("one", 1): {1: Mode.FULL},
        Slot("one", 2): dict.fromkeys(range(2, 12), Mode.LTP),
    }


def test_first_connections_of_all_accounts_come_first() -> None:
    assert slots_of(["b", "a"], 2) == [Slot("b", 1), Slot("a", 1), Slot("b", 2), Slot("a", 2)]


@pytest.mark.parametrize(("accounts", "connections"), [(["one"], 0), (["one"], 4), (["one", "one"], 1)])
def test_slots_beyond_the_limits(accounts: list[str], connections: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        slots_of(accounts, connections)


@pytest.mark.parametrize("capacity", [0, 3001])
def test_capacity_beyond_the_limits(capacity: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to 3000"):
        place({}, slots_of(["one"]), capacity=capacity)


@given(
    st.dictionaries(st.integers(1, 99), MODES, max_size=5),
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=2), min_size=1, max_size=4),
    st.integers(2, 3),
    st.sets(st.integers(0, 7)),
    st.sampled_from(list(Strategy)),
)
@settings(max_examples=200)
def test_copies_are_placed_whenever_that_is_possible(
    instruments: dict[int, Mode], rooms: list[list[int]], copies: int, late: set[int], strategy: Strategy
) -> None:
    """Whatever is there already, and whichever slots are to come last; compared with trying everything."""
    slots = [Slot(f"account-{i}", number) for i, each in enumerate(rooms) for number, _ in enumerate(each, 1)]
    placed = dict(zip(slots, (Fill(2 - room, 0) for each in rooms for room in each), strict=True))
    last = [slot for number, slot in enumerate(slots) if number in late]
    by_account = rooms_of(placed, 2)
    assert list(by_account.values()) == [sum(each) for each in rooms]
    fitting = max(n for n in range(len(instruments) + 1) if possible(n, by_account.values(), copies))
    assert fits(len(instruments), by_account.values(), copies) == fitting
    assert all_fit(len(instruments), by_account.values(), copies) == (fitting == len(instruments))

    def spread() -> dict[Slot, dict[int, Mode]]:
        return place(instruments, slots, capacity=2, placed=placed, strategy=strategy, copies=copies, last=last)

    if fitting < len(instruments):
        with pytest.raises(CapacityError, match=f"^{copies} copies of {len(instruments)} instruments ") as caught:
            spread()
        taken = sum(fill.instruments for fill in placed.values())
        assert caught.value.wanted == taken + len(instruments) * copies
        assert caught.value.capacity == 2 * len(slots)
        return
    added = spread()
    for token, mode in instruments.items():
        on = [slot.account for slot, there in added.items() if token in there]
        assert len(on) == len(set(on)) == copies
        assert all(there.get(token, mode) is mode for there in added.values())
    assert all(len(there) + placed[slot].instruments <= 2 for slot, there in added.items())


def possible(count: int, rooms: Iterable[int], copies: int) -> bool:
    """Whether so many fit, by trying every choice of accounts for each."""
    states = {tuple(sorted(rooms))}
    for _ in range(count):
        states = {
            tuple(sorted(room - (i in chosen) for i, room in enumerate(state)))
            for state in states
            for chosen in combinations(range(len(state)), copies)
            if all(state[i] for i in chosen)
        }
    return bool(states)


@given(INSTRUMENTS, st.integers(1, 3))
def test_copies_are_balanced(instruments: dict[int, Mode], connections: int) -> None:
    """Two copies on two accounts: each has all of them, and spreads them as if it were alone."""
    placed = place(instruments, slots_of(["one", "two"], connections), copies=2)
    for name in "one", "two":
        assert {slot: there for slot, there in placed.items() if slot.account == name} == place(
            instruments, slots_of([name], connections)
        )


@given(INSTRUMENTS, ACCOUNTS, st.integers(1, 3))
def test_round_robin_deals_in_turn(instruments: dict[int, Mode], accounts: list[str], connections: int) -> None:
    slots = slots_of(accounts, connections)
    tokens = list(instruments)
    placed = place(instruments, slots, strategy=Strategy.ROUND_ROBIN)
    assert {slot: list(there) for slot, there in placed.items()} == {
        slot: tokens[i :: len(slots)] for i, slot in enumerate(slots) if tokens[i :: len(slots)]
    }


def test_round_robin_begins_where_the_fewest_are() -> None:
    slots = slots_of(["one"], 3)
    there = {slots[0]: {7: Mode.LTP, 8: Mode.LTP}, slots[1]: {9: Mode.FULL}}
    placed = place(dict.fromkeys([6, 5, 4, 3], Mode.QUOTE), slots, placed=there, strategy=Strategy.ROUND_ROBIN)
    assert {slot: list(tokens) for slot, tokens in placed.items()} == {slots[1]: [5], slots[2]: [6, 4], slots[0]: [3]}


@given(INSTRUMENTS, INSTRUMENTS)
def test_what_is_there_may_be_given_as_sums(first: dict[int, Mode], second: dict[int, Mode]) -> None:
    slots = slots_of(["one", "two"])
    before = place(first, slots)
    sums = {slot: Fill(len(there), load(there)) for slot, there in before.items()}
    assert place(second, slots, placed=sums) == place(second, slots, placed=before)


@pytest.mark.parametrize("copies", [1, 2])
def test_slots_that_come_last_get_what_the_others_cannot_take(copies: int) -> None:
    slots = slots_of(["one", "two", "three"], 1)
    few, many = dict.fromkeys(range(4), Mode.FULL), dict.fromkeys(range(6), Mode.FULL)
    assert slots[1] not in place(few, slots, capacity=4, copies=copies, last=[slots[1]])
    placed = place(many, slots, capacity=4, copies=copies, last=[slots[1]])
    assert len(placed.get(slots[1], {})) == {1: 0, 2: 4}[copies]


def test_last_slots_are_used_in_time() -> None:
    """If the first instrument took the two accounts that work, the second would find room on one only."""
    slots = slots_of(["one", "two", "three"], 1)
    placed = {slot: Fill(3, 0) for slot in slots[:2]}
    added = place({1: Mode.FULL, 2: Mode.FULL}, slots, capacity=4, placed=placed, copies=2, last=[slots[2]])
    assert sorted((slot.account, *there) for slot, there in added.items()) == [("one", 1), ("three", 1, 2), ("two", 2)]


def test_further_copies_go_where_none_is() -> None:
    slots = slots_of(["one", "two", "three"], 1)
    fills = {slots[0]: Fill(2, 372), slots[1]: Fill(1, 186), slots[2]: Fill(3, 558)}
    further = {
        1: Further(1, {"one"}),
        2: Further(2, {"one"}),
        3: Further(1, {"two"}),
        4: Further(2, {"three"}),
        5: Further(1, {"two", "three"}),
    }
    added, left = place_further(further, Mode.LTP, fills, capacity=3)
    assert (added, left) == ({slots[1]: [1], slots[0]: [3]}, {2, 4, 5})
    assert fills == {slots[0]: Fill(3, 382), slots[1]: Fill(2, 196), slots[2]: Fill(3, 558)}


def test_further_copies_go_where_the_most_room_is() -> None:
    slots = slots_of(["one", "two", "three"], 1)
    fills = {slots[0]: Fill(1, 10), slots[1]: Fill(1, 186), slots[2]: Fill(2, 20)}
    further = dict.fromkeys([1, 2, 3], Further(1, {"one"}))
    assert place_further(further, Mode.LTP, fills.copy(), capacity=4) == ({slots[1]: [1, 3], slots[2]: [2]}, set())
    late = place_further(further, Mode.LTP, fills.copy(), capacity=4, last=[slots[1]])
    assert late == ({slots[2]: [1, 2], slots[1]: [3]}, set())


def test_copies_that_do_not_fit_are_refused_with_numbers() -> None:
    instruments = dict.fromkeys(range(1, 6), Mode.LTP)
    with pytest.raises(CapacityError) as caught:
        place(instruments, slots_of(["one", "two"], 2), capacity=2, copies=2)
    assert str(caught.value) == (
        "2 copies of 5 instruments do not fit on 2 accounts with 4 connections of 2: "
        "there is room for 4, 1 are too many"
    )
    assert (caught.value.wanted, caught.value.capacity) == (10, 8)


@pytest.mark.parametrize(("accounts", "end"), [(["one", "two"], "got 2: one, two"), ([], "got 0")])
def test_more_copies_than_accounts(accounts: list[str], end: str) -> None:
    with pytest.raises(CapacityError, match=f"^3 copies of 1 instruments need 3 accounts, {end}$"):
        place({1: Mode.LTP}, slots_of(accounts), copies=3)


def test_no_copies() -> None:
    with pytest.raises(ValueError, match=r"^got 0 copies, expected 1 or more$"):
        place({}, slots_of(["one"]), copies=0)
