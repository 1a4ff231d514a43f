"""The last row of each instrument as of moments, against a loop over all rows."""

import datetime as dt
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kitelake
from queries.options.quotes import RECENT, Quotes, quotes
from tests.support.hand_made import HandMade, at
from tests.support.profile import files_read
from tests.support.scaled import scaled

pytestmark = pytest.mark.slow

DAYS = (dt.date(2026, 11, 19), dt.date(2026, 11, 20))
SECOND = dt.timedelta(seconds=1)
NAMES = ("bid", "ask", "last", "volume", "oi", "received_us")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HandMade, list[int]]]:
    """Some instruments of three exchanges with rows at random times of two hours, several at the same microsecond."""
    made = HandMade(tmp_path_factory.mktemp("quotes"))
    tokens = [made.add(f"NFO:A{number}") for number in range(4)] + [made.add("MCX:B"), made.add("NSE:C"), 77 << 8 | 2]
    rng = random.Random(11)
    for day in DAYS:
        for second in sorted(rng.choices(range(7200), k=150)):
            moment = at(f"{day} 10:00:00") + second * SECOND
            token = rng.choice(tokens[:-1])
            for _ in range(rng.choice((1, 1, 2))):
                price = rng.choice((0.0, rng.randrange(2000, 4000) / 20))
                bid, ask = (None if rng.random() < 0.2 else rng.randrange(2000, 4000) / 20 for _ in range(2))
                stamp = rng.choice((True, True, None, at("2026-11-18 15:30:00"), at(f"{day} 00:00:00")))
                mode = rng.choice(("full", "full", "full", "quote", "ltp"))
                made.tick(moment, token, price, bid, ask, mode=mode, stamp=stamp, volume_traded=second, oi=5 * second)
    yield made, tokens
    made.close()


@pytest.fixture(scope="module")
def lake(made: tuple[HandMade, list[int]]) -> Iterator[kitelake.Lake]:
    with made[0].lake() as lake:
        yield lake


def expected(rows: list[dict[str, Any]], day: dt.date, token: int, moment: dt.datetime) -> list[float]:
    """By a loop over all rows in the order in which they came."""
    last = None
    for row in rows:
        stamp = row["exchange_timestamp"]
        mine = row["instrument_token"] == token and row["date"] == day and row["received_at"] <= moment
        if mine and (stamp is None or stamp >= at(f"{day} 00:00:00")):
            last = row
    if last is None:
        return [math.nan] * len(NAMES)
    values = [last[f"{side}_price_1"] if last[f"{side}_quantity_1"] else None for side in ("bid", "ask")]
    values += [last["last_price"] or None, last["volume_traded"], last["oi"]]
    us = (last["received_at"] - dt.datetime.fromtimestamp(0, dt.UTC)) // dt.timedelta(microseconds=1)
    return [math.nan if value is None else value for value in values] + [us]


@pytest.mark.parametrize("seed", range(scaled(3, 8)))
def test_against_a_loop(made: tuple[HandMade, list[int]], lake: kitelake.Lake, seed: int) -> None:
    tokens = made[1]
    rows = lake.sql("SELECT * FROM ticks_all ORDER BY received_at, stream, seq").arrow().to_pylist()
    rng = random.Random(seed)
    day = rng.choice(DAYS)
    count = rng.choice((1, 1, 2, 30))
    moments = sorted(at(f"{day} 09:59:00") + rng.randrange(7500) * SECOND for _ in range(count))
    order = rng.sample(tokens, len(tokens))
    groups = [order[:3], [0, *order[3:]]]
    found = quotes(lake.look(), day, groups, moments)
    for place, token in enumerate([*order[:3], 0, *order[3:]]):
        for number, moment in enumerate(moments):
            shown = [float(getattr(found, name)[number, place]) for name in NAMES]
            assert shown == pytest.approx(expected(rows, day, token, moment), rel=0, abs=0, nan_ok=True)


def test_rows_that_are_not_recent_are_looked_for_on_their_own(made: tuple[HandMade, list[int]]) -> None:
    """One microsecond inside, and one outside of it."""
    early, late = made[0].add("NFO:EARLY"), made[0].add("NFO:LATE")
    moment = at("2026-11-21 12:00:00")
    made[0].tick(moment - RECENT, early, 1)
    made[0].tick(moment - RECENT + dt.timedelta(microseconds=1), late, 2)
    with made[0].lake() as lake:
        found = quotes(lake.look(), moment.date(), [[early, late]], [moment])
    assert found.last.tolist() == [[1, 2]]


def test_prices() -> None:
    """The mid of what does not cross, else the last."""
    bid, ask, last = (np.array([values]) for values in ([9.0, 11, 10, math.nan], [11.0, 9, 10, 11], [1.0, 2, 3, 4]))
    some = Quotes(bid, ask, last, last, last, last)
    assert some.price.tolist() == [[10, 2, 10, 4]]
    assert some[[1, 3]].price.tolist() == [[2, 4]]


def test_only_files_of_the_day_and_the_exchange_are_read(tmp_path: Path) -> None:
    made = HandMade(tmp_path / "data")
    future, oil = made.add("NFO:A"), made.add("MCX:B")
    for day in range(16, 21):
        for token in (future, oil):
            made.tick(f"2026-11-{day} 10:00:00", token, 100)
    made.commit()
    with made.lake() as lake:
        state, moment = lake.look(), at("2026-11-20 11:00:00")
        read = files_read(lake, lambda: quotes(state, moment.date(), [[future]], [moment]), tmp_path)
    assert read == {"date=2026-11-20/exchange=NFO"}
