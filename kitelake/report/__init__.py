"""The report of a day: what was wanted, what came of it, what was missed, and what a person should act on.

The service keeps a `DayRecord` of what it meant to capture, and `make_report` holds it against the lake. The query may
be a heavy one, so the service runs it in a process of its own: `python -m kitelake.report`, see `__main__`.
"""

from kitelake.report.day import make_report
from kitelake.report.model import ConnectionReport, Gaps, Latency, ListReport, Report
from kitelake.report.record import (
    DayRecord,
    ExchangeRecord,
    ListRecord,
    PartRecord,
    read_record,
    record_path,
    write_record,
)
from kitelake.views.report import as_text, render, summary

__all__ = [
    "ConnectionReport",
    "DayRecord",
    "ExchangeRecord",
    "Gaps",
    "Latency",
    "ListRecord",
    "ListReport",
    "PartRecord",
    "Report",
    "as_text",
    "make_report",
    "read_record",
    "record_path",
    "render",
    "summary",
    "write_record",
]
