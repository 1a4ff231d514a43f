"""Bars of runs that lie in several files: the same as of one file, whatever happens where one ends."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import kitelake
from queries.bars.choices import Sessions
from tests.support.captured import INFY, SECOND_US, TINY, Captured, us_of

pytestmark = pytest.mark.slow  # tables are made for each test

DAY = "2026-11-24"
SEAM = 30
Packet = dict[str, Any]


def _dips_behind_it(number: int, packet: Packet) -> None:
    if number == SEAM:
        packet["volume"] = 3


def _dips_before_it(number: int, packet: Packet) -> None:
    if number == SEAM - 1:
        packet["volume"] = 3


def _begins_anew(number: int, packet: Packet) -> None:
    if number >= SEAM:
        packet["volume"] -= 290


def _has_trades_out_of_order(number: int, packet: Packet) -> None:
    if number in (SEAM - 1, SEAM):
        packet["traded"] = {SEAM - 1: "10:01:00", SEAM: "10:00:59"}[number]


def _has_no_price_behind_it(number: int, packet: Packet) -> None:
    if number >= SEAM:
        packet["price"] = 0


def _has_no_price_before_it(number: int, packet: Packet) -> None:
    if number < SEAM:
        packet["price"] = 0


@pytest.mark.parametrize("sessions", ["continuous", "all"])
@pytest.mark.parametrize(
    "change",
    [
        _dips_behind_it,
        _dips_before_it,
        _begins_anew,
        _has_trades_out_of_order,
        _has_no_price_behind_it,
        _has_no_price_before_it,
    ],
)
def test_bars_do_not_tell_where_files_end(
    tmp_path: Path, change: Callable[[int, Packet], None], sessions: Sessions
) -> None:
    whole, pieces = (_answers(tmp_path / name, change, seams, sessions) for name, seams in _FOLDERS.items())
    assert whole[0] == whole[1] == pieces[0] == pieces[1]
    assert sum(bar["volume"] for bar in whole[0]) > 0


_FOLDERS = {"one file": (), "two files": (SEAM,)}


def _answers(
    root: Path, change: Callable[[int, Packet], None], seams: Sequence[int], sessions: Sessions
) -> tuple[list[Packet], list[Packet]]:
    """Of the method and of the macro."""
    with Captured(root, DAY) as captured:
        captured.instruments()
        line = captured.run("08:55").line()
        line.begin("08:56", INFY, TINY)
        for number in range(2 * SEAM):
            if number in seams:
                captured.commit()
            packet: Packet = {"price": 100 + number * 0.05, "volume": 10 * (number + 1)}
            change(number, packet)
            at = us_of(captured.day, "10:00:15") + number * SECOND_US
            for token in (INFY, TINY):
                line.full(at, token, **packet)
        captured.commit()
    with kitelake.open(root) as lake:
        names = ["NSE:INFY", "NSE:TINY"]
        method = lake.bars(names, "1 minute", DAY, sessions=sessions).arrow().to_pylist()
        text = f"FROM bars($names, width := '1 minute', start := '{DAY}', sessions := '{sessions}')"
        return method, lake.sql(text, {"names": names}).arrow().to_pylist()
