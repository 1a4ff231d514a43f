"""Slots that are lost and work again, accounts that come and go: who streams meanwhile, and from where."""

from ingest.errors import CapacityError
from ingest.manager.allocation import Allocation, Moved
from ingest.manager.current_slots import settle
from ingest.manager.replicas import Placement, Replica
from ingest.manager.want import Connections, Slot, Want, slots_of
from ingest.settings import Strategy
from ingest.wire import Mode
from tests.support.placement import placed, refused, state, subscribe, where

LTP, QUOTE, FULL = Mode.LTP, Mode.QUOTE, Mode.FULL
ONE, TWO, THREE = (Slot(name, 1) for name in ("one", "two", "three"))
NOTHING = Moved((), ())


# Slots that are lost, accounts that come and go.


def test_others_stream_the_instruments_of_a_lost_slot_until_it_is_back() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1, capacity=4)
    subscribe(allocation, [1, 2, 3, 4, 5, 6], FULL)
    before = state(allocation)
    assert allocation.lose([ONE]) == Moved((1, 4), ())
    assert allocation.placement() == {TWO: {2: FULL, 5: FULL, 1: FULL}, THREE: {3: FULL, 6: FULL, 4: FULL}}
    assert allocation.home_slots(1) == (ONE,)
    assert allocation.lose([ONE, Slot("nobody", 1)]) == NOTHING
    assert allocation.regain([TWO]) == NOTHING
    assert allocation.regain([ONE]) == Moved((1, 4), ())
    assert state(allocation) == before


def test_the_important_and_the_heavy_get_room_first() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=4)
    subscribe(allocation, [1], LTP, accounts=("one",))
    subscribe(allocation, [2], FULL, accounts=("one",))
    subscribe(allocation, [3], FULL, accounts=("one",), priority=2)
    subscribe(allocation, [4], LTP, accounts=("one",), priority=1)
    subscribe(allocation, [11, 12, 13], LTP, accounts=("two",))
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
    subscribe(allocation, [1, 2, 3], LTP, accounts=("one",))
    subscribe(allocation, [11, 12, 13], LTP, accounts=("two",))
    allocation.lose([ONE])
    allocation.set_mode([3], FULL)
    subscribe(allocation, [1], FULL, priority=1)
    waiting = []
    for gone in (11, 12, 13):
        allocation.unsubscribe([gone])
        waiting.append(allocation.waiting)
    assert waiting == [(1, 2), (1,), ()]


def test_what_is_away_moves_on_when_that_slot_is_lost_too() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1, capacity=2)
    subscribe(allocation, [1], FULL, accounts=("one",))
    subscribe(allocation, [3, 4], FULL, accounts=("three",))
    assert allocation.lose([ONE]) == Moved((1,), ())
    assert where(allocation, 1) == [TWO]
    assert allocation.lose([TWO]) == Moved((), (1,))
    assert where(allocation, 1) == [ONE], "it waits at home"
    allocation.unsubscribe([3])
    assert where(allocation, 1) == [THREE]
    assert allocation.regain([TWO]) == NOTHING, "it need not move"
    assert allocation.regain([ONE]) == Moved((1,), ())
    assert where(allocation, 1) == [ONE]


def test_a_replica_does_not_move_to_the_account_of_another() -> None:
    allocation = Allocation(["one", "two"], connections=2, capacity=2, strategy=Strategy.REDUNDANT)
    subscribe(allocation, [1], FULL)
    assert allocation.lose(slots_of(["one"], 2)) == Moved((), (1,))
    assert allocation.add_account("three") == Moved((1,), ())
    assert where(allocation, 1) == [Slot("three", 1), Slot("two", 1)]


def test_copies_stay_on_their_account_if_that_is_possible() -> None:
    allocation = Allocation(["one", "two", "three"], connections=2, capacity=2)
    subscribe(allocation, [1], FULL, replicas=2)
    subscribe(allocation, [2], FULL, accounts=("two",))
    assert [slot.account for slot in allocation.home_slots(1)] == ["one", "two"]
    allocation.lose(allocation.home_slots(1))
    assert where(allocation, 1) == [Slot("one", 2), Slot("two", 2)]


def test_what_was_placed_by_hand_stays_on_its_account_if_it_can() -> None:
    allocation = Allocation(["one", "two"], connections=2, capacity=1)
    home = Slot("one", 2)
    subscribe(allocation, [1], LTP, accounts=("one",), connection=2)
    allocation.lose([home])
    assert where(allocation, 1) == [ONE]
    allocation.lose([ONE])
    assert where(allocation, 1) == [TWO]
    subscribe(allocation, [1], FULL, accounts=("one",))
    assert (where(allocation, 1), allocation.home_slots(1)) == ([TWO], (home,)), "its home is there already"
    subscribe(allocation, [1], FULL, accounts=("two",))
    assert (where(allocation, 1), allocation.home_slots(1)) == ([TWO], (TWO,)), "it does not move to be at home"
    allocation.regain([home])
    assert where(allocation, 1) == [TWO]


def test_what_is_there_already_is_by_hand_from_then_on() -> None:
    allocation = Allocation(["one", "two"], connections=2)
    subscribe(allocation, [1], LTP)
    subscribe(allocation, [2], FULL, accounts=("one",), connection=2)
    subscribe(allocation, [1], LTP, accounts=("one",))
    allocation.lose([ONE])
    assert where(allocation, 1) == [Slot("one", 2)], "the others have less load"


def test_new_ones_prefer_slots_that_work() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=2)
    allocation.lose([ONE])
    subscribe(allocation, [1, 2, 3], LTP)
    assert allocation.placement() == {ONE: {3: LTP}, TWO: {1: LTP, 2: LTP}}
    assert allocation.waiting == (3,)
    assert allocation.free == 1
    assert allocation.regain([ONE]) == NOTHING
    assert not allocation.waiting


def test_by_hand_on_a_lost_slot() -> None:
    """Data matter more than the wish."""
    allocation = Allocation(["one", "two"], connections=1, capacity=2)
    allocation.lose([ONE])
    subscribe(allocation, [1], LTP, accounts=("one",))
    assert (where(allocation, 1), allocation.home_slots(1)) == ([TWO], (ONE,))


def test_the_places_of_those_that_are_away_are_kept() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=2)
    subscribe(allocation, [1], LTP, accounts=("one",))
    allocation.lose([ONE])
    assert allocation.free == 2
    subscribe(allocation, [2, 3], LTP)
    assert allocation.placement() == {ONE: {3: LTP}, TWO: {1: LTP, 2: LTP}}
    refused(
        allocation,
        CapacityError,
        "5 instruments do not fit on 2 connections of 2: 4 is the capacity, 1 are too many",
        lambda: subscribe(allocation, [4], LTP),
    )


def test_an_account_goes_and_comes_back() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=3)
    subscribe(allocation, [1, 2, 3, 4], LTP)
    assert allocation.remove_account("one") == Moved((1,), (3,))
    assert allocation.placement() == {TWO: {2: LTP, 4: LTP, 1: LTP}}
    assert (allocation.slots, allocation.capacity, allocation.free) == ((TWO,), 3, 0)
    assert dict(allocation.at(ONE)) == {}
    subscribe(allocation, [3], FULL, priority=2)
    assert allocation.wants[3].mode is FULL
    allocation.unsubscribe([2])
    assert (where(allocation, 3), allocation.waiting) == ([TWO], ())
    allocation.unsubscribe([3])
    assert allocation.add_account("one") == Moved((1,), ())
    assert allocation.placement() == {ONE: {1: LTP}, TWO: {4: LTP}}
    assert allocation.slots == (TWO, ONE)


def test_those_that_wait_get_room_on_another_account() -> None:
    allocation = Allocation(["one"], connections=1, capacity=3)
    subscribe(allocation, [1, 2], LTP)
    assert allocation.remove_account("one") == Moved((), (1, 2))
    assert (allocation.placement(), allocation.capacity) == ({}, 0)
    assert allocation.add_account("two") == Moved((1, 2), ())
    assert allocation.add_account("one") == Moved((1, 2), ())
    assert allocation.placement() == {ONE: {1: LTP, 2: LTP}}


def test_a_removed_account_forgets_that_it_was_lost() -> None:
    allocation = Allocation(["one", "two"], connections=1)
    subscribe(allocation, [1], LTP, accounts=("one",))
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
    subscribe(allocation, [1, 2], LTP, accounts=("one",))
    subscribe(allocation, [3], LTP, accounts=("one",), priority=5)
    subscribe(allocation, [11], LTP, accounts=("two",))
    subscribe(allocation, [12, 13], FULL, accounts=("two",), priority=9)
    before = state(allocation)
    assert allocation.lose([ONE]) == Moved((1, 2), (3, 12, 13))
    assert allocation.unserved == (3, 12, 13)
    assert allocation.placement() == {ONE: {3: LTP}, TWO: {11: LTP, 1: LTP, 2: LTP}}
    assert allocation.home_slots(12) == (TWO,), "what gave way is not forgotten"
    assert allocation.regain([ONE]) == Moved((1, 2, 12, 13), ())
    assert state(allocation) == before


def test_no_more_give_way_than_must_and_the_least_important_and_latest_first() -> None:
    allocation = Allocation(["one", "two", "three"], connections=1, capacity=3)
    subscribe(allocation, [1, 2], LTP, accounts=("one",), priority=2)
    subscribe(allocation, [11, 12], LTP, accounts=("two",), priority=7)
    subscribe(allocation, [13], LTP, accounts=("three",), priority=7)
    subscribe(allocation, [14, 15], LTP, accounts=("three",), priority=2)
    assert allocation.lose([ONE]) == Moved((1, 2), (13,)), "one found room"
    assert allocation.placement() == {TWO: {11: LTP, 12: LTP, 1: LTP}, THREE: {14: LTP, 15: LTP, 2: LTP}}


def test_those_of_the_same_number_do_not_give_way() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=1)
    subscribe(allocation, [1], FULL, accounts=("one",), priority=3)
    subscribe(allocation, [2], LTP, accounts=("two",), priority=3)
    assert allocation.lose([ONE]) == Moved((), (1,))


def test_new_important_ones_are_not_parked_on_a_lost_slot() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=2)
    allocation.lose([ONE])
    subscribe(allocation, [1, 2], LTP, priority=10)
    assert subscribe(allocation, [3], LTP, leave_out=True) == []
    assert allocation.home_slots(3) == (ONE,)
    assert (where(allocation, 3), allocation.unserved) == ([TWO], (2,))
    subscribe(allocation, [1], LTP, priority=11)
    assert allocation.unserved == (1,), "it is the least important now"
    allocation.unsubscribe([3])
    assert (allocation.waiting, allocation.placement()) == ((), {TWO: {2: LTP, 1: LTP}})


def test_sixteen_indices_stream_while_one_of_three_accounts_is_left() -> None:
    allocation = Allocation(["one", "two", "three"])
    subscribe(allocation, range(1, 17), QUOTE, leave_out=True)
    subscribe(allocation, range(101, 27_085), FULL, priority=10, leave_out=True)
    before = placed(allocation)
    for slot in slots_of(["one", "two"]):
        allocation.lose([slot])
    assert {token for slot in slots_of(["three"]) for token in allocation.at(slot)} >= set(range(1, 17))
    assert len(allocation.waiting) == len(allocation.unserved) == 18_000
    left = subscribe(allocation, range(30_001, 30_101), QUOTE, leave_out=True)
    assert left == list(range(27_084, 27_084 - len(left), -1))
    assert 100 <= len(left) <= 100 + 16, "the places of what is away are not free"
    assert not set(allocation.unserved) & set(range(30_001, 30_101))
    for slot in slots_of(["two", "one"]):
        allocation.regain([slot])
    assert allocation.waiting == ()
    stayed = set(range(27_085)) - set(left)
    assert {slot: there & stayed for slot, there in placed(allocation).items()} == {
        slot: there & stayed for slot, there in before.items()
    }


def test_what_gave_way_streams_where_there_is_room_and_goes_home() -> None:
    """The important one has a copy on account two and can go to account three only."""
    allocation = Allocation(["one", "two", "three"], connections=1, capacity=2)
    subscribe(allocation, [1], LTP, accounts=("one", "two"), replicas=2)
    subscribe(allocation, [3, 4], LTP, accounts=("three",), priority=5)
    assert allocation.lose([ONE]) == Moved((1, 4), ())
    assert allocation.placement() == {TWO: {1: LTP, 4: LTP}, THREE: {3: LTP, 1: LTP}}
    allocation.unsubscribe([1])
    assert allocation.placement() == {THREE: {3: LTP, 4: LTP}}


def test_both_copies_of_an_important_one_take_places_and_give_them_back() -> None:
    allocation = Allocation(["one", "two", "three", "four"], connections=1, capacity=1)
    four = Slot("four", 1)
    subscribe(allocation, [1], LTP, accounts=("one", "two"), replicas=2)
    subscribe(allocation, [3], LTP, accounts=("three",), priority=5)
    subscribe(allocation, [4], LTP, accounts=("four",), priority=7)
    before = placed(allocation)
    assert allocation.lose([ONE]) == Moved((1,), (4,))
    assert allocation.lose([TWO]) == Moved((1,), (3, 4))
    assert allocation.placement() == {THREE: {1: LTP}, four: {1: LTP}}
    allocation.regain([TWO])
    allocation.regain([ONE])
    assert placed(allocation) == before


def test_what_is_away_has_no_home_where_all_places_are_taken() -> None:
    allocation = Allocation(["one", "two"], connections=1, capacity=1)
    subscribe(allocation, [1], LTP, accounts=("one",))
    subscribe(allocation, [2], LTP, accounts=("two",), priority=5)
    allocation.lose([ONE])
    assert (where(allocation, 1), where(allocation, 2)) == ([TWO], [])
    refused(
        allocation,
        CapacityError,
        "2 instruments do not fit on 1 connections of 1: 1 is the capacity, 1 are too many",
        lambda: subscribe(allocation, [1], LTP, accounts=("two",)),
    )
    allocation.unsubscribe([2])
    subscribe(allocation, [1], LTP, accounts=("two",))
    assert allocation.home_slots(1) == (TWO,)


# From placements that are not come by with ease.


def standing(**replicas: tuple[Slot, Slot | None]) -> Placement:
    """One replica each, in this order: home and current slot of `t9`, for the token 9."""
    placement = Placement()
    for name, (home, current) in replicas.items():
        placement.put([int(name.removeprefix("t"))], Want(LTP, replicas=1), (Replica(home, current),))
    return placement


def streams(placement: Placement) -> dict[Slot, list[int]]:
    return {slot: list(there) for slot, there in placement.by_slot.items() if there}


def test_two_on_each_others_full_home_go_home_together() -> None:
    crossed = standing(t1=(ONE, TWO), t2=(TWO, THREE), t3=(THREE, ONE))
    settle(crossed, Connections((ONE, TWO, THREE), capacity=1))
    assert streams(crossed) == {ONE: [1], TWO: [2], THREE: [3]}


def test_one_that_cannot_go_home_keeps_its_place_from_those_that_would_take_it() -> None:
    """The second waits for the place of the first, whose home is full of what has to stay there."""
    four = Slot("four", 1)
    placement = standing(t9=(four, ONE), t1=(ONE, TWO), t2=(TWO, None))
    before = streams(placement)
    settle(placement, Connections((ONE, TWO, four), frozenset({four}), capacity=1))
    assert streams(placement) == before
    settle(placement, Connections((ONE, TWO, four), capacity=1))
    assert streams(placement) == {four: [9], ONE: [1], TWO: [2]}


# At full size.


def test_a_full_house_of_which_half_is_lost_and_comes_back() -> None:
    allocation = Allocation(["one", "two"])
    subscribe(allocation, range(1, 10_001), FULL)
    subscribe(allocation, range(10_001, 18_001), LTP)
    assert {slot: len(there) for slot, there in allocation.placement().items()} == dict.fromkeys(allocation.slots, 3000)
    assert allocation.free == 0
    before = allocation.placement()
    allocation.lose(slots_of(["one"]))
    assert len(allocation.waiting) == 9000
    allocation.regain(slots_of(["one"]))
    assert allocation.waiting == ()
    assert allocation.placement() == before
