"""The book as of moments, level by level and in one row."""

from pathlib import Path
from typing import Any

import pytest

import kitelake
from kitelake.lake import Lake
from queries.errors import MomentError, SymbolError
from queries.history import Near
from tests.support.asof_days import DEC, INFY, MONDAY, REUSED, SUNDAY, TUESDAY, WEDNESDAY
from tests.support.by_hand import Journal, book, ist, list_instruments, quote

INFY_LINE = "408065,1594,INFY,INFOSYS,0,,0,0.05,1,EQ,NSE,NSE"


def best(lake: Lake, symbols: Any, moment: Any) -> list[tuple[str, float | None, float | None]]:
    rows = lake.books(symbols, moment).arrow().to_pylist()
    return [(row["symbol"], row["bid_price_1"], row["ask_price_1"]) for row in rows]


class TestBook:
    def test_has_five_levels_of_both_sides_and_nulls_where_they_are_empty(self, lake: Lake) -> None:
        found = lake.book("NSE:INFY", f"{MONDAY} 09:15:01.5").arrow()
        assert found.column_names == [
            "moment", "received_at", "exchange_timestamp", "instrument_token", "symbol", "level",
            "bid_orders", "bid_quantity", "bid_price", "ask_price", "ask_quantity", "ask_orders",
        ]  # fmt: skip
        rows = [tuple(row.values()) for row in found.to_pylist()]
        origin = (ist(f"{MONDAY} 09:15:01.5"), ist(f"{MONDAY} 09:15:01"), ist(f"{MONDAY} 09:15"), INFY, "NSE:INFY")
        assert rows == [
            (*origin, 1, 2, 10, 1500.0, 1500.5, 5, 1),
            (*origin, 2, 3, 20, 1499.5, None, 40, 4),  # orders at the market have no price
            (*origin, 3, None, None, None, None, None, None),
            (*origin, 4, None, None, None, None, None, None),
            (*origin, 5, None, None, None, None, None, None),
        ]

    def test_of_packets_at_one_instant_the_later_counts(self, lake: Lake) -> None:
        assert best(lake, INFY, f"{MONDAY} 09:15:02") == [("NSE:INFY", 1503, 1504)]

    def test_the_last_packet_that_carries_one_counts(self, lake: Lake) -> None:
        """At 09:15 came one in quote mode, at 10:00 one in ltp mode."""
        assert best(lake, "INFY", f"{MONDAY} 09:15:00.5") == [("NSE:INFY", 1489.5, 1490.5)]
        (row,) = lake.books("INFY", f"{MONDAY} 12:00").arrow().to_pylist()
        assert (row["received_at"], row["bid_price_1"]) == (ist(f"{MONDAY} 09:15:02"), 1503)

    def test_an_empty_book_is_one(self, lake: Lake) -> None:
        (row,) = lake.books("NSE:INFY", TUESDAY).arrow().to_pylist()
        assert row["received_at"] == ist(f"{TUESDAY} 09:16")
        assert {row[name] for name in row if name.startswith(("bid", "ask"))} == {None}
        rows = lake.book("NSE:INFY", TUESDAY).arrow().to_pylist()
        assert [(row["level"], row["bid_quantity"], row["ask_price"]) for row in rows] == [
            (level, None, None) for level in range(1, 6)
        ]

    @pytest.mark.parametrize("symbol", ["NSE:NIFTY 50", "NSE:TCS"])
    def test_an_index_and_what_was_captured_without_one_have_none(self, lake: Lake, symbol: str) -> None:
        assert lake.latest(symbol, MONDAY).count() == 1
        assert lake.book(symbol, MONDAY).count() == lake.books(symbol, MONDAY).count() == 0
        assert lake.sql(f"from book('{symbol}', moment := '{MONDAY}')").count() == 0

    def test_without_a_packet_by_then_on_that_day_there_is_none(self, lake: Lake) -> None:
        for moment in (f"{MONDAY} 09:14", f"{TUESDAY} 09:15:59", WEDNESDAY, "2100-01-01"):
            assert lake.book("NSE:INFY", moment).count() == 0

    def test_of_several_moments_by_symbol_then_moment_then_level(self, lake: Lake) -> None:
        moments = [f"{TUESDAY} 09:16", f"{MONDAY} 09:15:01", f"{MONDAY} 09:15:02"]
        rows = lake.book(["NSE:INFY", "NFO:NIFTY26DECFUT"], moments).arrow().to_pylist()
        assert [(row["symbol"], row["moment"], row["level"]) for row in rows] == [
            (symbol, ist(moment), level)
            for symbol, moment in [
                ("NFO:NIFTY26DECFUT", f"{TUESDAY} 09:16"),
                ("NSE:INFY", f"{MONDAY} 09:15:01"),
                ("NSE:INFY", f"{MONDAY} 09:15:02"),
                ("NSE:INFY", f"{TUESDAY} 09:16"),
            ]
            for level in range(1, 6)
        ]

    def test_by_token_pattern_and_near(self, lake: Lake) -> None:
        days = [TUESDAY, MONDAY]
        assert best(lake, REUSED, days) == [("NFO:NIFTY26D0124500CE", 19, 21), ("NFO:NIFTY26N2324000CE", 49, 51)]
        assert best(lake, "NFO:NIFTY26N*", days) == [
            ("NFO:NIFTY26N2324000CE", 49, 51),
            ("NFO:NIFTY26NOVFUT", 26009, 26011),
        ]
        assert best(lake, Near("NIFTY"), days) == [
            ("NFO:NIFTY26DECFUT", 26199, 26201),
            ("NFO:NIFTY26NOVFUT", 26009, 26011),
        ]
        assert best(lake, [DEC, "NSE:INFY"], f"{MONDAY} 09:20") == [
            ("NFO:NIFTY26DECFUT", 26099, 26101),
            ("NSE:INFY", 1503, 1504),
        ]

    def test_errors_are_those_of_symbols_and_moments(self, lake: Lake) -> None:
        with pytest.raises(SymbolError, match="near it: NSE:INFY"):
            lake.book("NSE:INFO", MONDAY)
        with pytest.raises(SymbolError, match="there is no instrument list"):
            lake.books("NSE:INFY", SUNDAY)
        with pytest.raises(MomentError, match="moment: got int"):
            lake.book("NSE:INFY", 20261123)  # type: ignore[arg-type]


class TestMacros:
    @pytest.mark.slow
    @pytest.mark.parametrize("which", ["book", "books"])
    def test_give_the_rows_of_the_methods(self, lake: Lake, which: str) -> None:
        """Rows are chosen by symbols, then by the moment, each by an expression of its own."""
        several = ["NSE:INFY", "NFO:NIFTY26DECFUT", "NSE:TCS"]
        moments = (MONDAY, f"{MONDAY} 09:15:01", f"{TUESDAY}T03:46:00Z", WEDNESDAY)
        for symbols, moment in (
            ("NSE:INFY", MONDAY), ("NSE:NIFTY 50", f"{MONDAY} 09:15:01"), *((several, moment) for moment in moments),
        ):  # fmt: skip
            params = {"moment": moment}
            method = getattr(lake, which)(symbols, moment).arrow()
            assert lake.sql(f"from {which}({symbols!r}, moment := $moment)", params).arrow().equals(method)

    def test_are_as_of_now_without_a_moment(self, tmp_path: Path) -> None:
        with kitelake.open(_empty(tmp_path)) as lake:
            assert lake.sql("from book('NSE:INFY')").count() == lake.book("NSE:INFY").count() == 0


def _empty(root: Path) -> Path:
    list_instruments(root, MONDAY, INFY_LINE)
    return root


def test_without_any_rows_of_ticks_there_is_none(tmp_path: Path) -> None:
    with kitelake.open(_empty(tmp_path)) as lake:
        assert lake.book("NSE:INFY", MONDAY).count() == lake.books("NSE:INFY", [MONDAY, TUESDAY]).count() == 0


def test_a_packet_in_the_journal_is_seen_beside_committed_ones(tmp_path: Path) -> None:
    list_instruments(tmp_path, MONDAY, INFY_LINE)
    with Journal(tmp_path, "20261123T034500-aaaaaa") as journal, kitelake.open(tmp_path) as lake:
        for second, price in ((1, 100.0), (2, 101.0)):
            journal.tick(f"{MONDAY} 09:15:0{second}", INFY, **quote(price, price + 1))
            journal.flush()
            assert best(lake, "INFY", MONDAY) == [("NSE:INFY", price, price + 1)]
        journal.tick(f"{MONDAY} 09:15:03", INFY, **book(asks=((103, 1, 1),)))
        journal.flush()
        assert best(lake, "INFY", MONDAY) == [("NSE:INFY", None, 103)]
