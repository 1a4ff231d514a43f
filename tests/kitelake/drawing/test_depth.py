"""Books and chains in characters."""

import pyarrow as pa

from kitelake.drawing.depth import chain_lines, ladder_lines
from queries.pictures import subject_of
from tests.support.pictured import book, chain


def test_a_book_is_a_ladder() -> None:
    rows = pa.concat_tables(
        [
            book([(100.5, 10), (100.25, 20), (None, None)], [(100.75, 5), (None, 0), (None, None)]),
            book([(0.0025, 1)], [(None, None)], symbol="CDS:X"),
        ]
    )
    assert [line.plain for line in ladder_lines(subject_of(rows), 32, 20)] == [
        "NSE:INFY   received 2026-11-13 10:14:59   spread 0.25",
        "100.75  5 ▒▒▒▒▒",
        "100.50 10 ██████████",
        "100.25 20 ████████████████████",
        "",
        "CDS:X   received 2026-11-13 10:14:59",
        "0.0025 1 █████████████████████",
    ]
    assert list(ladder_lines(subject_of(book([(None, None)], [(None, None)])), 32, 20)) == []


def test_a_chain_has_its_smile_and_its_open_interest() -> None:
    rows = chain((24_400, 0.13, 50, None, 100), (24_500, None, None, 0.12, 70), (24_600, 0.14, 80, 0.15, 0))
    lines = [line.plain for line in chain_lines(subject_of(rows), 48, 16)]
    smile, interest = lines[1:-4], lines[-4:]
    assert lines[0] == "implied volatility, %: c of the call, p of the put"
    inside = "".join(line.partition("│")[2] or line.partition("┤")[2] for line in smile)
    assert (inside.count("c"), inside.count("p")) == (2, 2)
    assert interest == [
        "              calls  strike  puts   open interest, most 100",
        "          ██████████ 24400  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒",
        "                     24500  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒",
        "    ████████████████ 24600  ",
    ]
    without = chain_lines(subject_of(chain((1, None, None, None, None))), 40, 16)
    assert next(without).plain == "no implied volatility to draw"
