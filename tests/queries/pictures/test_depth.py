"""Books as ladders, chains as smiles."""

import pyarrow as pa
import pytest

from queries.pictures import Picture, levels_of, spread_of, subject_of
from tests.support.pictured import book, chain, labelled, marks, texts

BOOK = book([(100.5, 10), (100.25, 30), (None, None)], [(100.75, 20), (None, 0), (101.0, None)])
CHAIN = chain((24_400, 0.13, 50, None, 60), (24_500, None, None, 0.12, 70), (24_600, 0.14, 80, 0.15, 0))


def test_levels_come_from_the_highest_price_down_without_the_empty_ones() -> None:
    assert levels_of(BOOK) == [("ask", 100.75, 20, 3), ("bid", 100.5, 10, 3), ("bid", 100.25, 30, 3)]


def test_the_spread_needs_both_sides() -> None:
    assert spread_of(levels_of(BOOK)) == 0.25
    assert spread_of(levels_of(book([(100.5, 10)], [(None, None)]))) is None


@pytest.mark.slow
class TestPicture:
    @pytest.fixture(autouse=True)
    def _altair(self) -> None:
        pytest.importorskip("altair", reason="the extra `plot` is not installed")

    def test_a_book_has_a_bar_a_level(self) -> None:
        rows = pa.concat_tables([BOOK, book([(5.0, 1)], [(None, None)], symbol="NSE:TCS")])
        svg = Picture(subject_of(rows)).svg()
        assert labelled(svg, "level") == 4
        said = set(texts(svg))
        assert {"100.75", "100.50", "100.25", "20  in 3"} <= said
        assert "NSE:INFY, received 2026-11-13 10:14:59, spread 0.25" in said
        assert "NSE:TCS, received 2026-11-13 10:14:59" in said

    def test_a_chain_has_a_point_a_volatility_and_a_bar_an_open_interest(self) -> None:
        svg = Picture(subject_of(CHAIN), dark=True).svg()
        assert marks(svg, "point") == 4
        assert labelled(svg, "open interest") == 5
        assert {"24,400", "24,500", "24,600", "call", "put", "forward 24,450.50"} <= set(texts(svg))

    @pytest.mark.parametrize("rows", [book([], []), book([(None, None)], [(None, None)]), chain()])
    def test_nothing_is_said_to_be_nothing(self, rows: pa.Table) -> None:
        assert "nothing to draw" in texts(Picture(subject_of(rows)).svg())

    def test_one_strike_without_values_is_drawn(self) -> None:
        svg = Picture(subject_of(chain((24_400, None, None, None, None)))).svg()
        assert marks(svg, "point") == labelled(svg, "open interest") == 0
        assert "24,400" in texts(svg)
