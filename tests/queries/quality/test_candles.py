"""The broker's candles in every form in which a person may have them, and what is none."""

import csv
import datetime as dt
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow as pa
import pytest

from queries.errors import CandlesError
from queries.quality.candles import CANDLES, read_candles, width_of_candles
from tests.support.reports import DAY, at

ROWS: list[list[Any]] = [
    ["2025-11-24T09:15:00+0530", 1500.0, 1510.5, 1499.0, 1505.0, 12000, 0],
    ["2025-11-24T09:16:00+0530", 1505.0, 1506.0, 1504.0, 1504.5, 800, 0],
]
NAMES = ["date", "open", "high", "low", "close", "volume", "oi"]
DICTS = [dict(zip(NAMES, [at(row[0][11:19]), *row[1:]], strict=True)) for row in ROWS]  # as the official client gives
ANSWER = {"status": "success", "data": {"candles": ROWS}}
EXPECTED = [[at("09:15:00"), *ROWS[0][1:]], [at("09:16:00"), *ROWS[1][1:]]]


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def as_csv(names: list[str], rows: list[list[Any]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([names, *rows])
    return out.getvalue()


def forms(folder: Path) -> dict[str, Any]:
    frame = pd.DataFrame(DICTS)
    return {
        "answer": ANSWER,
        "text": json.dumps(ANSWER),
        "bytes": json.dumps(ANSWER).encode(),
        "candles alone": {"candles": ROWS},
        "list": ROWS,
        "list as text": json.dumps(ROWS),
        "json file": written(folder / "candles.json", json.dumps(ANSWER)),
        "json file by text": str(folder / "candles.json"),
        "csv file": written(folder / "candles.csv", as_csv(NAMES, ROWS)),
        "csv file of naive times": written(
            folder / "naive.csv", as_csv(["Datetime", *map(str.upper, NAMES[1:])], [[r[0][:19], *r[1:]] for r in ROWS])
        ),
        "dicts": DICTS,
        "pandas": frame,
        "pandas by index": frame.set_index("date"),
        "pandas by a nameless index": frame.set_index("date").rename_axis(None),
        "naive pandas": frame.assign(date=frame["date"].dt.tz_localize(None)),
        "polars": pl.DataFrame(DICTS),
        "arrow": pa.Table.from_pylist(DICTS),
        "nanoseconds": pa.table(frame.astype({"date": "datetime64[ns, Asia/Kolkata]"})),
        "backwards": ROWS[::-1],
    }


def test_every_form_is_the_same_candles(tmp_path: Path) -> None:
    for form, candles in forms(tmp_path).items():
        found = read_candles(candles, DAY)
        assert found.schema == CANDLES, form
        assert [list(row.values()) for row in found.to_pylist()] == EXPECTED, form
        assert width_of_candles(found) == dt.timedelta(minutes=1), form


def test_open_interest_may_be_missing() -> None:
    found = read_candles([row[:6] for row in ROWS], DAY)
    assert found.column("oi").to_pylist() == [None, None]


def test_candles_of_other_days_are_left_out() -> None:
    other = [["2025-11-25T09:15:00+0530", 1.0, 1.0, 1.0, 1.0, 1, 0]]
    assert read_candles(ROWS + other, DAY).num_rows == 2
    with pytest.raises(CandlesError, match="got candles from 2025-11-25 to 2025-11-25, expected some of 2025-11-24"):
        read_candles(other, DAY)


def test_one_candle_at_midnight_is_a_day() -> None:
    assert width_of_candles(read_candles([["2025-11-24T00:00:00+0530", *ROWS[0][1:]]], DAY)) == dt.timedelta(days=1)
    with pytest.raises(CandlesError, match="got one candle, which does not say how long it is: expected `width`"):
        width_of_candles(read_candles(ROWS[:1], DAY))


@pytest.mark.parametrize(
    ("candles", "text"),
    [
        (7, "candles: got int, expected a frame, a list of dicts, the path of a CSV file, or the broker's JSON"),
        ([], "candles: got none, expected a frame"),
        ("{]", "got text that is no JSON"),
        ({"data": {"rows": []}}, "candles: got JSON with data, expected a frame"),
        ({"data": []}, "candles: got JSON with data, expected a frame"),
        ('{"data": {"candles": "many"}}', "got JSON with data, expected"),
        (
            {"status": "error", "message": "Incorrect `api_key` or `access_token`."},
            "candles: got an error of the broker: Incorrect `api_key` or `access_token`.",
        ),
        ([ROWS[0][:4]], "candles, candle 1: got 4 values, expected time, open, high, low, close, volume, oi"),
        ([ROWS[0], 7], "candles, candle 2: got 7, expected time"),
        ([["noon", *ROWS[0][1:]]], "candle 1: got 'noon', expected a date"),
        ([[1763956800, *ROWS[0][1:]]], "candle 1: got int, expected a date"),
        ([[ROWS[0][0], None, *ROWS[0][2:]]], "candle 1, open: got None, expected a price in rupees"),
        ([[*ROWS[0][:4], float("nan"), 5, 0]], "candle 1, close: got nan, expected a price in rupees"),
        ([[*ROWS[0][:5], 1.5, 0]], "candle 1, volume: got 1.5, expected a whole number"),
        ([ROWS[0], ROWS[0]], "got 2025-11-24 09:15:00+05:30 several times, expected each time once, of one instrument"),
        (pa.table({"date": [1], "open": [1.0]}), "got the columns date, open, expected also high, low, close, volume"),
        (
            pa.table({"date": pa.array([1], pa.timestamp("ns"))}),
            "candles, date: Casting from timestamp[ns] to timestamp[us] would lose data: 1; expected times of whole",
        ),
        (pl.DataFrame({"open": [1.0]}), "got the columns open, expected also high, low, close, volume, time"),
    ],
)
def test_what_is_no_candle_is_said(candles: Any, text: str) -> None:
    with pytest.raises(CandlesError) as caught:
        read_candles(candles, DAY)
    assert text in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(CandlesError, match=r"none\.csv: cannot be read: No such file or directory; expected a frame"):
        read_candles(tmp_path / "none.csv", DAY)
    with pytest.raises(CandlesError, match=r"short\.csv, candle 1: got 2 values, expected 7"):
        read_candles(written(tmp_path / "short.csv", as_csv(NAMES, [ROWS[0][:2]])), DAY)
    with pytest.raises(CandlesError, match=r"empty\.csv: got the columns none, expected also open"):
        read_candles(written(tmp_path / "empty.csv", ""), DAY)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CandlesError, match=r"binary\.csv: cannot be read: not UTF-8"):
        read_candles(tmp_path / "binary.csv", DAY)
