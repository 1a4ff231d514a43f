"""The report of a day, over journals and tables with the broker's own frames."""

import datetime as dt
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ingest.wire import Mode
from kitelake.processes.child import Child
from kitelake.report import (
    ConnectionReport,
    DayRecord,
    ExchangeRecord,
    Gaps,
    ListRecord,
    PartRecord,
    Report,
    make_report,
    read_record,
    record_path,
    write_record,
)
from kitelake.report.gaps import Stretch, gaps_of, merged, within
from kitelake.report.latency import StreamConnection, _Judge
from kitelake.report.problems import problems_of
from kitelake.report.text import as_text, clock, duration, summary
from kitelake.views.report import render_report
from queries.errors import NoLakeError
from storage.clock import IST
from storage.errors import DataFolderError
from storage.journal import Kind
from storage.layout import DataLayout
from storage.market import InstrumentKind
from storage.market.hours import Hours, hours_of
from storage.market.sessions import Phase
from storage.schema import INSTRUMENTS
from storage.tables.symbols import write_instruments
from storage.upkeep.compact import compact_day
from tests.support.reports import ACC, DAY, INFY, SBIN, TCS, Stream, at, commit, finish


def listed(name: str = "NSE", *tokens: int, hours: str = "09:00-15:30", **more: Any) -> ListRecord:
    span = tuple(at(each) for each in hours.split("-")) if hours else ()
    return ListRecord.model_validate(
        {"name": name, "mode": Mode.LTP, "hours": [span] if span else [], "tokens": tokens} | more
    )


def record(*lists: ListRecord, **more: Any) -> DayRecord:
    return DayRecord(date=DAY, lists=lists, **more)


def instruments(*names: tuple[int, str]) -> pa.Table:
    rows = [
        {"instrument_token": token, "tradingsymbol": name, "instrument_type": "EQ", "segment": "NSE"}
        | {"exchange": "NSE", "symbol": f"NSE:{name}"}
        for token, name in names
    ]
    return pa.Table.from_pylist(rows, schema=INSTRUMENTS.file_schema)


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Stream]:
    """A service that runs from 08:30 on, with a connection from 08:30:01 on."""
    with Stream(tmp_path, at("08:30:00")) as stream:
        stream.service(at("08:30:00"), "started")
        stream.event(at("08:30:01"), "connected", opening=1)
        yield stream


class TestLists:
    def test_count_what_was_wanted_and_what_came_within_their_hours(self, tmp_path: Path, day: Stream) -> None:
        write_instruments(DataLayout(tmp_path), DAY, instruments((INFY, "INFY"), (TCS, "TCS"), (SBIN, "SBIN")))
        day.ltp(at("08:59:59"), SBIN)  # too early
        day.ltp(at("09:00:00"), INFY, TCS)
        day.ltp(at("12:00:00"), INFY, INFY)
        day.ltp(at("15:30:00"), SBIN)  # too late
        day.ltp(at("16:00:00"), TCS)
        finish(day, at("17:00:00"))
        commit(tmp_path)
        morning = listed("NSE", INFY, TCS, SBIN, ACC, left_out=[ACC], problems=["NSE:FOO is not in the list"])
        evening = listed("late", TCS, SBIN, hours="15:45-16:30", mode="full")
        report = make_report(tmp_path, record(morning, evening))
        first, second = report.lists
        assert (first.name, first.mode, first.wanted, first.subscribed) == ("NSE", Mode.LTP, 5, 3)
        assert (first.ticked, first.silent, first.silent_symbols, first.rows) == (2, 1, ("NSE:SBIN",), 4)
        assert (second.ticked, second.silent, second.silent_symbols, second.rows) == (1, 1, ("NSE:SBIN",), 1)
        assert (report.wanted, report.ticked, report.rows) == (4, 2, 7)
        assert report.other_rows == 2  # SBIN at 08:59:59 and 15:30
        assert "2 rows of these are of instruments that are captured for their price only, or outside" in as_text(
            report
        )
        assert report.date == DAY
        assert report.problems == (
            "list NSE: no room for 1 instrument",
            "list NSE: NSE:FOO is not in the list",
        )

    def test_share_rows_without_counting_them_twice(self, tmp_path: Path, day: Stream) -> None:
        day.ltp(at("09:30:00"), INFY, TCS)
        day.ltp(at("10:30:00"), INFY, TCS, ACC)  # ACC is of no list: captured for its price
        day.ltp(at("12:30:00"), INFY, TCS)
        finish(day, at("16:00:00"))
        lists = listed("a", INFY, hours="09:00-11:00"), listed("b", INFY, TCS, hours="10:00-13:00")
        report = make_report(tmp_path, record(*lists))
        assert [each.rows for each in report.lists] == [2, 4]
        assert (report.rows, report.other_rows) == (7, 2)  # ACC, and TCS at 09:30
        assert make_report(tmp_path, record(listed("c", INFY, TCS, ACC))).other_rows == 0

    def test_see_the_journal_and_the_tables_alike(self, tmp_path: Path, day: Stream) -> None:
        day.ltp(at("10:00:00"), INFY)
        finish(day, at("16:00:00"))
        before = make_report(tmp_path, record(listed("NSE", INFY)))
        assert before.rows == before.lists[0].rows == 1
        assert before.file_bytes == 0
        commit(tmp_path)
        after = make_report(tmp_path, record(listed("NSE", INFY)))
        sizes = [path.stat().st_size for path in tmp_path.rglob(f"date={DAY}/**/*.parquet")]
        assert after.file_bytes == sum(sizes) > 0
        assert after.model_copy(update={"file_bytes": 0, "made_at": before.made_at}) == before

    def test_name_ten_silent_instruments_at_most(self, tmp_path: Path, day: Stream) -> None:
        finish(day, at("16:00:00"))
        tokens = [256 * number + 1 for number in range(1, 13)]
        (only,) = make_report(tmp_path, record(listed("NSE", *tokens))).lists
        assert only.silent == 12
        assert only.silent_symbols == tuple(map(str, tokens[:10]))

    def test_without_hours_wait_for_nothing(self, tmp_path: Path, day: Stream) -> None:
        day.ltp(at("10:00:00"), INFY)
        finish(day, at("11:00:00"))
        report = make_report(tmp_path, record(listed("NSE", INFY, hours="")))
        assert (report.lists[0].ticked, report.lists[0].silent, report.wanted) == (0, 0, 0)
        assert report.problems == ()
        assert report.connections[0].gaps == Gaps()

    def test_count_only_the_day_itself(self, tmp_path: Path, day: Stream) -> None:
        day.ltp(at("10:00:00"), INFY)
        day.ltp(at("10:00:00", DAY + dt.timedelta(days=1)), INFY, TCS)
        day.ltp(at("00:00:00", DAY + dt.timedelta(days=1)), TCS)
        day.journal.close()
        assert make_report(tmp_path, record(listed("NSE", INFY))).rows == 1


def gaps(data: Path, *connections: int) -> list[tuple[int, list[float], str | None]]:
    """Of each connection: number, total and longest seconds, and where the longest begins."""
    report = make_report(data, record(listed("NSE", INFY)))
    assert [each.connection for each in report.connections] == list(connections or (1,))
    return [
        (
            each.gaps.number,
            [each.gaps.total_seconds, each.gaps.longest_seconds],
            None if each.gaps.longest_from is None else clock(each.gaps.longest_from),
        )
        for each in report.connections
    ]


class TestGaps:
    def test_none_where_all_went_well(self, tmp_path: Path, day: Stream) -> None:
        finish(day, at("15:31:00"))
        assert gaps(tmp_path) == [(0, [0.0, 0.0], None)]

    def test_from_a_close_to_the_next_opening(self, tmp_path: Path, day: Stream) -> None:
        day.event(at("08:40:00"), "closed", by="peer", clean=False, reason="network")  # before the hours
        day.event(at("08:40:02"), "connected", opening=2)
        day.event(at("08:40:02"), "resumed", down_seconds=2.0)
        day.event(at("10:00:00"), "closed", by="peer", clean=False, reason="network")
        day.event(at("10:00:05"), "refused", reason="network")
        day.event(at("10:00:12.500"), "connected", opening=3)
        day.event(at("10:00:12.600"), "resumed", down_seconds=12.6)
        day.event(at("15:29:50"), "closed", by="peer", clean=False, reason="network")
        finish(day, at("15:31:00"))
        assert gaps(tmp_path) == [(2, [22.5, 12.5], "10:00:00 IST")]
        report = make_report(tmp_path, record(listed("NSE", INFY)))
        assert report.connections[0].reconnects == 2
        assert report.gaps == report.connections[0].gaps

    def test_a_silent_peer_is_gone_since_its_last_bytes(self, tmp_path: Path, day: Stream) -> None:
        day.event(at("10:00:10"), "silent", silent_seconds=10.0)
        day.event(at("10:00:10.100"), "closed", by="us", clean=False, reason="silent")
        day.event(at("10:00:11"), "connected", opening=2)
        finish(day, at("15:31:00"))
        assert gaps(tmp_path) == [(1, [11.0, 11.0], "10:00:00 IST")]

    def test_between_two_runs(self, tmp_path: Path, day: Stream) -> None:
        finish(day, at("10:00:00"))
        with Stream(tmp_path, at("10:01:00")) as second:
            second.service(at("10:01:00"), "started")
            second.event(at("10:01:02"), "connected", opening=1)
            finish(second, at("16:00:00"))
        assert gaps(tmp_path) == [(1, [62.0, 62.0], "10:00:00 IST")]
        report = make_report(tmp_path, record(listed("NSE", INFY)))
        assert report.connections[0].reconnects == 0
        assert "asha/1 was not connected throughout: 1 gap of 1 min 2 s from 10:00:00 IST" in report.problems

    @pytest.mark.parametrize("committed", [False, True])
    def test_a_killed_run_ends_with_its_last_row(self, tmp_path: Path, day: Stream, committed: bool) -> None:
        day.ltp(at("09:59:50"), INFY)
        day.journal.close()
        if committed:
            commit(tmp_path)
        with Stream(tmp_path, at("10:00:20")) as second:
            second.service(at("10:00:20"), "started")
            second.event(at("10:00:21"), "connected", opening=1)
            finish(second, at("16:00:00"))
        assert gaps(tmp_path) == [(1, [31.0, 31.0], "09:59:50 IST")]

    def test_a_service_that_was_killed_and_not_started_again(self, tmp_path: Path, day: Stream) -> None:
        day.ltp(at("15:00:00"), INFY)
        day.journal.close()
        assert gaps(tmp_path) == [(1, [1800.0, 1800.0], "15:00:00 IST")]

    def test_a_service_that_goes_on_into_the_next_day(self, tmp_path: Path, day: Stream) -> None:
        day.ltp(at("15:00:00"), INFY)
        day.service(at("08:35:00", DAY + dt.timedelta(days=1)), "health")
        day.journal.close()
        assert gaps(tmp_path) == [(0, [0.0, 0.0], None)]

    def test_a_service_that_still_runs(self, tmp_path: Path, day: Stream) -> None:
        day.ltp(at("15:00:00"), INFY)
        day.journal.flush()
        assert gaps(tmp_path) == [(0, [0.0, 0.0], None)]

    def test_a_run_from_the_day_before(self, tmp_path: Path) -> None:
        with Stream(tmp_path, at("20:00:00", DAY - dt.timedelta(days=1))) as stream:
            stream.service(at("20:00:00", DAY - dt.timedelta(days=1)), "started")
            for connection in (1, 2, 3):
                stream.event(at("20:00:01", DAY - dt.timedelta(days=1)), "connected", connection, opening=1)
            stream.ltp(at("09:00:00"), INFY)  # 1 stays
            stream.event(at("10:00:00"), "closed", 2, by="peer", clean=True, reason="network")
            stream.event(at("10:00:30"), "connected", 2, opening=2)
            stream.event(at("06:30:00"), "closed", 3, by="peer", clean=True, reason="credentials")
            stream.event(at("06:30:01"), "refused", 3, reason="credentials")
            stream.event(at("09:10:00"), "connected", 3, opening=2)
            stream.service(at("16:00:00"), "stopped")
        assert gaps(tmp_path, 1, 2, 3) == [
            (0, [0.0, 0.0], None),
            (1, [30.0, 30.0], "10:00:00 IST"),
            (1, [600.0, 600.0], "09:00:00 IST"),
        ]

    def test_a_late_start_is_one(self, tmp_path: Path) -> None:
        with Stream(tmp_path, at("10:00:00")) as stream:
            stream.service(at("10:00:00"), "started")
            stream.event(at("10:00:02"), "refused", reason="network")
            stream.event(at("10:00:05"), "connected", opening=1)
            finish(stream, at("16:00:00"))
        assert gaps(tmp_path) == [(1, [3605.0, 3605.0], "09:00:00 IST")]

    def test_a_connection_that_was_opened_when_it_was_needed_has_none_before(self, tmp_path: Path, day: Stream) -> None:
        day.event(at("12:00:00"), "connected", 2, opening=1)
        finish(day, at("13:00:00"))
        with Stream(tmp_path, at("13:00:10")) as second:  # which needs no second connection
            second.service(at("13:00:10"), "started")
            second.event(at("13:00:10"), "connected", opening=1)
            finish(second, at("16:00:00"))
        assert gaps(tmp_path, 1, 2) == [(1, [10.0, 10.0], "13:00:00 IST"), (0, [0.0, 0.0], None)]

    def test_what_several_connections_miss_counts_once_in_all(self, tmp_path: Path, day: Stream) -> None:
        day.event(at("08:30:01"), "connected", 2, opening=1)
        for connection, begin, end in ((1, "10:00:00", "10:00:10"), (2, "10:00:05", "10:00:20")):
            day.event(at(begin), "closed", connection, by="peer", clean=True, reason="network")
            day.event(at(end), "connected", connection, opening=2)
        finish(day, at("16:00:00"))
        report = make_report(tmp_path, record(listed("NSE", INFY)))
        assert [each.gaps.total_seconds for each in report.connections] == [10.0, 15.0]
        assert (report.gaps.number, report.gaps.total_seconds) == (1, 20.0)

    def test_what_is_closed_on_purpose_is_none(self, tmp_path: Path, day: Stream) -> None:
        day.event(at("10:00:00"), "closed", by="us", clean=True)
        day.event(at("11:00:00"), "connected", opening=2)
        finish(day, at("16:00:00"))
        assert gaps(tmp_path) == [(0, [0.0, 0.0], None)]

    def test_a_connection_that_never_opened_is_one_gap(self, tmp_path: Path) -> None:
        with Stream(tmp_path, at("08:30:00")) as stream:
            stream.service(at("08:30:00"), "started")
            stream.event(at("08:30:01"), "refused", reason="credentials")
            stream.event(at("16:00:00"), "closed", by="us", clean=True)
            stream.service(at("16:00:00"), "stopped")
        assert gaps(tmp_path) == [(1, [6.5 * 3600, 6.5 * 3600], "09:00:00 IST")]


TIMES = st.integers(0, 40).map(lambda minutes: at("09:00:00") + dt.timedelta(minutes=minutes))
STRETCHES = st.lists(st.tuples(TIMES, TIMES).map(sorted).map(tuple))


def minutes_in(stretches: list[Stretch]) -> set[int]:
    minutes = (at("09:00:00") + dt.timedelta(minutes=number) for number in range(41))
    return {number for number, time in enumerate(minutes) if any(begin <= time < end for begin, end in stretches)}


@given(STRETCHES, STRETCHES)
def test_stretches_are_sets_of_moments(some: list[Stretch], others: list[Stretch]) -> None:
    assert minutes_in(merged(some)) == minutes_in(some)
    found = within(some, others)
    assert minutes_in(found) == minutes_in(some) & minutes_in(others)
    assert all(one[1] < another[0] for one, another in pairwise(found))
    assert gaps_of(found).total_seconds == 60 * len(minutes_in(found))


class TestTotals:
    def test_latency_is_of_full_packets_of_the_same_day(self, tmp_path: Path, day: Stream) -> None:
        for number in range(100):
            time = at("10:00:00") + dt.timedelta(seconds=number)
            day.full(time + dt.timedelta(milliseconds=10 * number + 1), INFY, time)
        day.full(at("11:00:30"), TCS, at("11:00:00"))
        day.full(at("11:00:30"), SBIN, at("15:30:00", DAY - dt.timedelta(days=3)))  # no trade since
        day.ltp(at("11:00:30"), ACC)
        finish(day, at("16:00:00"))
        report = make_report(tmp_path, record(listed("NSE", INFY)))
        latency = report.latency
        assert latency is not None
        assert (latency.packets, report.not_live) == (101, 1)
        assert (latency.p50_seconds, latency.p99_seconds, latency.max_seconds) == (0.50, 0.99, 30.0)

    def latency(self, data: Path) -> tuple[int, list[float], int]:
        """Live packets, p50 and maximum in seconds, and how many were not live."""
        report = make_report(data, record(listed("NSE", INFY)))
        live = report.latency
        assert live is not None
        return live.packets, [live.p50_seconds, live.max_seconds], report.not_live

    @pytest.mark.parametrize("committed", [False, True])
    def test_cached_and_stale_packets_are_counted_by_themselves(
        self, tmp_path: Path, day: Stream, committed: bool
    ) -> None:
        day.event(at("09:59:59.500"), "subscribed", tokens=[INFY, TCS])
        day.full(at("09:59:59.600"), INFY, at("09:52:00"))  # cached
        day.full(at("09:59:59.600"), SBIN, at("09:59:50"))  # of which nothing was asked since it is connected: live
        day.full(at("10:00:00.250"), INFY, at("10:00:00"))
        day.full(at("10:00:00.750"), INFY, at("10:00:00"))  # nothing newer
        day.full(at("10:00:01.250"), INFY, at("10:00:01"))
        day.full(at("10:00:40"), INFY, at("10:00:01"))  # the same again
        day.full(at("10:00:41"), INFY, at("09:00:00"))  # older
        day.event(at("10:01:00.100"), "mode", tokens=[INFY], mode="full")
        day.full(at("10:01:00.200"), INFY, at("10:00:50"))  # newer than what came, and cached
        day.full(at("10:01:00.200"), TCS, at("10:00:59"))  # its mode was not set
        day.event(at("10:02:00"), "closed", by="peer", clean=True, reason="network")
        day.event(at("10:02:30"), "connected", opening=2)
        day.full(at("10:02:30.100"), INFY, at("10:02:05"))  # what was missed
        day.full(at("10:02:31.250"), INFY, at("10:02:31"))
        finish(day, at("16:00:00"))
        if committed:
            commit(tmp_path)
        assert self.latency(tmp_path) == (5, [0.25, 9.6], 6)
        text = as_text(make_report(tmp_path, record(listed("NSE", INFY))))
        assert "latency of 5 live packets: p50 0.25 s, p99 9.60 s, at most 9.60 s" in text
        assert "6 cached or stale packets are not counted in the latency" in text

    def test_each_stream_has_seen_what_it_has_seen(self, tmp_path: Path, day: Stream) -> None:
        """A second service of the same instruments brings the same packets, each new to it."""
        with Stream(tmp_path, at("08:40:00")) as other:
            other.event(at("08:40:01"), "connected", opening=1)
            for stream in (day, other):
                for second in range(5):
                    time = at("10:00:00") + dt.timedelta(seconds=second)
                    stream.full(time + dt.timedelta(milliseconds=250), INFY, time)
                    stream.full(time + dt.timedelta(milliseconds=350), INFY, time)
            other.service(at("16:00:00"), "stopped")
        finish(day, at("16:00:00"))
        assert self.latency(tmp_path) == (10, [0.25, 0.25], 10)

    @pytest.mark.parametrize("tidy", [False, True])
    def test_the_order_of_receipt_holds_over_files_and_batches(
        self, tmp_path: Path, day: Stream, monkeypatch: pytest.MonkeyPatch, tidy: bool
    ) -> None:
        """As committed, in a file for each segment, and as sealed, instrument by instrument."""
        monkeypatch.setattr("kitelake.report.latency.BATCH_ROWS", 2048)
        tokens = [256 * number + 1 for number in range(1, 51)]
        for second in range(400):
            time = at("10:00:00") + dt.timedelta(seconds=second)
            for token in tokens:
                day.full(time + dt.timedelta(milliseconds=250), token, time)
            if second % 40 == 39:
                day.journal.flush()
        day.full(at("11:00:00"), tokens[0], at("10:00:00"))
        finish(day, at("16:00:00"))
        commit(tmp_path)
        if tidy:
            compact_day(DataLayout(tmp_path), DAY)
        assert self.latency(tmp_path) == (20_000, [0.25, 0.25], 1)

    def test_no_latency_without_full_packets(self, tmp_path: Path, day: Stream) -> None:
        day.ltp(at("10:00:00"), INFY)
        finish(day, at("16:00:00"))
        report = make_report(tmp_path, record(listed("NSE", INFY)))
        assert (report.latency, report.not_live) == (None, 0)

    def test_bytes_in_quarantine_are_a_problem(self, tmp_path: Path, day: Stream) -> None:
        day.ltp(at("10:00:00"), INFY)
        day._append(Kind.TEXT, at("10:00:01"), b"what?", 1)
        finish(day, at("16:00:00"))
        report = make_report(tmp_path, record(listed("NSE", INFY)))
        assert (report.quarantined_ranges, report.quarantined_bytes) == (1, 5)
        assert report.problems == ("1 range of 5 bytes would not decode: see the table quarantine",)


class TestProblems:
    def test_none_on_a_good_day(self, tmp_path: Path, day: Stream) -> None:
        day.ltp(at("10:00:00"), INFY)
        day.event(at("10:00:00"), "closed", by="peer", clean=True, reason="network")
        day.event(at("10:01:00"), "connected", opening=2)
        finish(day, at("16:00:00"))
        assert make_report(tmp_path, record(listed("NSE", INFY, TCS), accounts={"asha": None})).problems == ()

    def test_nothing_at_all(self, tmp_path: Path, day: Stream) -> None:
        finish(day, at("16:00:00"))
        report = make_report(tmp_path, record(listed("NSE", INFY), accounts={"asha": "the broker refuses it"}))
        assert report.problems == (
            "nothing was captured: there is no row of this day",
            "account asha has no good token: the broker refuses it",
        )

    @pytest.mark.parametrize(
        ("seconds", "problems"),
        [
            (
                {("a", 1): 300, ("a", 2): 303, ("b", 1): 301},
                [
                    "none of the 3 connections was connected throughout; "
                    "a/2, the worst: 1 gap of 5 min 3 s from 10:00:00"
                ],
            ),
            (
                {("a", 1): 300, ("a", 2): 300, ("b", 1): 100},
                [
                    "none of the 2 connections of account a was connected throughout; "
                    "a/1, the worst: 1 gap of 5 min from 10:00:00",
                    "b/1 was not connected throughout: 1 gap of 1 min 40 s from 10:00:00",
                ],
            ),
            ({("a", 1): 300, ("a", 2): 0}, ["a/1 was not connected throughout: 1 gap of 5 min from 10:00:00"]),
            (
                {("a", 1): 300, ("a", 2): 100},
                [
                    f"a/{n} was not connected throughout: 1 gap of {t} from 10:00:00"
                    for n, t in ((1, "5 min"), (2, "1 min 40 s"))
                ],
            ),
            ({("a", 1): 50, ("a", 2): 51}, []),
        ],
    )
    def test_connections_with_the_same_gaps_are_said_once(
        self, tmp_path: Path, day: Stream, seconds: dict[tuple[str, int], int], problems: list[str]
    ) -> None:
        finish(day, at("16:00:00"))
        connections = tuple(
            ConnectionReport(
                account=account,
                connection=connection,
                gaps=gaps_of([(at("10:00:00"), at("10:00:00") + dt.timedelta(seconds=down))] if down else []),
                reconnects=1,
            )
            for (account, connection), down in seconds.items()
        )
        report = make_report(tmp_path, record()).model_copy(update={"connections": connections})
        assert list(problems_of(report, record())) == [f"{problem} IST" for problem in problems]

    def test_a_list_of_which_nothing_ticked(self, tmp_path: Path, day: Stream) -> None:
        day.ltp(at("10:00:00"), INFY)
        finish(day, at("16:00:00"))
        report = make_report(tmp_path, record(listed("NSE", INFY), listed("others", TCS, SBIN)))
        assert report.problems == ("list others: none of its 2 instruments ticked",)

    def test_a_folder_without_a_lake_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(NoLakeError):
            make_report(tmp_path / "none", record())


class TestWords:
    @pytest.fixture
    def report(self, tmp_path: Path, day: Stream) -> Report:
        day.full(at("10:00:00.250"), INFY, at("10:00:00"))
        day.event(at("11:00:00"), "closed", by="peer", clean=True, reason="network")
        day.event(at("11:00:12"), "connected", opening=2)
        day.event(at("11:00:12"), "resumed", down_seconds=12.0)
        day.ltp(at("12:00:00"), *[INFY] * 1233)
        finish(day, at("16:00:00"))
        long = listed("a name that goes on and on, as names do [bold]", TCS, problems=["NSE:FOO is not in the list"])
        return make_report(tmp_path, record(listed("NSE", INFY, TCS), long))

    def test_one_line(self, report: Report) -> None:
        assert summary(report) == "24 Nov: 1 of 2 instruments ticked, 1,234 rows, 1 gap of 12 s"

    def test_a_mail(self, report: Report) -> None:
        made_at = at("16:00:05")
        assert as_text(report.model_copy(update={"made_at": made_at})) == (
            "Monday, 24 November 2025, as of 16:00:05 IST\n"
            "24 Nov: 1 of 2 instruments ticked, 1,234 rows, 1 gap of 12 s\n"
            "\n"
            "Problems\n"
            "- list a name that goes on and on, as names do [bold]: none of its 1 instrument ticked\n"
            "- list a name that goes on and on, as names do [bold]: NSE:FOO is not in the list\n"
            "\n"
            "Lists\n"
            "- NSE (ltp): 2 wanted, 2 subscribed, 1 ticked, 1 silent (2953217), 1,234 rows\n"
            "- a name that goes on and on, as names do [bold] (ltp): 2 wanted, 1 subscribed, 0 ticked, "
            "1 silent (2953217), 0 rows\n"
            "\n"
            "Connections\n"
            "- asha/1: 1 gap of 12 s from 11:00:12 IST, 1 reconnect\n".replace("11:00:12", "11:00:00")
            + "\n"
            "In all\n"
            "- 1,234 rows; the day's files have 0.0 MiB\n"
            "- latency of 1 live packet: p50 0.25 s, p99 0.25 s, at most 0.25 s "
            "(too high by up to 1 s: the exchange's times are whole seconds)\n"
        )

    def test_a_terminal_of_80_columns(self, report: Report) -> None:
        console = Console(width=80, record=True, file=io.StringIO())
        console.print(render_report(report))
        text = console.export_text()
        assert max(map(len, text.splitlines())) <= 80
        table = [line.split() for line in text.splitlines()]
        assert ["NSE", "ltp", "2", "2", "1", "1", "1,234"] in table
        assert ["asha/1", "1", "12", "s", "12", "s", "11:00:00", "IST", "1"] in table
        assert "silent in NSE: 2953217" in text
        assert "NSE:FOO is not in the list" in " ".join(text.split())

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [
            (0.0, "0.0 s"),
            (9.94, "9.9 s"),
            (9.96, "10 s"),
            (12, "12 s"),
            (59.7, "1 min"),
            (303, "5 min 3 s"),
            (3599.7, "1 h"),
            (7500, "2 h 5 min"),
            (7199, "2 h"),
        ],
    )
    def test_durations(self, seconds: float, words: str) -> None:
        assert duration(seconds) == words

    def test_a_report_comes_back_from_json(self, report: Report) -> None:
        assert Report.model_validate_json(report.model_dump_json()) == report
        assert Report.model_validate(json.loads(json.dumps(report.model_dump(mode="json")))) == report


TEXT = st.text(st.characters(codec="utf-8"))
MOMENTS = st.datetimes(timezones=st.just(IST))
PARTS = st.builds(
    PartRecord,
    exchange=TEXT,
    hours=st.lists(st.tuples(MOMENTS, MOMENTS)).map(tuple),
    tokens=st.lists(st.integers(1, 2**32 - 1)).map(tuple),
)


def hours_between(minutes: list[int]) -> Hours:
    return hours_of("-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in sorted(minutes)))


OF_A_DAY = st.lists(st.integers(0, 24 * 60), min_size=2, max_size=2, unique=True).map(hours_between)
EXCHANGES = st.builds(
    ExchangeRecord,
    why=TEXT,
    sure=st.booleans(),
    sessions=st.dictionaries(
        st.sampled_from(InstrumentKind), st.lists(st.tuples(st.sampled_from(Phase), OF_A_DAY), max_size=3).map(tuple)
    ),
)
LISTS = st.builds(
    ListRecord,
    name=TEXT,
    mode=st.sampled_from(Mode),
    parts=st.lists(PARTS, max_size=3).map(tuple),
    left_out=st.lists(st.integers(1, 2**32 - 1)).map(tuple),
    problems=st.lists(TEXT).map(tuple),
)
RECORDS = st.builds(
    DayRecord,
    date=st.dates(),
    lists=st.lists(LISTS, max_size=3).map(tuple),
    exchanges=st.dictionaries(TEXT, EXCHANGES, max_size=3),
    accounts=st.dictionaries(TEXT, st.none() | TEXT, max_size=3),
    reported_at=st.none() | MOMENTS,
)


class TestRecord:
    @given(RECORDS)
    def test_comes_back_from_its_file(self, tmp_path_factory: pytest.TempPathFactory, record: DayRecord) -> None:
        data = tmp_path_factory.getbasetemp() / "records"
        write_record(data, record)
        assert read_record(data, record.date) == record

    def test_lies_beside_the_tables_and_is_replaced_as_a_whole(self, tmp_path: Path) -> None:
        assert read_record(tmp_path, DAY) is None
        write_record(tmp_path, record())
        write_record(tmp_path, record(listed("NSE", INFY)))
        assert record_path(tmp_path, DAY) == tmp_path / "days" / "2025-11-24.json"
        assert [path.name for path in (tmp_path / "days").iterdir()] == ["2025-11-24.json"]
        document = json.loads(record_path(tmp_path, DAY).read_text())
        (part,) = document["lists"][0]["parts"]
        assert part["hours"] == [["2025-11-24T09:00:00+05:30", "2025-11-24T15:30:00+05:30"]]

    def test_from_before_exchanges_had_hours_of_their_own_is_read(self, tmp_path: Path) -> None:
        hours = ["2025-11-24T09:00:00+05:30", "2025-11-24T15:30:00+05:30"]
        one = {"name": "NSE", "mode": "ltp", "meaning": "", "hours": [hours], "tokens": [INFY], "problems": []}
        document: dict[str, Any] = {"date": DAY.isoformat(), "lists": [one], "accounts": {}, "reported_at": None}
        path = record_path(tmp_path, DAY)
        path.parent.mkdir()
        path.write_text(json.dumps(document))
        assert read_record(tmp_path, DAY) == record(listed("NSE", INFY))

    @pytest.mark.parametrize("text", ["", "{}", '{"date": "2025-11-24", "weather": 1}', '{"date": "2025-11-25"}'])
    def test_that_is_damaged_is_an_error(self, tmp_path: Path, text: str) -> None:
        path = record_path(tmp_path, DAY)
        path.parent.mkdir()
        path.write_text(text)
        with pytest.raises(DataFolderError, match=r"2025-11-24\.json: got .*, expected "):
            read_record(tmp_path, DAY)

    def test_that_cannot_be_written_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "days").write_text("a file")
        with pytest.raises(DataFolderError, match="cannot be written"):
            write_record(tmp_path, record())


def settings(data: Path) -> dict[str, str]:
    return {"data": str(data), "date": DAY.isoformat(), "log_level": "info", "log_format": "json"}


@pytest.mark.slow
class TestProcess:
    async def test_says_the_report_as_one_line(self, tmp_path: Path, day: Stream) -> None:
        day.ltp(at("10:00:00"), INFY)
        finish(day, at("16:00:00"))
        write_record(tmp_path, record(listed("NSE", INFY)))
        child = await Child.start("kitelake.processes.report", settings(tmp_path), hide=())
        (line,) = [line async for line in child.lines()]
        assert await child.wait() == 0
        report = Report.model_validate(line)
        here = make_report(tmp_path, record(listed("NSE", INFY)))
        assert report == here.model_copy(update={"made_at": report.made_at})

    @pytest.mark.parametrize(
        ("text", "expected"), [(None, "without a record of the day"), ("{", "expected a day's record")]
    )
    def test_fails_with_a_log_line(self, tmp_path: Path, day: Stream, text: str | None, expected: str) -> None:
        finish(day, at("16:00:00"))
        if text is not None:
            record_path(tmp_path, DAY).parent.mkdir()
            record_path(tmp_path, DAY).write_text(text)
        with subprocess.Popen(
            [sys.executable, "-m", "kitelake.processes.report"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdin.write(json.dumps(settings(tmp_path)) + "\n")
            process.stdin.flush()
            (log,) = process.stderr.read().splitlines()
            assert process.wait(30) == 1
            assert process.stdout.read() == ""
        assert json.loads(log)["level"] == "error"
        assert expected in log

    def test_ends_with_its_standard_input_whatever_it_is_doing(self, tmp_path: Path, day: Stream) -> None:
        finish(day, at("16:00:00"))
        record_path(tmp_path, DAY).parent.mkdir()
        os.mkfifo(record_path(tmp_path, DAY))  # to read the record takes forever
        with subprocess.Popen(
            [sys.executable, "-m", "kitelake.processes.report"], stdin=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin
            process.stdin.write(json.dumps(settings(tmp_path)) + "\n")
            process.stdin.flush()
            time.sleep(1.5)
            assert process.poll() is None
            process.stdin.close()
            assert process.wait(30) == 1


@pytest.mark.slow
def test_what_the_service_imports_is_light() -> None:
    code = """
import sys, kitelake.telemetry.notify, kitelake.report
print(sorted({"apprise", "duckdb", "requests"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(-3, 60)), max_size=30), max_size=4),
    st.lists(st.tuples(st.integers(0, 1), st.none() | st.integers(0, 4), st.integers(0, 60)), max_size=6),
    st.sampled_from([4, 40_000]),
)
def test_packets_are_live_as_one_by_one(
    batches: list[list[tuple[int, int, int]]], asks: list[tuple[int, int | None, int]], instruments: int
) -> None:
    """Two connections of two streams; received in the order of the list, a second apart, from the day's begin on.

    With 40,000 instruments there are more keys than numpy sorts by radix.
    """
    begin = int(at("00:00:00").timestamp())
    tokens = [256 * number + 257 for number in range(instruments)]
    places = [StreamConnection("one", "asha", 1), StreamConnection("two", "asha", 1)]
    columns = [[place, 0 if number is None else 256 * number + 257, (begin + s) * 10**6] for place, number, s in asks]
    judge = _Judge(DAY, places, np.array(tokens), *np.array(columns, np.int64).reshape(-1, 3).T)
    latest: dict[tuple[int, int], int] = {}
    expected: list[int] = []
    second = packets = 0
    for batch in batches:
        rows = []
        for place, number, ago in batch:
            second, exchange = second + 1, second + 1 - ago
            rows.append([place, tokens[number], (begin + second) * 10**6, (begin + exchange) * 10**6])
            asked = [s for p, n, s in asks if p == place and n in (None, number) and s <= second]
            is_new = exchange > latest.get((place, number), -(10**9))
            if exchange >= 0 and exchange > max(asked, default=-(10**9)) and is_new:
                expected.append(ago)
            latest[place, number] = max(exchange, latest.get((place, number), -(10**9)))
        judge.look_at(*np.array(rows, np.int64).reshape(-1, 4).T)
        packets += len(rows)
    live = judge.latency()
    assert (0 if live is None else live.packets, judge.not_live) == (len(expected), packets - len(expected))
    if live is not None:
        ordered = sorted(expected)
        assert live.max_seconds == ordered[-1]
        assert live.p50_seconds == ordered[(len(ordered) - 1) // 2]
