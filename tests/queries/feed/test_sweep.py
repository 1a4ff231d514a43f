"""How much is held at a time, whatever the range and however rows lie."""

from pathlib import Path

import pytest

import kitelake
from queries.feed import sweep
from tests.support.captured import INFY, NIFTY_FUT, Captured
from tests.support.feeding import expected, given

COLUMNS = ["received_at", "stream", "seq", "last_price"]


def test_what_is_held_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that overlap in time are read up to a moment, and again from there."""
    with Captured(tmp_path) as captured:
        captured.instruments()
        for number in range(3):  # three streams, each in several files, side by side
            line = captured.run("09:00").line("asha", number + 1)
            line.begin("09:14", INFY if number % 2 else NIFTY_FUT)
        for part in range(2):
            for step in range(100):
                for number, run in enumerate(captured.runs):
                    at = f"09:{15 + part}:{step % 50:02}.{step:03}{number}"
                    run.line("asha", number + 1).full(at, INFY if number % 2 else NIFTY_FUT, 100 + step)
            captured.commit()
    most = [0]
    add = sweep.Pool.add

    def noted(held: sweep.Pool, *rest: object) -> None:
        add(held, *rest)  # type: ignore[arg-type]
        most[0] = max(most[0], len(held))

    monkeypatch.setattr(sweep.Pool, "add", noted)
    monkeypatch.setattr(sweep, "STEP_ROWS", 50)
    monkeypatch.setattr(sweep, "BLOCK_ROWS", 40)
    monkeypatch.setattr(sweep, "HELD_BYTES", 1)
    monkeypatch.setattr(sweep, "LEAST_HELD_ROWS", 300)
    with kitelake.open(tmp_path) as lake:
        assert given(lake.feed(columns=COLUMNS).batches()) == expected(lake, COLUMNS)
    assert 50 <= most[0] <= 300


def test_the_bound_is_of_bytes() -> None:
    """However many columns there are; but a stretch of a sealed day is held as a whole."""
    with_few = dict.fromkeys("ab", sweep.TEXT)
    assert sweep.held_rows(with_few) * sweep.width_of_row(with_few) <= sweep.HELD_BYTES
    assert sweep.held_rows({str(number): sweep.TEXT for number in range(60)}) == sweep.LEAST_HELD_ROWS
