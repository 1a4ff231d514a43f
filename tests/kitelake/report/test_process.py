"""The report process: one line on standard output, or a line of the log."""

import json
import os
from pathlib import Path

import pytest

from kitelake.processes.child import Child
from kitelake.report import Report, make_report, record_path, write_record
from tests.support.forks import Forked
from tests.support.reports import DAY, INFY, Stream, at, day, finish, listed, record
from tests.support.waiting import PATIENCE_SECONDS

__all__ = ["day"]  # the fixture


def settings(data: Path) -> dict[str, str]:
    return {"data": str(data), "date": DAY.isoformat(), "log_level": "info", "log_format": "json"}


def start(errors: Path) -> Forked:
    return Forked("kitelake.processes.child", "kitelake.processes.report", piped=True, errors=errors)


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
        process = start(tmp_path / "errors")
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout:
            print(json.dumps(settings(tmp_path)), file=process.stdin, flush=True)
            assert process.wait(PATIENCE_SECONDS) == 1
            assert process.stdout.read() == ""
        (log,) = (tmp_path / "errors").read_text().splitlines()
        assert json.loads(log)["level"] == "error"
        assert expected in log

    def test_ends_with_its_standard_input_whatever_it_is_doing(self, tmp_path: Path, day: Stream) -> None:
        finish(day, at("16:00:00"))
        record_path(tmp_path, DAY).parent.mkdir()
        os.mkfifo(record_path(tmp_path, DAY))  # to read the record takes forever
        process = start(tmp_path / "errors")
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout:
            print(json.dumps(settings(tmp_path)), file=process.stdin, flush=True)
            with record_path(tmp_path, DAY).open("wb"):  # as soon as it is read
                assert process.poll() is None
                process.stdin.close()
                assert process.wait(PATIENCE_SECONDS) == 1
