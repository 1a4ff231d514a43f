"""A report in words: numbers, gaps, times."""

import io
import json

import pytest
from rich.console import Console

from kitelake.report import Report, make_report
from kitelake.report.model import MissedReport
from kitelake.report.text import as_text, duration, summary
from kitelake.views.report import render_report
from tests.support.reports import INFY, TCS, at, finish, listed, record, started


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    data = tmp_path_factory.mktemp("day")
    with started(data) as day:
        day.full(at("10:00:00.250"), INFY, at("10:00:00"))
        day.event(at("11:00:00"), "closed", by="peer", clean=True, reason="network")
        day.event(at("11:00:12"), "connected", opening=2)
        day.event(at("11:00:12"), "resumed", down_seconds=12.0)
        day.ltp(at("12:00:00"), *[INFY] * 1233)
        finish(day, at("16:00:00"))
    long = listed("a name that goes on and on, as names do [bold]", TCS, problems=["NSE:FOO is not in the list"])
    return make_report(data, record(listed("NSE", INFY, TCS), long))


class TestWords:
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
            "Coverage, in the hours of trading\n"
            "- silent: 1 instrument, 6.7 % of the time of all\n"
            "- cached packet only: 1 instrument, 26.7 % of the time of all\n"
            "- not yet served: 1 instrument, 6.6 % of the time of all\n"
            "- disconnected: 1 instrument, < 0.1 % of the time of all\n"
            "- not subscribed: 2 instruments, 60.0 % of the time of all\n"
            "\n"
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
        assert ["cached", "packet", "only", "1", "26.7", "%"] in table
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

    def test_what_was_missed(self, report: Report) -> None:
        one = MissedReport(symbol="NSE:INFY", gaps=2, seconds=312, volume=12345, value=1.8e7, high=1520.5, low=None)
        missed = report.model_copy(update={"missed_instruments": 3, "missed": (one,)})
        lines = as_text(missed).splitlines()
        place = lines.index("Missed at least, of 3 instruments, the worst")
        assert lines[place + 1] == "- NSE:INFY: 2 gaps of 5 min 12 s, a volume of 12,345, a high of 1,520.50"
        console = Console(width=80, record=True, file=io.StringIO())
        console.print(render_report(missed))
        table = [line.split() for line in console.export_text().splitlines()]
        assert ["NSE:INFY", "2", "5", "min", "12", "s", "12,345", "1,520.50", "–"] in table

    def test_a_report_comes_back_from_json(self, report: Report) -> None:
        assert Report.model_validate_json(report.model_dump_json()) == report
        assert Report.model_validate(json.loads(json.dumps(report.model_dump(mode="json")))) == report
