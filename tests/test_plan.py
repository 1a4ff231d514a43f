"""Subscription lists become tokens: each instrument once, in its highest mode; what is unknown costs only itself."""

import datetime as dt

import pytest

from ingest.instruments import Instruments, parse_instruments
from ingest.wire import Mode
from kitelake.config import SubscriptionList
from kitelake.plan import make_plan

CSV = b"""\
instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,instrument_type,segment,exchange
408065,1594,INFY,INFOSYS,0,,0,0.05,1,EQ,NSE,NSE
738561,2885,RELIANCE,RELIANCE INDUSTRIES,0,,0,0.05,1,EQ,NSE,NSE
256265,1001,NIFTY 50,NIFTY 50,0,,0,0,0,EQ,INDICES,NSE
258,1,NIFTY26NOVFUT,NIFTY,0,2026-11-26,0,0.05,75,FUT,NFO-FUT,NFO
514,2,NIFTY26DECFUT,NIFTY,0,2026-12-31,0,0.05,75,FUT,NFO-FUT,NFO
770,3,NIFTY26NOV24500CE,NIFTY,0,2026-11-26,24500,0.05,75,CE,NFO-OPT,NFO
"""


@pytest.fixture(scope="module")
def instruments() -> Instruments:
    return Instruments(parse_instruments(CSV, date=dt.date(2026, 11, 22)))


def test_an_instrument_in_several_lists_is_wanted_once_in_its_highest_mode(instruments: Instruments) -> None:
    lists = [
        SubscriptionList(name="a", mode=Mode.LTP, instruments=("NSE:INFY", 408065, "NSE:RELIANCE")),
        SubscriptionList(name="b", mode=Mode.FULL, instruments=("NSE:INFY",)),
        SubscriptionList(name="c", instruments=("NSE:NIFTY 50", "NSE:INFY")),
    ]
    plan = make_plan(lists, instruments, Mode.QUOTE)
    assert plan.wanted == {408065: Mode.FULL, 738561: Mode.LTP, 256265: Mode.QUOTE}
    assert plan.lists == {"a": 2, "b": 1, "c": 2}
    assert plan.unknown == []
    assert plan.by_mode() == {Mode.LTP: [738561], Mode.QUOTE: [256265], Mode.FULL: [408065]}


def test_selections(instruments: Instruments) -> None:
    lists = [
        SubscriptionList.model_validate(
            {"name": "near", "select": {"names": ["NIFTY"], "types": ["FUT"], "expiries": 1}}
        ),
        SubscriptionList.model_validate({"name": "options", "mode": "ltp", "select": {"segment": "NFO-OPT"}}),
        SubscriptionList.model_validate(
            {"name": "cash", "mode": "full", "select": {"exchange": "NSE", "types": ["EQ"]}}
        ),
    ]
    plan = make_plan(lists, instruments, Mode.QUOTE)
    assert plan.wanted == {
        258: Mode.QUOTE,
        770: Mode.LTP,
        408065: Mode.FULL,
        738561: Mode.FULL,
        256265: Mode.FULL,
    }


def test_what_is_unknown_is_named_and_the_rest_wanted(instruments: Instruments) -> None:
    lists = [
        SubscriptionList(name="typo", mode=Mode.FULL, instruments=("NSE:INFYY", "NSE:RELIANCE", 99)),
        SubscriptionList.model_validate({"name": "nowhere", "select": {"exchange": "NASDAQ"}}),
        SubscriptionList.model_validate({"name": "nothing", "select": {"exchange": "NSE", "types": ["FUT"]}}),
    ]
    plan = make_plan(lists, instruments, Mode.QUOTE)
    assert plan.wanted == {738561: Mode.FULL}
    assert plan.lists == {"typo": 1, "nowhere": 0, "nothing": 0}
    typo, number, nowhere, nothing = plan.unknown
    assert "NSE:INFYY (did you mean NSE:INFY?)" in typo
    assert "99" in number
    assert "NASDAQ" in nowhere
    assert nothing == "nothing: no instrument of the day's list fits the selection"
