"""The comparison of a day with the capture of its replay: what it lets pass, and what it finds."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.captured import INFY, TINY, Captured, Line, us_of
from tests.support.replayed import difference, differences

DAY, SUNDAY = "2026-11-17", "2026-11-22"
A, B, C = (bytes([each]) * 44 for each in b"abc")


@pytest.mark.parametrize(
    ("found", "asked"),
    [
        ([A, B, C], 0),
        ([A, A, B, C], 1),  # asked again after the first
        ([A, A[:8], B, B, C], 2),  # … in a lower mode, and once more
        ([A, B, C, C, C], 2),
    ],
)
def test_what_was_served_when_it_was_asked_for_is_left_out(found: list[bytes], asked: int) -> None:
    assert difference([A, B, C], found, asked=asked) is None


def test_what_had_come_before_the_range_may_be_served_first() -> None:
    assert difference([B, C], [A, B, C], [C, A]) is None
    assert difference([A, A], [A, A, A], [A]) is None
    assert difference([], [A], [A]) is None


@pytest.mark.parametrize(
    ("found", "asked", "told"),
    [
        ([A, B], 1, "got 2 of 3 packets; then there are no more"),
        ([], 1, "got 0 of 3 packets"),
        ([A, C, B], 1, f"packet 1: got {C.hex(' ', 4)}, expected packet 1 of 3: {B.hex(' ', 4)}"),
        ([A, A, B, B, C], 1, "packet 3: got 62"),  # twice, and asked for once
        ([B, A, B, C], 1, "packet 0: got 62"),  # of after
        ([A, B, A, C], 1, "packet 2: got 61"),  # not the last one
        ([A, B, C, A], 1, "expected packet 3 of 3: none"),
        ([A, B, C[:8]], 1, "packet 2: got 63636363 63636363, expected"),  # a lower mode than was captured
        ([A[:8], A, B, C], 1, "packet 0"),  # nothing was known of it yet
    ],
)
def test_whatever_else_differs_is_told(found: list[bytes], asked: int, told: str) -> None:
    assert told in str(difference([A, B, C], found, asked=asked))


@given(st.lists(st.sampled_from([A, B])), st.lists(st.integers(0, 9), max_size=3))
def test_repeats_anywhere_are_left_out_and_no_more_than_asked_for(packets: list[bytes], places: list[int]) -> None:
    found = list(packets)
    for place in sorted({place for place in places if place < len(packets)}, reverse=True):
        found.insert(place + 1, packets[place])
    asked = len(found) - len(packets)
    assert difference(packets, found, asked=asked) is None
    if asked:
        assert difference(packets, found, asked=asked - 1) is not None
    if packets:
        assert difference(packets, packets[:-1], asked=asked) is not None


def put(line: Line, at: Callable[[str], int], times: tuple[str, ...], skip: int = 0) -> None:
    for number, time in enumerate(times):
        if number >= skip:
            line.full(at(time), INFY, 1500 + number, volume=number, traded=us(time), stamped=us(time))
            line.ltp(at(time) + 1, TINY, 50 + number)


def us(time: str) -> int:
    return us_of(dt.date.fromisoformat(DAY), time)


TIMES = ("09:15:01", "09:15:03", "09:16:00")


@pytest.fixture
def original(tmp_path: Path) -> Path:
    with Captured(tmp_path / "original", DAY) as captured:
        line = captured.run("09:00").line()
        line.begin("09:00:01", INFY, TINY)
        put(line, us, TIMES)
    return captured.root


def replay(root: Path, skip: int, *, again: bool = False) -> Path:
    """A capture at night; from the `skip`th time on, with what had been the last before that served first."""
    with Captured(root, SUNDAY) as captured:
        captured.replayed(DAY)
        line = captured.run("01:00").line()
        line.begin("01:00:01", INFY, TINY)

        def at(time: str) -> int:
            return us(time) - us("09:15") + us_of(captured.day, "01:00:05")

        if skip:
            time = TIMES[skip - 1]
            line.full("01:00:02", INFY, 1499 + skip, volume=skip - 1, traded=us(time), stamped=us(time))
            line.ltp("01:00:02", TINY, 49 + skip)
        put(line, at, TIMES, skip)
        if again:
            line.ltp("01:10", TINY, 99)
    return captured.root


def test_a_capture_of_the_whole_replay_differs_in_nothing(tmp_path: Path, original: Path) -> None:
    assert differences(original, replay(tmp_path / "captured", 0), DAY) == []


def test_a_capture_of_a_part_differs_in_nothing_of_that_part(tmp_path: Path, original: Path) -> None:
    captured = replay(tmp_path / "captured", 2)
    assert differences(original, captured, DAY, "09:15:30") == []
    assert len(differences(original, captured, DAY, "09:15:30", "09:15:40")) == 2
    assert len(differences(original, captured, DAY)) == 2


def test_instruments_are_told_by_their_tokens(tmp_path: Path, original: Path) -> None:
    captured = replay(tmp_path / "captured", 0, again=True)
    (line,) = differences(original, captured, DAY)
    assert line.startswith(f"{TINY}: packet 3: got ")
    assert differences(original, captured, DAY, tokens=[INFY])[0].startswith(f"{TINY}: packet 0: got ")
