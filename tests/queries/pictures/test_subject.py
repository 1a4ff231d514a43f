"""What rows are, and what is said of them."""

import datetime as dt

import pyarrow as pa
import pytest

from queries.errors import PictureError
from queries.pictures import Kind, subject_of
from tests.support.pictured import TIME, at, bars, book, chain, intervals, latency

SPREAD = pa.table(
    {
        "symbol": ["NSE:INFY"],
        "received_at": pa.array([at("09:15")], TIME),
        "bid": [1.0],
        "ask": [1.5],
        "mid": [1.25],
        "spread": [0.5],
    }
)


@pytest.mark.parametrize(
    ("rows", "kind", "title", "definition"),
    [
        (
            bars(("09:15", 1, 2, 1, 2, 5), ("09:20", 1, 2, 1, 2, 5)),
            Kind.CANDLES,
            "NSE:INFY · Fri 13 Nov 2026",
            "bars 5m apart at least by last_trade_time, volume below",
        ),
        (
            book([(1.0, 5)], [(1.5, 5)]),
            Kind.BOOK,
            "NSE:INFY · Fri 13 Nov 2026",
            "quantity at the five best prices of each side",
        ),
        (
            chain((24_400, 0.13, 5, 0.14, 6)),
            Kind.CHAIN,
            "NFO:NIFTY · Fri 13 Nov 2026",
            "implied volatility by Black-76, open interest below, expiry 17 Nov 2026, forward 24,450.50 by future, "
            "as of 10:15:00",
        ),
        (
            intervals(("NSE:A", "09:15", "09:16", "served")),
            Kind.COVERAGE,
            "NSE:A · Fri 13 Nov 2026",
            "each minute by the worst state that it holds for a second or more",
        ),
        (
            latency((1, "09:15", 0.2)),
            Kind.LATENCY,
            "latency · Fri 13 Nov 2026",
            "from the exchange's second to receipt, of live full packets, by connection",
        ),
        (
            SPREAD,
            Kind.SPREAD,
            "NSE:INFY · Fri 13 Nov 2026",
            "best bid and ask of each packet, and the ask less the bid",
        ),
        (
            pa.table({"date": [dt.date(2026, 11, 13)], "at": pa.array([at("09:15")], TIME), "n": [1], "level": [2]}),
            Kind.LINES,
            "Fri 13 Nov 2026",
            "n",
        ),
    ],
)
def test_the_columns_tell_the_kind(rows: pa.Table, kind: Kind, title: str, definition: str) -> None:
    subject = subject_of(rows)
    assert (subject.kind, subject.title, subject.definition) == (kind, title, definition)
    assert subject_of(rows.slice(0, 0)).kind is kind


def test_a_title_names_few_and_every_day() -> None:
    names = [f"NSE:{name}" for name in "ABCDE"]
    rows = pa.concat_tables([bars(("09:15", 1, 1, 1, 1, 1), symbol=name) for name in names])
    assert subject_of(rows).title == "NSE:A, NSE:B, NSE:C and 2 more · Fri 13 Nov 2026"
    later = bars(("09:15", 1, 1, 1, 1, 1), symbol=names[0], day=dt.date(2026, 11, 20))
    assert subject_of(pa.concat_tables([rows.slice(0, 1), later])).title == "NSE:A · 13 Nov 2026 to 20 Nov 2026"
    states = [(name, "09:15", "09:16", "served") for name in names]
    assert subject_of(intervals(*states)).title == "coverage of 5 instruments · Fri 13 Nov 2026"


def test_the_day_is_that_of_india() -> None:
    rows = pa.table({"at": pa.array([dt.datetime(2026, 11, 12, 18, 30, tzinfo=dt.UTC)], TIME), "n": [1.0]})
    assert subject_of(rows).title == "Fri 13 Nov 2026"
    naive = pa.table({"at": [dt.datetime(2026, 11, 12, 18, 30)], "n": [1.0]})  # noqa: DTZ001
    assert subject_of(naive).title == "Thu 12 Nov 2026"


def test_what_is_said_may_be_given() -> None:
    subject = subject_of(bars(), title="mine", definition="as I see it")
    assert (subject.title, subject.definition) == ("mine", "as I see it")


def test_rows_without_a_time_are_left_out() -> None:
    rows = pa.table({"at": pa.array([at("09:15"), None], TIME), "n": [1.0, 2.0]})
    assert subject_of(rows).rows.num_rows == 1


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (pa.table({"a": [1]}), "got columns a, expected one of times, such as received_at"),
        (pa.table({"t": pa.array([at("09:15")], TIME)}), "got columns t, expected one of numbers, such as last_price"),
        (pa.table([[1], [2]], names=["a", "a"]), "got columns a, a, expected each name once: rename one with AS"),
        (
            pa.table({"symbol": ["A"], "served_seconds": [1.0]}),
            "got the sums that `coverage` makes of a day, expected its intervals: lake.intervals(day).plot()",
        ),
    ],
)
def test_what_cannot_be_drawn_is_said(rows: pa.Table, said: str) -> None:
    with pytest.raises(PictureError) as raised:
        subject_of(rows)
    assert str(raised.value) == said
