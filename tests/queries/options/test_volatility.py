"""Black-76 against textbooks, against itself there and back, and against finite differences."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queries.options.volatility import greeks, implied_volatility, option_price, over_intrinsic

FORWARDS = st.floats(1, 100_000)
MONEYNESS = st.floats(-1.5, 1.5).map(math.exp)
YEARS = st.floats(1e-5, 5)
VOLATILITIES = st.floats(0.02, 3)
RATES = st.floats(-0.05, 0.2)


@pytest.mark.parametrize(
    ("arguments", "rate", "worth", "digits"),
    [
        # J. Hull, Options, Futures, and Other Derivatives, "Black's model for valuing futures options", its example.
        ((20, 20, 4 / 12, 0.25, True), 0.09, 1.12, 2),
        # E. Haug, The Complete Guide to Option Pricing Formulas, section on Black-76, its example.
        ((19, 19, 0.75, 0.28, False), 0.10, 1.7011, 4),
        ((19, 19, 0.75, 0.28, True), 0.10, 1.7011, 4),
    ],
)
def test_textbooks(arguments: tuple[float, float, float, float, bool], rate: float, worth: float, digits: int) -> None:
    assert round(float(option_price(*arguments, rate)), digits) == worth


def test_at_the_money_by_the_error_function() -> None:
    """At the money the call is F × erf(s / √8)."""
    for deviation in (1e-6, 0.01, 0.3, 2.0):
        assert float(option_price(100, 100, 1, deviation, False)) == pytest.approx(
            100 * math.erf(deviation / math.sqrt(8)), rel=1e-9
        )


@given(FORWARDS, MONEYNESS, YEARS, VOLATILITIES, st.booleans(), RATES)
def test_a_price_gives_its_volatility_back(
    forward: float, moneyness: float, years: float, volatility: float, is_put: bool, rate: float
) -> None:
    strike = forward * moneyness
    price = float(option_price(forward, strike, years, volatility, is_put, rate))
    time_value = float(over_intrinsic(price, forward, strike, years, is_put, rate))
    found = float(implied_volatility(price, forward, strike, years, is_put, rate))
    least, most = 1e-7 * max(forward, strike), min(forward, strike) * math.exp(-rate * years)
    if not least < time_value < 0.999 * most:
        assert not math.isinf(found)
        return
    assert float(option_price(forward, strike, years, found, is_put, rate)) == pytest.approx(price, rel=1e-12)
    # What the rounding of a price leaves open, by how steep the price is there.
    slope = float(greeks(forward, strike, years, volatility, is_put, rate).vega) * 100
    assert found == pytest.approx(volatility, rel=1e-9, abs=16 * math.ulp(max(price, forward, strike)) / slope)


@given(FORWARDS, MONEYNESS, YEARS, VOLATILITIES, RATES)
def test_put_call_parity(forward: float, moneyness: float, years: float, volatility: float, rate: float) -> None:
    strike = forward * moneyness
    call, put = option_price(forward, strike, years, volatility, [False, True], rate)
    assert call - put == pytest.approx(math.exp(-rate * years) * (forward - strike), abs=1e-9 * forward)
    of = greeks(forward, strike, years, volatility, [False, True], rate)
    assert of.delta[0] - of.delta[1] == pytest.approx(math.exp(-rate * years))
    assert of.gamma[0] == of.gamma[1]
    assert of.vega[0] == of.vega[1]


@given(
    FORWARDS, st.floats(-0.3, 0.3).map(math.exp), st.floats(0.01, 2), st.floats(0.1, 1), st.booleans(), RATES
)  # fmt: skip
def test_greeks_are_differences(
    forward: float, moneyness: float, years: float, volatility: float, is_put: bool, rate: float
) -> None:
    strike = forward * moneyness
    of = greeks(forward, strike, years, volatility, is_put, rate)

    def worth(f: float = forward, t: float = years, v: float = volatility) -> float:
        return float(option_price(f, strike, t, v, is_put, rate))

    step = 1e-4 * forward * volatility * math.sqrt(years)
    up, down = worth(f=forward + step), worth(f=forward - step)
    tiny = 1e-6 * forward
    assert float(of.delta) == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-6)
    assert float(of.gamma) == pytest.approx((up - 2 * worth() + down) / step**2, rel=1e-3, abs=1e-6 / step)
    assert float(of.vega) == pytest.approx((worth(v=volatility + 1e-5) - worth(v=volatility - 1e-5)) / 2e-3, abs=tiny)
    day = 1e-4 * years
    later, before = worth(t=years - day), worth(t=years + day)
    assert float(of.theta) == pytest.approx((later - before) / (2 * day) / 365, rel=1e-4, abs=tiny)


@given(
    *[st.floats(allow_nan=True, allow_infinity=True, width=32)] * 4, st.booleans(), st.floats(-0.1, 0.2)
)  # fmt: skip
def test_no_answer_is_nan_and_never_infinite(
    price: float, forward: float, strike: float, years: float, is_put: bool, rate: float
) -> None:
    years = min(years, 100.0)
    with np.errstate(all="ignore"):
        found = implied_volatility(price, forward, strike, years, is_put, rate)
        of = greeks(forward, strike, years, found, is_put, rate)
    assert not np.isinf([found, of.delta, of.gamma, of.vega, of.theta]).any()


def test_what_has_no_volatility() -> None:
    nothing = {
        "at intrinsic value": (100.0, 1100, 1000, 0.1, False),
        "below it": (99.0, 1100, 1000, 0.1, False),
        "a call worth its forward": (1000.0, 1000, 1000, 0.1, False),
        "a put worth its strike": (900.0, 1000, 900, 0.1, True),
        "no time": (10.0, 1000, 1000, 0.0, False),
        "expired": (10.0, 1000, 1000, -0.1, False),
        "no price": (math.nan, 1000, 1000, 0.1, False),
        "no forward": (10.0, math.nan, 1000, 0.1, False),
        "a strike of 0": (10.0, 1000, 0, 0.1, False),
    }
    for why, arguments in nothing.items():
        assert np.isnan(implied_volatility(*arguments)), why


def test_a_second_before_the_end_and_far_from_the_money() -> None:
    second = 1 / (365 * 86_400)
    assert float(implied_volatility(1.0, 24_000, 24_000, second, False)) == pytest.approx(0.5865, abs=1e-3)
    assert math.isfinite(float(implied_volatility(0.55, 24_000, 12_000, second, True)))
    assert math.isfinite(float(implied_volatility(0.55, 24_000, 90_000, 3.0, False)))


def test_one_shape_for_all() -> None:
    assert implied_volatility(np.full((2, 3), 50.0), [[1000.0], [1010.0]], [990.0, 1000.0, 1010.0], 0.1, 0).shape == (
        2,
        3,
    )
    assert implied_volatility([], [], [], [], []).shape == (0,)
