"""Why there is nothing to show."""

from pathlib import Path

import pytest

import kitelake
from queries.errors import SymbolError
from queries.history import Symbols, time_range
from queries.quality.nothing import why_nothing
from tests.support.captured import CALL, INFY, NIFTY_FUT, Captured


@pytest.mark.parametrize(
    ("symbols", "start", "stop", "expected"),
    [
        (None, "2026-11-24", None, None),
        (None, "2026-11-24 03:00", "2026-11-24 03:10", "came from 2026-11-24 09:15:10 to 2026-11-24"),
        ("NSE:INFY", "2026-11-22", None, "nothing was captured on 2026-11-22, but from 2026-11-24 to 2026-11-24"),
        (None, "2026-11-25", "2026-11-28", "nothing was captured from 2026-11-25 to 2026-11-27, but from 2026-11-24"),
        ("NSE:TINY", "2026-11-24", None, "it was not subscribed on 2026-11-24"),
        (NIFTY_FUT, "2026-11-24", None, "it was subscribed, but no packet came on 2026-11-24"),
        (
            "NSE:INFY",
            "2026-11-24 09:00",
            "2026-11-24 09:20",
            "what was received in that range, 1 packet, has nothing of",
        ),
        (
            "NSE:INFY",
            "2026-11-24 10:00",
            "2026-11-24 11:00",
            "on 2026-11-24, 1 packet, came from 2026-11-24 09:15:10 to 2026",
        ),
    ],
)
def test_is_said_as_far_as_it_is_known(
    captured: Captured, symbols: Symbols, start: str, stop: str | None, expected: str | None
) -> None:
    with kitelake.open(captured.root) as lake:
        found = why_nothing(lake.look(), symbols, time_range(start, stop))
    assert found == expected or (expected is not None and found is not None and expected in found)


def test_a_name_that_is_none_is_an_error(captured: Captured) -> None:
    with kitelake.open(captured.root) as lake, pytest.raises(SymbolError):
        why_nothing(lake.look(), "NSE:NONE", time_range("2026-11-24", None))


def test_nothing_at_all(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    with kitelake.open(tmp_path) as lake:
        assert why_nothing(lake.look(), "NSE:INFY", time_range(None, None)) == "nothing was captured yet"


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Captured:
    """On 2026-11-24 INFY was asked for, and had one packet; the future was asked for, and had none."""
    with Captured(tmp_path_factory.mktemp("captured") / "data") as captured:
        captured.instruments()
        line = captured.run("08:49").line()
        line.begin("08:50", INFY, NIFTY_FUT, CALL)
        line.full("09:15:10", INFY, 1500, volume=10)
        captured.flush()
    return captured
