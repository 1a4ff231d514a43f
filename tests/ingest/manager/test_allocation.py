"""What is asked for gets its homes: how many, where, in which mode, and with how many copies."""

from typing import Any

import pytest

from ingest.errors import CapacityError, InstrumentError
from ingest.manager.allocation import Allocation, Moved
from ingest.manager.want import Slot, Want
from ingest.settings import Strategy
from tests.support.placement import FULL, LTP, ONE, QUOTE, THREE, TWO, modes_of, refused, subscribe, where

NOTHING = Moved((), ())


def test_balanced_over_all_slots() -> None:
    allocation = Allocation(["one", "two"], connections=2, capacity=3)
    assert subscribe(allocation, [1, 2, 2, 1, 3, 4], FULL) == []
    assert allocation.placement() == {
        Slot("one", 1): {1: FULL},
        Slot("one", 2): {3: FULL},
        Slot("two", 1): {2: FULL},
        Slot("two", 2): {4: FULL},
    }
    assert (allocation.capacity, allocation.free) == (12, 8)
    assert list(allocation.wants) == [1, 2, 3, 4]
    assert allocation.slots == (Slot("one", 1), Slot("two", 1), Slot("one", 2), Slot("two", 2))


def test_round_robin_continues_its_turn() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1, strategy=Strategy.ROUND_ROBIN)
    for token in (9, 3, 5, 7):
        subscribe(allocation, [token], FULL if token == 9 else LTP)
    assert allocation.placement() == {ONE: {9: FULL, 7: LTP}, TWO: {3: LTP}, THREE: {5: LTP}}


def test_redundant_streams_copies_on_different_accounts() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1, strategy=Strategy.REDUNDANT)
    subscribe(allocation, [1, 2, 3], QUOTE)
    assert {token: len(where(allocation, token)) for token in (1, 2, 3)} == {1: 2, 2: 2, 3: 2}
    subscribe(allocation, [4], QUOTE, replicas=3)
    assert where(allocation, 4) == [ONE, THREE, TWO]
    subscribe(allocation, [5], QUOTE, accounts=("two",))
    assert where(allocation, 5) == [TWO], "by hand there is one copy"


def test_what_is_there_changes_its_mode_where_it_is() -> None:
    allocation = Allocation(["one", "two"], connections=1)
    subscribe(allocation, [1, 2], LTP)
    subscribe(allocation, [1, 3], FULL)
    assert allocation.placement() == {ONE: {1: FULL}, TWO: {2: LTP, 3: FULL}}
    subscribe(allocation, [4], FULL)
    assert where(allocation, 4) == [ONE], "the load counts the new mode"


def test_placed_by_hand() -> None:
    allocation = Allocation(["one", "two"], connections=2, capacity=2)
    subscribe(allocation, [1, 2], LTP)
    assert subscribe(allocation, [1, 2, 3], FULL, accounts=("two",)) == []
    assert allocation.placement() == {Slot("two", 1): {2: FULL, 3: FULL}, Slot("two", 2): {1: FULL}}
    subscribe(allocation, [2], FULL, accounts=("two",))
    assert where(allocation, 2) == [Slot("two", 1)], "it is there already"
    subscribe(allocation, [2], FULL, accounts=("two",), connection=2)
    assert where(allocation, 2) == [Slot("two", 2)]
    refused(
        allocation,
        CapacityError,
        "3 instruments do not fit on 1 connections of 2: 2 is the capacity, 1 are too many",
        lambda: subscribe(allocation, [3], LTP, accounts=("two",), connection=2),
    )


def test_copies_are_added_and_removed() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1, capacity=2)
    subscribe(allocation, [1, 2], LTP)
    subscribe(allocation, [1], LTP, replicas=2)
    assert allocation.home_slots(1) == (ONE, THREE), "the account with the most room"
    subscribe(allocation, [1], FULL, replicas=3)
    assert allocation.home_slots(1) == (ONE, THREE, TWO)
    subscribe(allocation, [1], FULL)
    assert len(where(allocation, 1)) == 3, "without a number they stay as many"
    subscribe(allocation, [1], FULL, replicas=1)
    assert allocation.placement() == {ONE: {1: FULL}, TWO: {2: LTP}}


def test_a_copy_that_is_removed_weighs_nothing() -> None:
    allocation = Allocation(["one", "two"], connections=1)
    subscribe(allocation, [1], FULL, replicas=2)
    subscribe(allocation, [2], LTP, accounts=("two",))
    subscribe(allocation, [1, 3], FULL, replicas=1)
    assert allocation.placement() == {ONE: {1: FULL}, TWO: {2: LTP, 3: FULL}}


def test_copies_without_room_are_refused() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=2)
    subscribe(allocation, [1, 2, 3], LTP)
    with pytest.raises(CapacityError) as caught:
        subscribe(allocation, [1, 2, 3], FULL, replicas=2)
    assert str(caught.value) == (
        "2 copies of 3 instruments do not fit on 2 accounts with 2 connections of 2: "
        "there is room for 1, 2 are too many"
    )
    assert (caught.value.wanted, caught.value.capacity) == (6, 4)
    assert allocation.placement() == {ONE: {1: LTP, 3: LTP}, TWO: {2: LTP}}
    assert subscribe(allocation, [1, 2, 3], FULL, replicas=2, leave_out=True) == [2, 3]
    assert allocation.placement() == {ONE: {1: FULL, 3: FULL}, TWO: {1: FULL, 2: FULL}}


def test_places_of_further_copies_are_counted() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1, capacity=1)
    subscribe(allocation, [1, 2], LTP)
    with pytest.raises(CapacityError, match="there is room for 0, 1 are too many") as caught:
        subscribe(allocation, [1], LTP, replicas=3)
    assert (caught.value.wanted, caught.value.capacity) == (4, 3)


def test_a_copy_that_serves_is_not_the_one_removed() -> None:
    allocation = Allocation(["one", "two"], connections=1)
    subscribe(allocation, [1], LTP, replicas=2)
    allocation.lose([ONE])
    subscribe(allocation, [1], LTP, replicas=1)
    assert (allocation.home_slots(1), allocation.placement(), allocation.waiting) == ((TWO,), {TWO: {1: LTP}}, ())


def test_placed_on_some_of_the_accounts() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1, capacity=4)
    subscribe(allocation, [1, 2, 3], LTP)
    assert subscribe(allocation, [1, 2, 3, 4, 5], FULL, accounts=("three", "two", "three")) == []
    assert allocation.placement() == {TWO: {2: FULL, 1: FULL, 5: FULL}, THREE: {3: FULL, 4: FULL}}
    refused(
        allocation,
        CapacityError,
        "9 instruments do not fit on 2 connections of 4: 8 is the capacity, 1 are too many",
        lambda: subscribe(allocation, [6, 7, 8, 9], LTP, accounts=("two", "three")),
    )
    assert subscribe(allocation, [6, 7, 8, 9], LTP, accounts=("two", "three"), leave_out=True) == [9]
    assert allocation.at(ONE) == {}


def test_copies_on_some_of_the_accounts() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1, capacity=4)
    subscribe(allocation, [1, 2, 3], LTP)
    subscribe(allocation, [1], LTP, replicas=3)
    assert [allocation.home_slots(token) for token in (1, 2, 3)] == [(ONE, TWO, THREE), (TWO,), (THREE,)]
    subscribe(allocation, [1, 2, 3, 4], LTP, accounts=("one", "two"), replicas=2)
    assert allocation.home_slots(1) == (ONE, TWO), "the copy elsewhere is given up"
    assert allocation.home_slots(2) == (TWO, ONE), "the copy that is there stays"
    assert set(allocation.home_slots(3)) == set(allocation.home_slots(4)) == {ONE, TWO}, "none was there"
    refused(
        allocation,
        CapacityError,
        "2 copies of 1 instruments do not fit on 2 accounts with 2 connections of 4: there is room for 0, "
        "1 are too many",
        lambda: subscribe(allocation, [5], LTP, accounts=("one", "two"), replicas=2),
    )
    subscribe(allocation, [1], LTP, accounts=("two", "three"))
    assert allocation.home_slots(1) == (TWO,), "without a number there is one"


def test_an_account_that_is_named_twice_is_one_account() -> None:
    for strategy in Strategy:
        allocation = Allocation(["one", "two"], connections=1, strategy=strategy)
        subscribe(allocation, [1, 2], LTP, accounts=("two", "two"))
        assert allocation.placement() == {TWO: {1: LTP, 2: LTP}}


def test_redundant_has_its_number_of_copies_on_some_of_the_accounts() -> None:
    names = ["one", "two", "three", "four"]
    allocation = Allocation(names, connections=1, strategy=Strategy.REDUNDANT, replicas=3)
    subscribe(allocation, [1], LTP, accounts=tuple(names))
    assert len(allocation.home_slots(1)) == 3
    subscribe(allocation, [1], LTP, accounts=("three", "four"))
    assert set(allocation.home_slots(1)) == {THREE, Slot("four", 1)}, "no more than there are names"


def test_what_streams_from_one_of_the_accounts_meanwhile_is_at_home_there() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1)
    subscribe(allocation, [1], LTP, accounts=("one",))
    subscribe(allocation, [2], FULL, accounts=("three",))
    allocation.lose([ONE])
    assert where(allocation, 1) == [TWO]
    subscribe(allocation, [1], LTP, accounts=("two", "three"), replicas=2)
    assert set(allocation.home_slots(1)) == {TWO, THREE}
    assert allocation.regain([ONE]) == NOTHING


def test_one_that_finds_no_room_for_its_copies_keeps_all_that_it_has() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1, capacity=1)
    subscribe(allocation, [1], LTP, accounts=("one", "three"), replicas=2)
    subscribe(allocation, [2], LTP, accounts=("two",))
    assert subscribe(allocation, [1], FULL, accounts=("one", "two"), replicas=2, leave_out=True) == [1]
    assert allocation.placement() == {ONE: {1: FULL}, TWO: {2: LTP}, THREE: {1: FULL}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"accounts": ("three",)}, "got account 'three', expected one of one, two"),
        ({"connection": 1}, "got connection 1 without an account, expected account= with it"),
        ({"accounts": ("one",), "connection": 0}, "got connection 0, expected 1 to 2"),
        ({"accounts": ("one",), "connection": 3}, "got connection 3, expected 1 to 2"),
        ({"accounts": ("one",), "replicas": 2}, "got 2 copies on 1 accounts (one), expected at most one an account"),
        (
            {"accounts": ("two", "one", "two"), "replicas": 3},
            "got 3 copies on 2 accounts (one, two), expected at most one an account",
        ),
        ({"accounts": ("one", "three")}, "got account 'three', expected one of one, two"),
        (
            {"accounts": ("one", "two"), "connection": 1},
            "got connection 1 of 2 accounts, expected one account with it",
        ),
        ({"replicas": 0}, "got 0 copies, expected 1 or more"),
        ({}, "got 2 new instruments without an account, expected account=: placement is manual"),
    ],
)
def test_wants_that_contradict_themselves_or_name_what_is_not_there(arguments: dict[str, Any], message: str) -> None:
    allocation = Allocation(["one", "two"], connections=2, strategy=Strategy.MANUAL)
    subscribe(allocation, [1], LTP, accounts=("one",))
    want = Want(FULL, **arguments)
    refused(allocation, ValueError, message, lambda: allocation.subscribe([1, 2, 3], want))
    refused(allocation, ValueError, message, lambda: allocation.bring_to(dict.fromkeys([1, 2, 3], want)))
    subscribe(allocation, [1], FULL)
    assert modes_of(allocation) == {1: FULL}


def test_set_mode() -> None:
    allocation = Allocation(["one", "two"], connections=1)
    subscribe(allocation, [1, 2], LTP)
    refused(
        allocation,
        InstrumentError,
        "2 of 3 instruments are not subscribed, as 7",
        lambda: allocation.set_mode([1, 7, 8], FULL),
    )
    allocation.set_mode(iter([2]), FULL)
    assert allocation.placement() == {ONE: {1: LTP}, TWO: {2: FULL}}
    subscribe(allocation, [3, 4], LTP)
    assert list(allocation.at(ONE)) == [1, 3, 4], "the load counts the new mode"


def test_unsubscribe_frees_the_places() -> None:
    allocation = Allocation(["one"], connections=1, capacity=2)
    subscribe(allocation, [1, 2], LTP)
    refused(
        allocation,
        CapacityError,
        "3 instruments do not fit on 1 connections of 2: 2 is the capacity, 1 are too many",
        lambda: subscribe(allocation, [1, 3], FULL),
    )
    allocation.unsubscribe([1, 1, 99])
    subscribe(allocation, [3], FULL)
    assert allocation.placement() == {ONE: {2: LTP, 3: FULL}}
    assert allocation.home_slots(1) == ()


def test_what_is_shown_cannot_be_changed() -> None:
    allocation = Allocation(["one"], connections=1)
    subscribe(allocation, [1], LTP)
    assert allocation.at(ONE) == {1: LTP}
    assert allocation.at(TWO) == {}
    for view in (allocation.at(ONE), allocation.at(TWO), allocation.wants):
        with pytest.raises(TypeError):
            view[1] = FULL  # type: ignore[index]
    allocation.placement()[ONE].clear()
    assert allocation.at(ONE) == {1: LTP}


def test_limits() -> None:
    with pytest.raises(ValueError, match="got a capacity of 3001 instruments, expected 1 to 3000"):
        Allocation(["one"], capacity=3001)
    with pytest.raises(ValueError, match="got 4 connections an account, expected 1 to 3"):
        Allocation(["one"], connections=4)
    with pytest.raises(ValueError, match="got 0 copies, expected 1 or more"):
        Allocation(["one"], replicas=0)
    with pytest.raises(ValueError, match="got accounts one, one, expected different names"):
        Allocation(["one", "one"])


def test_no_accounts_at_first() -> None:
    allocation = Allocation([], connections=1, capacity=2)
    refused(
        allocation,
        CapacityError,
        "1 instruments do not fit on 0 connections of 2: 0 is the capacity, 1 are too many",
        lambda: subscribe(allocation, [1], LTP),
    )
    refused(
        allocation,
        ValueError,
        "got account 'one', expected none: no account was added",
        lambda: subscribe(allocation, [1], LTP, accounts=("one",)),
    )
    assert subscribe(allocation, [1], LTP, leave_out=True) == [1]
    assert allocation.add_account("one") == NOTHING
    assert subscribe(allocation, [1], LTP) == []
