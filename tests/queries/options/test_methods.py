"""The methods as a user meets them: near() wherever a symbol is, results in every form."""

import datetime as dt
import math
from collections.abc import Iterator
from typing import Any

import pytest

import kitelake
from queries.errors import MomentError, QueryError, SymbolError
from tests.support.hand_made import HandMade

NOON = "2026-11-20 12:00:00"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kitelake.Lake]:
    made = HandMade(tmp_path_factory.mktemp("made"))
    made.future("NFO:NIFTY26NOVFUT", "NIFTY", dt.date(2026, 11, 24))
    made.future("NFO:NIFTY26DECFUT", "NIFTY", dt.date(2026, 12, 29))
    made.options("NFO:NIFTY26NOV", "NIFTY", dt.date(2026, 11, 24), [26000])
    made.listed(dt.date(2026, 11, 20))
    for day in (20, 24, 25):
        for symbol in ("NFO:NIFTY26NOVFUT", "NFO:NIFTY26DECFUT"):
            made.tick(f"2026-11-{day} 10:00:00", symbol, 26000)
    made.commit()
    with made.lake() as lake:
        yield lake


def test_near(lake: kitelake.Lake) -> None:
    assert kitelake.near("NIFTY") == lake.near("NIFTY", 1)
    found = lake.ticks(kitelake.near("NIFTY"), "2026-11-20", "2026-11-26").arrow()
    assert list(zip(found["date"].to_pylist(), found["symbol"].to_pylist(), strict=True)) == [
        (dt.date(2026, 11, 25), "NFO:NIFTY26DECFUT"),
        (dt.date(2026, 11, 20), "NFO:NIFTY26NOVFUT"),
        (dt.date(2026, 11, 24), "NFO:NIFTY26NOVFUT"),
    ]
    second = lake.ticks(lake.near("NIFTY", 2), "2026-11-20", "2026-11-26").arrow()
    assert second["symbol"].to_pylist() == ["NFO:NIFTY26DECFUT"] * 2
    with pytest.raises(SymbolError, match="expected 1 for the nearest"):
        lake.ticks(lake.near("NIFTY", 0), "2026-11-20")


@pytest.mark.slow
def test_results_in_every_form(lake: kitelake.Lake) -> None:
    """They outlive the call, and are fetched again."""
    for result in (lake.expiries("NIFTY"), lake.futures("NIFTY", NOON), lake.chain("NIFTY", NOON)):
        first = result.arrow()
        lake.sql("SELECT 1").arrow()
        assert result.arrow().equals(first)
        assert result.reader().read_all().equals(first)
        assert result.count() == len(result.df()) == len(result.pl()) == len(first)
        assert result.relation.limit(1).fetchall()
    assert str(lake.chain("NIFTY", NOON).types[0]) == "TIMESTAMP WITH TIME ZONE"


def test_moments(lake: kitelake.Lake) -> None:
    with pytest.raises(MomentError, match="moment: got 'soon'"):
        lake.chain("NIFTY", "soon")
    with pytest.raises(MomentError, match="moment: got an empty list"):
        lake.futures("NIFTY", [])
    with pytest.raises(MomentError, match="day: got 'today'"):
        lake.expiries("NIFTY", "today")


@pytest.mark.parametrize("name", [None, "", 256265, ["NIFTY", "BANKNIFTY"]])
def test_what_is_no_name_is_said(lake: kitelake.Lake, name: Any) -> None:
    for ask in (lake.expiries, lake.futures, lake.chain):
        with pytest.raises(SymbolError, match=r"^got .*, expected a name such as NIFTY"):
            ask(name, NOON)


@pytest.mark.parametrize("rate", [math.nan, math.inf, "x"])
def test_what_is_no_rate_is_said(lake: kitelake.Lake, rate: Any) -> None:
    with pytest.raises(QueryError, match=r"^rate: got .*, expected interest a year as a fraction"):
        lake.chain("NIFTY", NOON, rate=rate)


@pytest.mark.slow
def test_the_macro_is_in_a_connection_of_ones_own(lake: kitelake.Lake) -> None:
    con = lake.connect()
    assert con.sql(f"SELECT symbol FROM futures('NIFTY', '{NOON}')").fetchall() == [
        ("NFO:NIFTY26NOVFUT",), ("NFO:NIFTY26DECFUT",),
    ]  # fmt: skip
    con.close()
