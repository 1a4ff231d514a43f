"""When lists are captured: each instrument in the hours of its own exchange, and what is not known yet as open."""

import asyncio
import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest.instruments.listing import Instruments, parse_instruments
from ingest.wire import Mode
from kitelake.config.calendar import CalendarSection
from kitelake.config.config import Config
from kitelake.config.subscriptions import SubscriptionList
from kitelake.plan.list_hours import hours_of_list, why_not
from kitelake.plan.name_lists import read_list_file
from kitelake.plan.plan import ListPlan, resolve
from kitelake.plan.today import TodaysPlan
from kitelake.schedule.calendar import Calendar
from storage.layout import DataLayout

CSV = b"""\
instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,instrument_type,segment,exchange
408065,1594,INFY,INFOSYS,0,,0,0.05,1,EQ,NSE,NSE
256265,1001,NIFTY 50,NIFTY 50,0,,0,0,0,EQ,INDICES,NSE
265737,1038,MCXBULLDEX,MCXBULLDEX,0,,0,0,0,EQ,INDICES,MCX
119553031,467004,CRUDEOIL26DECFUT,CRUDEOIL,0,2026-12-18,0,1,100,FUT,MCX-FUT,MCX
12345858,48226,NIFTY26DECFUT,NIFTY,0,2026-12-29,0,0.05,75,FUT,NFO-FUT,NFO
291849,1140,GIFT NIFTY,GIFT NIFTY,0,,0,0,0,EQ,INDICES,NSEIX
"""
TODAY = dt.date(2026, 11, 23)
CHRISTMAS = dt.date(2026, 12, 25)
ACCOUNT = {"name": "one", "api_key": "key", "access_token": "token"}
NSE, NFO, MCX = "08:55-16:15", "08:55-16:25", "08:40-24:00"


@pytest.fixture(scope="module")
def instruments() -> Instruments:
    return Instruments(parse_instruments(CSV, date=TODAY))


def spec(**options: Any) -> SubscriptionList:
    return SubscriptionList.model_validate({"name": "a", **options})


def planned(one: SubscriptionList, instruments: Instruments) -> ListPlan:
    names = read_list_file(one.file) if one.file else None
    return resolve(one, instruments, price_of=lambda _: None, default_mode=Mode.QUOTE, names=names)


def hours(one: SubscriptionList, plan: ListPlan | None, date: dt.date) -> dict[str, str]:
    found = hours_of_list(one, plan, Calendar(CalendarSection()), date)
    return {name: ", ".join(str(span.hours) for span in spans) for name, spans in found.by_exchange.items()}


def of(one: SubscriptionList, instruments: Instruments, date: dt.date, listed: dt.date | None = None) -> dict[str, str]:
    """By what the list means, as if the instrument list were of the day itself or of `listed`."""
    return hours(one, replace(planned(one, instruments), listed=listed or date), date)


@pytest.mark.parametrize(
    "options",
    [
        {"select": {"names": ["CRUDEOIL"]}},
        {"select": {"symbols": ["CRUDEOIL*"]}},
        {"select": {"segment": "MCX-FUT"}},
        {"instruments": [119553031]},
        {"instruments": ["119553031"]},
        {"instruments": ["MCX:CRUDEOIL26DECFUT"]},
        {"instruments": ["MCX:MCXBULLDEX"]},
    ],
)
def test_hours_are_those_of_what_a_list_means(instruments: Instruments, options: dict[str, Any]) -> None:
    """Also on a holiday of NSE, and whichever way it names them. An index follows the exchange that lists it."""
    assert of(spec(**options), instruments, TODAY) == {"MCX": MCX}
    assert of(spec(**options), instruments, CHRISTMAS) == {"MCX": MCX}


def test_a_file_of_names_has_the_hours_of_their_exchanges(instruments: Instruments, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("MCX:CRUDEOIL26DECFUT\nINFY\n")
    assert of(spec(file=str(path)), instruments, TODAY) == {"MCX": MCX, "NSE": NSE}
    assert of(spec(file=str(path)), instruments, CHRISTMAS) == {"MCX": MCX, "NSE": ""}


def test_exchanges_without_known_sessions_are_captured_around_the_clock(instruments: Instruments) -> None:
    gift = spec(instruments=["NSEIX:GIFT NIFTY", "NSE:NIFTY 50"])
    assert of(gift, instruments, TODAY) == {"NSEIX": "00:00-24:00", "NSE": NSE}
    assert of(gift, instruments, dt.date(2026, 11, 22)) == {"NSEIX": "00:00-24:00", "NSE": ""}
    assert of(spec(instruments=["NSE:INFY"], session="NSEIX"), instruments, TODAY) == {"NSE": "00:00-24:00"}


def test_a_session_and_a_window_hold_for_the_whole_list(instruments: Instruments) -> None:
    names = ["NSE:INFY", "MCX:CRUDEOIL26DECFUT"]
    assert of(spec(instruments=names, session="NSE"), instruments, TODAY) == {"MCX": NSE, "NSE": NSE}
    assert of(spec(instruments=names, session="NSE"), instruments, CHRISTMAS) == {"MCX": "", "NSE": ""}
    window = spec(instruments=names, window="10:00-11:00")
    assert of(window, instruments, TODAY) == {"MCX": "10:00-11:00", "NSE": "10:00-11:00"}
    assert of(window, instruments, CHRISTMAS) == {"MCX": "10:00-11:00", "NSE": "10:00-11:00"}


def test_days_hold_for_the_whole_list(instruments: Instruments) -> None:
    names = ["NSE:INFY", "MCX:CRUDEOIL26DECFUT"]
    assert of(spec(instruments=names, days="NSE"), instruments, CHRISTMAS) == {"MCX": "", "NSE": ""}
    assert of(spec(instruments=names, days=[CHRISTMAS]), instruments, CHRISTMAS) == {"MCX": MCX, "NSE": NSE}


# Not known yet


def test_a_list_that_is_not_resolved_counts_as_open_while_any_exchange_is() -> None:
    by_name = spec(select={"names": ["CRUDEOIL"]})
    assert hours(by_name, None, TODAY) == {"": MCX}
    assert hours(by_name, None, CHRISTMAS) == {"": MCX}
    assert hours(by_name, None, dt.date(2026, 11, 22)) == {"": ""}


def test_names_say_of_which_exchange_they_are() -> None:
    assert hours(spec(instruments=["NSE:INFY", "MCX:GOLD27FEBFUT"]), None, CHRISTMAS) == {"NSE": "", "MCX": MCX}
    assert hours(spec(instruments=[408065, 119553031]), None, TODAY) == {"NSE": NSE, "MCX": MCX}
    assert hours(spec(instruments=[256265, "LSE:VOD"]), None, TODAY) == {"": MCX}  # an index says no exchange


def test_a_selection_says_of_which_exchange_it_is(instruments: Instruments) -> None:
    """Also on a Sunday, when all but those that trade around the clock are closed, and where nothing is found."""
    sunday = dt.date(2026, 11, 22)
    gift = spec(select={"exchange": "NSEIX", "types": ["FUT"]})
    assert hours(gift, None, sunday) == {"NSEIX": "00:00-24:00"}
    assert of(gift, instruments, sunday) == {"NSEIX": "00:00-24:00"}
    both = spec(select={"exchange": ["NFO", "MCX"], "names": ["COTTON"]})
    assert hours(both, None, CHRISTMAS) == {"NFO": "", "MCX": MCX}
    assert of(both, instruments, CHRISTMAS) == {"NFO": "", "MCX": MCX}
    assert of(spec(select={"exchange": "NFO", "names": ["NIFTI"]}), instruments, TODAY) == {"NFO": NFO}
    assert of(spec(select={"exchange": "LSE"}), instruments, TODAY) == {"": MCX}


def test_what_an_older_list_lacks_may_be_in_todays(instruments: Instruments) -> None:
    names = spec(instruments=["NSE:INFY", "MCX:GOLD27FEBFUT"])
    tomorrow = TODAY + dt.timedelta(days=1)
    assert of(names, instruments, tomorrow, listed=TODAY) == {"NSE": NSE, "MCX": MCX}
    assert of(names, instruments, TODAY, listed=TODAY) == {"NSE": NSE}
    unknown = spec(select={"names": ["CRUDEOIL", "COTTON"]})
    assert of(unknown, instruments, tomorrow, listed=TODAY) == {"MCX": MCX, "": MCX}
    assert of(unknown, instruments, TODAY, listed=TODAY) == {"MCX": MCX}


def test_a_new_instrument_list_changes_no_hours_before_the_lists_are_resolved_by_it(
    tmp_path: Path, instruments: Instruments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else `kitelake capture` would find its session over while it asks for prices: what the old list lacks is open."""
    names = spec(instruments=["NSE:INFY", "MCX:GOLD27FEBFUT"])
    made = Config.model_validate({"data": tmp_path, "accounts": [ACCOUNT], "subscriptions": [names.model_dump()]})
    today = TodaysPlan(made, DataLayout(tmp_path), "http://127.0.0.1:1", [])
    today.instruments = instruments
    today.lists = {"a": planned(names, instruments)}
    before = today.hours(CHRISTMAS)
    assert list(map(str, (span.hours for span in before["a"].spans))) == [MCX]

    async def fetched() -> Instruments:
        return Instruments(parse_instruments(CSV, date=CHRISTMAS))

    monkeypatch.setattr(today._store, "fetch", fetched)
    assert asyncio.run(today.fetch())
    assert today.hours(CHRISTMAS) == before


def test_strikes_that_wait_for_a_price_are_no_names_that_are_missing(instruments: Instruments) -> None:
    """Their underlying is streamed in its own hours, and brings the price."""
    select = {"names": ["CRUDEOIL"], "types": ["CE"], "strikes": {"around": "spot", "count": 1}}
    table = CSV + b"263,1,CRUDEOIL26DEC6000CE,CRUDEOIL,0,2026-12-16,6000,1,100,CE,MCX-OPT,MCX\n"
    listed = Instruments(parse_instruments(table, date=TODAY))
    plan = planned(spec(select=select), listed)
    assert (plan.tokens, plan.problems) == ((), plan.unpriced)
    assert of(spec(select=select), listed, TODAY + dt.timedelta(days=1), listed=TODAY) == {"MCX": MCX}


def test_a_list_of_which_nothing_is_found_counts_as_open(instruments: Instruments) -> None:
    assert of(spec(instruments=["NFO:NIFTI26DECFUT"]), instruments, TODAY) == {"NFO": NFO}
    assert of(spec(select={"names": ["COTTON"]}), instruments, TODAY) == {"": MCX}


def test_why_a_list_is_not_captured_is_said_by_the_exchanges_of_its_instruments(instruments: Instruments) -> None:
    both = spec(instruments=["NSE:INFY", "NFO:NIFTY26DECFUT"])
    calendar = Calendar(CalendarSection())
    assert why_not(both, planned(both, instruments), calendar, CHRISTMAS) == [
        ("NSE", "holiday: Christmas Day"),
        ("NFO", "holiday: Christmas Day"),
    ]
    on_fridays = spec(instruments=["NSE:INFY"], days=[CHRISTMAS])
    assert why_not(on_fridays, None, calendar, TODAY) == [("a", "its days: 2026-12-25")]
