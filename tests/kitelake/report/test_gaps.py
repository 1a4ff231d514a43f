"""When connections were not connected, by the day's events."""

import datetime as dt
from pathlib import Path

import pytest

from kitelake.report import make_report
from kitelake.report.text import clock
from tests.support.reports import DAY, INFY, Stream, at, commit, day, finish, listed, record

pytestmark = pytest.mark.slow

__all__ = ["day"]  # the fixture


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
