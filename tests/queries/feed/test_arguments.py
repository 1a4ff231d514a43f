"""What a feed is asked for: columns, ranges and instruments in every form, and what it refuses."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest

import kitelake
from queries.errors import FeedError, MomentError, SymbolError
from queries.feed.arguments import DEFAULT
from queries.feed.tick import ALL
from tests.support.captured import CRUDE, INFY, NIFTY_FUT
from tests.support.feeding import DAYS, NOON, Fed, expected, given

pytestmark = pytest.mark.slow  # tables are made for each test


def test_the_columns(fed: Fed) -> None:
    _, lake = fed
    default = lake.feed()
    assert default.columns == DEFAULT
    batch = next(default.batches())
    assert tuple(batch.schema.names) == DEFAULT
    assert batch.schema == default.schema
    assert [str(batch.schema.field(name).type) for name in ("received_at", "symbol", "cached")] == [
        "timestamp[us, tz=Asia/Kolkata]",
        "dictionary<values=string, indices=int32, ordered=0>",
        "bool",
    ]
    assert lake.feed(columns="all").columns == ALL
    assert lake.feed(columns=["oi", "last_price", "oi"]).columns == ("oi", "last_price")
    whole = list(ALL[:-1])
    assert [{name: row[name] for name in whole} for row in given(lake.feed(columns="all").batches())] == expected(
        lake, whole
    )


def test_a_range_and_instruments(fed: Fed) -> None:
    _, lake = fed
    names = ["received_at", "symbol", "seq"]
    start, stop = "2026-11-19 09:27", "2026-11-23 09:15:20"
    rows = given(lake.feed(["NSE:INFY", "NFO:NIFTY26NOVFUT"], start, stop, columns=names).batches())
    where = f"instrument_token in ({INFY}, {NIFTY_FUT}) and received_at >= '{start}' and received_at < '{stop}'"
    assert rows == expected(lake, names, where)
    assert {row["received_at"].date() for row in rows} == set(DAYS[:2])
    assert given(lake.feed("MCX:CRUDEOIL26DECFUT", DAYS[1], columns=names).batches()) == expected(
        lake, names, f"instrument_token = {CRUDE}"
    )
    assert given(lake.feed("NSE:INFY", "2026-11-20", columns=names).batches()) == []
    assert list(lake.feed(None, "2027-01-01")) == []


@pytest.mark.parametrize("few", [0, 20])
def test_few_instruments_are_read_as_many_are(fed: Fed, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """By the database, or by the files."""
    _, lake = fed
    monkeypatch.setattr("queries.feed.days.FEW", few)
    names = ["seq", "stream", "symbol", "mode", "oi", "exchange", "date"]
    rows = given(lake.feed(["NSE:INFY", "NSE:TINY"], columns=names).batches())
    assert rows == [row for row in expected(lake, names) if row["symbol"] in ("NSE:INFY", "NSE:TINY")]


@pytest.mark.parametrize("few", [0, 20])
def test_symbols_come_in_any_form(fed: Fed, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """An iterator gives them once, and has to do for every day; an array is neither true nor false."""
    _, lake = fed
    monkeypatch.setattr("queries.feed.days.FEW", few)
    names = ["NSE:INFY", "NFO:NIFTY26NOVFUT"]
    asked: dict[str, Any] = {"start": DAYS[1], "stop": "2026-11-25", "bars": "1m", "on_gap": "mark"}
    expected = list(map(repr, lake.feed(names, **asked)))
    forms: tuple[Callable[[list[str]], Any], ...] = (iter, np.array, pd.Series, pd.Index)
    for form in forms:
        assert list(map(repr, lake.feed(form(names), **asked))) == expected, form


def test_numbers_of_numpy_are_numbers(fed: Fed) -> None:
    _, lake = fed
    expected = list(lake.feed(start=DAYS[2]).batches(200))
    for rows in (np.int64(200), np.uint8(200)):
        assert list(lake.feed(start=DAYS[2]).batches(rows)) == expected  # type: ignore[arg-type]
    assert len(list(lake.feed(start=DAYS[2]).batches(np.int64(2**63 - 1)))) == 1  # type: ignore[arg-type]
    slices = list(lake.feed(start=DAYS[2]).slices(2))
    for width in (np.int64(2), np.float32(2)):
        assert list(lake.feed(start=DAYS[2]).slices(width)) == slices  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"columns": ["last_price", "prize"]}, FeedError, "columns: got 'prize', expected some of date, exchange, "),
        ({"columns": []}, FeedError, "columns: got none, expected some of"),
        ({"columns": 5}, FeedError, "columns: got '5', expected some of"),
        ({"columns": [["oi"]]}, FeedError, "columns: got "),
        (
            {"position": 5},
            FeedError,
            "position: got 5, expected .received_at, stream, seq, settled, given, streams., the",
        ),
        ({"position": ("2026-11-24", None, 0)}, FeedError, "position: got "),
        ({"position": ("2026-11-24", "", 0, None, "x")}, FeedError, "position: got "),
        ({"position": ("2026-11-24", "", 0, None, 0, [["a", "b"]])}, FeedError, "position: got "),
        ({"position": ("2026-11-24", "", 0, None, 0, ["abc"])}, FeedError, "position: got "),
        ({"position": ("soon", "", 0)}, MomentError, "position: got 'soon'"),
        ({"on_gap": "stop"}, FeedError, "on_gap: got 'stop', expected one of skip, mark, raise"),
        ({"ticks": False}, FeedError, "ticks: got False without bars, expected bars='1m'"),
        ({"follow": True, "stop": NOON}, FeedError, "stop: got '2026-11-23 12:00' with follow=True, expected none"),
        ({"bars": "100 ticks"}, kitelake.QueryError, "bars: got '100 ticks', expected a width of time, such as 1m"),
        ({"bars": "1x"}, kitelake.QueryError, "1x"),
        ({"symbols": "NSE:INFI"}, SymbolError, "NSE:INFY"),
        ({"start": "yesterday"}, MomentError, "start: got 'yesterday'"),
        ({"warmup": [{"x": 1}], "symbols": "NSE:INFY"}, kitelake.QueryError, "candles"),
        ({"progress": 5}, FeedError, "progress: got 5, expected a function"),
        ({"warmup": []}, FeedError, "warmup: got candles for None, expected {symbol: candles}, or a feed of one"),
    ],
)
def test_what_it_refuses(fed: Fed, wrong: dict[str, Any], error: type[Exception], text: str) -> None:
    _, lake = fed
    with pytest.raises(error, match=text.replace("{", r"\{").replace("}", r"\}")):
        lake.feed(**wrong)


def test_what_its_forms_refuse(fed: Fed) -> None:
    _, lake = fed
    for rows in (0, -1, 2.5):
        with pytest.raises(FeedError, match=f"rows: got {rows}, expected a whole number of at least 1"):
            next(lake.feed().batches(rows))  # type: ignore[arg-type]
    for width in (0, -1, "1s", float("nan"), 86_401, dt.timedelta(days=2)):
        with pytest.raises(FeedError, match=r"slices: got .*, expected seconds up to a day"):
            next(lake.feed().slices(width))  # type: ignore[arg-type]
    begun = lake.feed()
    next(iter(begun))
    with pytest.raises(FeedError, match="dicts: got a feed of some columns that has begun, expected one with columns="):
        next(begun.dicts())
