"""A placement: what is counted of it is what it holds, whatever changes, and what is taken back leaves no trace."""

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingest.manager.replicas import Placement, Replica
from ingest.manager.want import LOAD, Slot, Want
from ingest.wire import Mode

NUMBERS = st.integers(1, 2)


def replicas_of(accounts: list[str], numbers: list[tuple[int, tuple[bool, int] | None]]) -> tuple[Replica, ...]:
    """Homes on these connections of different accounts, current slots on the same account or one of their own."""
    found = []
    for account, (home, current) in zip(accounts, numbers, strict=False):
        elsewhere = current and Slot(f"beside {account}" if current[0] else account, current[1])
        found.append(Replica(Slot(account, home), elsewhere))
    return tuple(found)


REPLICAS = st.builds(
    replicas_of,
    st.permutations(("one", "two", "three")),
    st.lists(st.tuples(NUMBERS, st.none() | st.tuples(st.booleans(), NUMBERS)), min_size=1, max_size=3),
)
TOKENS = st.sets(st.integers(1, 9), max_size=5)
PUTS = st.tuples(TOKENS, st.builds(Want, st.sampled_from(Mode), st.integers(0, 1)), REPLICAS)


def put(placement: Placement, changes: list[Any]) -> None:
    for tokens, want, replicas in changes:
        placement.put(sorted(tokens), want, replicas)


def seen(placement: Placement) -> dict[str, Any]:
    return {
        "wants": list(placement.wants.items()),
        "there": placement.there,
        "by_slot": {slot: there for slot, there in placement.by_slot.items() if there},
        "held": {slot: held for slot, held in placement.held.items() if held},
        "load": {slot: load for slot, load in placement.load.items() if load},
        "away": placement.away,
    }


def counted(placement: Placement) -> dict[str, Any]:
    """The same, counted from what each token wants and where it is."""
    streams = [
        (current, token, want.mode)
        for token, (want, replicas) in placement.there.items()
        for _, current in replicas
        if current is not None
    ]
    load: Counter[Slot] = Counter()
    for slot, _, mode in streams:
        load[slot] += LOAD[mode]
    away: dict[Any, dict[int, None]] = {}
    for token, there in placement.there.items():
        if any(home != current for home, current in there[1]):
            away.setdefault(there, {})[token] = None
    return {
        "wants": [(token, placement.there[token][0]) for token in placement.wants],
        "there": placement.there,
        "by_slot": {slot: {token: mode for at, token, mode in streams if at == slot} for slot, _, _ in streams},
        "held": Counter(
            slot for _, replicas in placement.there.values() for replica in replicas for slot in set(replica) if slot
        ),
        "load": load,
        "away": away,
    }


@given(st.lists(PUTS, max_size=5), TOKENS)
def test_the_counts_are_those_of_what_is_there(changes: list[Any], removed: set[int]) -> None:
    placement = Placement()
    put(placement, changes)
    assert seen(placement) == counted(placement)
    placement.remove(removed)
    assert not removed & placement.wants.keys()
    assert seen(placement) == counted(placement)


@given(st.lists(PUTS, max_size=4), st.lists(PUTS, max_size=4))
def test_what_is_taken_back_leaves_no_trace(changes: list[Any], taken_back: list[Any]) -> None:
    placement, before = Placement(), Placement()
    put(placement, changes)
    put(before, changes)
    placement.changes.clear()
    put(placement, taken_back)
    assert placement.changes.keys() == set().union(*(tokens for tokens, _, _ in taken_back))
    placement.undo()
    assert seen(placement) == seen(before)


@given(st.lists(PUTS, max_size=5))
def test_what_is_alike_is_one_object(changes: list[Any]) -> None:
    placement = Placement()
    put(placement, changes)
    groups = placement.alike(placement.wants)
    assert sorted(token for _, _, tokens in groups for token in tokens) == sorted(placement.wants)
    assert len({(want, replicas) for want, replicas, _ in groups}) == len(groups)
    for want, replicas, tokens in groups:
        assert all(placement.there[token] == (want, replicas) for token in tokens)
        assert all(placement.wants[token] is placement.shared(want) for token in tokens)
        assert all(placement.replicas(token) is replicas for token in tokens)
    assert placement.replicas(99) == ()
