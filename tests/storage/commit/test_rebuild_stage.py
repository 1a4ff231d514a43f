"""When a run of segments may replace what the tables have of it."""

import pytest

from storage.commit.rebuild_plan import SegmentRun
from storage.commit.rebuild_stage import is_replaceable


@pytest.mark.parametrize(
    ("next_seq", "is_end", "has_other_days", "expected"),
    [
        (20, False, False, True),
        (20, True, True, True),
        (19, True, False, False),  # a row would be lost
        (21, True, False, True),
        (21, True, True, False),  # rows of another day may come behind it
        (21, False, False, False),  # the stream goes on with 20
    ],
)
def test_only_if_no_other_row_would_need_another_seq(
    next_seq: int, is_end: bool, has_other_days: bool, expected: bool
) -> None:
    run = SegmentRun("20261123T034500-aaaaaa", [3, 4], 10, 20, None, is_end)
    assert is_replaceable(run, next_seq, has_other_days=has_other_days) is expected
