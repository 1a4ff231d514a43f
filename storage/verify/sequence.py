"""Which `seq` of a stream are there: each once, and none missing. Memory goes by what is incomplete, not by what is."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

CHUNK: Final = 1 << 20


class SeqSet:
    """A set of ordinals, kept as a byte each in chunks; a chunk that is full is kept as its number only."""

    def __init__(self) -> None:
        self.low = -1
        self.high = -1
        self.repeated = 0
        self._full: set[int] = set()
        self._chunks: dict[int, NDArray[np.bool_]] = {}

    def add(self, ordinals: NDArray[np.int64]) -> None:
        """Take ordinals in, none negative and in any order. Those that come again count in `repeated`."""
        if not len(ordinals):
            return
        ordinals = np.sort(ordinals)
        self.low = int(ordinals[0]) if self.low < 0 else min(self.low, int(ordinals[0]))
        self.high = max(self.high, int(ordinals[-1]))
        numbers, starts = np.unique(ordinals // CHUNK, return_index=True)
        for number, inside in zip(numbers.tolist(), np.split(ordinals % CHUNK, starts[1:]), strict=True):
            if number in self._full:
                self.repeated += len(inside)
                continue
            chunk = self._chunks.setdefault(number, np.zeros(CHUNK, np.bool_))
            distinct = np.unique(inside)
            self.repeated += len(inside) - len(distinct) + int(chunk[distinct].sum())
            chunk[distinct] = True
            if chunk.all():
                self._full.add(number)
                del self._chunks[number]

    def missing(self, first: int, stop: int) -> list[tuple[int, int]]:
        """The ranges from `first` to before `stop` that are not there: first and last of each, ascending."""
        found: list[tuple[int, int]] = []
        for number in range(first // CHUNK, -(-stop // CHUNK)):
            if number in self._full:
                continue
            base = number * CHUNK
            low, high = max(first - base, 0), min(stop - base, CHUNK)
            chunk = self._chunks.get(number)
            absent = np.ones(high - low, np.bool_) if chunk is None else ~chunk[low:high]
            edges = np.flatnonzero(np.diff(absent, prepend=False, append=False)) + base + low
            for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
                if found and found[-1][1] == start - 1:
                    found[-1] = (found[-1][0], end - 1)
                else:
                    found.append((start, end - 1))
        return found
