"""Where each instrument is: a placement as a value."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from ingest.manager.want import Slot, Want
from ingest.wire import Mode


class Replica(NamedTuple):
    """One of the streams of an instrument.

    It was placed on `home_slot`, and returns to it. `current_slot` is the one that streams it: the home where that
    works and has room, else another one. While no other can, it waits: assigned to its home where that is lost, so that
    it streams as soon as that works; nowhere (None) where that is full of what is more important, or removed.
    """

    home_slot: Slot
    current_slot: Slot | None

    @property
    def accounts(self) -> set[str]:
        """Those on which the instrument may have no other replica."""
        return {slot.account for slot in self if slot is not None}


@dataclass(frozen=True)
class Placement:
    """What is placed, and where."""

    wants: Mapping[int, Want] = field(default_factory=dict)
    """By token, in the order of subscribing."""
    replicas: Mapping[int, tuple[Replica, ...]] = field(default_factory=dict)
    """Of each token, on different accounts; in the order of placing."""

    @cached_property
    def by_slot(self) -> dict[Slot, dict[int, Mode]]:
        """What each slot streams, or will as soon as it works: token -> mode, for slots that have any."""
        found: dict[Slot, dict[int, Mode]] = {}
        for token, want in self.wants.items():
            for _, current in self.replicas[token]:
                if current is not None:
                    found.setdefault(current, {})[token] = want.mode
        return dict(sorted(found.items()))

    def without(self, tokens: Iterable[int]) -> "Placement":
        """The same, but for these tokens."""
        wants, replicas = dict(self.wants), dict(self.replicas)
        for token in tokens:
            if wants.pop(token, None) is not None:
                del replicas[token]
        return Placement(wants, replicas)
