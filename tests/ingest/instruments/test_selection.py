"""Selections from a day's list: every criterion, strikes around prices, and what the list does not hold, in words."""

import datetime as dt
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.instruments.criteria import Expiries, Select, Strikes
from ingest.instruments.listing import Instruments, parse_instruments
from ingest.instruments.selection import references, select
from ingest.instruments.underlyings import Price, listed_price
from ingest.simulator.universe import build_universe, to_csv
from tests.support.lists import DAY, INFY, NIFTY_50, SENSEX, Listing, no_price, picked, prices


@pytest.fixture(scope="module")
def listed() -> Instruments:
    listing = Listing()
    for expiry in ("2026-12-29", "2026-11-24"):
        listing.future("NIFTY", expiry)
    for expiry in ("2026-11-17", "2026-11-24", "2026-12-01", "2026-12-08", "2026-12-29"):
        listing.chain("NIFTY", expiry, [24400, 24450, 24500, 24550, 24600])
    listing.future("INFY", "2026-11-24", lot=400)
    listing.chain("INFY", "2026-11-24", [1480, 1500, 1520], lot=400)
    listing.future("SENSEX", "2026-11-26", "BFO", lot=20)
    listing.chain("SENSEX", "2026-11-26", [80000, 80100], "BFO", lot=20)
    listing.future("CRUDEOIL", "2026-12-18", "MCX", lot=1)
    listing.future("CRUDEOIL", "2027-01-18", "MCX", lot=1)
    listing.chain("CRUDEOIL", "2026-12-16", [5000, 5050, 5100], "MCX", lot=1)
    return listing.instruments()


AROUND = {"around": "spot", "count": 1}
FUTURES = ["NIFTY2612FUT", "NIFTY2611FUT", "INFY2611FUT", "SENSEX2611FUT", "CRUDEOIL2612FUT", "CRUDEOIL2701FUT"]
CRUDE = [f"CRUDEOIL261216{strike}{kind}" for strike in (5000, 5050, 5100) for kind in ("CE", "PE")]


@pytest.mark.parametrize(
    ("criteria", "symbols"),
    [
        ({"exchange": "NSE"}, ["INFY", "NIFTY 50", "M&M"]),
        ({"exchange": ["nse", "BSE"], "segment": ["NSE", "BSE"]}, ["INFY", "INFY", "M&M"]),
        ({"segment": "indices"}, ["NIFTY 50", "SENSEX"]),
        ({"types": ["FUT"]}, FUTURES),
        ({"types": "FUT", "names": "nifty"}, FUTURES[:2]),
        ({"names": "Mahindra & Mahindra, Ltd"}, ["M&M"]),
        ({"underlying": "NSE:NIFTY 50", "types": "FUT"}, FUTURES[:2]),
        ({"underlying": ["nse:infy", "BSE:SENSEX"], "types": "FUT"}, ["INFY2611FUT", "SENSEX2611FUT"]),
        ({"underlying": "BSE:INFY", "types": "FUT"}, ["INFY2611FUT"]),
        ({"underlying": "MCX:CRUDEOIL"}, [*FUTURES[-2:], *CRUDE]),
        ({"symbols": "INFY"}, ["INFY", "INFY"]),
        ({"symbols": "nse:infy"}, ["INFY"]),
        ({"symbols": "m&m"}, ["M&M"]),
        ({"symbols": "?&*"}, ["M&M"]),
        ({"symbols": ["NSE:INF?", "*26??fut"]}, ["INFY", *FUTURES[:-1]]),
        ({"symbols": "NFO:*FUT"}, FUTURES[:3]),
        ({"symbols": "*FUT", "exclude": ["NIFTY", "mcx:*", "INFY2611FUT"]}, ["SENSEX2611FUT"]),
        ({"types": "FUT", "lot_size": 20}, ["SENSEX2611FUT"]),
        ({"types": "FUT", "lot_size": {"min": 65}}, FUTURES[:3]),
        ({"types": "FUT", "lot_size": {"min": 2, "max": 65}}, [FUTURES[0], FUTURES[1], "SENSEX2611FUT"]),
        ({"types": "FUT", "expiries": 1}, ["NIFTY2611FUT", "INFY2611FUT", "SENSEX2611FUT", "CRUDEOIL2612FUT"]),
        ({"segment": "NSE", "expiries": 1}, ["INFY", "M&M"]),
        ({"names": "CRUDEOIL", "strikes": {"min": 5050}}, CRUDE[2:]),
        ({"names": "CRUDEOIL", "strikes": {"min": 5050, "max": 5050}}, CRUDE[2:4]),
        ({"names": "CRUDEOIL", "types": ["PE"], "strikes": {"max": 5050}}, [CRUDE[1], CRUDE[3]]),
    ],
)
def test_every_criterion_that_is_given_must_fit(
    listed: Instruments, criteria: dict[str, Any], symbols: list[str]
) -> None:
    found, selection = picked(listed, criteria)
    assert found == symbols
    assert (selection.references, selection.notes, selection.problems) == ({}, (), ())


@pytest.mark.parametrize(
    ("expiries", "days"),
    [
        (1, [24]),
        (2, [24, 1]),
        ({"nearest": 9}, [24, 1, 8, 29]),
        ({"kind": "monthly"}, [24, 29]),
        ({"kind": "weekly"}, [1, 8]),  # the 17th is past, the 24th is November's last
        ({"kind": "weekly", "nearest": 1}, [1]),
        ({"kind": "monthly", "nearest": 1}, [24]),
        ({"before": dt.date(2026, 12, 8)}, [24, 1]),
        ({"before": "2026-12-08", "kind": "weekly"}, [1]),
        ({"before": "2026-12-30", "kind": "monthly", "nearest": 3}, [24, 29]),
    ],
)
def test_expiries_count_from_the_day_of_the_list(listed: Instruments, expiries: Any, days: list[int]) -> None:
    criteria = {"names": "NIFTY", "symbols": "*24500CE", "expiries": expiries}
    selection = select(listed, Select.model_validate(criteria), no_price)
    rows = listed.table.to_pylist()
    found = [row["expiry"].day for row in rows if row["instrument_token"] in selection.tokens]
    assert found == days


@pytest.mark.parametrize(
    ("price", "strikes", "expected"),
    [
        (24512.3, {"count": 0}, [24500]),
        (24512.3, {"count": 1}, [24450, 24500, 24550]),
        (24525.0, {"count": 0}, [24500]),  # equally near: the lower one
        (24525.01, {"count": 0}, [24550]),
        (20000.0, {"count": 1}, [24400, 24450]),
        (99999.0, {"count": 1}, [24550, 24600]),
        (24500.0, {"percent": 0.2}, [24500]),
        (24500.0, {"percent": 50 / 245}, [24450, 24500, 24550]),
        (20000.0, {"percent": 1}, []),
        (24512.3, {"count": 1, "min": 24500}, [24500, 24550]),
    ],
)
@pytest.mark.parametrize("spot", [True, False])
def test_strikes_around_a_price(
    listed: Instruments, price: float, strikes: dict[str, Any], expected: list[int], spot: bool
) -> None:
    criteria = {"names": "NIFTY", "expiries": 1, "strikes": {"around": "spot" if spot else price, **strikes}}
    found, selection = picked(listed, criteria, prices({NIFTY_50: price}) if spot else no_price)
    assert found == [f"NIFTY261124{strike}{kind}" for strike in expected for kind in ("CE", "PE")]
    assert selection.references == ({NIFTY_50: "NSE:NIFTY 50"} if spot else {})
    assert bool(selection.problems) is (expected == [])


def test_the_strike_at_the_money_is_one_of_all_that_are_listed(listed: Instruments) -> None:
    criteria = {"symbols": "NIFTY261124*CE", "exclude": "*24500CE", "strikes": {"around": 24500, "count": 1}}
    assert picked(listed, criteria)[0] == ["NIFTY26112424450CE", "NIFTY26112424550CE"]


def test_each_name_has_its_own_reference_and_the_notes_say_which(listed: Instruments) -> None:
    criteria = {"segment": ["NFO-OPT", "BFO-OPT", "MCX-OPT"], "expiries": 1, "strikes": {"around": "spot", "count": 0}}
    what = Select.model_validate(criteria)
    crude, nifty_future, infy_future, sensex_future = listed.resolve(
        ["MCX:CRUDEOIL2612FUT", "NFO:NIFTY2611FUT", "NFO:INFY2611FUT", "BFO:SENSEX2611FUT"]
    )
    asked: list[int] = []
    known = {NIFTY_50: 24512.3, INFY: 1509.0, sensex_future: 80075.5, crude: 5049.1234}

    def price_of(token: int) -> Price | None:
        asked.append(token)
        return (
            Price(known[token], "the live stream" if token != INFY else "captured at 14:59") if token in known else None
        )

    selection = select(listed, what, price_of)
    assert [str(listed.symbol(token)) for token in selection.tokens][::2] == [
        "NFO:NIFTY26112424500CE",
        "NFO:INFY2611241500CE",
        "BFO:SENSEX26112680100CE",
        "MCX:CRUDEOIL2612165050CE",
    ]
    assert selection.references == {
        NIFTY_50: "NSE:NIFTY 50",
        INFY: "NSE:INFY",
        sensex_future: "BFO:SENSEX2611FUT",
        crude: "MCX:CRUDEOIL2612FUT",
    }
    assert selection.problems == ()
    assert selection.notes == (
        "NIFTY around 24,512.30 of NSE:NIFTY 50 (the live stream)",
        "INFY around 1,509.00 of NSE:INFY (captured at 14:59)",
        "SENSEX around 80,075.50 of BFO:SENSEX2611FUT (the live stream), since BSE:SENSEX has no price",
        "CRUDEOIL around 5,049.1234 of MCX:CRUDEOIL2612FUT (the live stream)",
    )
    told = references(listed, what)
    assert set(asked) <= set(told)
    assert told == dict(selection.references) | {
        SENSEX: "BSE:SENSEX",
        nifty_future: "NFO:NIFTY2611FUT",
        infy_future: "NFO:INFY2611FUT",
    }


def test_prices_are_asked_for_only_around_spot(listed: Instruments) -> None:
    for strikes in (None, {"around": 24500, "count": 1}, {"min": 1}):
        assert references(listed, Select.model_validate({"names": "NIFTY", "strikes": strikes})) == {}
    only = Select.model_validate({"names": ["NIFTY", "INFY"], "exclude": "INFY", "strikes": AROUND})
    assert sorted(references(listed, only).values()) == ["NFO:NIFTY2611FUT", "NFO:NIFTY2612FUT", "NSE:NIFTY 50"]


@pytest.mark.parametrize("none", [0.0, -1.0, float("nan"), float("inf"), None])
def test_without_a_price_only_that_name_is_left_out(listed: Instruments, none: float | None) -> None:
    known = {INFY: 1500.0} | ({} if none is None else {NIFTY_50: none, SENSEX: none})
    found, selection = picked(
        listed, {"segment": ["NFO-OPT", "BFO-OPT"], "expiries": 1, "strikes": AROUND}, prices(known)
    )
    assert found == [f"INFY261124{strike}{kind}" for strike in (1480, 1500, 1520) for kind in ("CE", "PE")]
    assert selection.problems == (
        "no price to choose strikes around, so none are selected: NIFTY (NSE:NIFTY 50 or NFO:NIFTY2611FUT), "
        "SENSEX (BSE:SENSEX or BFO:SENSEX2611FUT)",
    )
    assert selection.unpriced == selection.problems


def test_many_names_are_summarised() -> None:
    rows, names = [], [f"STOCK{number}" for number in range(40)]
    for number, name in enumerate(names):
        rows.append(f"{(number << 8) + 1},{number},{name},{name} LTD,{1000 + number},,0,0.05,1,EQ,NSE,NSE\n")
    listing = Listing("".join(rows))
    for name in names:
        listing.future(name, "2026-11-24")
        listing.chain(name, "2026-11-24", [900, 1000, 1100])
    instruments = listing.instruments()
    criteria = {"segment": "NFO-OPT", "strikes": {"around": "spot", "count": 0}}
    futures = instruments.resolve([f"NFO:{name}2611FUT" for name in names[:2]])
    live = prices(dict.fromkeys(futures, 1000.0) | {(number << 8) + 1: 1000.0 for number in range(2, 30)})
    found, selection = picked(instruments, criteria, live)
    assert len(found) == len(set(found)) == 60
    assert selection.notes == (
        "30 names, each around its own price: 30 (the live stream); "
        "2 of a future, since the index or share has no price",
    )
    (problem,) = selection.problems
    assert problem.startswith("no price to choose strikes around, so none are selected: STOCK30 (NSE:STOCK30 or NFO:")
    assert problem.endswith("STOCK34 (NSE:STOCK34 or NFO:STOCK342611FUT), and 5 more")
    listed_now = listed_price(instruments)
    found, selection = picked(instruments, criteria, lambda token: live(token) or listed_now(token))
    assert len(found) == 80
    assert selection.notes == ("40 names, each around its own price: 28 (the live stream), 12 (the instrument list)",)


@pytest.mark.parametrize(
    ("criteria", "found", "problems"),
    [
        (
            {"names": ["NIFTTY", "NIFTY"], "types": "FUT"},
            2,
            ["not in the instrument list of 2026-11-22: name NIFTTY (did you mean NIFTY, NIFTY 50?)"],
        ),
        ({"exchange": "NASDAQ"}, 0, ["not in the instrument list of 2026-11-22: exchange NASDAQ"]),
        ({"segment": "NFO-OP"}, 0, [r"segment NFO-OP (did you mean NFO-OPT"]),
        ({"underlying": "NSE:NIFTI 50"}, 0, ["derivatives of NSE:NIFTI 50 (did you mean NSE:NIFTY 50"]),
        ({"underlying": ["NSE:M&M", "NSE:INFY"], "types": "FUT"}, 1, ["derivatives of NSE:M&M"]),
        ({"underlying": "NSE:CRUDEOIL"}, 0, ["derivatives of NSE:CRUDEOIL"]),
        ({"symbols": ["NSE:INFI", "NSE:M&M"]}, 1, ["symbol NSE:INFI (did you mean NSE:INFY?)"]),
        ({"symbols": ["ZZ*", "M&M", "Y?"]}, 1, ["fits the pattern ZZ*", "fits the pattern Y?"]),
        ({"exchange": "NSE", "exclude": ["GONE", "*GONE"]}, 3, ["symbol or name GONE", "fits the pattern *GONE"]),
        ({"segment": "NSE", "types": ["CE"]}, 0, ["no instrument of the day's list fits the selection"]),
        ({"names": [f"X{n}" for n in range(9)]}, 0, ["name X0; X1; X2; X3; X4; and 4 more"]),
    ],
)
def test_what_is_not_in_the_list_is_named_and_the_rest_selected(
    listed: Instruments, criteria: dict[str, Any], found: int, problems: list[str]
) -> None:
    symbols, selection = picked(listed, criteria)
    assert len(symbols) == found
    assert len(selection.problems) == len(problems)
    for told, expected in zip(selection.problems, problems, strict=True):
        assert expected in told


def test_indices_find_their_derivatives_and_back() -> None:
    table = parse_instruments(to_csv(build_universe(4_000, 1, DAY).instruments).encode(), date=DAY)
    instruments = Instruments(table)
    for index, name in (
        ("NSE:NIFTY BANK", "BANKNIFTY"),
        ("NSE:NIFTY FIN SERVICE", "FINNIFTY"),
        ("BSE:BANKEX", "BANKEX"),
    ):
        what = Select.model_validate({"underlying": index, "types": ["CE", "PE"], "strikes": AROUND})
        token = instruments.resolve([index])[0]
        assert token in references(instruments, what)
        strikes = {row["strike"] for row in table.to_pylist() if row["name"] == name and row["strike"]}
        selection = select(instruments, what, prices({token: max(strikes)}))
        rows = [row for row in table.to_pylist() if row["instrument_token"] in selection.tokens]
        assert {row["name"] for row in rows} == {name}
        assert selection.references == {token: index}


WEEKDAYS = st.sampled_from([f"2026-{month}-{day:02d}" for month in (11, 12) for day in (2, 9, 16, 23, 30)])
CHAINS = st.dictionaries(
    st.tuples(st.sampled_from(["NIFTY", "INFY"]), WEEKDAYS),
    st.sets(st.integers(1, 30), min_size=1, max_size=6),
    max_size=8,
)
WANTED_EXPIRIES = (
    st.fixed_dictionaries(
        {},
        optional={
            "nearest": st.integers(1, 4),
            "kind": st.sampled_from(["weekly", "monthly"]),
            "before": WEEKDAYS.map(dt.date.fromisoformat),
        },
    )
    .filter(bool)
    .map(Expiries.model_validate)
)


@pytest.mark.slow
@given(
    contracts=CHAINS,
    wanted=WANTED_EXPIRIES,
    price=st.integers(1, 60).map(lambda half: half / 2),
    count=st.integers(0, 3),
)
def test_the_same_as_the_definitions_in_plain_python(
    contracts: dict[tuple[str, str], set[int]], wanted: Expiries, price: float, count: int
) -> None:
    listing = Listing()
    for (name, expiry), strikes in contracts.items():
        listing.chain(name, expiry, sorted(strikes, key=lambda strike: (strike * 7) % 31))
    expected = set()
    for name in ("NIFTY", "INFY"):
        days = sorted(dt.date.fromisoformat(expiry) for other, expiry in contracts if other == name)
        monthly = {max(each for each in days if each.month == day.month) for day in days}
        fitting = [
            day
            for day in days
            if day >= DAY
            and (wanted.kind is None or (wanted.kind == "monthly") == (day in monthly))
            and (wanted.before is None or day < wanted.before)
        ]
        for day in fitting[: wanted.nearest]:
            chain = sorted(contracts[name, day.isoformat()])
            distances = [abs(strike - price) for strike in chain]
            money = distances.index(min(distances))
            expected |= {(name, day, strike) for strike in chain[max(0, money - count) : money + count + 1]}
    what = Select(types=("CE", "PE"), expiries=wanted, strikes=Strikes(around=price, count=count))
    instruments = listing.instruments()
    selection = select(instruments, what, no_price)
    rows = [row for row in instruments.table.to_pylist() if row["instrument_token"] in selection.tokens]
    assert len(rows) == 2 * len(expected)
    assert {(row["name"], row["expiry"], row["strike"]) for row in rows} == expected
    assert [row["instrument_token"] for row in rows] == list(selection.tokens)


def test_the_nearest_expiries_are_those_of_the_day_that_is_asked_about(listed: Instruments) -> None:
    """When the day's list did not come, yesterday's must not name what has expired since."""
    futures = Select.model_validate({"names": "NIFTY", "types": ["FUT"], "expiries": 1})
    first = select(listed, futures, no_price).tokens
    expired_on = listed.table.filter(pc.is_in(listed.table["instrument_token"], pa.array(first)))["expiry"][0].as_py()
    later = listed.as_of(expired_on + dt.timedelta(days=1))
    assert later.date == listed.date
    assert select(listed.as_of(expired_on), futures, no_price).tokens == first
    assert select(later, futures, no_price).tokens != first
