"""The report process: one line on standard output, or a line of the log."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kitelake.processes.child import Child
from kitelake.report import Report, make_report, record_path, write_record
from tests.support.reports import DAY, INFY, Stream, at, day, finish, listed, record

__all__ = ["day"]  # the fixture


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
            [sys.executable, "-m", "kitelake.processes.child", "kitelake.processes.report"],
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
            [sys.executable, "-m", "kitelake.processes.child", "kitelake.processes.report"],
            stdin=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin
            process.stdin.write(json.dumps(settings(tmp_path)) + "\n")
            process.stdin.flush()
            time.sleep(1.5)
            assert process.poll() is None
            process.stdin.close()
            assert process.wait(30) == 1
