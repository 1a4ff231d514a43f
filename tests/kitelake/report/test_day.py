"""The report of a day, over journals and tables with the broker's own frames."""

import datetime as dt
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.wire import Mode
from kitelake.report import (
    Gaps,
    make_report,
)
from kitelake.report.text import as_text
from storage.journal import Kind
from storage.layout import DataLayout
from storage.tables.symbols import write_instruments
from storage.upkeep.compact import compact_day
from tests.support.reports import (
    ACC,
    DAY,
    INFY,
    SBIN,
    TCS,
    Stream,
    at,
    commit,
    day,
    finish,
    instruments,
    listed,
    record,
)
from tests.support.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.slow

__all__ = ["day"]  # the fixture


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
        monkeypatch.setattr("queries.connections.packets.PART_ROWS", 2048)
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


@pytest.mark.slow
def test_what_the_service_imports_is_light() -> None:
    code = """
import sys, kitelake.telemetry.notify, kitelake.report
print(sorted({"apprise", "duckdb", "requests"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
    )
    assert done.stdout.strip() == "[]"
