"""Spread, imbalance, returns and realized volatility, by their formulas on quotes of which everything is known."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kitelake
from kitelake.lake import Lake
from queries.errors import MomentError, QueryError, SymbolError, WidthError
from tests.support.asof_days import columns
from tests.support.by_hand import Journal, book, ist, list_instruments, quote

INFY, TCS, NIFTY_50 = 408065, 2953217, 256265
DAY, NEXT_DAY = "2026-11-23", "2026-11-24"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("measures") / "data"
    list_instruments(
        root,
        DAY,
        "408065,1594,INFY,INFOSYS,0,,0,0.05,1,EQ,NSE,NSE",
        "2953217,11536,TCS,TATA CONSULTANCY SERV LT,0,,0,0.05,1,EQ,NSE,NSE",
        "256265,1001,NIFTY 50,NIFTY 50,0,,0,0,0,EQ,INDICES,NSE",
    )
    with Journal(root, "20261123T034500-aaaaaa") as journal:
        journal.tick(f"{DAY} 09:15:10", INFY, 100, **quote(99, 101))
        journal.tick(f"{DAY} 09:15:59", INFY, 101, **quote(101, 103))
        journal.tick(f"{DAY} 09:16:00", INFY, 103, **quote(103, 105))  # the end belongs to its interval
        journal.tick(f"{DAY} 09:16:00.000001", INFY, 104, **quote(50, 60))
        journal.tick(f"{DAY} 09:17", INFY, 105, **quote(107, 109, bid_quantity=30))
        journal.tick(f"{DAY} 09:17", INFY, 106, "quote")  # no book
        journal.tick(f"{DAY} 09:18", INFY, 107, **quote(107, 109))
        journal.tick(f"{DAY} 09:18", INFY, 108, **book((108, 5, 1)))  # no asks
        journal.tick(f"{DAY} 09:19", INFY, 109, **quote(109, 111))
        journal.tick(f"{DAY} 09:20", INFY, 110, **quote(110, 112))
        journal.tick(f"{DAY} 09:22", INFY, 111, **quote(111, 113))  # after an interval without any
        journal.tick(f"{DAY} 09:15", TCS, 0, **book())
        for minute, price in ((16, 26000), (17, 26013)):
            journal.tick(f"{DAY} 09:{minute}", NIFTY_50, price, price_change=1)
        journal.tick(f"{NEXT_DAY} 00:00", INFY, 120, **quote(119, 121))
        journal.tick(f"{NEXT_DAY} 00:01", INFY, 122, **quote(121, 123))
    return root


@pytest.fixture(scope="module")
def lake(root: Path) -> Iterator[Lake]:
    with kitelake.open(root) as lake:
        yield lake


class TestSpread:
    def test_is_ask_minus_bid_of_every_quote(self, lake: Lake) -> None:
        found = lake.spread("NSE:INFY", DAY, f"{DAY} 09:16")
        assert found.columns == [
            "symbol", "instrument_token", "received_at", "bid", "ask", "mid", "spread", "spread_bps",
        ]  # fmt: skip
        assert [tuple(row.values())[2:] for row in found.arrow().to_pylist()] == [
            (ist(f"{DAY} 09:15:10"), 99, 101, 100, 2, 200),
            (ist(f"{DAY} 09:15:59"), 101, 103, 102, 2, pytest.approx(2e4 / 102)),
        ]

    def test_is_null_where_a_side_is_empty(self, lake: Lake) -> None:
        found = lake.spread(["NSE:INFY", "NSE:TCS"], f"{DAY} 09:15", f"{DAY} 09:18:30")
        assert columns(found, "symbol", "bid", "ask", "mid", "spread", "spread_bps")[-2:] == [
            ("NSE:INFY", 108, None, None, None, None),
            ("NSE:TCS", None, None, None, None, None),
        ]

    def test_an_index_has_none(self, lake: Lake) -> None:
        assert lake.spread("NSE:NIFTY 50", DAY).count() == lake.imbalance("NSE:NIFTY 50", DAY).count() == 0


class TestImbalance:
    def test_is_the_share_by_which_bids_outweigh_asks(self, lake: Lake) -> None:
        found = lake.imbalance(["NSE:INFY", "NSE:TCS"], f"{DAY} 09:15", f"{DAY} 09:18:30")
        assert columns(found, "bid_quantity", "ask_quantity", "imbalance")[-4:] == [
            (30, 10, 0.5),
            (10, 10, 0),
            (5, 0, 1),
            (0, 0, None),
        ]

    def test_may_be_of_several_levels(self, tmp_path: Path) -> None:
        with Journal(tmp_path, "20261123T034500-aaaaaa") as journal:
            asks = tuple((100 + level, 1, 1) for level in range(5))
            journal.tick(f"{DAY} 09:15", INFY, **book((99, 1, 1), (98, 2, 1), (97, 4, 1), asks=asks))
        with kitelake.open(tmp_path) as lake:
            shares = [columns(lake.imbalance(INFY, DAY, levels=levels), "imbalance") for levels in (1, 2, 3, 5)]
        assert shares == [[(0,)], [(1 / 5,)], [(4 / 10,)], [(2 / 12,)]]

    @pytest.mark.parametrize("levels", [0, 6, "all", 1.5])
    def test_there_are_five_levels(self, lake: Lake, levels: Any) -> None:
        with pytest.raises(QueryError, match=rf"levels: got {levels!r}, expected 1 to 5"):
            lake.imbalance("NSE:INFY", DAY, levels=levels)


def log(now: float, before: float) -> Any:
    return pytest.approx(math.log(now / before), abs=1e-15)


class TestReturns:
    def test_are_logarithmic_over_intervals_that_belong_to_their_end(self, lake: Lake) -> None:
        found = lake.returns("NSE:INFY", "1m", DAY)
        assert found.columns == ["symbol", "instrument_token", "time", "price", "log_return"]
        assert columns(found, "time", "price", "log_return") == [
            (ist(f"{DAY} 09:16"), 104, None),
            (ist(f"{DAY} 09:17"), 108, log(108, 104)),
            (ist(f"{DAY} 09:18"), None, None),  # a side was empty
            (ist(f"{DAY} 09:19"), 110, None),
            (ist(f"{DAY} 09:20"), 111, log(111, 110)),
            (ist(f"{DAY} 09:22"), 112, None),  # a gap
        ]

    def test_none_reaches_from_one_day_into_the_next(self, lake: Lake) -> None:
        found = lake.returns("NSE:INFY", "1d")
        assert columns(found, "time", "price", "log_return") == [
            (ist(f"{NEXT_DAY} 00:00"), 112, None),
            (ist(f"{NEXT_DAY} 00:00"), 120, None),
            (ist("2026-11-25 00:00"), 122, log(122, 120)),
        ]

    def test_of_last_prices_where_there_is_no_book(self, lake: Lake) -> None:
        found = lake.returns(["NSE:NIFTY 50", "NSE:TCS"], "1m", DAY, price="last")
        assert columns(found, "symbol", "price", "log_return") == [
            ("NSE:NIFTY 50", 26000, None),
            ("NSE:NIFTY 50", 26013, log(26013, 26000)),
            ("NSE:TCS", None, None),  # no trade yet
        ]
        assert lake.returns("NSE:NIFTY 50", "1m", DAY).count() == 0

    def test_a_range_begins_without_one(self, lake: Lake) -> None:
        found = lake.returns("NSE:INFY", "1m", f"{DAY} 09:16:30", f"{DAY} 09:17:30")
        assert columns(found, "price", "log_return") == [(108, None)]

    def test_intervals_need_not_divide_an_hour(self, lake: Lake) -> None:
        """Of 7 minutes from midnight one ends at 09:20, after 80 of them."""
        found = lake.returns("NSE:INFY", "7m", DAY)
        assert columns(found, "time", "price") == [(ist(f"{DAY} 09:20"), 111), (ist(f"{DAY} 09:27"), 112)]

    def test_mistakes_are_typed(self, lake: Lake) -> None:
        with pytest.raises(WidthError, match="width: got '100 ticks', expected a time such as 30s"):
            lake.returns("NSE:INFY", "100 ticks", DAY)
        with pytest.raises(WidthError, match="width: got 'often'"):
            lake.realized_volatility("NSE:INFY", "often", DAY)
        for price in ("bid", ["mid"], None):
            with pytest.raises(QueryError, match=r"price: got .*, expected mid or last"):
                lake.returns("NSE:INFY", "1m", DAY, price=price)  # type: ignore[arg-type]
        with pytest.raises(SymbolError, match="near it: NSE:INFY"):
            lake.spread("NSE:INFI", DAY)
        with pytest.raises(MomentError, match="start and stop"):
            lake.returns("NSE:INFY", "1m", NEXT_DAY, DAY)


class TestRealizedVolatility:
    def test_is_the_root_of_the_sum_of_squares_of_each_day(self, lake: Lake) -> None:
        found = lake.realized_volatility(["NSE:INFY", "NSE:TCS"], "1m").arrow().to_pylist()
        assert [
            (row["symbol"], row["date"].isoformat(), row["returns"], row["realized_volatility"]) for row in found
        ] == [
            ("NSE:INFY", DAY, 2, pytest.approx(math.hypot(math.log(108 / 104), math.log(111 / 110)))),
            ("NSE:INFY", NEXT_DAY, 1, pytest.approx(math.log(122 / 120))),
            ("NSE:TCS", DAY, 0, None),
        ]

    def test_an_empty_day_has_none(self, lake: Lake) -> None:
        for work in (lake.realized_volatility, lake.returns):
            with pytest.raises(SymbolError):
                work("NSE:INFY", "1m", "2026-11-20")
        assert lake.realized_volatility(INFY, "1m", "2026-11-25").count() == 0
