"""Which packets are marked as cached."""

import datetime as dt

import kitelake
from tests.support.captured import Captured
from tests.support.feeding import DAYS, expected, given, moment_at

Fed = tuple[Captured, kitelake.Lake]


def test_what_tells_of_before_its_connection_asked(fed: Fed) -> None:
    """The exchange's time is of the second of asking or before, or of another day; null where it is not said."""
    _, lake = fed
    rows = given(lake.feed(columns=["received_at", "symbol", "exchange_timestamp", "cached"]).batches())
    cached = [row["received_at"] for row in rows if row["cached"]]
    assert cached == [moment_at(DAYS[0], "09:14:00.2"), moment_at(DAYS[0], "09:27:00.2")]
    unsaid = [row for row in rows if row["cached"] is None]
    assert unsaid == [row for row in rows if row["exchange_timestamp"] is None]
    assert {row["symbol"] for row in unsaid} == {"NSE:TINY", "MCX:CRUDEOIL26DECFUT"}
    assert len(rows) == len(expected(lake, ["received_at", "stream", "seq"]))


def test_a_mark_does_not_depend_on_what_else_is_asked_for(fed: Fed) -> None:
    _, lake = fed
    whole = given(lake.feed(columns="all").batches())
    some = given(lake.feed("NSE:INFY", columns=["seq", "cached"]).batches())
    assert some == [{name: row[name] for name in ("seq", "cached")} for row in whole if row["symbol"] == "NSE:INFY"]
    later = lake.feed("NSE:INFY", "2026-11-19 09:26:59", columns=["received_at", "cached"])
    first = next(later.batches(1)).to_pylist()[0]
    assert first == {"received_at": dt.datetime.fromisoformat("2026-11-19 09:27:00.2+05:30"), "cached": True}
