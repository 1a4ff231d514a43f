"""Slots, and the broker's limits on them."""

import pytest

from ingest.manager.want import Slot, Want, check_limits, deal, slots_of
from ingest.wire import Mode


def test_first_connections_of_all_accounts_come_first() -> None:
    assert slots_of(["b", "a"], 2) == (Slot("b", 1), Slot("a", 1), Slot("b", 2), Slot("a", 2))


@pytest.mark.parametrize(("accounts", "connections"), [(["one"], 0), (["one"], 4), (["one", "one"], 1)])
def test_slots_beyond_the_limits(accounts: list[str], connections: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        slots_of(accounts, connections)


@pytest.mark.parametrize("capacity", [0, 3001])
def test_capacity_beyond_the_limits(capacity: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to 3000"):
        check_limits(capacity, 1)


def test_no_replicas() -> None:
    with pytest.raises(ValueError, match=r"^got 0 copies, expected 1 or more$"):
        check_limits(3000, 0)


def test_where_a_want_allows_a_home() -> None:
    slots = slots_of(["one", "two"], 2)
    assert [slot for slot in slots if Want(Mode.LTP).allows(slot)] == list(slots)
    assert [slot for slot in slots if Want(Mode.LTP, accounts=("two",)).allows(slot)] == [("two", 1), ("two", 2)]
    by_hand = Want(Mode.LTP, accounts=("two",), connection=2)
    assert [slot for slot in slots if by_hand.allows(slot)] == [Slot("two", 2)]


def test_slots_are_dealt_by_weight_as_often_as_they_have_room() -> None:
    a, b, c, d = (Slot(name, 1) for name in "abcd")
    dealt = list(deal([(d, 2, True, 0), (a, 3, False, 0), (b, 1, False, 5), (c, 0, False, 0)], 3))
    assert dealt == [a, a, b, a, d, d], "the late one last, the full one never"
