"""Coverage, gaps and latency of a day as tables, and what a summary of them says."""

import datetime as dt
import math
from pathlib import Path

import numpy as np
import pytest

import kitelake
from queries.errors import MomentError, QueryError, SymbolError
from queries.quality.coverage import DayCoverage
from storage.clock import IST
from tests.support.quotes import NIFTY, QuoteStream, live, lost
from tests.support.reports import DAY, INFY, SBIN, TCS, at, finish
from tests.support.two_days import DAYS, two_days

__all__ = ["two_days"]  # the fixture

pytestmark = pytest.mark.slow


class TestTables:
    def test_coverage_adds_up_the_intervals(self, tmp_path: Path, day: QuoteStream) -> None:
        live(day, "09:15:00", "10:00:00")
        lost(day, "10:00:10", "10:01:00")
        live(day, "10:01:05", "15:30:00")
        day.ltp(at("12:00:00"), SBIN)  # of which the list knows nothing
        finish(day, at("15:30:00"))
        with kitelake.open(tmp_path) as lake:
            infy, unknown = lake.coverage(DAY).arrow().to_pylist()
            intervals = lake.intervals(DAY).arrow().to_pylist()
        assert (infy["symbol"], infy["packets"]) == ("NSE:INFY", 91 + 658)
        assert (infy["first_packet"], infy["last_packet"]) == (at("09:15:00"), at("15:29:35"))
        assert (unknown["symbol"], unknown["instrument_token"], unknown["packets"]) == (None, SBIN, 1)
        for row in (infy, unknown):
            for name, value in row.items():
                if name.endswith("_seconds"):
                    state = name.removesuffix("_seconds").replace("_", " ")
                    own = [one for one in intervals if one["instrument_token"] == row["instrument_token"]]
                    assert value == sum(one["seconds"] for one in own if one["state"] == state), name
        assert infy["disconnected_seconds"] == 50.0

    def test_gaps_are_what_is_not_served(self, tmp_path: Path, day: QuoteStream) -> None:
        live(day, "09:15:00", "15:30:00")
        finish(day, at("15:30:00"))
        with kitelake.open(tmp_path) as lake:
            assert [row["state"] for row in lake.gaps(DAY).arrow().to_pylist()] == ["not subscribed", "not yet served"]
            assert lake.gaps(DAY, ["NSE:INFY", "NSE:TCS"]).columns[:4] == [
                "symbol",
                "instrument_token",
                "start",
                "stop",
            ]
            (tcs,) = lake.gaps(DAY, "NSE:TCS").arrow().to_pylist()
        assert (tcs["state"], tcs["start"], tcs["stop"]) == ("not subscribed", at("09:00:00"), at("15:30:00"))

    def test_parts_of_the_instruments_make_no_difference(
        self, tmp_path: Path, day: QuoteStream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        day.event(at("09:00:03"), "subscribed", tokens=[TCS, NIFTY])
        live(day, "09:15:00", "10:00:00")
        live(day, "09:20:00", "10:00:00", token=TCS)
        finish(day, at("10:00:00"))
        with kitelake.open(tmp_path) as lake:
            whole = lake.intervals(DAY).arrow(), lake.coverage(DAY).arrow(), lake.latency(DAY).arrow()
            monkeypatch.setattr("queries.connections.packets.PART_ROWS", 1)
            assert (lake.intervals(DAY).arrow(), lake.coverage(DAY).arrow(), lake.latency(DAY).arrow()) == whole

    def test_a_day_of_which_there_is_nothing(self, tmp_path: Path, day: QuoteStream) -> None:
        finish(day, at("15:30:00"))
        with kitelake.open(tmp_path) as lake:
            for found in (lake.coverage, lake.gaps, lake.intervals, lake.latency):
                assert found(DAY + dt.timedelta(days=1)).arrow().to_pylist() == []

    def test_a_service_that_still_runs_is_covered_up_to_now(self, tmp_path: Path) -> None:
        now = dt.datetime.now(IST).replace(microsecond=0)
        with QuoteStream(tmp_path, now) as stream:
            stream.event(now, "connected", opening=1)
            stream.event(now, "subscribed", tokens=[INFY])
            stream.journal.flush()
            with kitelake.open(tmp_path) as lake:
                rows = lake.intervals(now.date(), INFY).arrow().to_pylist()
        assert {row["state"] for row in rows} == {"not yet served"}
        assert rows[-1]["stop"] <= dt.datetime.now(IST)

    def test_mistakes_are_typed_errors(self, tmp_path: Path, day: QuoteStream) -> None:
        finish(day, at("15:30:00"))
        with kitelake.open(tmp_path) as lake:
            with pytest.raises(MomentError, match="day: got 'someday', expected a date"):
                lake.coverage("someday")
            with pytest.raises(SymbolError, match="near it: NSE:INFY"):
                lake.gaps(DAY, "NSE:INF")
            for silent in (0, -1, math.nan, math.inf, "x"):
                with pytest.raises(QueryError, match=r"silent: got .*, expected seconds, more than 0"):
                    lake.gaps(DAY, silent=silent)  # type: ignore[arg-type]
            minutes = lake.latency(DAY, bucket_seconds=60).arrow()
            assert lake.latency(DAY, bucket_seconds=np.int64(60)).arrow() == minutes  # type: ignore[arg-type]
            for bucket in (0, 1.5, "x", True, 10**30):
                with pytest.raises(QueryError, match=r"bucket_seconds: got .*, expected whole seconds from 1 to 86400"):
                    lake.latency(DAY, bucket_seconds=bucket)  # type: ignore[arg-type]


def test_a_summary_adds_up_what_coverage_and_gaps_say(two_days: Path) -> None:
    with kitelake.open(two_days) as lake:
        found = DayCoverage(lake.look(), DAYS[1], None, 60.0, dt.datetime.now(IST)).summary(4)
        whole = lake.coverage(DAYS[1]).arrow().to_pylist()
        missed = lake.gaps(DAYS[1]).relation.filter("missed")
        by_symbol = "symbol, count(*) AS gaps, sum(seconds) AS seconds, sum(volume_missed)::BIGINT AS volume"
        rows = {row[0]: row[1:] for row in missed.aggregate(by_symbol).fetchall()}
        last = dict(lake.latest(moment=DAYS[1]).relation.project("symbol, last_price").fetchall())
    assert [state for state, *_ in found.states] == ["served", "cached packet only", "not yet served", "disconnected"]
    for state, count, seconds in found.states:
        spent = [row[f"{state.replace(' ', '_')}_seconds"] for row in whole]
        assert count <= sum(each > 0 for each in spent)
        assert 0 < seconds <= sum(spent)
    assert sum(each.seconds for each in found.states) == sum(
        23_100 if row["symbol"].startswith("NFO:") else 22_500
        for row in whole  # to 15:40, and to 15:30
    )
    worst = sorted(rows, key=lambda symbol: -(rows[symbol][2] or 0) * last[symbol])[:4]
    assert found.missed == len(rows)
    assert [(each.symbol, each.gaps, each.seconds, each.volume) for each in found.worst] == [
        (symbol, *rows[symbol]) for symbol in worst
    ]
    assert [each.value for each in found.worst] == [rows[symbol][2] * last[symbol] for symbol in worst]
