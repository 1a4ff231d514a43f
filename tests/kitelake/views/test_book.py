"""Books to read, where levels, a side or a name are missing."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

import kitelake
from kitelake.lake import Lake
from kitelake.views.book import write_book

LEVELS = """
select timestamptz '2026-11-24 10:15:00+05:30' as moment, timestamptz '2026-11-24 10:14:59.5+05:30' as received_at,
    408065 as instrument_token, {symbol} as symbol, * from (values {levels})
    as book(level, bid_orders, bid_quantity, bid_price, ask_price, ask_quantity, ask_orders)
"""


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    (tmp_path / "journal").mkdir()
    with kitelake.open(tmp_path) as opened:
        yield opened


def shown(lake: Lake, symbol: str, *levels: str) -> str:
    sink = io.BytesIO()
    write_book(lake.sql(LEVELS.format(symbol=symbol, levels=", ".join(levels))), sink)
    return sink.getvalue().decode()


def test_a_book_with_all_there_is(lake: Lake) -> None:
    text = shown(
        lake, "'NSE:INFY'", "(1, 2, 1500, 99.95::double, 100.1::double, 20, 1)", "(2, 1, 5, 99.9, 100.15, 7, 3)"
    )
    assert text == (
        "NSE:INFY   2026-11-24 10:14:59.500   spread 0.15\n"
        "orders  quantity    bid │    ask  quantity  orders\n"
        "     2     1,500  99.95 │ 100.10        20       1\n"
        "     1         5  99.90 │ 100.15         7       3\n"
        "           1,505        │               27\n"
    )


def test_a_side_that_is_empty_and_an_instrument_without_a_name(lake: Lake) -> None:
    text = shown(lake, "null::varchar", "(1, 2, 10, 99.5::double, null::double, null, null)")
    assert text == (
        "token 408065   2026-11-24 10:14:59.500\n"
        "orders  quantity   bid │ ask  quantity  orders\n"
        "     2        10  99.5 │   –         –       –\n"
        "             10        │\n"
    ).replace("             10        │", "              10       │")
