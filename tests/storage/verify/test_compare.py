"""Which segments are decoded to be compared, and which `seq` their rows have."""

import pytest

from storage.verify.compare import first_seq_of, is_to_decode


@pytest.mark.parametrize(
    ("number", "is_asked", "has_anchor", "expected"),
    [
        (5, True, True, True),
        (5, True, False, True),
        (5, False, True, False),  # its archive says where it begins
        (5, False, False, True),  # the one that is asked for is counted back from its end
        (3, False, False, True),
        (2, False, False, False),  # nobody counts from it
        (2, True, True, True),
    ],
)
def test_what_is_asked_for_is_decoded_and_what_it_is_counted_from(
    number: int, is_asked: bool, has_anchor: bool, expected: bool
) -> None:
    assert is_to_decode(number, is_asked=is_asked, has_anchor=has_anchor, lowest=3) is expected


@pytest.mark.parametrize(
    ("packets", "named", "end", "expected"),
    [
        (4, (10, 4), None, 10),
        (4, (10, 4), 99, 10),
        (4, (10, 3), 99, 95),  # some of its rows are in other files
        (4, (10, 3), None, None),
        (4, None, 99, 95),
        (4, None, None, None),
        (0, (10, 0), 99, 99),
        (0, None, 99, 99),
    ],
)
def test_the_first_seq_of_a_segment(
    packets: int, named: tuple[int, int] | None, end: int | None, expected: int | None
) -> None:
    assert first_seq_of(packets, named, end) == expected
