"""Feeds of days at random: every tick once, in order, whatever it is read by and wherever it was stopped."""

import datetime as dt
import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, settings
from hypothesis import given as drawn
from hypothesis import strategies as st

import kitelake
from queries.feed import Position, sweep
from queries.feed.tick import ALL, FeedTick
from storage.schema import TICKS
from tests.support.feeding import NAMES, Row, expected, given, random_days, seal
from tests.support.scaled import scaled

pytestmark = pytest.mark.slow

COLUMNS = TICKS.schema.names


def check(lake: kitelake.Lake, rng: Random) -> None:
    rows = expected(lake, COLUMNS)
    feed = lake.feed(columns=COLUMNS)
    assert given(feed.batches(rng.choice([1, 3, 50, 10_000]))) == rows
    some = sorted(rng.sample(NAMES, rng.randrange(1, 4)))
    where = f"symbol in ({', '.join(map(repr, some))})"
    assert given(lake.feed(some, columns=COLUMNS).batches()) == [row for row in rows if row["symbol"] in some], where
    if not rows:
        return
    digest = lake.feed(columns="all").digest()
    place = rng.randrange(len(rows))
    at = rows[place]["received_at"]
    assert given(lake.feed(None, at, columns=COLUMNS).batches(7)) == [row for row in rows if row["received_at"] >= at]
    first = lake.feed(columns="all")
    ticks = iter(first)
    for row in rows[: place + 1]:
        tick = next(ticks)
        assert isinstance(tick, FeedTick)
        assert (tick.seq, tick.stream, tick.last_price) == (row["seq"], row["stream"], row["last_price"])
    position = first.position
    assert position is not None
    assert position.seq == rows[place]["seq"]
    rest = given(lake.feed(columns="all", position=position).batches())
    assert given(first.batches(rng.randrange(1, 9))) == rest
    assert [row["seq"] for row in rest] == [row["seq"] for row in rows[place + 1 :]]
    check_late(lake, rng, rows, place, position)
    sought = lake.feed(columns=COLUMNS, position=position)
    sought.seek(later := rows[rng.randrange(place, len(rows))]["received_at"])
    assert given(sought.batches(5)) == [row for row in rows[place + 1 :] if row["received_at"] >= later]
    sliced = [(end, row["seq"]) for end, batch in lake.feed(columns=COLUMNS).slices(0.25) for row in batch.to_pylist()]
    assert [seq for _, seq in sliced] == [row["seq"] for row in rows]
    assert all(
        0 < (end - row["received_at"]).total_seconds() <= 0.25 for (end, _), row in zip(sliced, rows, strict=True)
    )
    assert lake.feed(columns="all").digest() == digest


def check_late(lake: kitelake.Lake, rng: Random, rows: list[Row], place: int, position: Position) -> None:
    """As if of some streams not all had been there when the position was taken."""
    assert position.streams is not None
    numbers = {name: seq for name, seq in position.streams if rng.random() < 0.7}
    numbers = {name: rng.choice([seq, rng.randrange(-1, seq + 1)]) for name, seq in numbers.items()}
    day = rows[place]["date"] - dt.timedelta(days=1)
    late = [row for row in rows[: place + 1] if row["date"] >= day and row["seq"] > numbers.get(row["stream"], -1)]
    left = lake.feed(
        rng.choice([None, NAMES]), columns=COLUMNS, position=position._replace(streams=tuple(numbers.items()))
    )
    assert given(left.batches(rng.choice([1, 100]))) == late + rows[place + 1 :]


@settings(max_examples=scaled(1, 150))
@example(seed=3, days=2, tight=True)  # what is drawn may be roomy each time
@drawn(seed=st.integers(0, 1 << 20), days=st.integers(1, 3), tight=st.booleans())
def test_every_tick_once_in_order_before_and_after_sealing(seed: int, days: int, tight: bool) -> None:
    rng = Random(seed)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        if tight:  # rows of the smallest stretches are held, and put out in the smallest blocks
            patch.setattr(sweep, "STEP_ROWS", 100)
            patch.setattr(sweep, "BLOCK_ROWS", 64)
            patch.setattr(sweep, "HELD_BYTES", 1)
            patch.setattr(sweep, "LEAST_HELD_ROWS", 150)
            patch.setattr(sweep, "_SOME", 16)
        captured = random_days(Path(folder), seed, days)
        with kitelake.open(folder) as lake:
            check(lake, rng)
            digest = lake.feed(columns="all").digest()
            whole = lake.feed(NAMES, columns=ALL).digest()
            seal(captured)
            assert lake.feed(columns="all").digest() == digest
            assert lake.feed(NAMES, columns=ALL).digest() == whole
            if rng.random() < 0.5:  # equal digests say that it is the same; this, that it is found alike
                check(lake, rng)
