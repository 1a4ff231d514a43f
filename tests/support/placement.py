"""Allocations as tests ask for them, and all that can be seen of one."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from ingest.manager.allocation import Allocation
from ingest.manager.want import Slot, Want
from ingest.wire import Mode

LTP, QUOTE, FULL = Mode.LTP, Mode.QUOTE, Mode.FULL
ONE, TWO, THREE = (Slot(name, 1) for name in ("one", "two", "three"))


def subscribe(
    allocation: Allocation, tokens: Iterable[int], mode: Mode, *, leave_out: bool = False, **how: Any
) -> list[int]:
    return allocation.subscribe(tokens, Want(mode, **how), leave_out=leave_out)


def state(allocation: Allocation) -> dict[str, Any]:
    return {
        "slots": allocation.slots,
        "lost": allocation.lost,
        "waiting": allocation.waiting,
        "unserved": allocation.unserved,
        "wants": list(allocation.wants.items()),
        "placement": allocation.placement(),
        "home_slots": {token: allocation.home_slots(token) for token in allocation.wants},
        "places": (allocation.capacity, allocation.free),
    }


def modes_of(allocation: Allocation) -> dict[int, Mode]:
    return {token: want.mode for token, want in allocation.wants.items()}


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
