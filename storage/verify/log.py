"""A table's Delta log, read by our own code and compared with what the library makes of it.

The log has no checksums. But what we write into it is redundant, so that a changed byte contradicts something:

- Every version is there, from the first to the newest or from a checkpoint on; every line is an action that we write.
- An added file is new; its folder says the same as its partition values. A removed file was there.
- A version changes something. Files of a segment come with the transaction of that segment, unless a rebuild made them;
  those of no segment come in the place of others. Segments ascend, and those of ticks without gaps; the next `seq`
  grows by as many rows as were added.
- A checkpoint holds what the versions before it say, and the library sees the same files and transactions as we do.

Sizes, row counts and bounds are compared with the files themselves, elsewhere.
"""

import contextlib
import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import TableError
from storage.layout import is_rebuilt, parse_file
from storage.schema import TICKS, Table
from storage.tables import (
    CHECKPOINT_NAME,
    FIRST_DAY,
    HINT_NAME,
    VERSION_NAME,
    LakeTable,
    Snapshot,
    first_day,
    first_line,
    log_of,
    numbered,
)
from storage.verify.actions import BadLogError, LoggedFile, parse_action, parse_added


@dataclass
class LogState:
    """A table as its log describes it at one version.

    `removed` are the files that its versions took out, as far back as they go. `skipped` are segments (stream, first,
    last, day) that no version of ticks names: the writer did not find them. The day is that of the rows that came next.
    """

    version: int = -1
    files: dict[str, LoggedFile] = field(default_factory=dict)
    transactions: dict[str, int] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    skipped: list[tuple[str, int, int, datetime.date]] = field(default_factory=list)

    @property
    def first_day(self) -> datetime.date:
        """The first that retention has left, as the log of ticks has it; the first of all if that is damaged."""
        with contextlib.suppress(TableError):
            return first_day(self.transactions.get(FIRST_DAY))
        return datetime.date.min

    def streams(self) -> list[str]:
        """The streams of which ticks are committed."""
        return sorted(name for name in self.transactions if f"{name}/seq" in self.transactions)


def newest_version(table: LakeTable) -> int | None:
    """The newest version that the log has; None if there is no table. Raises OSError."""
    folder = log_of(table.path)
    return max(numbered(folder, VERSION_NAME), default=None) if folder.is_dir() else None


def read_log(table: LakeTable, version: int) -> tuple[LogState, list[str], bool]:
    """The table's state at a version, what is wrong with its log in words, and whether all checkpoints are good.

    With something wrong the state is only what could be read. Raises OSError, and nothing for what the log contains.
    """
    folder = log_of(table.path)
    state = LogState(version)
    versions, checkpoints = numbered(folder, VERSION_NAME), numbered(folder, CHECKPOINT_NAME)
    first = min(versions)
    problems: list[str] = []
    bad: list[str] = []
    if first > 0:
        base = min((at for at in checkpoints if at >= first - 1), default=None)
        if base is None:
            return state, [f"got versions from {first} on and no checkpoint before, expected version 0"], False
        first = base + 1
        bad += _take_checkpoint(table.spec, checkpoints[base], state)
    for at in range(first, version + 1):
        if at not in versions:
            problems.append(f"version {at} is not there")
            continue
        problems += [f"version {at}: {text}" for text in _apply(table.spec, versions[at], state)]
        if at in checkpoints:
            there = LogState()
            bad += _take_checkpoint(table.spec, checkpoints[at], there)
            if (there.files, there.transactions) != (state.files, state.transactions):
                bad.append(f"checkpoint {at}: got other files or transactions than the versions before it")
    problems += _hint(folder / HINT_NAME, checkpoints)
    return state, bad + problems, not bad


def compare_with_library(state: LogState, snapshot: Snapshot) -> list[str]:
    """What the library takes from the log otherwise than we do. Raises whatever it raises."""
    return list(_compare(state, snapshot))


def _apply(spec: Table, log: Path, state: LogState) -> Iterator[str]:
    """Take in one version. What cannot be taken in is said and left out."""
    try:
        actions = [parse_action(line) for line in log.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, BadLogError) as error:
        yield f"cannot read it: {error}"
        return
    if not {name for name, _ in actions} - {"commitInfo"}:
        yield "changes nothing"
    before = dict(state.transactions)
    added: list[LoggedFile] = []
    removed: list[LoggedFile] = []
    # Removals first: Delta gives the actions of a version no order.
    for name, values in sorted(actions, key=lambda action: action[0] != "remove"):
        try:
            if name == "remove":
                path = unquote(values["path"])
                state.removed.add(path)
                if path not in state.files:
                    raise BadLogError(f"removes {path}, which the table does not have")
                removed.append(state.files.pop(path))
            elif name == "add":
                file = parse_added(spec, values)
                if file.relative in state.files:
                    raise BadLogError(f"adds {file.relative}, which the table has")
                state.files[file.relative] = file
                added.append(file)
            elif name == "txn":
                yield from _take_transaction(values, state)
            elif name in ("metaData", "protocol") and int(log.stem) > 0:
                raise BadLogError(f"has {name}, expected in version 0 only")
        except BadLogError as error:
            yield str(error)
    new = {app: state.transactions[app] for app, _ in state.transactions.items() - before.items()}
    if "stream" in spec.schema.names:
        yield from _origins(added, removed, new)
    if spec is TICKS:
        yield from _take_ticks(added, removed, before, new, state)


def _origins(
    added: Sequence[LoggedFile], removed: Sequence[LoggedFile], transactions: Mapping[str, int]
) -> Iterator[str]:
    """What files of a version come from nothing that we do."""
    for file in added:
        segment = parse_file(file.relative)
        if segment is None and not removed:
            yield f"adds {file.relative}, which comes from no segment, and removes nothing"
        elif segment is not None and not is_rebuilt(file.relative) and transactions.get(segment[0]) != segment[1]:
            yield f"adds {file.relative} with the transaction {transactions.get(segment[0])} of its stream"


def _take_ticks(
    added: Sequence[LoggedFile],
    removed: Sequence[LoggedFile],
    before: Mapping[str, int],
    new: Mapping[str, int],
    state: LogState,
) -> Iterator[str]:
    """What of a version of ticks contradicts itself. The segments that it passes over go to `state`."""
    committed = {app: number for app, number in new.items() if "/" not in app}
    grown = sum(new[app] - before.get(app, 0) for app in new if app.endswith("/seq"))
    rows = sum(file.rows for file in added)
    more = rows - sum(file.rows for file in removed)
    # A rebuild may find more at a stream's end, and make again what retention had removed.
    if rows != grown if committed else 0 < grown > more:
        yield f"adds {rows} rows, and the next seq grows by {grown}"
    last = max((file.values["date"] for file in removed), default="")
    if FIRST_DAY in new and last >= state.first_day.isoformat():
        yield f"removes rows of {last}, and {FIRST_DAY} is {new[FIRST_DAY]}"
    day = min((datetime.date.fromisoformat(file.values["date"]) for file in added), default=datetime.date.max)
    for stream, number in committed.items():
        mark = before.get(stream, -1)
        if number > mark + 1:
            state.skipped.append((stream, mark + 1, number - 1, day))


def _take_transaction(values: dict[str, Any], state: LogState) -> Iterator[str]:
    app, version = values["appId"], values["version"]
    if not isinstance(app, str) or not isinstance(version, int):
        raise BadLogError("txn: got something else than a name and a number")
    before = state.transactions.get(app, -1)
    counts = "/" in app  # stream names have none; such a count stays where a segment brought nothing
    if version < before or (version == before and not counts):
        yield f"transaction {app}: got {version} after {before}"
    state.transactions[app] = version


def _take_checkpoint(spec: Table, path: Path, state: LogState) -> list[str]:
    try:
        rows = pq.read_table(path, page_checksum_verification=True).to_pylist()
        for row in rows:
            if row["add"] is not None:
                file = parse_added(spec, row["add"])
                state.files[file.relative] = file
            if row["txn"] is not None:
                state.transactions[row["txn"]["appId"]] = row["txn"]["version"]
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, BadLogError) as error:
        return [f"{path.name}: cannot read it: {first_line(error)}"]
    return []


def _hint(path: Path, checkpoints: dict[int, Path]) -> list[str]:
    """`_last_checkpoint` says where a reader may begin. A reader that finds nonsense there begins elsewhere."""
    if not path.exists():
        return []
    try:
        version = json.loads(path.read_bytes())["version"]
    except (OSError, ValueError, KeyError, TypeError):
        version = None
    return [] if version in checkpoints else ["_last_checkpoint: names no checkpoint that is there"]


def _compare(state: LogState, snapshot: Snapshot) -> Iterator[str]:
    seen = {e.relative: (e.size, e.rows, dict(e.values)) for e in snapshot.entries}
    ours = {f.relative: (f.size, f.rows, f.values) for f in state.files.values()}
    for relative in sorted(seen.keys() ^ ours.keys()):
        yield f"{relative}: the library {'has' if relative in seen else 'does not have'} it, against the versions"
    for relative in sorted(seen.keys() & ours.keys()):
        if seen[relative] != ours[relative]:
            yield f"{relative}: the library has {seen[relative]}, the versions say {ours[relative]}"
    for app, version in state.transactions.items():
        if (got := snapshot.transaction(app)) != version:
            yield f"transaction {app}: the library has {got}, the versions say {version}"
