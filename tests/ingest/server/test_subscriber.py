"""How packets are cut into frames."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ingest.server.subscriber import frame_cuts


@given(st.integers(1, 3000), st.integers(1, 500), st.integers(0, 2**32))
def test_cuts_cover_everything_once(size: int, most: int, seed: int) -> None:
    cuts = list(frame_cuts(size, most, np.random.default_rng(seed)))
    assert [place for cut in cuts for place in range(size)[cut]] == list(range(size))
    assert all(0 < cut.stop - cut.start <= most for cut in cuts)


def test_cuts_are_sometimes_more_than_needed() -> None:
    random = np.random.default_rng(1)
    assert {len(list(frame_cuts(20, 100, random))) for _ in range(100)} == {1, 2, 3}
