"""A day's coverage in characters."""

from kitelake.drawing.heat import heat_lines
from queries.pictures import subject_of
from tests.support.pictured import intervals

ROWS = intervals(
    ("NSE:A", "09:00", "09:30", "served"),
    ("NSE:A", "09:30", "09:31", "disconnected"),
    ("NSE:A", "09:31", "10:00", "served"),
    ("NSE:LONGER", "09:10", "09:50", "silent"),
)


def test_a_column_has_the_worst_state_of_its_minutes() -> None:
    lines = [line.plain for line in heat_lines(subject_of(ROWS), 24, 20)]
    assert lines == [
        "NSE:A  ████████×████████",
        "NSE:L…   ░░░░░░░░░░░░",
        "       09:00   09:30",
        "█ served  ░ silent  × disconnected",
    ]


def test_those_served_least_are_shown_and_how_many_there_are() -> None:
    lines = [line.plain for line in heat_lines(subject_of(ROWS), 60, 4)]
    assert [line[:10] for line in lines[:-2]] == ["NSE:LONGER"]
    assert lines[-1] == "░ silent  1 of 2 instruments, those served least"
    assert list(heat_lines(subject_of(intervals()), 60, 4)) == []
