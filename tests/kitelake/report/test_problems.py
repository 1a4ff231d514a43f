"""What a report says that a person should act on."""

import datetime as dt
from pathlib import Path

import pytest

from kitelake.report import ConnectionReport, Gaps, make_report
from kitelake.report.problems import problems_of
from queries.errors import NoLakeError
from tests.support.reports import INFY, SBIN, TCS, Stream, at, day, finish, listed, record

__all__ = ["day"]  # the fixture


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
                gaps=Gaps.of([(at("10:00:00"), at("10:00:00") + dt.timedelta(seconds=down))] if down else []),
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
