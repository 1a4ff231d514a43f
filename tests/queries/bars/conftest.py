"""A day of one connection, asked for everything before any session, and what a lake says of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kitelake
from tests.support.captured import CALL, CRUDE, INFY, NIFTY_50, NIFTY_FUT, TINY, Captured, Line

Rows = list[dict[str, Any]]


@pytest.fixture
def captured(tmp_path: Path) -> Iterator[Captured]:
    """A data folder in which nothing was captured yet; today is 2026-11-24."""
    with Captured(tmp_path / "data") as captured:
        yield captured


@pytest.fixture
def line(captured: Captured) -> Line:
    """The day's list, and a connection that was asked for everything at 08:50."""
    captured.instruments()
    line = captured.run("08:49").line()
    line.begin("08:50", INFY, TINY, NIFTY_50, NIFTY_FUT, CALL, CRUDE)
    return line


@pytest.fixture
def ask(captured: Captured) -> Iterator[Callable[..., Rows]]:
    """`ask("bars", "NSE:INFY", "1m", …)`: the rows of a method of the lake, as of now."""
    lakes: list[kitelake.Lake] = []

    def ask(method: str, *args: object, **options: object) -> Rows:
        captured.flush()
        if not lakes:
            lakes.append(kitelake.open(captured.root))
        rows: Rows = getattr(lakes[0], method)(*args, **options).arrow().to_pylist()
        return rows

    yield ask
    for lake in lakes:
        lake.close()
