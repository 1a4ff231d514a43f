"""Where there is no room for all: who is left out, who gives way for good, and who gets in of all that is wanted."""

from ingest.manager.allocation import Allocation
from ingest.manager.want import Want
from tests.support.placement import FULL, LTP, ONE, QUOTE, THREE, TWO, modes_of, state, subscribe, where

# Leaving out.


def test_the_last_are_left_out() -> None:
    allocation = Allocation(["one"], connections=1, capacity=3)
    subscribe(allocation, [1], LTP)
    assert subscribe(allocation, [9, 1, 7, 8, 6], FULL, leave_out=True) == [8, 6]
    assert allocation.placement() == {ONE: {1: FULL, 9: FULL, 7: FULL}}


def test_less_important_ones_give_way() -> None:
    allocation = Allocation(["one"], connections=1, capacity=4)
    for token, priority in ((1, 0), (2, 7), (3, 5), (4, 7)):
        subscribe(allocation, [token], LTP, priority=priority)
    assert subscribe(allocation, [5], FULL, priority=7, leave_out=True) == [5], "not those of the same number"
    assert subscribe(allocation, [5], FULL, priority=6, leave_out=True) == [4], "the latest of the largest number"
    assert subscribe(allocation, [6, 7, 8], FULL, leave_out=True) == [2, 5, 3]
    assert subscribe(allocation, [9, 6, 10], QUOTE, leave_out=True) == [9, 10]
    assert modes_of(allocation) == {1: LTP, 6: QUOTE, 7: FULL, 8: FULL}


def test_a_priority_that_changes_counts() -> None:
    allocation = Allocation(["one"], connections=1, capacity=2)
    subscribe(allocation, [1, 2], LTP, priority=9)
    subscribe(allocation, [2], LTP, priority=1)
    assert subscribe(allocation, [3, 4], LTP, priority=1, leave_out=True) == [1, 4]


def test_only_places_on_the_allowed_slots_are_taken() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=1)
    subscribe(allocation, [1], LTP, accounts=("one",), priority=3)
    subscribe(allocation, [2], LTP, accounts=("two",), priority=9)
    assert subscribe(allocation, [3, 4], LTP, accounts=("one",), leave_out=True) == [1, 4]
    assert allocation.placement() == {ONE: {3: LTP}, TWO: {2: LTP}}
    assert subscribe(allocation, [3, 5], FULL, accounts=("two",), leave_out=True) == [2, 5]
    assert allocation.placement() == {TWO: {3: FULL}}


def test_one_that_cannot_move_stays() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=1)
    subscribe(allocation, [1, 2], LTP)
    assert subscribe(allocation, [1], FULL, accounts=("two",), leave_out=True) == [1]
    assert allocation.placement() == {ONE: {1: FULL}, TWO: {2: LTP}}


def test_nothing_is_removed_in_vain() -> None:
    """A place on account one is of no use to a copy that is missing one on account two."""
    allocation = Allocation(["one", "two"], connections=1, capacity=1)
    subscribe(allocation, [1], LTP, accounts=("one",), priority=9)
    subscribe(allocation, [2], LTP, accounts=("two",))
    assert subscribe(allocation, [3], LTP, replicas=2, leave_out=True) == [3]
    assert subscribe(allocation, [3], LTP, replicas=3, leave_out=True) == [3]
    assert list(allocation.wants) == [1, 2]


def test_a_place_that_new_ones_did_not_need_is_for_a_further_copy() -> None:
    """The less important one had three copies, of which the new one takes two places."""
    allocation = Allocation(["one", "two", "three"], connections=1, capacity=2)
    for token, account in ((1, "one"), (2, "two"), (3, "three")):
        subscribe(allocation, [token], LTP, accounts=(account,))
    subscribe(allocation, [9], LTP, replicas=3, priority=9)
    assert subscribe(allocation, [1, 5], LTP, replicas=2, leave_out=True) == [9]
    assert allocation.placement() == {ONE: {1: LTP, 5: LTP}, TWO: {2: LTP, 5: LTP}, THREE: {3: LTP, 1: LTP}}


# All that is wanted in one call.


def test_brought_to_what_is_wanted_and_to_nothing_else() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=3)
    subscribe(allocation, [1, 2, 3], LTP)
    before = allocation.home_slots(2)
    wants = {2: Want(FULL), 4: Want(LTP, 3), 5: Want(QUOTE, accounts=("one",))}
    assert allocation.bring_to(wants) == []
    assert modes_of(allocation) == {2: FULL, 4: LTP, 5: QUOTE}
    assert (allocation.home_slots(2), allocation.home_slots(5)) == (before, (ONE,))
    after = state(allocation)
    assert allocation.bring_to(wants) == []
    assert state(allocation) == after
    assert allocation.bring_to({}) == []
    assert allocation.placement() == {}


def test_the_most_important_of_what_is_wanted_get_room_whatever_was_there() -> None:
    allocation = Allocation(["one"], connections=1, capacity=3)
    rest, best = dict.fromkeys([1, 2, 3], Want(LTP, 9)), dict.fromkeys([7, 8], Want(FULL, 1))
    assert allocation.bring_to(rest) == []
    assert allocation.bring_to(rest | best) == [2, 3]
    assert allocation.bring_to(rest | best) == [2, 3], "the same again"
    assert allocation.placement() == {ONE: {1: LTP, 7: FULL, 8: FULL}}
    assert allocation.bring_to(rest | {7: Want(FULL, 1)}) == [3], "there is room again"


def test_a_number_of_replicas_that_is_wanted_no_more_is_given_up() -> None:
    allocation = Allocation(["one", "two"], connections=1)
    assert allocation.bring_to({1: Want(LTP, replicas=2)}) == []
    assert where(allocation, 1) == [ONE, TWO]
    assert allocation.bring_to({1: Want(LTP)}) == []
    assert len(where(allocation, 1)) == 1


def test_from_nothing_it_is_the_same_as_calls_in_the_order_of_importance() -> None:
    whole, parts = (Allocation(["one", "two"], connections=1, capacity=2) for _ in range(2))
    few, many = dict.fromkeys([1], Want(FULL, 1, replicas=2)), dict.fromkeys([2, 3, 4], Want(LTP, 5))
    assert whole.bring_to(many | few) == [4]
    parts.subscribe(few, Want(FULL, 1, replicas=2), leave_out=True)
    assert parts.subscribe(many, Want(LTP, 5), leave_out=True) == [4]
    assert state(whole) == state(parts)
