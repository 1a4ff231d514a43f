"""The upkeep process: a child, started by the service for work that may take an hour.

It seals days, archives segments and removes what is old; on a full disk it only removes, and while a day goes on it
only seals what there is of it. Its settings come as one line
of JSON on standard input; for each thing that it has done it says a line of JSON on standard output. It ends at once
when its standard input ends, which is how it learns that the service has died, or that the disk has no more room for
it: whatever it does may be stopped at any moment, and the next one begins again.
"""

import contextlib
import datetime as dt
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import structlog

from ingest.wire import JournalDecoder
from kitelake.processes.child import begin, end_at_once
from kitelake.telemetry import configure_logs
from storage.clock import IST
from storage.errors import StorageError, TableMissingError
from storage.layout import DataLayout
from storage.schema import TICKS
from storage.tables import LakeTable
from storage.upkeep import (
    CompactedPartition,
    archive_committed,
    compact_day,
    remove_committed,
    remove_days,
    vacuum_tables,
)

_NICENESS = 10  # the sockets come first, then the writer
_BESIDE_CAPTURE_BYTES = 1 << 30  # for sorting: that is nearly a whole stretch of ticks


class Tell(Protocol):
    """Takes what was done, and its particulars."""

    def __call__(self, done: str, /, **data: Any) -> None: ...


@dataclass(frozen=True, kw_only=True)
class UpkeepSettings:
    """What to do. Days before `seal_before` are sealed; None: none are. `only_remove`: nothing that takes room.

    `seal_of`: of that day, which goes on, what is in the tables is sealed, and nothing else is done.
    """

    data: Path
    seal_before: dt.date | None
    seal_of: dt.date | None = None
    only_remove: bool = False
    memory_bytes: int
    grace: dt.timedelta
    keep_journal: dt.timedelta
    keep_days: int | None
    most_bytes: int | None
    log_level: str
    log_format: Literal["text", "json"]

    def as_json(self) -> dict[str, Any]:
        """As values of JSON."""
        return asdict(self) | {
            "data": str(self.data),
            "seal_before": None if self.seal_before is None else self.seal_before.isoformat(),
            "seal_of": None if self.seal_of is None else self.seal_of.isoformat(),
            "grace": self.grace.total_seconds(),
            "keep_journal": self.keep_journal.total_seconds(),
        }

    @classmethod
    def from_json(cls, line: str) -> Self:
        """What `as_json` gave, as text. pydantic would do it, and be a third of what such a process takes to start."""
        values = json.loads(line)
        before, of = values["seal_before"], values["seal_of"]
        return cls(
            **values
            | {
                "data": Path(values["data"]),
                "seal_before": None if before is None else dt.date.fromisoformat(before),
                "seal_of": None if of is None else dt.date.fromisoformat(of),
                "grace": dt.timedelta(seconds=values["grace"]),
                "keep_journal": dt.timedelta(seconds=values["keep_journal"]),
            }
        )


def main() -> None:
    """Do it. Exit status 1 if a part of it failed; the log says which."""
    settings = UpkeepSettings.from_json(begin(niceness=_NICENESS, ended=end_at_once))
    configure_logs(settings.log_level, settings.log_format)
    sys.exit(0 if keep_up(settings, _say) else 1)


def keep_up(settings: UpkeepSettings, tell: Tell) -> bool:
    """Do all of it, and `tell` of each thing that was done; whether all parts went well. The log says which did not."""
    good = True
    # On a full disk first what goes without a commit, which needs room itself.
    parts = [_seal_of] if settings.seal_of is not None else [_seal, _archive, _remove_days, _vacuum]
    for part in [_remove_archived, _vacuum, _remove_days] if settings.only_remove else parts:
        try:
            part(settings, DataLayout(settings.data), tell)
        except StorageError as error:
            structlog.get_logger().error("a part of the upkeep failed; the rest goes on", error=str(error))
            good = False
    return good


def days_before(layout: DataLayout, date: dt.date) -> list[dt.date]:
    """The IST days before that one of which there are ticks. Raises TableError."""
    try:
        entries = LakeTable(layout.table(TICKS.name), TICKS).open().snapshot().entries
    except TableMissingError:
        return []
    days = {dt.date.fromisoformat(entry.values["date"]) for entry in entries}
    return sorted(day for day in days if day < date)


def _archive(settings: UpkeepSettings, layout: DataLayout, tell: Tell) -> None:
    outcome = archive_committed(layout, JournalDecoder())
    if outcome.segments:
        tell("archived", segments=outcome.segments, bytes=outcome.plain_bytes, archived_bytes=outcome.archived_bytes)
    for one in outcome.unverified:
        tell("not verified", **asdict(one))
    # In this order: what the archive did not verify stays.
    _tell_removed(remove_committed(layout, keep=settings.keep_journal, now=dt.datetime.now(IST)), tell)


def _remove_archived(settings: UpkeepSettings, layout: DataLayout, tell: Tell) -> None:
    removed = remove_committed(layout, keep=settings.keep_journal, now=dt.datetime.now(IST), archived_only=True)
    _tell_removed(removed, tell)


def _tell_removed(segments: list[Path], tell: Tell) -> None:
    if segments:
        tell("segments removed", segments=len(segments))


def _seal(settings: UpkeepSettings, layout: DataLayout, tell: Tell) -> None:
    if settings.seal_before is None:
        return
    failures = []
    for day in days_before(layout, settings.seal_before):
        try:
            compact_day(layout, day, memory_bytes=settings.memory_bytes, on_done=_sealed(tell))
        except StorageError as error:  # another day may be sound
            failures.append(str(error))
    if failures:
        raise StorageError("; ".join(failures))


def _seal_of(settings: UpkeepSettings, layout: DataLayout, tell: Tell) -> None:
    assert settings.seal_of is not None
    memory_bytes = min(settings.memory_bytes, _BESIDE_CAPTURE_BYTES)
    compact_day(layout, settings.seal_of, goes_on=True, memory_bytes=memory_bytes, on_done=_sealed(tell))


def _sealed(tell: Tell) -> Callable[[CompactedPartition], None]:
    return lambda one: tell("sealed", **asdict(one))


def _remove_days(settings: UpkeepSettings, layout: DataLayout, tell: Tell) -> None:
    today = dt.datetime.now(IST).date()
    if days := remove_days(layout, keep_days=settings.keep_days, most_bytes=settings.most_bytes, today=today):
        tell("days removed", days=[str(day) for day in days])


def _vacuum(settings: UpkeepSettings, layout: DataLayout, tell: Tell) -> None:
    now = dt.datetime.now(IST)
    # Who looks at the day that goes on may do so all day, unless there is no room for that.
    kept = None if settings.only_remove else now.date()
    if files := vacuum_tables(layout, grace=settings.grace, keep=kept, now=now):
        tell("superseded files removed", files=files)


def _say(done: str, /, **data: Any) -> None:
    with contextlib.suppress(BrokenPipeError):  # the service has died; standard input tells
        print(json.dumps({"done": done, "data": data}), flush=True)  # noqa: T201 (this is the protocol)


if __name__ == "__main__":
    main()
