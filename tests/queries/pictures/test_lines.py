"""Numbers over time: what is a line, which points of it are left, and what is drawn."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from queries.pictures import Picture, subject_of
from queries.pictures.lines import series_of
from tests.support.pictured import TIME, at, latency, marks, texts

TIMES = pa.array([at("09:16"), at("09:15"), at("09:15"), at("09:17")], TIME)
ROWS = pa.table(
    {
        "symbol": ["NSE:A", "NSE:A", "NSE:B", "NSE:A"],
        "received_at": TIMES,
        "last_price": [2.0, 1.0, None, float("nan")],
        "oi": [5, None, 7, 6],
    }
)


def test_a_line_is_a_column_of_an_instrument_in_the_order_of_time() -> None:
    found = [(each.panel, each.name, each.values.tolist()) for each in series_of(subject_of(ROWS), 100)]
    assert found == [("last_price", "NSE:A", [1, 2]), ("oi", "NSE:A", [5, 6]), ("oi", "NSE:B", [7])]


def test_without_names_a_column_is_a_line() -> None:
    (one,) = series_of(subject_of(ROWS.select(["received_at", "oi"])), 100)
    assert (one.name, one.values.tolist()) == ("oi", [7, 5, 6])


def test_of_many_points_the_extremes_are_left() -> None:
    count, stretches = 10_000, 50
    values = np.sin(np.arange(count) / 700)
    values[4_321], values[7_654] = 9.0, -9.0
    times = [at("09:15") + dt.timedelta(seconds=second) for second in range(count)]
    (line,) = series_of(subject_of(pa.table({"at": pa.array(times, TIME), "n": values})), stretches)
    assert len(line.times) <= 2 * stretches
    assert (line.values.max(), line.values.min()) == (9.0, -9.0)
    assert (np.diff(line.times) > 0).all()


@pytest.mark.slow
class TestPicture:
    @pytest.fixture(autouse=True)
    def _altair(self) -> None:
        pytest.importorskip("altair", reason="the extra `plot` is not installed")

    def test_latency_has_a_panel_a_percentile_and_a_line_a_connection(self) -> None:
        rows = latency((1, "09:15", 0.2), (1, "09:30", 0.3), (2, "09:15", 0.1), (2, "09:30", 0.4))
        svg = Picture(subject_of(rows)).svg()
        assert marks(svg, "line mark") == 3 * 2
        assert marks(svg, "point") == 3 * 4
        said = texts(svg)
        assert [said.count(each) for each in ("median, s", "90 %, s", "99 %, s", "mine 1", "mine 2")] == [1] * 5
        assert {"09:15", "09:30", "time, IST"} <= set(said)

    def test_any_times_and_numbers_are_drawn(self) -> None:
        svg = Picture(subject_of(ROWS.rename_columns(["symbol", "t.t", "a[0].b", "c'd\\e"]))).svg()
        assert marks(svg, "point") == 5
        assert {"a[0].b", "c'd\\e"} <= {text.replace("&#39;", "'") for text in texts(svg)}

    def test_no_line_goes_over_a_night(self) -> None:
        days = [dt.date(2026, 11, 12), dt.date(2026, 11, 13)]
        times = [at(time, day) for day in days for time in ("09:15", "12:00", "15:30")]
        svg = Picture(subject_of(pa.table({"at": pa.array(times, TIME), "n": [1.0] * 6}))).svg()
        assert marks(svg, "line mark") == 2
        assert {"12 Nov", "13 Nov"} <= set(texts(svg))

    def test_nothing_is_said_to_be_nothing(self) -> None:
        assert "nothing to draw" in texts(Picture(subject_of(ROWS.slice(2, 1).drop_columns("oi"))).svg())
