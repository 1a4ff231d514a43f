"""Which segments a check of the journal looks at, and what it says of them."""

import datetime

import pytest

from storage.journal import segments
from storage.layout import DataLayout
from storage.verify.findings import damaged_days
from storage.verify.folder import verify
from storage.verify.journal import is_to_read
from tests.support.lake import ToyDecoder
from tests.support.verifying import (
    STREAM,
    only,
)

DATE = datetime.date(2026, 11, 23)
BEFORE, AFTER = DATE - datetime.timedelta(days=1), DATE + datetime.timedelta(days=1)
ALWAYS = datetime.date.min


@pytest.mark.parametrize("number", [3, 4])
@pytest.mark.parametrize("written", [BEFORE, DATE, AFTER])
def test_without_a_date_all_are_read(number: int, written: datetime.date) -> None:
    assert is_to_read(number, 3, written, first_day=ALWAYS, date=None)


@pytest.mark.parametrize("number", [3, 4])
@pytest.mark.parametrize(("written", "expected"), [(BEFORE, False), (DATE, True), (AFTER, True)])
def test_of_a_date_what_may_have_records_of_it(number: int, written: datetime.date, expected: bool) -> None:
    assert is_to_read(number, 3, written, first_day=ALWAYS, date=DATE) is expected


@pytest.mark.parametrize("number", [3, 4])
@pytest.mark.parametrize("written", [BEFORE, DATE])
def test_what_only_waits_to_be_removed_is_left_out(number: int, written: datetime.date) -> None:
    is_lost = number == 3 and written == BEFORE
    assert is_to_read(number, 3, written, first_day=DATE, date=None) is not is_lost


@pytest.mark.slow
def test_damage_that_came_after_the_commit(three_days: DataLayout) -> None:
    path = three_days.segment(STREAM, 2)
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    report = verify(three_days, ToyDecoder())
    finding = only(report.findings)
    assert (finding.kind, finding.path, finding.stream) == ("journal", str(path), STREAM)
    assert report.compared == 7
    assert not damaged_days(report)


def test_what_the_decoder_refuses(layout: DataLayout) -> None:
    class Broken(ToyDecoder):
        def decode(self, stream: str, segment: int, *args: object, **options: object) -> object:  # type: ignore[override]
            if segment == 1:
                raise RuntimeError("no")
            return super().decode(stream, segment, *args, **options)  # type: ignore[arg-type]

    finding = only(verify(layout, Broken()).findings)  # type: ignore[arg-type]
    assert finding.text == "cannot be decoded: RuntimeError"


def test_a_journal_that_is_gone_is_no_finding(layout: DataLayout) -> None:
    for number in segments(layout, STREAM):
        layout.segment(STREAM, number).unlink()
    report = verify(layout, ToyDecoder())
    assert report.is_sound
    assert report.segments == 0
