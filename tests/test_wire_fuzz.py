"""Mutated frames, by the hundred thousand: never an exception, every byte accounted for, the same as the twin."""

from random import Random

import pytest

from ingest.wire import decode_frames_with_report, plain
from tests.wire_strategies import mutated, random_frame

BATCH = 5_000


def fuzz(frames: int, seed: int) -> None:
    random = Random(seed)
    for batch_number in range(frames // BATCH):
        pool = [random_frame(random, random.randrange(7)) for _ in range(200)]
        pool += [random_frame(random, 4, (length,)) for length in (8, 184)]
        batch = [mutated(random, random.choice(pool)) for _ in range(BATCH)]
        table, report = decode_frames_with_report(batch)
        table.validate(full=True)
        assert report.frames == BATCH
        assert report.packets == table.num_rows
        assert report.accounted_bytes == report.total_bytes == sum(map(len, batch)), (seed, batch_number)
        if batch_number % 10 == 0:
            rows, plain_report = plain.decode_frames(batch)
            assert report == plain_report, (seed, batch_number)
            assert table.to_pylist() == rows, (seed, batch_number)
        assert len(report.quarantined) > BATCH // 10  # the mutations do bite


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_mutated_frames(seed: int) -> None:
    fuzz(50_000, seed)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_million_mutated_frames() -> None:
    fuzz(1_000_000, 3)
