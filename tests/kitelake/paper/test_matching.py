"""Levels and prices as pure functions: compared with share by share, and with the numbers of the rules."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitelake.paper import PriceLevel
from kitelake.paper.matching import beyond, outside_protection, own_band, protected_price, triggered, walk
from tests.support.paper import CALL, FUT, INFY

QUANTITIES = st.integers(0, 20)


@given(
    quantities=st.lists(QUANTITIES, max_size=5),
    taken=st.lists(QUANTITIES, min_size=5, max_size=5),
    wanted=QUANTITIES,
    limit=st.none() | st.integers(98, 106),
    buying=st.booleans(),
)
def test_a_walk_is_share_by_share(
    quantities: list[int], taken: list[int], wanted: int, limit: int | None, buying: bool
) -> None:
    prices = [100 + n if buying else 104 - n for n in range(5)]
    levels = [PriceLevel(price, quantity, 1) for price, quantity in zip(prices, quantities, strict=False)]
    gone = dict(zip(prices, taken, strict=True))
    shares = [
        level.price
        for level in levels
        for _ in range(max(level.quantity - gone[level.price], 0))
        if limit is None or (level.price <= limit if buying else level.price >= limit)
    ]
    fills = walk(levels, gone, buying, wanted, limit)
    assert [price for price, quantity in fills for _ in range(quantity)] == shares[:wanted]
    assert len({price for price, _ in fills}) == len(fills)


@given(
    price=st.integers(1, 10**7), percent=st.floats(0.01, 100), buying=st.booleans(), tick=st.sampled_from([0, 1, 5, 10])
)
def test_rounding(price: int, percent: float, buying: bool, tick: int) -> None:
    """Beyond the levels away from the price, market protection towards it, each less than a tick off, on a tick."""
    sign, step = (1 if buying else -1), max(tick, 1)
    exact = price * (1 + sign * Fraction(str(percent)) / 100)
    instrument = INFY if tick == INFY.tick else CALL if tick == CALL.tick else None
    worse = beyond([PriceLevel(price, 1, 1)], buying, percent, tick)
    assert worse % step == 0
    assert 0 <= sign * (worse - exact) < step
    if instrument is not None:
        inward = protected_price(instrument, price, buying, percent)
        assert inward % step == 0
        assert inward == step or 0 <= sign * (exact - inward) < step


@pytest.mark.parametrize(
    ("rupees", "option", "other"),
    [
        (5, 5, 2),
        (10, 5, 2),
        (10.05, 3, 2),
        (100, 3, 2),
        (100.05, 2, 1),
        (500, 2, 1),
        (500.05, 1, 0.5),
        (24_000, 1, 0.5),
    ],
)
def test_the_brokers_own_band(rupees: float, option: float, other: float) -> None:
    price = round(rupees * 100)
    assert (own_band(CALL, price), own_band(FUT, price), own_band(INFY, price)) == (option, other, other)


@pytest.mark.parametrize(
    ("last", "buys", "sells"), [(99, False, True), (100, True, True), (101, True, False), (0, False, False)]
)
def test_triggered(last: int, buys: bool, sells: bool) -> None:
    assert (triggered(last, True, 100), triggered(last, False, 100)) == (buys, sells)


@pytest.mark.parametrize(
    ("reference", "inside", "outside"),
    [
        (100, [60, 140], [59.95, 140.05]),
        (50, [30, 70], [29.95, 70.05]),
        (50.05, [30.03, 70.07], [30, 70.1]),
        (10, [0.05, 30], [30.05]),
    ],
)
def test_limit_price_protection(reference: float, inside: list[float], outside: list[float]) -> None:
    of = Fraction(str(reference)) * 100
    assert not any(outside_protection(CALL, round(price * 100), of) for price in inside)
    assert all(outside_protection(CALL, round(price * 100), of) for price in outside)
