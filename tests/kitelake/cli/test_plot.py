"""--plot: in the terminal, into a file, and what it does not go with."""

from pathlib import Path

import pytest

import kitelake
from queries.errors import PictureError
from tests.support.command import Run, command
from tests.support.pictured import labelled, marks, texts
from tests.support.two_days import DAYS, two_days

__all__ = ["command", "two_days"]  # the fixtures

DAY = str(DAYS[1])
SQL = f"select received_at, last_price from ticks where symbol = 'NSE:INFY' and date = '{DAY}'"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bars", "INFY", "--plot"], "bars of 1m, clock: exchange, sessions: continuous; volume below; times in IST"),
        (["bars", "--plot", "INFY", "-w", "5m"], "bars of 5m, clock: exchange, sessions: continuous; volume below"),
        (["book", "--plot", "INFY", "--at", "12:00"], "NSE:INFY   received 2026-11-13 11:59:30   spread"),
        (["chain", "NIFTY", "--plot", "-"], "implied volatility by Black-76, open interest below, expiry 17 Nov 2026"),
        (["coverage", "--plot"], "█ served  ░ silent  ▒ cached packet only  × disconnected  · not subscribed"),
        (["latency", "--plot"], "mine 1: median, s"),
        (["sql", SQL, "--plot"], "last_price; times in IST"),
        (["sql", "--plot", f"select t.* from ({SQL}) t -- t.xy"], "last_price; times in IST"),
    ],
)
def test_it_draws_in_the_terminal(command: Run, two_days: Path, arguments: list[str], said: str) -> None:
    ended = command(*arguments, "--data", two_days)
    assert (ended.status, ended.err) == (0, "")
    assert said in ended.out
    assert "\x1b" not in ended.out


@pytest.mark.slow
def test_a_picture_has_the_bars_of_the_method_and_its_gaps(command: Run, two_days: Path, tmp_path: Path) -> None:
    pytest.importorskip("altair", reason="the extra `plot` is not installed")
    ended = command("bars", "INFY", "--width", "15m", "--plot", "bars.svg", "--dark", "--data", two_days)
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    svg = (tmp_path / "bars.svg").read_text(encoding="utf-8")
    with kitelake.open(two_days) as lake:
        rows = lake.bars("INFY", "15m", DAY)
        gaps = lake.gaps(DAY, "INFY")
        assert rows.plot(gaps=gaps, dark=True, definition=texts(svg)[-1]).svg() == svg
        assert labelled(svg, "candle") == rows.count()
        shown = [gap for gap in gaps.arrow().to_pylist() if "09:15" <= f"{gap['start']:%H:%M}" < "15:30"]
    assert labelled(svg, "gap") == 2 * len(shown) > 0


@pytest.mark.slow
def test_a_picture_of_coverage_is_of_its_intervals(command: Run, two_days: Path, tmp_path: Path) -> None:
    pytest.importorskip("altair", reason="the extra `plot` is not installed")
    assert command("coverage", "INFY", "TCS", "--plot=coverage.svg", "--data", two_days).status == 0
    svg = (tmp_path / "coverage.svg").read_text(encoding="utf-8")
    assert {"NSE:INFY", "NSE:TCS", "disconnected"} <= set(texts(svg))
    assert marks(svg, "rect mark") == 2 * 8
    with kitelake.open(two_days) as lake, pytest.raises(PictureError, match=r"lake\.intervals"):
        lake.coverage(DAY).plot()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["bars", "INFY", "--plot", "a.pdf"], 2, "--plot: got a.pdf, expected a name that ends in .png, .svg or .html"),
        (["bars", "INFY", "--plot", "-f", "csv"], 2, "--plot takes no --format and no --output: to write a picture"),
        (["latency", "--plot", "-o", "a.txt"], 2, "--plot takes no --format and no --output: to write a picture"),
        (["sql", "select 1 as a", "--plot"], 1, "got columns a, expected one of times, such as received_at"),
        (["bars", "INFY", "--plot", "--start", "2026-11-20"], 0, "no rows: nothing was captured on 2026-11-20"),
    ],
)
def test_what_cannot_be_is_said(command: Run, two_days: Path, arguments: list[str], status: int, said: str) -> None:
    ended = command(*arguments, "--data", two_days)
    assert ended.status == status
    assert said in ended.err
    assert ended.out == "" or ended.out.splitlines()[-1] == "nothing to draw"


def test_nothing_is_written_into_the_data_folder(command: Run, two_days: Path) -> None:
    ended = command("bars", "INFY", "--plot", two_days / "bars.svg", "--data", two_days)
    assert ended.status == 2
    assert "got a place in the data folder" in ended.err
