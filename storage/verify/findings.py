"""What a check of the data folder may find."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

FindingKind = Literal["log", "file", "rows", "sequence", "journal"]
"""`log`: a table's Delta log. `file`: a Parquet file. `rows`: rows that contradict the log, one another or the journal.
`sequence`: ticks that are missing or there twice. `journal`: a segment."""


@dataclass(frozen=True)
class VerifyFinding:
    """One thing that is not as it must be.

    `path` is of a file or a segment, `stream` and `date` are None where it is not about one. `rows` says how many rows
    it concerns, as far as that is known. `repairable`: the journal holds all that the rows of that day came from.
    """

    kind: FindingKind
    text: str
    table: str | None = None
    path: str | None = None
    stream: str | None = None
    date: datetime.date | None = None
    rows: int | None = None
    repairable: bool = False


@dataclass(frozen=True)
class VerifyProgress:
    """How far a check is: `done` of `total` files of a table, or segments of the `journal`."""

    what: str
    done: int
    total: int


@dataclass
class VerifyReport:
    """What was looked at, and what was found. `bytes` are of files and segments, `rows` of the files.

    `segments` counts those that were read whole, `compared` those of them whose rows were compared with the tables.
    """

    files: int = 0
    rows: int = 0
    bytes: int = 0
    segments: int = 0
    compared: int = 0
    seconds: float = 0.0
    findings: list[VerifyFinding] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def damaged_days(report: VerifyReport) -> Mapping[datetime.date, bool]:
    """The days whose rows are to be made again from the journal, and whether it holds all of them.

    What has no day, as a table's log, and what no row depends on, as a segment, is not among them.
    """
    days: dict[datetime.date, bool] = {}
    for finding in report.findings:
        if finding.date is not None and finding.kind in ("file", "rows", "sequence"):
            days[finding.date] = days.get(finding.date, True) and finding.repairable
    return dict(sorted(days.items()))
