"""Option chains of hand-made days: forwards, volatilities, holes, and what is null."""

import datetime as dt
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kitelake
from queries.errors import ExpiryError, SymbolError
from queries.options.chain import SCHEMA
from queries.options.volatility import option_price
from tests.support.hand_made import HandMade, at

DAY = dt.date(2026, 11, 20)
EXPIRY = dt.date(2026, 11, 24)
WEEKLY = dt.date(2026, 12, 1)
STRIKES = [25800, 25900, 26000, 26100, 26200]
NOON = "2026-11-20 12:00:00"
YEAR = 365 * 86_400


@pytest.fixture
def made(tmp_path: Path) -> Iterator[HandMade]:
    made = HandMade(tmp_path)
    yield made
    made.close()


@pytest.fixture
def nifty(made: HandMade) -> HandMade:
    """An index, a future and the monthly of the same expiry, and a weekly."""
    made.add("NSE:NIFTY 50", segment="INDICES")
    made.future("NFO:NIFTY26NOVFUT", "NIFTY", EXPIRY, lot_size=65)
    made.options("NFO:NIFTY26NOV", "NIFTY", EXPIRY, STRIKES, lot_size=65)
    made.options("NFO:NIFTY26D01", "NIFTY", WEEKLY, STRIKES, lot_size=65)
    made.listed(DAY)
    return made


def years(moment: str, close: str) -> float:
    return (at(close) - at(moment)).total_seconds() / YEAR


def quote(made: HandMade, stem: str, forward: float, volatility: float, time: float, rate: float = 0) -> None:
    """Both sides of all strikes, in quotes that are five paise wide, about what they are worth. Two seconds before."""
    for strike in STRIKES:
        for kind in ("CE", "PE"):
            worth = float(option_price(forward, strike, time, volatility, kind == "PE", rate))
            low = math.floor(worth * 20) / 20
            symbol = f"{stem}{strike}{kind}"
            volume, oi = 650 + strike, 6500 + strike
            made.tick("2026-11-20 11:59:58", symbol, low, low, low + 0.05, volume_traded=volume, oi=oi)


def chain(made: HandMade, *arguments: Any, **more: Any) -> list[dict[str, Any]]:
    found = made.asked().chain(*arguments, **more).arrow()
    assert found.schema.names == SCHEMA.names
    for column in found.columns:
        assert not any(isinstance(value, float) and not math.isfinite(value) for value in column.to_pylist())
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


def column(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


def test_a_chain(nifty: HandMade) -> None:
    time = years(NOON, "2026-11-24 15:40:00")
    quote(nifty, "NFO:NIFTY26NOV", 26050, 0.14, time)
    nifty.tick("2026-11-20 11:59:57", "NSE:NIFTY 50", 26040)
    nifty.tick("2026-11-20 11:59:59", "NFO:NIFTY26NOVFUT", 26048, 26049.5, 26050.5)
    rows = chain(nifty, "NIFTY", NOON)
    assert column(rows, "strike") == STRIKES
    first = rows[0]
    assert first["moment"] == at(NOON)
    assert (first["underlying"], first["expiry"], first["lot_size"]) == ("NFO:NIFTY", EXPIRY, 65)
    assert first["years"] == pytest.approx(time, rel=1e-12)
    assert (first["spot"], first["forward"], first["forward_from"]) == (26040, 26050, "future")
    assert first["future"] == "NFO:NIFTY26NOVFUT"
    assert first["moneyness"] == 25800 / 26050
    assert (first["call_symbol"], first["put_symbol"]) == ("NFO:NIFTY26NOV25800CE", "NFO:NIFTY26NOV25800PE")
    assert (first["call_volume"], first["call_oi"]) == (26450, 32300)
    assert first["call_last"] == first["call_bid"] == pytest.approx(first["call_ask"] - 0.05)
    assert first["call_received_at"] == at("2026-11-20 11:59:58")
    for row in rows:
        for side, sign in (("call", 1), ("put", -1)):
            assert row[f"{side}_iv"] == pytest.approx(0.14, abs=3e-4)
            assert 0 < sign * row[f"{side}_delta"] < 1
            assert row[f"{side}_gamma"] > 0
            assert row[f"{side}_vega"] > 0 > row[f"{side}_theta"]
    assert rows[2]["call_delta"] == pytest.approx(0.56, abs=0.01)
    # A point of volatility of the option at the money, and a day: about F × √years × 0.4 %, and F × 0.4 × σ/(2√years).
    assert rows[2]["call_vega"] == pytest.approx(26050 * math.sqrt(time) * 0.004, rel=0.02)
    assert rows[2]["call_theta"] == pytest.approx(-26050 * 0.4 * 0.14 / (2 * math.sqrt(time)) / 365, rel=0.02)


@pytest.mark.slow
def test_by_parity_where_no_future_expires(nifty: HandMade) -> None:
    time = years(NOON, "2026-12-01 15:40:00")
    quote(nifty, "NFO:NIFTY26D01", 26080, 0.12, time, rate=0.065)
    nifty.tick("2026-11-20 11:59:59", "NFO:NIFTY26NOVFUT", 26048, 26049.5, 26050.5)
    # Far from the money and wide: what it says of the forward does not count.
    nifty.tick("2026-11-20 11:59:59", "NFO:NIFTY26D0126100CE", 100, 1, 900)
    rows = chain(nifty, "NIFTY", NOON, "weekly", rate=0.065)
    assert set(column(rows, "expiry")) == {WEEKLY}
    assert set(column(rows, "forward_from")) == {"parity"}
    assert column(rows, "future") == [None] * 5
    assert column(rows, "spot") == [None] * 5
    assert rows[0]["forward"] == pytest.approx(26080, abs=0.1)
    assert rows[1]["put_iv"] == pytest.approx(0.12, abs=3e-4)


@pytest.mark.slow
def test_the_last_price_of_the_future_comes_last(nifty: HandMade) -> None:
    nifty.tick("2026-11-20 11:59:59", "NFO:NIFTY26NOVFUT", 26048, mode="ltp")
    assert {(row["forward"], row["forward_from"]) for row in chain(nifty, "NIFTY", NOON)} == {(26048, "last")}
    nifty.tick("2026-11-20 11:59:59", "NFO:NIFTY26NOV26000CE", 110, 100, 120)
    nifty.tick("2026-11-20 11:59:59", "NFO:NIFTY26NOV26000PE", 55, 55, 65)
    assert {(row["forward"], row["forward_from"]) for row in chain(nifty, "NIFTY", NOON)} == {(26050, "parity")}


def test_no_ticks_at_all(nifty: HandMade) -> None:
    rows = chain(nifty, "NIFTY", NOON)
    assert column(rows, "strike") == STRIKES
    there = {"moment", "underlying", "expiry", "years", "strike", "lot_size", "future", "call_symbol", "put_symbol"}
    assert all({name for name, value in row.items() if value is not None} == there for row in rows)


def test_holes(nifty: HandMade) -> None:
    """A strike with one side listed, quotes of one side, crossed ones, modes without a book, a price of 0."""
    nifty.add(
        "NFO:NIFTY26NOV26300PE", name="NIFTY", expiry=EXPIRY, strike=26300.0, instrument_type="PE", lot_size=65,
    )  # fmt: skip
    nifty.listed(DAY)
    nifty.tick(NOON, "NFO:NIFTY26NOVFUT", 26050, 26049, 26051)
    nifty.tick(NOON, "NFO:NIFTY26NOV25800PE", 40, 39, None)
    nifty.tick(NOON, "NFO:NIFTY26NOV25900PE", 60, 61, 59)
    nifty.tick(NOON, "NFO:NIFTY26NOV26000PE", 90, mode="quote", volume_traded=65)
    nifty.tick(NOON, "NFO:NIFTY26NOV26100PE", 140, mode="ltp")
    nifty.tick(NOON, "NFO:NIFTY26NOV26200PE", 0, 190, 192)
    nifty.tick(NOON, "NFO:NIFTY26NOV26300PE", 270, 270, 272)
    rows = chain(nifty, "NIFTY", NOON)
    names = ("put_bid", "put_ask", "put_last", "put_volume", "put_oi")
    assert [tuple(row[name] for name in names) for row in rows] == [
        (39, None, 40, 0, 0),
        (61, 59, 60, 0, 0),
        (None, None, 90, 65, None),
        (None, None, 140, None, None),
        (190, 192, None, 0, 0),
        (270, 272, 270, 0, 0),
    ]
    assert [row["put_iv"] is not None for row in rows] == [False, False, False, False, True, True]
    assert [row["put_delta"] is not None for row in rows] == [False, False, False, False, True, True]
    assert rows[-1]["call_symbol"] is None
    assert rows[-1]["call_bid"] is None
    assert rows[-1]["lot_size"] == 65


def test_near_intrinsic_value(nifty: HandMade) -> None:
    """Null up to half a rupee of it, out of the money as in it."""
    nifty.tick(NOON, "NFO:NIFTY26NOVFUT", 26050, 26049, 26051)
    nifty.tick(NOON, "NFO:NIFTY26NOV25800CE", 250, 250.45, 250.55)
    nifty.tick(NOON, "NFO:NIFTY26NOV25900CE", 150, 150.5, 150.6)
    nifty.tick(NOON, "NFO:NIFTY26NOV26000CE", 49, 48, 50)
    nifty.tick(NOON, "NFO:NIFTY26NOV26100CE", 0.5, 0.45, 0.55)
    nifty.tick(NOON, "NFO:NIFTY26NOV26200CE", 0.5, 0.5, 0.6)
    rows = chain(nifty, "NIFTY", NOON)
    assert [row["call_iv"] is not None for row in rows] == [False, True, False, False, True]


def test_a_currency_whose_ticks_are_small(made: HandMade) -> None:
    made.future("CDS:USDINR26NOVFUT", "USDINR", dt.date(2026, 11, 26), tick_size=0.0025)
    made.options("CDS:USDINR26NOV", "USDINR", dt.date(2026, 11, 26), [89.5], tick_size=0.0025)
    made.listed(DAY)
    made.tick(NOON, "CDS:USDINR26NOVFUT", 89.5, 89.4975, 89.5025)
    made.tick(NOON, "CDS:USDINR26NOV89.5CE", 0.2, 0.1975, 0.2025)
    made.tick(NOON, "CDS:USDINR26NOV89.5PE", 0.02, 0.02, 0.0225)
    row = chain(made, "USDINR", NOON)[0]
    assert row["years"] == pytest.approx(years(NOON, "2026-11-26 17:00:00"))
    assert row["call_iv"] == pytest.approx(0.2 / 89.5 * math.sqrt(2 * math.pi / row["years"]), rel=1e-3)
    assert row["put_iv"] is None


def test_both_sides_of_the_day_on_which_the_close_moved(made: HandMade) -> None:
    """The time runs to the close of the day of expiry, whenever that is asked."""
    day = dt.date(2026, 7, 27)
    made.options("NFO:NIFTY26JUL", "NIFTY", dt.date(2026, 7, 28), [25000])
    made.options("NFO:NIFTY26804", "NIFTY", dt.date(2026, 8, 4), [25000])
    made.listed(day)
    moment = "2026-07-27 15:29:00"
    assert chain(made, "NIFTY", moment)[0]["years"] * YEAR == pytest.approx(86_400 + 60)
    assert chain(made, "NIFTY", moment, "weekly")[0]["years"] * YEAR == pytest.approx(8 * 86_400 + 660)


@pytest.mark.slow
def test_each_day_has_its_own_nearest(made: HandMade) -> None:
    """The weekly of a holiday expired in the month of the monthly, after that: the symbol says which is which."""
    made.options("NFO:NIFTY25APR", "NIFTY", dt.date(2025, 4, 24), [24000])
    made.options("NFO:NIFTY25430", "NIFTY", dt.date(2025, 4, 30), [24000, 24050])
    made.options("NFO:NIFTY25MAY", "NIFTY", dt.date(2025, 5, 29), [24000])
    made.listed(dt.date(2025, 4, 24))
    moments = ["2025-04-25 15:30:00", "2025-04-24 15:30:00"]
    for expiry, symbols in (
        (None, ["NFO:NIFTY25APR24000CE", "NFO:NIFTY2543024000CE", "NFO:NIFTY2543024050CE"]),
        ("weekly", ["NFO:NIFTY2543024000CE", "NFO:NIFTY2543024050CE"] * 2),
        ("monthly", ["NFO:NIFTY25APR24000CE", "NFO:NIFTY25MAY24000CE"]),
    ):
        rows = chain(made, "NIFTY", moments, expiry)
        assert column(rows, "call_symbol") == symbols
    assert rows[1]["years"] * YEAR == pytest.approx(34 * 86_400)


def test_an_option_on_a_future_of_mcx(made: HandMade) -> None:
    made.future("MCX:CRUDEOIL26DECFUT", "CRUDEOIL", dt.date(2026, 12, 18), lot_size=100)
    made.future("MCX:CRUDEOIL27JANFUT", "CRUDEOIL", dt.date(2027, 1, 19), lot_size=100)
    made.options("MCX:CRUDEOIL26DEC", "CRUDEOIL", dt.date(2026, 12, 16), [5200, 5250], lot_size=100, tick_size=0.1)
    made.options("MCX:CRUDEOIL27JAN", "CRUDEOIL", dt.date(2027, 1, 14), [5200, 5250], lot_size=100, tick_size=0.1)
    made.listed(DAY)
    made.tick(NOON, "MCX:CRUDEOIL26DECFUT", 5220, 5219, 5221)
    made.tick(NOON, "MCX:CRUDEOIL27JANFUT", 5240, 5239, 5241)
    made.tick(NOON, "MCX:CRUDEOIL26DEC5200CE", 170, 169, 171)
    rows = chain(made, "MCX:CRUDEOIL", NOON)
    assert {(row["forward"], row["future"]) for row in rows} == {(5220, "MCX:CRUDEOIL26DECFUT")}
    assert rows[0]["years"] == pytest.approx(years(NOON, "2026-12-16 23:55:00"))
    worth = option_price(5220, 5200, rows[0]["years"], rows[0]["call_iv"], False)
    assert float(worth) == pytest.approx(170)
    assert rows[0]["spot"] is None
    later = chain(made, "CRUDEOIL", NOON, "2027-01-14")
    assert {(row["forward"], row["forward_from"]) for row in later} == {(5240, "future")}


@pytest.mark.slow
def test_the_day_of_expiry(nifty: HandMade) -> None:
    nifty.tick("2026-11-24 15:39:00", "NFO:NIFTY26NOVFUT", 26050, 26049, 26051)
    nifty.tick("2026-11-24 15:39:00", "NFO:NIFTY26NOV26100CE", 2, 1.9, 2.1)
    before, after, late = (
        chain(nifty, "NIFTY", f"2026-11-24 {time}")[3] for time in ("15:39:30", "15:40:00", "23:00:00")
    )
    assert before["years"] * YEAR == pytest.approx(30)
    assert before["call_iv"] > 1
    for row in (after, late):
        assert row["call_bid"] == 1.9
        assert row["call_iv"] is None
        assert row["call_delta"] is None
    assert after["years"] == 0
    assert late["years"] < 0
    # The day after, the monthly is no more.
    assert chain(nifty, "NIFTY", "2026-11-25 10:00:00")[0]["expiry"] == WEEKLY


@pytest.mark.slow
def test_moments_in_any_order_are_as_if_asked_one_by_one(nifty: HandMade) -> None:
    for second in range(0, 60, 7):
        price = 26050.0 + second
        nifty.tick(f"2026-11-20 11:59:{second:02}", "NFO:NIFTY26NOVFUT", price, price - 1, price + 1)
        nifty.tick(
            f"2026-11-20 11:59:{second:02}", f"NFO:NIFTY26NOV{STRIKES[second % 5]}CE", 200, 199 + second / 20, 300
        )
    nifty.tick("2026-11-23 09:15:05", "NFO:NIFTY26NOV26000PE", 70, 69, 71)
    moments = [f"2026-11-20 11:59:{second:02}" for second in (30, 0, 59, 21, 22, 30)] + ["2026-11-23 09:15:05", NOON]
    together = chain(nifty, "NIFTY", moments)
    assert together == [row for moment in sorted(set(moments)) for row in chain(nifty, "NIFTY", moment)]
    assert len(together) == 5 * 7


@pytest.mark.slow
def test_only_of_that_day_and_not_of_the_future(nifty: HandMade) -> None:
    nifty.listed(dt.date(2026, 11, 23))
    nifty.tick("2026-11-20 15:39:00", "NFO:NIFTY26NOV26000CE", 100, 99, 101)
    assert chain(nifty, "NIFTY", "2026-11-20 15:38:59.999999")[2]["call_bid"] is None
    assert chain(nifty, "NIFTY", "2026-11-20 15:39:00")[2]["call_bid"] == 99
    assert chain(nifty, "NIFTY", "2026-11-23 09:15:00")[2]["call_bid"] is None
    # The first packet after a subscription is of the day before.
    nifty.tick("2026-11-23 09:00:01", "NFO:NIFTY26NOV26000CE", 100, 99, 101, stamp=at("2026-11-20 15:39:00"))
    assert chain(nifty, "NIFTY", "2026-11-23 09:15:00")[2]["call_bid"] is None


def test_tokens_that_are_given_out_again(made: HandMade) -> None:
    token = made.add("NFO:NIFTY26O2026000CE", name="NIFTY", expiry=dt.date(2026, 10, 20), strike=26000.0,
                     instrument_type="CE")  # fmt: skip
    made.listed(dt.date(2026, 10, 20))
    made.tick("2026-10-20 10:00:00", token, 100, 99, 101)
    made.rows.clear()
    made.add("NFO:NIFTY26O2725000CE", name="NIFTY", expiry=dt.date(2026, 10, 27), strike=25000.0,
             instrument_type="CE", token=token)  # fmt: skip
    made.listed(dt.date(2026, 10, 21))
    made.tick("2026-10-21 10:00:00", token, 900, 899, 901)
    rows = chain(made, "NIFTY", ["2026-10-20 10:00:00", "2026-10-21 10:00:00"])
    assert [(row["strike"], row["call_symbol"], row["call_bid"]) for row in rows] == [
        (26000, "NFO:NIFTY26O2026000CE", 99),
        (25000, "NFO:NIFTY26O2725000CE", 899),
    ]


@pytest.mark.slow
def test_committed_and_not(nifty: HandMade, tmp_path: Path) -> None:
    nifty.tick("2026-11-20 11:00:00", "NFO:NIFTY26NOV26000CE", 100, 99, 101)
    with nifty.lake() as lake:
        moment = at(NOON)
        first = lake.chain("NIFTY", moment)
        nifty.tick("2026-11-20 11:59:59", "NFO:NIFTY26NOV26000CE", 102, 101, 103)
        with nifty.lake():  # it is journalled
            pass
        assert first.arrow()["call_bid"].to_pylist()[2] == 99
        before = lake.chain("NIFTY", moment).arrow()
        assert before["call_bid"].to_pylist()[2] == 101
        nifty.commit()
        assert lake.chain("NIFTY", moment).arrow().equals(before)


def test_now(nifty: HandMade) -> None:
    """Without a moment it is now, by today's list or the newest before."""
    today = dt.datetime.now(at(NOON).tzinfo).date()
    nifty.options("NFO:NIFTY99DEC", "NIFTY", dt.date(2099, 12, 29), [100000])
    nifty.listed(today)
    rows = chain(nifty, "NIFTY", expiry="2099-12-29")
    assert column(rows, "strike") == [100000]


@pytest.mark.slow
def test_what_cannot_be_asked(nifty: HandMade) -> None:
    with pytest.raises(ExpiryError, match=r"2026-11-24 \(monthly\), 2026-12-01 \(weekly\)"):
        chain(nifty, "NIFTY", NOON, "2026-11-26")
    for name in ("BANKNIFTY", kitelake.near("NIFTY"), 256265):
        with pytest.raises(
            SymbolError, match=r"(no options of it on 2026-11-20;|^got .*,) expected a name such as NIFTY"
        ):
            chain(nifty, name, NOON)
    with pytest.raises(SymbolError, match="there is no instrument list of 2026-11-19 or before"):
        chain(nifty, "NIFTY", [NOON, "2026-11-19 10:00:00"])
