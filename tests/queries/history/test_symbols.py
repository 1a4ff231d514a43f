"""What is asked for, by each day's instrument list."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from queries.errors import SymbolError
from queries.history.naming import Near
from queries.history.symbols import Selection, chosen, lists_in_force, near_matches, resolve
from queries.lake.lake import SqlLake
from storage.layout import DataLayout
from storage.schema import INSTRUMENTS
from storage.tables.symbols import write_instruments
from tests.support.lake import ToyDecoder

D23, D24, D25, D26 = (dt.date(2026, 11, day) for day in (23, 24, 25, 26))
DAYS = [D23, D24, D25, D26]
NOVEMBER, DECEMBER = dt.date(2026, 11, 24), dt.date(2026, 12, 29)


def listed(token: int, symbol: str, kind: str = "EQ", name: str = "", expiry: dt.date | None = None) -> dict[str, Any]:
    exchange, _, tradingsymbol = symbol.partition(":")
    row: dict[str, Any] = dict.fromkeys(INSTRUMENTS.file_schema.names)
    row |= {"instrument_token": token, "tradingsymbol": tradingsymbol, "name": name or tradingsymbol, "expiry": expiry}
    return row | {"instrument_type": kind, "segment": exchange, "exchange": exchange, "symbol": symbol}


INFY = listed(408065, "NSE:INFY")
INFY_BE = listed(408321, "NSE:INFY-BE")
NEW = listed(408577, "NSE:NEW")
NOV_FUT = listed(12345602, "NFO:NIFTY26NOVFUT", "FUT", "NIFTY", NOVEMBER)
DEC_FUT = listed(12345858, "NFO:NIFTY26DECFUT", "FUT", "NIFTY", DECEMBER)
OF_OTHERS = [
    listed(100_000_004, "BFO:NIFTY26DECFUT", "FUT", "NIFTY", DECEMBER),
    listed(100_000_007, "MCX:GOLD26DECFUT", "FUT", "GOLD", DECEMBER),
    listed(100_000_008, "NCO:GOLD26DECFUT", "FUT", "GOLD", DECEMBER),
]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlLake]:
    """Lists of the 23rd and of the 25th: the 24th goes by the former. On the 25th INFY's token is given to another."""
    root = tmp_path_factory.mktemp("lists")
    write(root, D23, [INFY, INFY_BE, NOV_FUT, DEC_FUT])
    write(root, D25, [listed(408065, "NSE:OTHER"), listed(500225, "NSE:INFY"), NEW, DEC_FUT])
    with SqlLake(root, ToyDecoder()) as lake:
        yield lake


def write(root: Path, day: dt.date, rows: list[dict[str, Any]]) -> None:
    write_instruments(DataLayout(root), day, pa.Table.from_pylist(rows, schema=INSTRUMENTS.file_schema))


def tokens(selection: Selection) -> list[list[int]]:
    return [[token for token, _ in each.instruments] for each in selection.resolved]


def test_the_list_in_force_is_that_of_the_day_or_the_newest_before_it(lake: SqlLake) -> None:
    before = D23 - dt.timedelta(days=1)
    assert lists_in_force(lake.look(), [before, *DAYS]) == {D23: D23, D24: D23, D25: D25, D26: D25}


def test_a_name_is_what_each_day_says(lake: SqlLake) -> None:
    state = lake.look()
    assert tokens(resolve(state, "NSE:INFY", [D24])) == [[408065]]
    assert tokens(resolve(state, "NSE:INFY", DAYS)) == [[408065, 500225]]
    assert tokens(resolve(state, ["infy", "NSE:OTHER", "nse:new"], [D26])) == [[500225], [408065], [408577]]
    (found,) = resolve(state, "NSE:NEW", DAYS).resolved
    assert found.days == {D25, D26}
    assert resolve(state, "NSE:NEW", [D23, D24]).missing == ["NSE:NEW"]


def test_a_token_is_taken_as_it_is_and_a_name_only_for_rows_that_had_it(lake: SqlLake) -> None:
    where = resolve(lake.look(), ["NSE:INFY", 999_937], DAYS).where()
    assert where == (
        "exchange IN ('NSE') AND instrument_token IN (408065, 500225, 999937) "
        "AND (symbol IN ('NSE:INFY') OR instrument_token IN (999937))"
    )


def test_patterns_are_whole_names(lake: SqlLake) -> None:
    state = lake.look()
    assert tokens(resolve(state, "NSE:INFY*", [D23])) == [[408065, 408321]]
    assert tokens(resolve(state, "NFO:NIFTY26???FUT", [D23])) == [[12345858, 12345602]]
    assert tokens(resolve(state, "NSE:INF?", [D23])) == [[408065]]
    assert resolve(state, "NSE:[I]NFY*", [D23]).missing == ["NSE:[I]NFY*"]


def test_near_is_the_nearest_future_of_each_day(lake: SqlLake) -> None:
    state = lake.look()
    (found,) = resolve(state, Near("NIFTY"), DAYS).resolved
    november, december = (12345602, "NFO:NIFTY26NOVFUT"), (12345858, "NFO:NIFTY26DECFUT")
    assert found.of_day == {D23: november, D24: november, D25: december, D26: december}
    (second,) = resolve(state, Near("nifty", 2), DAYS).resolved
    assert second.of_day == {D23: december, D24: december}
    assert (
        "(date, symbol) IN (VALUES (DATE '2026-11-23', 'NFO:NIFTY26NOVFUT')"
        in resolve(state, Near("NIFTY"), DAYS).where()
    )
    with pytest.raises(SymbolError, match="got 0, expected 1 for the nearest"):
        resolve(state, Near("NIFTY", 0), DAYS)


def test_near_takes_the_names_that_chains_take(tmp_path: Path) -> None:
    write(tmp_path, D26, [DEC_FUT, *OF_OTHERS])
    with SqlLake(tmp_path, ToyDecoder()) as lake:
        state = lake.look()
        for name in ("NIFTY", "NSE:NIFTY 50", "nifty 50", "NFO:NIFTY"):
            assert tokens(resolve(state, Near(name), [D26])) == [[12345858]], name
        assert tokens(resolve(state, Near("BSE:NIFTY"), [D26])) == [[100_000_004]]
        assert tokens(resolve(state, Near("BFO:NIFTY"), [D26])) == [[100_000_004]]
        assert tokens(resolve(state, Near("MCX:GOLD"), [D26])) == [[100_000_007]]
        with pytest.raises(SymbolError, match=r"^GOLD: got a name of 2 exchanges, expected one of MCX:GOLD, NCO:GOLD"):
            resolve(state, Near("GOLD"), [D26])


def test_a_token_that_is_none_is_said(lake: SqlLake) -> None:
    state = lake.look()
    assert chosen(state, 408577, DAYS).tokens == [408577]
    with pytest.raises(SymbolError, match=r"^408577: the instrument list has no such token on 2026-11-23, nor was it"):
        chosen(state, ["NSE:INFY", 408577], [D23])
    assert chosen(state, 408577, [dt.date(2026, 11, 20)]).tokens == [408577]  # of a day without a list nothing is known


def test_what_resolves_to_nothing_is_said_with_what_is_near(lake: SqlLake) -> None:
    state = lake.look()
    with pytest.raises(
        SymbolError,
        match=r"^NSE:INFI: the instrument list has no such instrument on 2026-11-23; near it: NSE:INFY, NSE:INFY-BE$",
    ):
        chosen(state, "NSE:INFI", [D23])
    with pytest.raises(SymbolError, match=r"^near\(GOLD, 1\): the instrument list has no such future from 2026-"):
        chosen(state, ["NSE:INFY", Near("GOLD")], DAYS)
    with pytest.raises(SymbolError, match="there is no instrument list on 2026-11-20 or before"):
        chosen(state, "NSE:INFY", [dt.date(2026, 11, 20)])
    assert near_matches(state, "NSE:OTHE", D26) == ["NSE:OTHER"]


@pytest.mark.parametrize(
    ("name", "n"),
    [(None, 1), ("", 1), (5, 1), (b"NIFTY", 1), ("NIFTY", 0), ("NIFTY", True), ("NIFTY", 1.5), ("NIFTY", "1")],
)
def test_near_takes_a_name_and_a_whole_number(lake: SqlLake, name: Any, n: Any) -> None:
    with pytest.raises(SymbolError, match=r"^near\(.*\): .*expected (a name such as NIFTY|1 for the nearest)"):
        resolve(lake.look(), Near(name, n), DAYS)


@pytest.mark.parametrize("symbols", [[], "", [""], [True], [None], 1.5, b"NSE:INFY"])
def test_what_is_no_symbol_is_refused(lake: SqlLake, symbols: Any) -> None:
    with pytest.raises(SymbolError, match=r"^symbols: got .*expected names such as NSE:INFY"):
        resolve(lake.look(), symbols, DAYS)
