"""The curve of futures: prices, basis, days; the method and the macro give the same."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queries.errors import SymbolError
from queries.history import Moment
from tests.support.hand_made import HandMade, at
from tests.support.profile import files_read

DAY = dt.date(2026, 11, 20)
NOON = "2026-11-20 12:00:00"
NAMES = ("symbol", "bid", "ask", "last", "volume", "oi", "spot", "basis", "days_to_expiry")


@pytest.fixture
def made(tmp_path: Path) -> Iterator[HandMade]:
    made = HandMade(tmp_path)
    made.add("NSE:NIFTY 50", segment="INDICES")
    made.add("NSE:RELIANCE")
    made.add("BSE:RELIANCE")
    for month, expiry in (("NOV", dt.date(2026, 11, 24)), ("DEC", dt.date(2026, 12, 29))):
        for exchange, name in (("NFO", "NIFTY"), ("NFO", "RELIANCE"), ("BFO", "RELIANCE")):
            made.future(f"{exchange}:{name}26{month}FUT", name, expiry, lot_size=65)
        made.future(f"MCX:GOLD26{month}FUT", "GOLD", expiry)
        made.future(f"NCO:GOLD26{month}FUT", "GOLD", expiry)
    made.listed(DAY)
    yield made
    made.close()


def futures(made: HandMade, *arguments: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = made.asked().futures(*arguments).arrow().to_pylist()
    return rows


def some_ticks(made: HandMade) -> None:
    made.tick("2026-11-20 11:59:50", "NSE:NIFTY 50", 26000)
    made.tick("2026-11-20 11:59:51", "NFO:NIFTY26NOVFUT", 26024, 26025, 26027, volume_traded=650, oi=6500)
    made.tick("2026-11-20 11:59:52", "NFO:NIFTY26DECFUT", 26130, mode="ltp")
    made.tick("2026-11-20 11:59:53", "NSE:RELIANCE", 1500, 1499, 1500)
    made.tick("2026-11-20 11:59:54", "NFO:RELIANCE26NOVFUT", 1503, 1504, 1502)
    made.tick("2026-11-20 11:59:55", "BFO:RELIANCE26DECFUT", 1510, None, 1511)
    made.tick("2026-11-20 11:59:56", "MCX:GOLD26DECFUT", 120_000, 119_999, 120_001)
    made.tick("2026-11-20 12:00:00.000001", "NFO:NIFTY26NOVFUT", 1, 1, 1)


def test_the_days_of_lists_can_be_asked_for_alone(made: HandMade) -> None:
    with made.lake() as lake:
        assert lake.sql("from instrument_days").arrow().to_pylist() == [{"listed_on": DAY}]


def test_the_curve(made: HandMade) -> None:
    some_ticks(made)
    near, far = futures(made, "NIFTY", NOON)
    assert [near[name] for name in NAMES] == ["NFO:NIFTY26NOVFUT", 26025, 26027, 26024, 650, 6500, 26000, 26, 4]
    assert [far[name] for name in NAMES] == ["NFO:NIFTY26DECFUT", None, None, 26130, None, None, 26000, 130, 39]
    assert near["basis_percent"] == pytest.approx(26 / 26000 * 365 / 4 * 100)
    assert far["basis_percent"] == pytest.approx(130 / 26000 * 365 / 39 * 100)
    assert near["moment"] == at(NOON)
    assert near["received_at"] == at("2026-11-20 11:59:51")
    assert (near["exchange"], near["name"], near["spot_symbol"]) == ("NFO", "NIFTY", "NSE:NIFTY 50")
    assert (near["expiry"], near["lot_size"]) == (dt.date(2026, 11, 24), 65)


@pytest.mark.slow
def test_a_share_and_a_commodity(made: HandMade) -> None:
    """A price is the mid, of quotes that do not cross, else the last. A commodity has no spot."""
    some_ticks(made)
    near, far = futures(made, "RELIANCE", NOON)
    assert (near["symbol"], near["spot"], near["basis"]) == ("NFO:RELIANCE26NOVFUT", 1499.5, 3.5)
    assert (far["last"], far["basis"], far["received_at"]) == (None, None, None)
    assert futures(made, "BSE:RELIANCE", NOON)[1]["basis"] == 10.5
    gold = futures(made, "MCX:GOLD", NOON)[1]
    assert [gold[name] for name in NAMES] == [
        "MCX:GOLD26DECFUT", 119_999, 120_001, 120_000, 0, 0, None, None, 39,
    ]  # fmt: skip
    assert gold["spot_symbol"] is None


def test_on_the_day_of_expiry(made: HandMade) -> None:
    made.tick("2026-11-24 12:00:00", "NFO:NIFTY26NOVFUT", 26010, 26009, 26011)
    made.tick("2026-11-24 12:00:00", "NSE:NIFTY 50", 26000)
    near = futures(made, "NIFTY", "2026-11-24 12:00:00")[0]
    assert (near["days_to_expiry"], near["basis"], near["basis_percent"]) == (0, 10, None)
    assert [row["symbol"] for row in futures(made, "NIFTY", "2026-11-25")] == ["NFO:NIFTY26DECFUT"]


@pytest.mark.slow
def test_the_macro_gives_the_rows_of_the_method(made: HandMade) -> None:
    some_ticks(made)
    made.tick("2026-11-23 09:00:00", "NFO:NIFTY26NOVFUT", 26030, 26029, 26031, stamp=at("2026-11-20 15:39:00"))
    made.tick("2026-11-23 09:00:00", "NFO:NIFTY26DECFUT", 26035, 26034, 26036, stamp=None)
    made.future("NFO:NIFTY27JANFUT", "NIFTY", dt.date(2027, 1, 26))
    made.listed(dt.date(2026, 11, 23))
    names = ("NIFTY", "nifty 50", "NSE:NIFTY 50", "NFO:NIFTY", "RELIANCE", "NSE:RELIANCE", "BSE:RELIANCE", "MCX:GOLD")
    moments: tuple[Moment, ...] = (
        at("2026-11-20 11:59:51"), "2026-11-23 10:00:00", DAY,
    )  # fmt: skip
    with made.lake() as lake:

        def macro(name: str, moment: Moment) -> list[dict[str, Any]]:
            query = "FROM futures($name, $moment)"
            rows: list[dict[str, Any]] = lake.sql(query, {"name": name, "moment": moment}).arrow().to_pylist()
            return rows

        for name, moment in [*((name, NOON) for name in names), *(("NIFTY", moment) for moment in moments)]:
            rows = lake.futures(name, moment).arrow().to_pylist()
            assert rows
            assert macro(name, moment) == rows, (name, moment)
        assert macro("NIFTY", "2026-11-23 10:00:00")[0]["bid"] is None
        assert macro("NIFTY", "2026-11-23 10:00:00")[1]["bid"] == 26034
        assert lake.sql("FROM futures('NIFTY')").columns == lake.futures("NIFTY", NOON).columns
        assert macro("NIFTY", "2026-11-19") == macro("BANKNIFTY", NOON) == []
        assert {row["exchange"] for row in macro("GOLD", NOON)} == {"MCX", "NCO"}


@pytest.mark.slow
def test_several_moments(made: HandMade) -> None:
    some_ticks(made)
    moments = ["2026-11-24 10:00:00", NOON, "2026-11-20 11:59:51", "2026-11-20 11:59:50.999999", NOON]
    one_by_one = [row for moment in sorted(set(moments)) for row in futures(made, "NIFTY", moment)]
    assert futures(made, "NIFTY", moments) == one_by_one


def test_no_ticks(made: HandMade) -> None:
    for row in futures(made, "NIFTY", NOON):
        assert {name for name, value in row.items() if value is None} == {
            "bid", "ask", "last", "volume", "oi", "spot", "basis", "basis_percent", "received_at",
        }  # fmt: skip


def test_what_cannot_be_asked(made: HandMade) -> None:
    with pytest.raises(SymbolError, match="GOLD: got a name of 2 exchanges, expected one of MCX:GOLD, NCO:GOLD"):
        futures(made, "GOLD", NOON)
    with pytest.raises(SymbolError, match="BANKNIFTY: the instrument list has no futures of it on 2026-11-20"):
        futures(made, "BANKNIFTY", NOON)
    with pytest.raises(SymbolError, match="there is no instrument list of 2026-11-19 or before"):
        futures(made, "NIFTY", "2026-11-19")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["method", "macro"])
def test_other_days_are_not_read(made: HandMade, way: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    for day in range(16, 21):
        made.listed(dt.date(2026, 11, day))
        made.tick(f"2026-11-{day} 10:00:00", "NFO:NIFTY26NOVFUT", 26000, 25999, 26001)
        made.tick(f"2026-11-{day} 10:00:00", "MCX:GOLD26NOVFUT", 120_000)
    made.commit()
    with made.lake() as lake:
        rows = lake.futures("NIFTY", NOON) if way == "method" else lake.sql(f"FROM futures('NIFTY', '{NOON}')")
        read = files_read(lake, rows.arrow, tmp_path_factory.mktemp("profile"))
    ticks = {"date=2026-11-20/exchange=NFO"} | ({"date=2026-11-20/exchange=MCX"} if way == "macro" else set())
    assert read == ticks | ({"instruments/date=2026-11-20"} if way == "macro" else set())
