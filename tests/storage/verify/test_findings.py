"""Findings as a report has them."""

from storage.verify.findings import VerifyFinding, VerifyReport, damaged_days
from tests.support.verifying import DAYS


def test_a_report_with_nothing_found_has_no_days() -> None:
    report = VerifyReport(findings=[VerifyFinding("log", "x"), VerifyFinding("journal", "y", date=DAYS[0])])
    assert not report.is_sound
    assert not damaged_days(report)
