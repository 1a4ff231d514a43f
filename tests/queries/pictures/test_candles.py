"""Candles: one a bar, over its volume, with what was not received behind them."""

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from queries.pictures import Candles, Picture, Shades, subject_of
from tests.support.pictured import bars, intervals, labelled, texts

ROWS = bars(
    ("09:15", 100, 103, 99, 102, 50),
    ("09:20", 102, 102, 98, 99, None),
    ("09:25", None, None, None, None, None),
    ("09:30", 99, 99, 99, 99, 10),
)
GAPS = intervals(
    ("NSE:INFY", "09:00", "09:16", "not subscribed"),
    ("NSE:INFY", "09:21", "09:24", "disconnected"),
    ("NSE:INFY", "09:24", "09:29", "silent"),
    ("NSE:INFY", "09:29", "09:30", "served"),
    ("NSE:INFY", "09:40", "09:45", "disconnected"),
    ("NSE:TCS", "09:21", "09:24", "disconnected"),
)


def test_bars_without_prices_are_none() -> None:
    candles = Candles(ROWS, 100)
    assert len(candles) == 3
    assert candles.open.tolist() == [100, 102, 99]
    assert np.isnan(candles.volume).tolist() == [False, True, False]
    assert candles.step == 5 * 60 * 10**6
    assert len(Candles(ROWS.slice(0, 0), 100)) == 0


def test_several_bars_are_one_where_there_are_too_many() -> None:
    candles = Candles(
        bars(*((f"09:{minute}", minute, minute + 5, minute - 5, minute + 1, 1) for minute in range(10, 17))), 3
    )
    assert candles.each == 3
    assert candles.open.tolist() == [10, 13, 16]
    assert candles.close.tolist() == [13, 16, 17]
    assert candles.high.tolist() == [17, 20, 21]
    assert candles.low.tolist() == [5, 8, 11]
    assert candles.volume.tolist() == [3, 3, 1]


def test_shades_are_the_gaps_of_the_instrument_within_its_bars() -> None:
    candles = Candles(ROWS, 100)
    shades = Shades(GAPS, "NSE:INFY", int(candles.times[0]), int(candles.last[-1] + candles.step))
    minutes = [(times - candles.times[0]) // 60_000_000 for times in (shades.start, shades.stop)]
    assert list(zip(*(each.tolist() for each in minutes), shades.states, strict=True)) == [
        (0, 1, "not subscribed"),
        (6, 9, "disconnected"),
        (9, 14, "silent"),
    ]


@pytest.mark.slow
class TestPicture:
    @pytest.fixture(autouse=True)
    def _altair(self) -> None:
        pytest.importorskip("altair", reason="the extra `plot` is not installed")

    def test_has_a_candle_a_bar_and_a_shade_a_gap(self) -> None:
        svg = Picture(subject_of(ROWS, gaps=GAPS)).svg()
        assert labelled(svg, "candle") == labelled(svg, "wick") == 3
        assert labelled(svg, "volume") == 2
        assert labelled(svg, "gap") == 2 * 3  # behind prices and volume
        said = texts(svg)
        assert {"not received", "silent", "time, IST", "NSE:INFY · Fri 13 Nov 2026"} <= set(said)
        assert {"09:15", "09:20", "09:25", "09:30"} <= set(said)
        assert not {text for text in said if text.startswith("03:")}

    def test_shades_lie_where_the_gaps_are(self) -> None:
        (prices, _) = panels(Picture(subject_of(ROWS, gaps=GAPS)))[0]
        shade = prices["layer"][0]["data"]["values"][1]
        first = dt.datetime(2026, 11, 13, 9, 21, tzinfo=dt.UTC).timestamp() * 1000
        assert (shade["x"], shade["x2"], shade["state"]) == (first, first + 180_000, "disconnected")

    def test_days_abut(self) -> None:
        days = [dt.date(2026, 11, 12), dt.date(2026, 11, 13)]
        rows = pa.concat_tables(
            [bars(*((time, 1, 2, 1, 2, 1) for time in ("09:15", "09:20", "15:25")), day=day) for day in days]
        )
        picture = Picture(subject_of(rows))
        ((prices, _),) = panels(picture)
        places = [row["x"] for row in prices["layer"][1]["data"]["values"]]
        assert places == sorted(places)
        assert places[3] - places[2] < (places[2] - places[0]) / 10
        assert {"12 Nov", "13 Nov"} <= set(texts(picture.svg()))

    def test_days_are_told_once_each(self) -> None:
        days = [dt.date(2026, 11, number) for number in (12, 13, 16)]
        rows = pa.concat_tables([bars(("09:15", 1, 2, 1, 2, 1), day=day) for day in days])
        said = texts(Picture(subject_of(rows)).svg())
        assert [text for text in said if text.endswith(" Nov")] == ["12 Nov", "13 Nov", "16 Nov"]

    def test_each_instrument_has_a_panel_up_to_some(self) -> None:
        rows = pa.concat_tables([bars(("09:15", 1, 1, 1, 1, 1), symbol=f"NSE:{name}") for name in "ABCDEFGH"])
        chart = Picture(subject_of(rows)).chart.to_dict()
        assert [panel["vconcat"][0]["title"]["text"] for panel in chart["vconcat"]] == [
            f"NSE:{name}" for name in "ABCDEF"
        ]

    def test_nothing_is_said_to_be_nothing(self) -> None:
        for rows in (bars(), bars(("09:15", None, None, None, None, None))):
            assert "nothing to draw" in texts(Picture(subject_of(rows)).svg())


def panels(picture: Picture) -> list[list[dict[str, Any]]]:
    """Prices and volume of each instrument, with their data."""
    chart = picture.chart.to_dict()
    named = chart.get("datasets", {})

    def filled(part: Any) -> Any:
        if isinstance(part, list):
            return [filled(each) for each in part]
        if not isinstance(part, dict):
            return part
        if "name" in part.get("data", {}):
            part = {**part, "data": {"values": named[part["data"]["name"]]}}
        return {key: filled(value) for key, value in part.items()}

    return [filled(panel["vconcat"]) for panel in chart["vconcat"]]
