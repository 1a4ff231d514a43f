"""Which segments a check of the journal looks at."""

import datetime

import pytest

from storage.verify.journal import is_to_read

DAY = datetime.date(2026, 11, 23)
BEFORE, AFTER = DAY - datetime.timedelta(days=1), DAY + datetime.timedelta(days=1)
ALWAYS = datetime.date.min


@pytest.mark.parametrize("number", [3, 4])
@pytest.mark.parametrize("written", [BEFORE, DAY, AFTER])
def test_without_a_date_all_are_read(number: int, written: datetime.date) -> None:
    assert is_to_read(number, 3, written, first_day=ALWAYS, date=None)


@pytest.mark.parametrize("number", [3, 4])
@pytest.mark.parametrize(("written", "expected"), [(BEFORE, False), (DAY, True), (AFTER, True)])
def test_of_a_date_what_may_have_records_of_it(number: int, written: datetime.date, expected: bool) -> None:
    assert is_to_read(number, 3, written, first_day=ALWAYS, date=DAY) is expected


@pytest.mark.parametrize("number", [3, 4])
@pytest.mark.parametrize("written", [BEFORE, DAY])
def test_what_only_waits_to_be_removed_is_left_out(number: int, written: datetime.date) -> None:
    is_lost = number == 3 and written == BEFORE
    assert is_to_read(number, 3, written, first_day=DAY, date=None) is not is_lost
