"""Removal of files that no reader needs any more: those that the log names as removed, and those that it never named.

Only what a table's log or a name says decides, never that a file is not in the table: a writer has each file in its
place before a commit names it.

* A file that a commit removed goes once the grace time is over. Readers of an older version have that long to finish;
  those of a day that goes on, and is sealed by the hour, until it is over.
* A file that no version names is left over from something that died: before its commit, or so long ago that the log of
  its removal is gone. A compacted file goes at once, because whoever makes such files holds the lock that this holds.
  The file of a segment goes when it is a day old and its segment is committed, for then nobody writes that name again.
  Anything else stays.
"""

import datetime
import json
import re
import shutil
from typing import Final
from urllib.parse import unquote

from storage.clock import EPOCH, ist_time
from storage.errors import TableError, TableMissingError
from storage.layout import DataLayout, parse_file
from storage.schema import TABLES, TICKS
from storage.tables import LakeTable, Version, hold_tables

GRACE: Final = datetime.timedelta(hours=1)
ORPHAN_AGE: Final = datetime.timedelta(days=1)
KEPT_NAME: Final = re.compile(r"kept-r[0-9a-f]+-[0-9]+\.parquet")  # what a rebuild leaves as it was
COMPACTED_NAME: Final = re.compile(r"sealed-([0-9a-f]{16})-[0-9]{4}-of-([0-9]{4})\.parquet")


def vacuum_tables(
    layout: DataLayout,
    *,
    grace: datetime.timedelta = GRACE,
    keep: datetime.date | None = None,
    now: datetime.datetime,
) -> int:
    """Unlink the files of all tables that were removed longer than `grace` before `now`, and what dead runs left.

    What was removed from the day `keep` stays for the time being.

    Returns how many files of tables went. May run beside a writer and readers. Raises DataFolderError if another
    process swaps files for too long, TableError if a log cannot be read or the system refuses.
    """
    with hold_tables(layout):
        shutil.rmtree(layout.staging / "seal", ignore_errors=True)
        try:
            # Before anything else is looked at: a segment that is committed by now has its files in all later versions.
            committed = LakeTable(layout.table(TICKS.name), TICKS).open().snapshot()
        except TableMissingError:
            return 0
        tables = [LakeTable(layout.table(name), spec) for name, spec in TABLES.items()]
        return sum(_remove(table, committed, grace, keep, now) for table in tables)


def _remove(
    table: LakeTable,
    committed: Version,
    grace: datetime.timedelta,
    keep: datetime.date | None,
    now: datetime.datetime,
) -> int:
    # The folder before the log: what is committed meanwhile is then in the log.
    there = {path.relative_to(table.path).as_posix(): path for path in table.path.glob("*=*/**/*.parquet")}
    try:
        live = {entry.relative for entry in table.open().snapshot().entries}
    except TableMissingError:
        return 0
    candidates = {name: path for name, path in there.items() if name not in live}
    if not candidates:
        return 0
    removed_at = _removals(table)
    count = 0
    try:
        for name, path in candidates.items():
            written_at = ist_time(path.stat().st_mtime_ns)
            at = removed_at.get(name)
            if at is not None and (now - at <= grace or name.startswith(f"date={keep}/")):
                continue
            is_new = at is None or written_at > at  # never removed, or written once more since
            if is_new and not _is_abandoned(path.name, now - written_at, committed):
                continue
            path.unlink()
            count += 1
    except OSError as error:
        raise TableError(f"table {table.path}: cannot remove old files: {error}") from error
    return count


def _removals(table: LakeTable) -> dict[str, datetime.datetime]:
    """When each file was last removed from the table, as far back as its log goes."""
    found: dict[str, datetime.datetime] = {}
    for log in sorted((table.path / "_delta_log").glob("*.json")):
        try:
            for line in log.read_text(encoding="utf-8").splitlines():
                if remove := json.loads(line).get("remove"):
                    at = EPOCH + datetime.timedelta(milliseconds=remove["deletionTimestamp"])
                    found[unquote(remove["path"])] = at
        except FileNotFoundError:
            continue  # the log is tidied up by its own rules
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TableError(f"log {log}: cannot read: {type(error).__name__}") from error
    return found


def _is_abandoned(name: str, age: datetime.timedelta, committed: Version) -> bool:
    """Whether a file that no version names will never be named by one."""
    if COMPACTED_NAME.fullmatch(name) or KEPT_NAME.fullmatch(name):
        return True
    segment = parse_file(name)
    if segment is None or age <= ORPHAN_AGE:
        return False
    stream, number = segment
    done = committed.transaction(stream)  # ticks come last: what they have is committed everywhere
    return done is not None and done >= number
