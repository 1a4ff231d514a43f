"""Which `seq` are there, and which are not."""

import itertools
from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.verify.sequence import SeqSet


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 80), max_size=30), max_size=4), st.integers(0, 80), st.integers(0, 30))
def test_a_sequence_knows_what_is_there_and_what_is_not(batches: list[list[int]], first: int, more: int) -> None:
    ordinals = [*range(16, 32), *itertools.chain(*batches)]
    there = set(ordinals)
    with patch("storage.verify.sequence.CHUNK", 16):
        sequence = SeqSet()
        sequence.add(np.arange(16, 32))  # a full chunk among others
        for batch in batches:
            sequence.add(np.array(batch, np.int64))
        missing = [n for low, high in sequence.missing(first, first + more) for n in range(low, high + 1)]
    assert sequence.repeated == len(ordinals) - len(there)
    assert (sequence.low, sequence.high) == (min(there), max(there))
    assert missing == [n for n in range(first, first + more) if n not in there]
