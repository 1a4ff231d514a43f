"""Allocation: within the limits, nothing lost or streamed twice, and nothing moves that need not, whatever happens."""

from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ingest.errors import CapacityError, InstrumentError
from ingest.manager.allocation import Allocation
from ingest.manager.placement import Slot, fits, place, slots_of
from ingest.manager.replicas import Moved
from ingest.settings import Strategy
from ingest.wire import Mode

LTP, QUOTE, FULL = Mode.LTP, Mode.QUOTE, Mode.FULL
ONE, TWO, THREE = (Slot(name, 1) for name in ("one", "two", "three"))
NOTHING = Moved((), ())


def state(allocation: Allocation) -> dict[str, Any]:
    """All that can be seen."""
    return {
        "slots": allocation.slots,
        "lost": allocation.lost,
        "waiting": allocation.waiting,
        "unserved": allocation.unserved,
        "modes": list(allocation.modes.items()),
        "placement": allocation.placement(),
        "homes": {token: allocation.homes(token) for token in allocation.modes},
        "places": (allocation.capacity, allocation.free),
    }


def where(allocation: Allocation, token: int) -> list[Slot]:
    return [slot for slot, there in allocation.placement().items() if token in there]


def placed(allocation: Allocation) -> dict[Slot, set[int]]:
    return {slot: set(there) for slot, there in allocation.placement().items()}


def refused(allocation: Allocation, kind: type[Exception], message: str, call: Callable[[], object]) -> None:
    before = state(allocation)
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
    assert state(allocation) == before


# Subscribing.


def test_balanced_over_all_slots() -> None:
    allocation = Allocation(["one", "two"], connections=2, capacity=3)
    assert allocation.subscribe([1, 2, 2, 1, 3, 4], FULL) == []
    assert allocation.placement() == {
        Slot("one", 1): {1: FULL},
        Slot("one", 2): {3: FULL},
        Slot("two", 1): {2: FULL},
        Slot("two", 2): {4: FULL},
    }
    assert (allocation.capacity, allocation.free) == (12, 8)
    assert list(allocation.modes) == [1, 2, 3, 4]
    assert allocation.slots == (Slot("one", 1), Slot("two", 1), Slot("one", 2), Slot("two", 2))


def test_round_robin_continues_its_turn() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1, strategy=Strategy.ROUND_ROBIN)
    for token in (9, 3, 5, 7):
        allocation.subscribe([token], FULL if token == 9 else LTP)
    assert allocation.placement() == {ONE: {9: FULL, 7: LTP}, TWO: {3: LTP}, THREE: {5: LTP}}


def test_redundant_streams_copies_on_different_accounts() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1, strategy=Strategy.REDUNDANT)
    allocation.subscribe([1, 2, 3], QUOTE)
    assert {token: len(where(allocation, token)) for token in (1, 2, 3)} == {1: 2, 2: 2, 3: 2}
    allocation.subscribe([4], QUOTE, copies=3)
    assert where(allocation, 4) == [ONE, THREE, TWO]
    allocation.subscribe([5], QUOTE, account="two")
    assert where(allocation, 5) == [TWO], "by hand there is one copy"


def test_what_is_there_changes_its_mode_where_it_is() -> None:
    allocation = Allocation(["one", "two"], connections=1)
    allocation.subscribe([1, 2], LTP)
    allocation.subscribe([1, 3], FULL)
    assert allocation.placement() == {ONE: {1: FULL}, TWO: {2: LTP, 3: FULL}}
    allocation.subscribe([4], FULL)
    assert where(allocation, 4) == [ONE], "the load counts the new mode"


def test_placed_by_hand() -> None:
    allocation = Allocation(["one", "two"], connections=2, capacity=2)
    allocation.subscribe([1, 2], LTP)
    assert allocation.subscribe([1, 2, 3], FULL, account="two") == []
    assert allocation.placement() == {Slot("two", 1): {2: FULL, 3: FULL}, Slot("two", 2): {1: FULL}}
    allocation.subscribe([2], FULL, account="two")
    assert where(allocation, 2) == [Slot("two", 1)], "it is there already"
    allocation.subscribe([2], FULL, account="two", connection=2)
    assert where(allocation, 2) == [Slot("two", 2)]
    refused(
        allocation,
        CapacityError,
        "3 instruments do not fit on 1 connections of 2: 2 is the capacity, 1 are too many",
        lambda: allocation.subscribe([3], LTP, account="two", connection=2),
    )


def test_copies_are_added_and_removed() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1, capacity=2)
    allocation.subscribe([1, 2], LTP)
    allocation.subscribe([1], LTP, copies=2)
    assert allocation.homes(1) == (ONE, THREE), "the account with the most room"
    allocation.subscribe([1], FULL, copies=3)
    assert allocation.homes(1) == (ONE, THREE, TWO)
    allocation.subscribe([1], FULL)
    assert len(where(allocation, 1)) == 3, "without a number they stay as many"
    allocation.subscribe([1], FULL, copies=1)
    assert allocation.placement() == {ONE: {1: FULL}, TWO: {2: LTP}}


def test_a_copy_that_is_removed_weighs_nothing() -> None:
    allocation = Allocation(["one", "two"], connections=1)
    allocation.subscribe([1], FULL, copies=2)
    allocation.subscribe([2], LTP, account="two")
    allocation.subscribe([1, 3], FULL, copies=1)
    assert allocation.placement() == {ONE: {1: FULL}, TWO: {2: LTP, 3: FULL}}


def test_copies_without_room_are_refused() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=2)
    allocation.subscribe([1, 2, 3], LTP)
    with pytest.raises(CapacityError) as caught:
        allocation.subscribe([1, 2, 3], FULL, copies=2)
    assert str(caught.value) == (
        "2 copies of 3 instruments do not fit on 2 accounts with 2 connections of 2: "
        "there is room for 1, 2 are too many"
    )
    assert (caught.value.wanted, caught.value.capacity) == (6, 4)
    assert allocation.placement() == {ONE: {1: LTP, 3: LTP}, TWO: {2: LTP}}
    assert allocation.subscribe([1, 2, 3], FULL, copies=2, leave_out=True) == [2, 3]
    assert allocation.placement() == {ONE: {1: FULL, 3: FULL}, TWO: {1: FULL, 2: FULL}}


def test_places_of_further_copies_are_counted() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1, capacity=1)
    allocation.subscribe([1, 2], LTP)
    with pytest.raises(CapacityError, match="there is room for 0, 1 are too many") as caught:
        allocation.subscribe([1], LTP, copies=3)
    assert (caught.value.wanted, caught.value.capacity) == (4, 3)


def test_a_copy_that_serves_is_not_the_one_removed() -> None:
    allocation = Allocation(["one", "two"], connections=1)
    allocation.subscribe([1], LTP, copies=2)
    allocation.lose([ONE])
    allocation.subscribe([1], LTP, copies=1)
    assert (allocation.homes(1), allocation.placement(), allocation.waiting) == ((TWO,), {TWO: {1: LTP}}, ())


def test_placed_on_some_of_the_accounts() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1, capacity=4)
    allocation.subscribe([1, 2, 3], LTP)
    assert allocation.subscribe([1, 2, 3, 4, 5], FULL, account=["three", "two", "three"]) == []
    assert allocation.placement() == {TWO: {2: FULL, 1: FULL, 5: FULL}, THREE: {3: FULL, 4: FULL}}
    refused(
        allocation,
        CapacityError,
        "9 instruments do not fit on 2 connections of 4: 8 is the capacity, 1 are too many",
        lambda: allocation.subscribe([6, 7, 8, 9], LTP, account=["two", "three"]),
    )
    assert allocation.subscribe([6, 7, 8, 9], LTP, account=["two", "three"], leave_out=True) == [9]
    assert allocation.at(ONE) == {}


def test_copies_on_some_of_the_accounts() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1, capacity=4)
    allocation.subscribe([1, 2, 3], LTP)
    allocation.subscribe([1], LTP, copies=3)
    assert [allocation.homes(token) for token in (1, 2, 3)] == [(ONE, TWO, THREE), (TWO,), (THREE,)]
    allocation.subscribe([1, 2, 3, 4], LTP, account={"one", "two"}, copies=2)
    assert allocation.homes(1) == (ONE, TWO), "the copy elsewhere is given up"
    assert allocation.homes(2) == (TWO, ONE), "the copy that is there stays"
    assert set(allocation.homes(3)) == set(allocation.homes(4)) == {ONE, TWO}, "none was there"
    refused(
        allocation,
        CapacityError,
        "2 copies of 1 instruments do not fit on 2 accounts with 2 connections of 4: there is room for 0, "
        "1 are too many",
        lambda: allocation.subscribe([5], LTP, account={"one", "two"}, copies=2),
    )
    allocation.subscribe([1], LTP, account={"two", "three"})
    assert allocation.homes(1) == (TWO,), "without a number there is one"


def test_one_name_of_a_collection_is_that_name() -> None:
    for strategy in Strategy:
        plain, listed = (Allocation(["one", "two"], connections=1, strategy=strategy) for _ in range(2))
        plain.subscribe([1, 2], LTP, account="two")
        listed.subscribe([1, 2], LTP, account=frozenset({"two"}))
        assert state(plain) == state(listed)
        assert listed.homes(1) == (TWO,)


def test_redundant_has_its_number_of_copies_on_some_of_the_accounts() -> None:
    names = ["one", "two", "three", "four"]
    allocation = Allocation(names, connections=1, strategy=Strategy.REDUNDANT, copies=3)
    allocation.subscribe([1], LTP, account=names)
    assert len(allocation.homes(1)) == 3
    allocation.subscribe([1], LTP, account=["three", "four"])
    assert set(allocation.homes(1)) == {THREE, Slot("four", 1)}, "no more than there are names"


def test_a_guest_on_one_of_the_accounts_is_at_home_there() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1)
    allocation.subscribe([1], LTP, account="one")
    allocation.subscribe([2], FULL, account="three")
    allocation.lose([ONE])
    assert where(allocation, 1) == [TWO]
    allocation.subscribe([1], LTP, account=["two", "three"], copies=2)
    assert set(allocation.homes(1)) == {TWO, THREE}
    assert allocation.regain([ONE]) == NOTHING


def test_one_that_finds_no_room_for_its_copies_keeps_all_that_it_has() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1, capacity=1)
    allocation.subscribe([1], LTP, account=["one", "three"], copies=2)
    allocation.subscribe([2], LTP, account="two")
    assert allocation.subscribe([1], FULL, account=["one", "two"], copies=2, leave_out=True) == [1]
    assert allocation.placement() == {ONE: {1: FULL}, TWO: {2: LTP}, THREE: {1: FULL}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"account": "three"}, "got account 'three', expected one of one, two"),
        ({"connection": 1}, "got connection 1 without an account, expected account= with it"),
        ({"account": "one", "connection": 0}, "got connection 0, expected 1 to 2"),
        ({"account": "one", "connection": 3}, "got connection 3, expected 1 to 2"),
        ({"account": "one", "copies": 2}, "got 2 copies on 1 accounts (one), expected at most one an account"),
        (
            {"account": ["two", "one", "two"], "copies": 3},
            "got 3 copies on 2 accounts (one, two), expected at most one an account",
        ),
        ({"account": {"one", "three"}}, "got account 'three', expected one of one, two"),
        ({"account": []}, "got no name in account=, expected one or more, or None for all accounts"),
        ({"account": ("one", "two"), "connection": 1}, "got connection 1 of 2 accounts, expected one account with it"),
        ({"copies": 0}, "got 0 copies, expected 1 or more"),
        ({}, "got 2 new instruments without an account, expected account=: placement is manual"),
    ],
)
def test_arguments_that_do_not_go_together(arguments: dict[str, Any], message: str) -> None:
    allocation = Allocation(["one", "two"], connections=2, strategy=Strategy.MANUAL)
    allocation.subscribe([1], LTP, account="one")
    refused(allocation, ValueError, message, lambda: allocation.subscribe([1, 2, 3], FULL, **arguments))
    allocation.subscribe([1], FULL)
    assert dict(allocation.modes) == {1: FULL}


def test_set_mode() -> None:
    allocation = Allocation(["one", "two"], connections=1)
    allocation.subscribe([1, 2], LTP)
    refused(
        allocation,
        InstrumentError,
        "2 of 3 instruments are not subscribed, as 7",
        lambda: allocation.set_mode([1, 7, 8], FULL),
    )
    allocation.set_mode(iter([2]), FULL)
    assert allocation.placement() == {ONE: {1: LTP}, TWO: {2: FULL}}
    allocation.subscribe([3, 4], LTP)
    assert list(allocation.at(ONE)) == [1, 3, 4], "the load counts the new mode"


def test_unsubscribe_frees_the_places() -> None:
    allocation = Allocation(["one"], connections=1, capacity=2)
    allocation.subscribe([1, 2], LTP)
    refused(
        allocation,
        CapacityError,
        "3 instruments do not fit on 1 connections of 2: 2 is the capacity, 1 are too many",
        lambda: allocation.subscribe([1, 3], FULL),
    )
    allocation.unsubscribe([1, 1, 99])
    allocation.subscribe([3], FULL)
    assert allocation.placement() == {ONE: {2: LTP, 3: FULL}}
    assert allocation.homes(1) == ()


def test_views() -> None:
    allocation = Allocation(["one"], connections=1)
    there = allocation.at(ONE)
    allocation.subscribe([1], LTP)
    assert there == {1: LTP}
    assert allocation.at(TWO) == {}
    for view in (there, allocation.modes, allocation.at(TWO)):
        with pytest.raises(TypeError):
            view[1] = FULL  # type: ignore[index]


def test_limits() -> None:
    with pytest.raises(ValueError, match="got a capacity of 3001 instruments, expected 1 to 3000"):
        Allocation(["one"], capacity=3001)
    with pytest.raises(ValueError, match="got 4 connections an account, expected 1 to 3"):
        Allocation(["one"], connections=4)
    with pytest.raises(ValueError, match="got 0 copies, expected 1 or more"):
        Allocation(["one"], copies=0)
    with pytest.raises(ValueError, match="got accounts one, one, expected different names"):
        Allocation(["one", "one"])


# Leaving out.


def test_the_last_are_left_out() -> None:
    allocation = Allocation(["one"], connections=1, capacity=3)
    allocation.subscribe([1], LTP)
    assert allocation.subscribe([9, 1, 7, 8, 6], FULL, leave_out=True) == [8, 6]
    assert allocation.placement() == {ONE: {1: FULL, 9: FULL, 7: FULL}}


def test_less_important_ones_give_way() -> None:
    allocation = Allocation(["one"], connections=1, capacity=4)
    for token, priority in ((1, 0), (2, 7), (3, 5), (4, 7)):
        allocation.subscribe([token], LTP, priority=priority)
    assert allocation.subscribe([5], FULL, priority=7, leave_out=True) == [5], "not those of the same number"
    assert allocation.subscribe([5], FULL, priority=6, leave_out=True) == [4], "the latest of the largest number"
    assert allocation.subscribe([6, 7, 8], FULL, leave_out=True) == [2, 5, 3]
    assert allocation.subscribe([9, 6, 10], QUOTE, leave_out=True) == [9, 10]
    assert dict(allocation.modes) == {1: LTP, 6: QUOTE, 7: FULL, 8: FULL}


def test_a_priority_that_changes_counts() -> None:
    allocation = Allocation(["one"], connections=1, capacity=2)
    allocation.subscribe([1, 2], LTP, priority=9)
    allocation.subscribe([2], LTP, priority=1)
    assert allocation.subscribe([3, 4], LTP, priority=1, leave_out=True) == [1, 4]


def test_only_places_on_the_allowed_slots_are_taken() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=1)
    allocation.subscribe([1], LTP, account="one", priority=3)
    allocation.subscribe([2], LTP, account="two", priority=9)
    assert allocation.subscribe([3, 4], LTP, account="one", leave_out=True) == [1, 4]
    assert allocation.placement() == {ONE: {3: LTP}, TWO: {2: LTP}}
    assert allocation.subscribe([3, 5], FULL, account="two", leave_out=True) == [2, 5]
    assert allocation.placement() == {TWO: {3: FULL}}


def test_one_that_cannot_move_stays() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=1)
    allocation.subscribe([1, 2], LTP)
    assert allocation.subscribe([1], FULL, account="two", leave_out=True) == [1]
    assert allocation.placement() == {ONE: {1: FULL}, TWO: {2: LTP}}


def test_nothing_is_removed_in_vain() -> None:
    """A place on account one is of no use to a copy that is missing one on account two."""
    allocation = Allocation(["one", "two"], connections=1, capacity=1)
    allocation.subscribe([1], LTP, account="one", priority=9)
    allocation.subscribe([2], LTP, account="two")
    assert allocation.subscribe([3], LTP, copies=2, leave_out=True) == [3]
    assert allocation.subscribe([3], LTP, copies=3, leave_out=True) == [3]
    assert list(allocation.modes) == [1, 2]


def test_a_place_that_new_ones_did_not_need_is_for_a_further_copy() -> None:
    """The less important one had three copies, of which the new one takes two places."""
    allocation = Allocation(["one", "two", "three"], connections=1, capacity=2)
    for token, account in ((1, "one"), (2, "two"), (3, "three")):
        allocation.subscribe([token], LTP, account=account)
    allocation.subscribe([9], LTP, copies=3, priority=9)
    assert allocation.subscribe([1, 5], LTP, copies=2, leave_out=True) == [9]
    assert allocation.placement() == {ONE: {1: LTP, 5: LTP}, TWO: {2: LTP, 5: LTP}, THREE: {3: LTP, 1: LTP}}


def test_no_accounts_at_first() -> None:
    allocation = Allocation([], connections=1, capacity=2)
    refused(
        allocation,
        CapacityError,
        "1 instruments do not fit on 0 connections of 2: 0 is the capacity, 1 are too many",
        lambda: allocation.subscribe([1], LTP),
    )
    refused(
        allocation,
        ValueError,
        "got account 'one', expected none: no account was added",
        lambda: allocation.subscribe([1], LTP, account="one"),
    )
    assert allocation.subscribe([1], LTP, leave_out=True) == [1]
    assert allocation.add_account("one") == NOTHING
    assert allocation.subscribe([1], LTP) == []


# Slots that are lost, accounts that come and go.


def test_instruments_of_a_lost_slot_are_guests_until_it_is_back() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1, capacity=4)
    allocation.subscribe([1, 2, 3, 4, 5, 6], FULL)
    before = state(allocation)
    assert allocation.lose([ONE]) == Moved((1, 4), ())
    assert allocation.placement() == {TWO: {2: FULL, 5: FULL, 1: FULL}, THREE: {3: FULL, 6: FULL, 4: FULL}}
    assert allocation.homes(1) == (ONE,)
    assert allocation.lose([ONE, Slot("nobody", 1)]) == NOTHING
    assert allocation.regain([TWO]) == NOTHING
    assert allocation.regain([ONE]) == Moved((1, 4), ())
    assert state(allocation) == before


def test_the_important_and_the_heavy_get_room_first() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=4)
    allocation.subscribe([1], LTP, account="one")
    allocation.subscribe([2], FULL, account="one")
    allocation.subscribe([3], FULL, account="one", priority=2)
    allocation.subscribe([4], LTP, account="one", priority=1)
    allocation.subscribe([11, 12, 13], LTP, account="two")
    assert allocation.lose([ONE]) == Moved((2,), (1, 3, 4))
    assert dict(allocation.at(ONE)) == {1: LTP, 3: FULL, 4: LTP}, "the rest stays assigned to its home"
    waiting = []
    for gone in (11, 12, 13):
        allocation.unsubscribe([gone])
        waiting.append(allocation.waiting)
    assert waiting == [(3, 4), (3,), ()]
    assert allocation.regain([ONE]) == Moved((1, 2, 3, 4), ())


def test_a_mode_or_priority_that_changes_while_waiting_counts() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=3)
    allocation.subscribe([1, 2, 3], LTP, account="one")
    allocation.subscribe([11, 12, 13], LTP, account="two")
    allocation.lose([ONE])
    allocation.set_mode([3], FULL)
    allocation.subscribe([1], FULL, priority=1)
    waiting = []
    for gone in (11, 12, 13):
        allocation.unsubscribe([gone])
        waiting.append(allocation.waiting)
    assert waiting == [(1, 2), (1,), ()]


def test_guests_move_on_when_their_slot_is_lost_too() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1, capacity=2)
    allocation.subscribe([1], FULL, account="one")
    allocation.subscribe([3, 4], FULL, account="three")
    assert allocation.lose([ONE]) == Moved((1,), ())
    assert where(allocation, 1) == [TWO]
    assert allocation.lose([TWO]) == Moved((), (1,))
    assert where(allocation, 1) == [ONE], "it waits at home"
    allocation.unsubscribe([3])
    assert where(allocation, 1) == [THREE]
    assert allocation.regain([TWO]) == NOTHING, "it need not move"
    assert allocation.regain([ONE]) == Moved((1,), ())
    assert where(allocation, 1) == [ONE]


def test_a_copy_is_no_guest_beside_another() -> None:
    allocation = Allocation(["one", "two"], connections=2, capacity=2, strategy=Strategy.REDUNDANT)
    allocation.subscribe([1], FULL)
    assert allocation.lose(slots_of(["one"], 2)) == Moved((), (1,))
    assert allocation.add_account("three") == Moved((1,), ())
    assert where(allocation, 1) == [Slot("three", 1), Slot("two", 1)]


def test_copies_stay_on_their_account_if_that_is_possible() -> None:
    allocation = Allocation(["one", "two", "three"], connections=2, capacity=2)
    allocation.subscribe([1], FULL, copies=2)
    allocation.subscribe([2], FULL, account="two")
    assert [slot.account for slot in allocation.homes(1)] == ["one", "two"]
    allocation.lose(allocation.homes(1))
    assert where(allocation, 1) == [Slot("one", 2), Slot("two", 2)]


def test_what_was_placed_by_hand_stays_on_its_account_if_it_can() -> None:
    allocation = Allocation(["one", "two"], connections=2, capacity=1)
    home = Slot("one", 2)
    allocation.subscribe([1], LTP, account="one", connection=2)
    allocation.lose([home])
    assert where(allocation, 1) == [ONE]
    allocation.lose([ONE])
    assert where(allocation, 1) == [TWO]
    allocation.subscribe([1], FULL, account="one")
    assert (where(allocation, 1), allocation.homes(1)) == ([TWO], (home,)), "its home is there already"
    allocation.subscribe([1], FULL, account="two")
    assert (where(allocation, 1), allocation.homes(1)) == ([TWO], (TWO,)), "a guest does not move to be at home"
    allocation.regain([home])
    assert where(allocation, 1) == [TWO]


def test_what_is_there_already_is_by_hand_from_then_on() -> None:
    allocation = Allocation(["one", "two"], connections=2)
    allocation.subscribe([1], LTP)
    allocation.subscribe([2], FULL, account="one", connection=2)
    allocation.subscribe([1], LTP, account=["one"])
    allocation.lose([ONE])
    assert where(allocation, 1) == [Slot("one", 2)], "the others have less load"


def test_new_ones_prefer_slots_that_work() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=2)
    allocation.lose([ONE])
    allocation.subscribe([1, 2, 3], LTP)
    assert allocation.placement() == {ONE: {3: LTP}, TWO: {1: LTP, 2: LTP}}
    assert allocation.waiting == (3,)
    assert allocation.free == 1
    assert allocation.regain([ONE]) == NOTHING
    assert not allocation.waiting


def test_by_hand_on_a_lost_slot() -> None:
    """Data matter more than the wish."""
    allocation = Allocation(["one", "two"], connections=1, capacity=2)
    allocation.lose([ONE])
    allocation.subscribe([1], LTP, account="one")
    assert (where(allocation, 1), allocation.homes(1)) == ([TWO], (ONE,))


def test_the_places_of_those_that_are_away_are_kept() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=2)
    allocation.subscribe([1], LTP, account="one")
    allocation.lose([ONE])
    assert allocation.free == 2
    allocation.subscribe([2, 3], LTP)
    assert allocation.placement() == {ONE: {3: LTP}, TWO: {1: LTP, 2: LTP}}
    refused(
        allocation,
        CapacityError,
        "5 instruments do not fit on 2 connections of 2: 4 is the capacity, 1 are too many",
        lambda: allocation.subscribe([4], LTP),
    )


def test_an_account_goes_and_comes_back() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=3)
    allocation.subscribe([1, 2, 3, 4], LTP)
    assert allocation.remove_account("one") == Moved((1,), (3,))
    assert allocation.placement() == {TWO: {2: LTP, 4: LTP, 1: LTP}}
    assert (allocation.slots, allocation.capacity, allocation.free) == ((TWO,), 3, 0)
    assert dict(allocation.at(ONE)) == {}
    allocation.subscribe([3], FULL, priority=2)
    assert allocation.modes[3] is FULL
    allocation.unsubscribe([2])
    assert (where(allocation, 3), allocation.waiting) == ([TWO], ())
    allocation.unsubscribe([3])
    assert allocation.add_account("one") == Moved((1,), ())
    assert allocation.placement() == {ONE: {1: LTP}, TWO: {4: LTP}}
    assert allocation.slots == (TWO, ONE)


def test_those_that_wait_get_room_on_another_account() -> None:
    allocation = Allocation(["one"], connections=1, capacity=3)
    allocation.subscribe([1, 2], LTP)
    assert allocation.remove_account("one") == Moved((), (1, 2))
    assert (allocation.placement(), allocation.capacity) == ({}, 0)
    assert allocation.add_account("two") == Moved((1, 2), ())
    assert allocation.add_account("one") == Moved((1, 2), ())
    assert allocation.placement() == {ONE: {1: LTP, 2: LTP}}


def test_a_removed_account_forgets_that_it_was_lost() -> None:
    allocation = Allocation(["one", "two"], connections=1)
    allocation.subscribe([1], LTP, account="one")
    allocation.lose([ONE])
    allocation.remove_account("one")
    assert allocation.lost == frozenset()
    assert allocation.regain([ONE]) == NOTHING
    assert allocation.add_account("one") == Moved((1,), ())


def test_names_of_accounts() -> None:
    allocation = Allocation(["one", "two"])
    refused(
        allocation,
        ValueError,
        "got account 'one', which is there already; expected another name",
        lambda: allocation.add_account("one"),
    )
    refused(
        allocation,
        ValueError,
        "got account 'three', expected one of one, two",
        lambda: allocation.remove_account("three"),
    )


# The important stream wherever there are slots that work.


def test_the_less_important_give_way_to_those_of_a_lost_slot() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=3)
    allocation.subscribe([1, 2], LTP, account="one")
    allocation.subscribe([3], LTP, account="one", priority=5)
    allocation.subscribe([11], LTP, account="two")
    allocation.subscribe([12, 13], FULL, account="two", priority=9)
    before = state(allocation)
    assert allocation.lose([ONE]) == Moved((1, 2), (3, 12, 13))
    assert allocation.unserved == (3, 12, 13)
    assert allocation.placement() == {ONE: {3: LTP}, TWO: {11: LTP, 1: LTP, 2: LTP}}
    assert allocation.homes(12) == (TWO,), "what gave way is not forgotten"
    assert allocation.regain([ONE]) == Moved((1, 2, 12, 13), ())
    assert state(allocation) == before


def test_no_more_give_way_than_must_and_the_least_important_and_latest_first() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1, capacity=3)
    allocation.subscribe([1, 2], LTP, account="one", priority=2)
    allocation.subscribe([11, 12], LTP, account="two", priority=7)
    allocation.subscribe([13], LTP, account="three", priority=7)
    allocation.subscribe([14, 15], LTP, account="three", priority=2)
    assert allocation.lose([ONE]) == Moved((1, 2), (13,)), "one found room"
    assert allocation.placement() == {TWO: {11: LTP, 12: LTP, 1: LTP}, THREE: {14: LTP, 15: LTP, 2: LTP}}


def test_those_of_the_same_number_do_not_give_way() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=1)
    allocation.subscribe([1], FULL, account="one", priority=3)
    allocation.subscribe([2], LTP, account="two", priority=3)
    assert allocation.lose([ONE]) == Moved((), (1,))


def test_new_important_ones_are_not_parked_on_a_lost_slot() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=2)
    allocation.lose([ONE])
    allocation.subscribe([1, 2], LTP, priority=10)
    assert allocation.subscribe([3], LTP, leave_out=True) == []
    assert allocation.homes(3) == (ONE,)
    assert (where(allocation, 3), allocation.unserved) == ([TWO], (2,))
    allocation.subscribe([1], LTP, priority=11)
    assert allocation.unserved == (1,), "it is the least important now"
    allocation.unsubscribe([3])
    assert (allocation.waiting, allocation.placement()) == ((), {TWO: {2: LTP, 1: LTP}})


def test_sixteen_indices_stream_while_one_of_three_accounts_is_left() -> None:
    allocation = Allocation(["one", "two", "three"])
    allocation.subscribe(range(1, 17), QUOTE, leave_out=True)
    allocation.subscribe(range(101, 27_085), FULL, priority=10, leave_out=True)
    before = placed(allocation)
    for slot in slots_of(["one", "two"]):
        allocation.lose([slot])
    assert {token for slot in slots_of(["three"]) for token in allocation.at(slot)} >= set(range(1, 17))
    assert len(allocation.waiting) == len(allocation.unserved) == 18_000
    left = allocation.subscribe(range(30_001, 30_101), QUOTE, leave_out=True)
    assert left == list(range(27_084, 27_084 - len(left), -1))
    assert 100 <= len(left) <= 100 + 16, "the places that guests hold are not free"
    assert not set(allocation.unserved) & set(range(30_001, 30_101))
    for slot in slots_of(["two", "one"]):
        allocation.regain([slot])
    assert allocation.waiting == ()
    stayed = set(range(27_085)) - set(left)
    assert {slot: there & stayed for slot, there in placed(allocation).items()} == {
        slot: there & stayed for slot, there in before.items()
    }


def test_what_gave_way_is_a_guest_where_there_is_room_and_goes_home() -> None:
    """The important one has a copy on account two and can go to account three only."""
    allocation = Allocation(["one", "two", "three"], connections=1, capacity=2)
    allocation.subscribe([1], LTP, account=["one", "two"], copies=2)
    allocation.subscribe([3, 4], LTP, account="three", priority=5)
    assert allocation.lose([ONE]) == Moved((1, 4), ())
    assert allocation.placement() == {TWO: {1: LTP, 4: LTP}, THREE: {3: LTP, 1: LTP}}
    allocation.unsubscribe([1])
    assert allocation.placement() == {THREE: {3: LTP, 4: LTP}}


def test_both_copies_of_an_important_one_take_places_and_give_them_back() -> None:
    allocation = Allocation(["one", "two", "three", "four"], connections=1, capacity=1)
    four = Slot("four", 1)
    allocation.subscribe([1], LTP, account=["one", "two"], copies=2)
    allocation.subscribe([3], LTP, account="three", priority=5)
    allocation.subscribe([4], LTP, account="four", priority=7)
    before = placed(allocation)
    assert allocation.lose([ONE]) == Moved((1,), (4,))
    assert allocation.lose([TWO]) == Moved((1,), (3, 4))
    assert allocation.placement() == {THREE: {1: LTP}, four: {1: LTP}}
    allocation.regain([TWO])
    allocation.regain([ONE])
    assert placed(allocation) == before


def test_a_guest_has_no_home_where_all_places_are_taken() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=1)
    allocation.subscribe([1], LTP, account="one")
    allocation.subscribe([2], LTP, account="two", priority=5)
    allocation.lose([ONE])
    assert (where(allocation, 1), where(allocation, 2)) == ([TWO], [])
    refused(
        allocation,
        CapacityError,
        "2 instruments do not fit on 1 connections of 1: 1 is the capacity, 1 are too many",
        lambda: allocation.subscribe([1], LTP, account="two"),
    )
    allocation.unsubscribe([2])
    allocation.subscribe([1], LTP, account="two")
    assert allocation.homes(1) == (TWO,)


# At full size.


def test_full_house_in_one_call() -> None:
    allocation = Allocation(["one", "two"])
    allocation.subscribe(range(1, 18_001), FULL)
    assert {slot: len(there) for slot, there in allocation.placement().items()} == dict.fromkeys(allocation.slots, 3000)
    assert allocation.free == 0


def test_a_full_house_of_which_half_is_lost_and_comes_back() -> None:
    allocation = Allocation(["one", "two"])
    allocation.subscribe(range(1, 10_001), FULL)
    for token in range(10_001, 18_001):
        allocation.subscribe([token], LTP)
    before = allocation.placement()
    allocation.lose(slots_of(["one"]))
    assert len(allocation.waiting) == 9000
    allocation.regain(slots_of(["one"]))
    assert allocation.waiting == ()
    assert allocation.placement() == before


# Everything in any order.

NAMES = ("one", "two", "three")
TOKENS = st.integers(1, 24)
ACCOUNTS = st.none() | st.sampled_from(NAMES) | st.lists(st.sampled_from(NAMES), max_size=4)
SLOTS = st.lists(st.builds(Slot, st.sampled_from(NAMES), st.integers(1, 3)), max_size=4)


class Machine(RuleBasedStateMachine):
    """`twin` gets the calls that succeed only: it is the same as long as calls that raise leave no trace."""

    @initialize(
        accounts=st.integers(0, 3),
        connections=st.integers(1, 3),
        capacity=st.integers(2, 4),
        strategy=st.sampled_from(Strategy),
    )
    def begin(self, accounts: int, connections: int, capacity: int, strategy: Strategy) -> None:
        def make() -> Allocation:
            return Allocation(NAMES[:accounts], connections=connections, capacity=capacity, strategy=strategy)

        self.allocation, self.twin = make(), make()
        self.connections, self.capacity, self.strategy = connections, capacity, strategy
        self.modes: dict[int, Mode] = {}
        self.priorities: dict[int, int] = {}
        self.copies: dict[int, int] = {}
        self.hand: dict[int, frozenset[str]] = {}
        self.orders = count()
        self.order: dict[int, int] = {}

    def call(self, name: str, *args: Any, **options: Any) -> Any:
        before = state(self.allocation)
        try:
            result = getattr(self.allocation, name)(*args, **options)
        except (ValueError, CapacityError, InstrumentError):
            assert state(self.allocation) == before
            raise
        assert getattr(self.twin, name)(*args, **options) == result
        return result

    @property
    def accounts(self) -> set[str]:
        return {slot.account for slot in self.allocation.slots}

    def rooms(self, slots: Iterable[Slot]) -> dict[str, int]:
        """The free places of each account, counted from homes and placement."""
        rooms: dict[str, int] = {}
        for slot in slots:
            held = {token for token in self.modes if slot in self.allocation.homes(token)} | set(
                self.allocation.at(slot)
            )
            rooms[slot.account] = rooms.get(slot.account, 0) + max(self.capacity - len(held), 0)
        return rooms

    def away(self) -> set[int]:
        """Tokens with a copy that is not at home though that works: it gave way there."""
        working = set(self.allocation.slots) - self.allocation.lost
        return {t for t in self.modes if working.intersection(self.allocation.homes(t)) - self.serving(t)}

    @rule(
        tokens=st.lists(TOKENS, min_size=1, max_size=9),
        mode=st.sampled_from(Mode),
        account=ACCOUNTS,
        connection=st.none() | st.integers(1, 3),
        copies=st.none() | st.none() | st.integers(1, 3),
        priority=st.integers(0, 2),
        leave_out=st.booleans(),
    )
    def subscribe(
        self,
        tokens: list[int],
        mode: Mode,
        account: str | list[str] | None,
        connection: int | None,
        copies: int | None,
        priority: int,
        leave_out: bool,
    ) -> None:
        named = frozenset([account] if isinstance(account, str) else account or ())
        connection = connection if len(named) == 1 else None
        before = state(self.allocation)
        held = {slot: dict(self.allocation.at(slot)) for slot in self.allocation.slots}
        slots = [
            slot
            for slot in self.allocation.slots
            if (account is None or slot.account in named) and connection in (None, slot.connection)
        ]
        rooms = self.rooms(slots)
        new = [token for token in dict.fromkeys(tokens) if token not in self.modes]
        each = copies or (2 if self.strategy is Strategy.REDUNDANT and len(named) != 1 else 1)
        simple = len(new) == len(set(tokens)) or (account is None and copies is None)
        fitting = fits(len(new), rooms.values(), each)
        expected = None
        if not self.allocation.lost and not self.away() and simple and fitting == len(new):
            # From scratch: beside what is there, which has its new mode.
            beside = {slot: {old: mode if old in tokens else was for old, was in held[slot].items()} for slot in slots}
            spread = dict.fromkeys(new, mode)
            expected = place(spread, slots, capacity=self.capacity, placed=beside, strategy=self.strategy, copies=each)
        options = {"account": account, "connection": connection, "copies": copies, "priority": priority}
        try:
            left = self.call("subscribe", tokens, mode, **options, leave_out=leave_out)
            after = state(self.allocation)
            again = self.call("subscribe", tokens, mode, **options, leave_out=leave_out)
        except CapacityError:
            assert not leave_out
            assert not simple or fitting < len(new)
            return
        except ValueError:
            unknown = not named <= self.accounts or account == []
            beyond = connection is not None and connection > self.connections
            many = account is not None and copies is not None and copies > len(named)
            assert unknown or beyond or many or (account is None and self.strategy is Strategy.MANUAL)
            return
        assert state(self.allocation) == after, "the same again changes nothing"
        assert set(again) == set(left) & set(tokens)
        assert leave_out or not left
        if expected is not None:
            for slot in slots:
                assert set(self.allocation.at(slot)) - set(held[slot]) == set(expected.get(slot, ()))
        assert len(left) == len(set(left))
        removed = [token for token in left if token not in tokens]
        assert all(self.priorities[token] > priority for token in removed)
        ranks = [(-self.priorities[token], -self.order[token]) for token in removed]
        assert ranks == sorted(ranks)
        if simple:
            assert not removed or fitting < len(new)
            missing = [token for token in new if token in left]
            assert new[len(new) - len(missing) :] == missing, "the last ones"
            if not removed:
                assert len(missing) == len(new) - fitting
        for token in removed:
            self.forget(token)
        for token in dict.fromkeys(tokens):
            if token in new and token in left:
                continue
            if token in new:
                self.order[token] = next(self.orders)
            self.modes[token], self.priorities[token] = mode, priority
            if token not in left:
                self.copies[token] = each if token in new or copies or account else self.copies[token]
                if account is not None:
                    self.hand[token] = named
                elif copies is not None:
                    self.hand.pop(token, None)
        for token in before["homes"]:
            if token in self.modes and (token not in tokens or token in left or (account is None and copies is None)):
                self.check_still(token, before, held)

    def check_still(self, token: int, before: dict[str, Any], held: dict[Slot, dict[int, Mode]]) -> None:
        """A token that did not wait is where it was, or gave way, or went home after that."""
        assert self.allocation.homes(token) == before["homes"][token]
        if token not in before["waiting"]:
            now = {slot for slot in self.allocation.slots if token in self.allocation.at(slot)}
            for slot in {slot for slot in held if token in held[slot]} - now:
                assert self.gave_way(token, slot, set(held[slot])) or now & set(before["homes"][token])

    def gave_way(self, token: int, slot: Slot, before: set[int]) -> bool:
        """Whether this slot, which streamed the token `before`, is full of the more important, some of them new."""
        there = set(self.allocation.at(slot))
        more = any(self.priorities[other] < self.priorities[token] for other in there - before)
        least = max((self.priorities[other] for other in there), default=0)
        return more and len(there) == self.capacity and least <= self.priorities[token]

    @rule(tokens=st.lists(TOKENS, max_size=3), mode=st.sampled_from(Mode))
    def set_mode(self, tokens: list[int], mode: Mode) -> None:
        if set(tokens) <= set(self.modes):
            self.call("set_mode", tokens, mode)
            self.modes |= dict.fromkeys(tokens, mode)
        else:
            with pytest.raises(InstrumentError, match=f"of {len(tokens)} instruments are not subscribed, as "):
                self.call("set_mode", tokens, mode)

    @rule(tokens=st.lists(TOKENS, max_size=9))
    def unsubscribe(self, tokens: list[int]) -> None:
        before, before_away = state(self.allocation), self.away()
        held = {slot: dict(self.allocation.at(slot)) for slot in self.allocation.slots}
        self.call("unsubscribe", tokens)
        for token in tokens:
            self.forget(token)
        for token in self.modes:
            self.check_still(token, before, held)
        if not before["waiting"] and not before_away:
            gone = [token for token in before["homes"] if token not in self.modes]
            places = {(slot, token) for token in gone for slot in before["homes"][token] if slot in held}
            places |= {(slot, token) for token in gone for slot, there in held.items() if token in there}
            assert self.allocation.free == before["places"][1] + len(places)

    def forget(self, token: int) -> None:
        for kept in (self.modes, self.priorities, self.copies, self.hand, self.order):
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
        homes, waiting = state(self.allocation)["homes"], self.allocation.waiting
        before = {token: self.serving(token) for token in self.modes}
        at = {slot: dict(self.allocation.at(slot)) for slot in self.allocation.slots}
        lost, accounts = self.allocation.lost, self.accounts
        result = self.call(name, argument)
        after = {token: self.serving(token) for token in self.modes}
        assert state(self.allocation)["homes"] == homes
        assert result.waiting == self.allocation.waiting
        # What waited at a lost home streams from there once it is back, which is no move.
        assigned = {token: {slot for slot in at if token in at[slot]} for token in self.modes}
        assert result.moved == tuple(sorted(t for t in self.modes if after[t] - assigned[t]))
        if (lost, accounts) == (self.allocation.lost, self.accounts):
            assert result == Moved((), waiting)
        for token in self.modes:
            for slot in before[token] - after[token]:
                gone = slot in self.allocation.lost or slot not in self.allocation.slots
                back = any(home in after[token] - before[token] for home in homes[token])
                assert gone or back or self.gave_way(token, slot, set(at[slot])), "it left a slot that works"

    def serving(self, token: int) -> set[Slot]:
        open_slots = set(self.allocation.slots) - self.allocation.lost
        return {slot for slot in open_slots if token in self.allocation.at(slot)}

    @invariant()
    def the_twin_is_the_same(self) -> None:
        assert state(self.twin) == state(self.allocation)

    @invariant()
    def limits_and_modes(self) -> None:
        allocation = self.allocation
        assert dict(allocation.modes) == self.modes
        held: dict[Slot, set[int]] = {slot: set(allocation.at(slot)) for slot in allocation.slots}
        homes: dict[Slot, set[int]] = {}
        for token in self.modes:
            for home in allocation.homes(token):
                homes.setdefault(home, set()).add(token)
                held.setdefault(home, set()).add(token)
        assert all(len(tokens) <= self.capacity for tokens in homes.values())
        assert all(len(allocation.at(slot)) <= self.capacity for slot in allocation.slots)
        places = {slot: len(held[slot]) for slot in allocation.slots}
        assert allocation.capacity == self.capacity * len(places)
        assert allocation.free == sum(max(self.capacity - taken, 0) for taken in places.values())
        for slot in allocation.slots:
            assert all(self.modes[token] is mode for token, mode in allocation.at(slot).items())
        assert allocation.placement() == {
            slot: dict(allocation.at(slot)) for slot in sorted(allocation.slots) if allocation.at(slot)
        }
        assert list(allocation.placement()) == sorted(allocation.placement())

    @invariant()
    def each_instrument_is_where_it_must_be(self) -> None:
        allocation = self.allocation
        working = set(allocation.slots) - allocation.lost
        waiting, unserved = [], []
        for token in self.modes:
            homes = allocation.homes(token)
            at = {slot for slot in allocation.slots if token in allocation.at(slot)}
            assert len({home.account for home in homes}) == len(homes) == self.copies[token]
            assert len({slot.account for slot in at}) == len(at) <= len(homes)
            assert at - working <= set(homes), "lost slots have no guests"
            assert not (at - set(homes) and at >= set(homes)), "a guest has a home that it is away from"
            if token in self.hand:
                assert {home.account for home in homes} <= self.hand[token]
            if not at & working:
                unserved.append(token)
            if len(at & working) < len(homes):
                waiting.append(token)
                # Which of the copies waits is not seen from outside when some are guests.
                if at & working <= set(homes):
                    for home in set(homes) - (at & working):
                        others = {slot.account for slot in (*homes, *at) if slot != home}
                        for slot in working:
                            assert slot.account in others or not self.open_to(self.priorities[token], slot)
        assert allocation.waiting == tuple(sorted(waiting))
        assert allocation.unserved == tuple(sorted(unserved))

    def open_to(self, priority: int, slot: Slot) -> bool:
        """Whether there is room, or something less important."""
        there = self.allocation.at(slot)
        return len(there) < self.capacity or any(self.priorities[other] > priority for other in there)

    @invariant()
    def when_every_slot_works_each_is_at_home(self) -> None:
        if not self.allocation.lost and all(
            home in self.allocation.slots for token in self.modes for home in self.allocation.homes(token)
        ):
            assert not self.away()
            assert self.allocation.waiting == ()

    def teardown(self) -> None:
        """When everything is back, each is at home."""
        if not hasattr(self, "allocation"):
            return
        for name in NAMES:
            if name not in self.accounts:
                self.call("add_account", name)
        self.call("regain", self.allocation.slots)
        assert self.allocation.waiting == ()
        for token in self.modes:
            assert set(where(self.allocation, token)) == set(self.allocation.homes(token))


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=300, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
