"""What a name has on a day: expiries, cycles by the contracts' own symbols, and names as people say them."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from queries.errors import ExpiryError, MomentError, QueryError, SymbolError
from queries.options.contracts import closes_at, contracts
from storage.market import InstrumentKind
from tests.support.hand_made import HandMade, at


@pytest.fixture
def made(tmp_path: Path) -> Iterator[HandMade]:
    made = HandMade(tmp_path)
    yield made
    made.close()


def expiries(made: HandMade, name: str, day: str | dt.date | None = None) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in made.asked().expiries(name, day).arrow().to_pylist()]


def april_2025(made: HandMade) -> None:
    """The weekly of 1 May, a holiday, expired on 30 April: in the month of the monthly, six days after it."""
    made.add("NSE:NIFTY 50", segment="INDICES")
    made.future("NFO:NIFTY25APRFUT", "NIFTY", dt.date(2025, 4, 24))
    made.future("NFO:NIFTY25MAYFUT", "NIFTY", dt.date(2025, 5, 29))
    made.options("NFO:NIFTY25APR", "NIFTY", dt.date(2025, 4, 24), [24000, 24050])
    made.options("NFO:NIFTY25430", "NIFTY", dt.date(2025, 4, 30), [24000, 24050, 24100])
    made.options("NFO:NIFTY25508", "NIFTY", dt.date(2025, 5, 8), [24000])
    made.options("NFO:NIFTY25MAY", "NIFTY", dt.date(2025, 5, 29), [24000])


def test_a_weekly_in_the_month_before(made: HandMade) -> None:
    april_2025(made)
    made.listed(dt.date(2025, 4, 21))
    assert expiries(made, "NIFTY", "2025-04-21") == [
        ("NFO", "NIFTY", dt.date(2025, 4, 24), "monthly", 2, 4, "NFO:NIFTY25APRFUT"),
        ("NFO", "NIFTY", dt.date(2025, 4, 30), "weekly", 3, 6, None),
        ("NFO", "NIFTY", dt.date(2025, 5, 8), "weekly", 1, 2, None),
        ("NFO", "NIFTY", dt.date(2025, 5, 29), "monthly", 1, 2, "NFO:NIFTY25MAYFUT"),
    ]
    with made.lake() as lake:
        state = lake.look()
        for day, nearest, weekly, monthly in (
            ("2025-04-24", "2025-04-24", "2025-04-30", "2025-04-24"),
            ("2025-04-25", "2025-04-30", "2025-04-30", "2025-05-29"),
            ("2025-05-01", "2025-05-08", "2025-05-08", "2025-05-29"),
        ):
            found = contracts(state, "NIFTY", dt.date.fromisoformat(day), options=True)
            assert [str(found.chosen(asked).date) for asked in (None, "weekly", "Monthly")] == [
                nearest,
                weekly,
                monthly,
            ]


def test_a_weekly_after_the_monthly(made: HandMade) -> None:
    made.future("NFO:BANKNIFTY24JANFUT", "BANKNIFTY", dt.date(2024, 1, 25))
    made.options("NFO:BANKNIFTY24JAN", "BANKNIFTY", dt.date(2024, 1, 25), [45000])
    made.options("NFO:BANKNIFTY24131", "BANKNIFTY", dt.date(2024, 1, 31), [45000])
    made.options("NFO:BANKNIFTY24FEB", "BANKNIFTY", dt.date(2024, 2, 29), [45000])
    made.listed(dt.date(2024, 1, 23))
    assert [row[2:4] for row in expiries(made, "BANKNIFTY", "2024-01-24")] == [
        (dt.date(2024, 1, 25), "monthly"),
        (dt.date(2024, 1, 31), "weekly"),
        (dt.date(2024, 2, 29), "monthly"),
    ]
    with made.lake() as lake:
        found = contracts(lake.look(), "BANKNIFTY", dt.date(2024, 1, 29), options=True)
    assert found.chosen("monthly").date == dt.date(2024, 2, 29)
    for asked in (dt.date(2024, 1, 31), "2024-01-31", None):
        assert found.chosen(asked).date == dt.date(2024, 1, 31)


def test_names_as_people_say_them(made: HandMade) -> None:
    made.add("NSE:NIFTY 50", segment="INDICES")
    made.add("NSE:RELIANCE")
    made.add("BSE:RELIANCE")
    made.add("BSE:SENSEX", segment="INDICES")
    day = dt.date(2026, 11, 24)
    for exchange in ("NFO", "BFO"):
        made.options(f"{exchange}:RELIANCE26NOV", "RELIANCE", day, [1500])
    made.options("NFO:NIFTY26NOV", "NIFTY", day, [26000])
    made.options("BFO:SENSEX26NOV", "SENSEX", day, [85000])
    for exchange in ("MCX", "NCO"):
        made.options(f"{exchange}:GOLD26NOV", "GOLD", day, [120000])
    made.listed(day)
    with made.lake() as lake:
        state = lake.look()

        def of(name: str) -> tuple[str, str | None]:
            found = contracts(state, name, day, options=True)
            return str(found), found.spot and found.spot[1]

        for name in ("NIFTY", "nifty", " NIFTY 50", "NSE:NIFTY 50", "nse:nifty 50", "NFO:NIFTY"):
            assert of(name) == ("NFO:NIFTY", "NSE:NIFTY 50"), name
        assert of("RELIANCE") == of("NSE:RELIANCE") == of("NFO:RELIANCE") == ("NFO:RELIANCE", "NSE:RELIANCE")
        assert of("BSE:RELIANCE") == of("BFO:RELIANCE") == ("BFO:RELIANCE", "NSE:RELIANCE")
        assert of("SENSEX") == of("BSE:SENSEX") == ("BFO:SENSEX", "BSE:SENSEX")
        assert of("MCX:GOLD") == ("MCX:GOLD", None)
        with pytest.raises(SymbolError, match="GOLD: got a name of 2 exchanges, expected one of MCX:GOLD, NCO:GOLD"):
            of("GOLD")
        with pytest.raises(SymbolError, match="TATA: the instrument list has no options of it on 2026-11-24"):
            of("TATA")
        with pytest.raises(SymbolError, match="got ' ', expected a name"):
            of(" ")
        with pytest.raises(SymbolError, match="got b'NIFTY', expected a name"):
            of(b"NIFTY")  # type: ignore[arg-type]
    assert [row[:2] for row in expiries(made, "GOLD")] == [("MCX", "GOLD"), ("NCO", "GOLD")]


def test_an_unknown_expiry_names_those_that_there_are(made: HandMade) -> None:
    april_2025(made)
    made.listed(dt.date(2025, 4, 21))
    with made.lake() as lake:
        found = contracts(lake.look(), "NIFTY", dt.date(2025, 4, 22), options=True)
    with pytest.raises(
        ExpiryError, match=r"got 2025-05-01, .*: 2025-04-24 \(monthly\), 2025-04-30 \(weekly\), 2025-05-08"
    ):
        found.chosen("2025-05-01")
    with pytest.raises(MomentError, match="weekly, monthly, or None"):
        found.chosen("next")
    assert issubclass(ExpiryError, QueryError)


def test_a_name_without_weeklies(made: HandMade) -> None:
    made.options("NFO:RELIANCE26NOV", "RELIANCE", dt.date(2026, 11, 24), [1500])
    made.listed(dt.date(2026, 11, 20))
    with made.lake() as lake:
        found = contracts(lake.look(), "RELIANCE", dt.date(2026, 11, 20), options=True)
    with pytest.raises(ExpiryError, match=r"got weekly, .*: 2026-11-24 \(monthly\)$"):
        found.chosen("weekly")


@pytest.mark.slow
def test_the_list_of_the_day(made: HandMade) -> None:
    """That day's, or the newest before it; by default the newest day of the lake."""
    made.future("NFO:NIFTY26NOVFUT", "NIFTY", dt.date(2026, 11, 24))
    made.listed(dt.date(2026, 11, 20))
    made.future("NFO:NIFTY26DECFUT", "NIFTY", dt.date(2026, 12, 29))
    made.listed(dt.date(2026, 11, 23))
    assert [row[-1] for row in expiries(made, "NIFTY", "2026-11-22")] == ["NFO:NIFTY26NOVFUT"]
    assert [row[-1] for row in expiries(made, "NIFTY", "2026-11-24")] == ["NFO:NIFTY26NOVFUT", "NFO:NIFTY26DECFUT"]
    assert [row[-1] for row in expiries(made, "NIFTY", "2026-11-25")] == ["NFO:NIFTY26DECFUT"]
    assert len(expiries(made, "NIFTY")) == 2
    made.tick("2026-11-25 10:00:00", "NFO:NIFTY26DECFUT", 26000)
    assert len(expiries(made, "NIFTY")) == 1
    with pytest.raises(SymbolError, match="NIFTY: there is no instrument list of 2026-11-19 or before"):
        expiries(made, "NIFTY", "2026-11-19")
    with pytest.raises(
        SymbolError, match="RELIANCE: the instrument list has no futures or options of it on 2026-11-23"
    ):
        expiries(made, "RELIANCE", "2026-11-23")


@pytest.mark.slow
def test_a_list_that_is_replaced(made: HandMade) -> None:
    """What was looked up is remembered until then."""
    made.future("NFO:NIFTY26NOVFUT", "NIFTY", dt.date(2026, 11, 24))
    made.listed(dt.date(2026, 11, 20))
    with made.lake() as lake:
        assert [lake.expiries("NIFTY").count() for _ in range(2)] == [1, 1]
        made.future("NFO:NIFTY26DECFUT", "NIFTY", dt.date(2026, 12, 29))
        made.listed(dt.date(2026, 11, 20))
        assert lake.expiries("NIFTY").count() == 2
        for day in range(20):
            assert lake.expiries("NIFTY", dt.date(2026, 11, 20) + dt.timedelta(days=day)).count() == (
                2 if day < 5 else 1
            )


def test_a_lake_without_a_list(made: HandMade) -> None:
    with pytest.raises(SymbolError, match=r"NIFTY: there is no instrument list of 20.* or before"):
        expiries(made, "NIFTY")


def test_what_the_forward_is_of(made: HandMade) -> None:
    april_2025(made)
    made.future("MCX:CRUDEOIL25APRFUT", "CRUDEOIL", dt.date(2025, 4, 21))
    made.future("MCX:CRUDEOIL25MAYFUT", "CRUDEOIL", dt.date(2025, 5, 19))
    made.options("MCX:CRUDEOIL25APR", "CRUDEOIL", dt.date(2025, 4, 16), [5000])
    made.options("MCX:CRUDEOIL25MAY", "CRUDEOIL", dt.date(2025, 5, 14), [5000])
    made.listed(dt.date(2025, 4, 15))
    with made.lake() as lake:
        index, oil = (
            contracts(lake.look(), name, dt.date(2025, 4, 15), options=True) for name in ("NIFTY", "CRUDEOIL")
        )
    names = [future and future[1] for future in map(index.future_under, (each.date for each in index.expiries))]
    assert names == ["NFO:NIFTY25APRFUT", None, None, "NFO:NIFTY25MAYFUT"]
    names = [future and future[1] for future in map(oil.future_under, (dt.date(2025, 4, 16), dt.date(2025, 5, 14)))]
    assert names == ["MCX:CRUDEOIL25APRFUT", "MCX:CRUDEOIL25MAYFUT"]


@pytest.mark.parametrize(
    ("exchange", "close"),
    [
        ("NFO", "2026-07-28 15:30:00"),
        ("NFO", "2026-08-25 15:40:00"),
        ("BFO", "2026-08-06 15:40:00"),
        ("CDS", "2026-11-26 17:00:00"),
        ("MCX", "2026-07-16 23:30:00"),
        ("MCX", "2026-11-17 23:55:00"),
    ],
)
def test_when_an_expiry_ends(exchange: str, close: str) -> None:
    assert closes_at(exchange, InstrumentKind.OPTION, at(close).date()) == at(close)
