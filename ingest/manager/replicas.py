"""Where each instrument is: a placement, with what is counted of it."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from ingest.manager.want import LOAD, Slot, Want
from ingest.wire import Mode


class Replica(NamedTuple):
    """One of the streams of an instrument.

    It was placed on `home_slot`, and returns to it. `current_slot` is the one that streams it: the home where that
    works and has room, else another one. While no other can, it waits: assigned to its home where that is lost, so that
    it streams as soon as that works; nowhere (None) where that is full of what is more important, or removed.
    """

    home_slot: Slot
    current_slot: Slot | None


Replicas: TypeAlias = tuple[Replica, ...]
"""Those of one instrument, on different accounts, in the order of placing."""
Alike: TypeAlias = tuple[Want, Replicas, list[int]]
"""Tokens of the same want that are on the same slots."""


class Placement:
    """What is placed, and where. The counts are kept beside it: a change costs what it changes, not what is there."""

    def __init__(self) -> None:
        self.wants: dict[int, Want] = {}
        """By token, in the order of subscribing."""
        self.there: dict[int, tuple[Want, Replicas]] = {}
        """What each token wants, and where it is; one object for all that are alike."""
        self.by_slot: dict[Slot, dict[int, Mode]] = defaultdict(dict)
        """What each slot streams, or will as soon as it works: token -> mode."""
        self.held: dict[Slot, int] = defaultdict(int)
        """Places of each slot that are taken, by homes and by what is away from its own: more than the capacity where
        it streams others instead of some whose home it is."""
        self.load: dict[Slot, int] = defaultdict(int)
        """The sum of the `LOAD` of what each slot streams."""
        self.away: dict[tuple[Want, Replicas], dict[int, None]] = {}
        """Tokens with a replica that is not assigned to its home, by what they want and where they are."""
        self.most_replicas = 1
        """No instrument has, or ever had, more."""
        self.changes: dict[int, tuple[Want, Replicas] | None] = {}
        """What was, of all that has changed since this was cleared; None for what was not there."""
        self._wants: dict[Want, Want] = {}
        self._pairs: dict[tuple[Want, Replicas], tuple[Want, Replicas]] = {}

    def shared(self, want: Want) -> Want:
        """The one object for all that want the same, so that `is` compares."""
        return self._wants.setdefault(want, want)

    def replicas(self, token: int) -> Replicas:
        """None for what is not there."""
        return self.there[token][1] if token in self.there else ()

    def alike(self, tokens: Iterable[int]) -> list[Alike]:
        """These, which are there, by what they want and where they are."""
        there = self.there
        groups: dict[int, list[int]] = defaultdict(list)
        for token in tokens:
            groups[id(there[token])].append(token)
        return [(*there[some[0]], some) for some in groups.values()]

    def put(self, tokens: Iterable[int], want: Want, replicas: Replicas) -> None:
        """Let these want this, and be there."""
        tokens, want = list(tokens), self.shared(want)
        self.leave(tokens)
        self.wants.update(dict.fromkeys(tokens, want))
        pair = (want, replicas)
        self.there.update(dict.fromkeys(tokens, self._pairs.setdefault(pair, pair)))
        self.most_replicas = max(self.most_replicas, len(replicas))
        for slot, mode in self._count(len(tokens), want, replicas):
            self.by_slot[slot].update(dict.fromkeys(tokens, mode))
        if tokens and any(home != current for home, current in replicas):
            self.away.setdefault(pair, {}).update(dict.fromkeys(tokens))

    def leave(self, tokens: Iterable[int]) -> None:
        """Let these be nowhere, until they are put somewhere or removed."""
        there = []
        for token in tokens:
            if token in self.there:
                there.append(token)
            elif token not in self.changes:
                self.changes[token] = None
        for want, replicas, some in self.alike(there):
            before = self.there[some[0]]
            for token in some:
                del self.there[token]
                self.changes.setdefault(token, before)
            for slot, _ in self._count(-len(some), want, replicas):
                streamed = self.by_slot[slot]
                for token in some:
                    del streamed[token]
            if (away := self.away.get(before)) is not None:
                for token in some:
                    del away[token]
                if not away:
                    del self.away[before]

    def remove(self, tokens: Iterable[int]) -> None:
        """Those that are not there are ignored."""
        there = [token for token in dict.fromkeys(tokens) if token in self.wants]
        self.leave(there)
        for token in there:
            del self.wants[token]

    def undo(self) -> None:
        """Take all `changes` back. None of them may have removed anything: its place in the order would be lost."""
        for token, before in list(self.changes.items()):
            if before is None:
                self.remove([token])
            else:
                self.put([token], *before)

    def _count(self, number: int, want: Want, replicas: Replicas) -> list[tuple[Slot, Mode]]:
        """Count so many more, or fewer, that are alike. Returns what streams them."""
        streaming = []
        for home, current in replicas:
            self.held[home] += number
            if current is not None:
                streaming.append((current, want.mode))
                self.load[current] += number * LOAD[want.mode]
                if current != home:
                    self.held[current] += number
        return streaming
