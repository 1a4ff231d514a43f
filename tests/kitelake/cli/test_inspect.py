"""Coverage, gaps, latency and comparison of a day, as commands; what is looked at before has other tests."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kitelake
from tests.support.command import Run, command
from tests.support.two_days import DAYS, two_days

pytestmark = pytest.mark.slow

__all__ = ["command", "two_days"]  # the fixtures

DAY = str(DAYS[1])


@pytest.fixture(scope="module")
def lake(two_days: Path) -> Iterator[kitelake.Lake]:
    """What the answers of the commands are compared with."""
    with kitelake.open(two_days) as lake:
        yield lake


def rows_of(command: Run, data: Path, *arguments: str) -> list[dict[str, Any]]:
    ended = command(*arguments, "--data", data, "--format", "json")
    assert (ended.status, ended.err) == (0, "")
    return [json.loads(line) for line in ended.out.splitlines()]


def test_gaps_are_those_of_the_method(command: Run, two_days: Path, lake: kitelake.Lake) -> None:
    found = rows_of(command, two_days, "gaps", "INFY", "--day", DAY)
    made = lake.gaps(DAY, "INFY").arrow()
    assert [row["state"] for row in found] == made["state"].to_pylist()
    (away,) = (row for row in found if row["state"] == "disconnected")
    assert away["start"].startswith(f"{DAY}T11:00:00")
    assert away["missed"]
    assert away["volume_missed"] > 0
    table = command("gaps", "INFY", "--data", two_days).out
    assert f"{DAY} 11:00:00" in table


def test_coverage_has_a_row_for_each_instrument(command: Run, two_days: Path) -> None:
    found = rows_of(command, two_days, "coverage", "--day", DAY)
    assert len(found) == 21
    assert {row["disconnected_seconds"] for row in found} == {300.0}
    (one,) = rows_of(command, two_days, "coverage", "TCS", "--day", str(DAYS[0]), "--silent", "10")
    assert one["silent_seconds"] > 0


def test_latency_is_by_connection_and_time_of_day(command: Run, two_days: Path) -> None:
    found = rows_of(command, two_days, "latency", "--day", DAY, "--bucket", "3600")
    assert {row["account"] for row in found} == {"mine"}
    assert [row["time"][11:16] for row in found][:2] == ["09:00", "10:00"]


@pytest.fixture(scope="module")
def ours(lake: kitelake.Lake) -> list[dict[str, Any]]:
    """Our bars of the day."""
    bars: list[dict[str, Any]] = lake.bars("NSE:INFY", "5m", DAY).arrow().to_pylist()
    return bars


def candles(ours: list[dict[str, Any]], path: Path, *, volume_by: int = 0) -> Path:
    """Ours as the broker's answer, the third one changed."""
    bars = [*ours[:2], ours[2] | {"volume": ours[2]["volume"] + volume_by}, *ours[3:]]
    names = ("open", "high", "low", "close", "volume", "oi")
    rows = [[bar["time"].strftime("%Y-%m-%dT%H:%M:%S%z"), *(bar[name] for name in names)] for bar in bars]
    path.write_text(json.dumps({"status": "success", "data": {"candles": rows}}))
    return path


def test_bars_that_are_as_the_brokers(command: Run, two_days: Path, ours: list[dict[str, Any]], tmp_path: Path) -> None:
    ended = command("compare", "NSE:INFY", candles(ours, tmp_path / "candles.json"), "--data", two_days)
    assert ended.status == 0
    assert ended.out.splitlines()[-1] == "74 bars, 74 equal"


@pytest.mark.parametrize(("output_format", "where"), [("table", "out"), ("csv", "err")])
def test_an_unexplained_difference_is_status_1(
    command: Run, two_days: Path, ours: list[dict[str, Any]], tmp_path: Path, output_format: str, where: str
) -> None:
    path = candles(ours, tmp_path / "candles.json", volume_by=7)
    ended = command("compare", "NSE:INFY", path, "--day", DAY, "--data", two_days, "-f", output_format)
    assert ended.status == 1
    assert "74 bars, 73 equal; 1 difference: 1 unexplained" in getattr(ended, where)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gaps", "NSE:INFO"], "near it: NSE:INFY"),
        (["coverage", "--silent", "0"], "silent: got 0"),
        (["compare", "NSE:INFY", "nowhere.csv"], "nowhere.csv: cannot be read"),
        (["compare", "NSE:INFY", "text.json"], "text.json"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_2(
    command: Run, two_days: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "text.json").write_text('{"status": "error"}')
    ended = command(*arguments, "--data", two_days)
    assert ended.status == 2, ended.err
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1
