"""Placement: everything fits or nothing is placed, within the broker's limits, balanced, and the same every time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import CapacityError
from ingest.placement import LOAD, MAX_INSTRUMENTS, Slot, place, slots_of
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
