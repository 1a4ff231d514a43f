"""The Delta library, kept from what it cannot stand, and its errors made ours.

Of a damaged log the library's errors are of many kinds, and mostly name no file. Of a damaged checkpoint it may even
panic: that is no Exception in Python, and comes with lines of Rust on standard error. So the checkpoint that it will
begin from is read by Arrow first, which takes little of the time of opening the table, and whatever fails afterwards
becomes a DamagedLogError as well. Other tables, and this one once it is mended, can be read after a panic.

A commit of the library takes all files of the table anew, twice. Of a table with a year of days in it, that is
more than the rest of a small segment (benchmarks/bench_growth.py). A version of our own log is a file of a few lines,
which `write_version` makes as the library does, and so is the first version of a table. Checkpoints and the clean-up
of old versions are left to the library, which is loaded when it is needed: in most processes never.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import pyarrow as pa

from storage.errors import DamagedLogError, KitelakeError, TableError
from storage.files import DataFile, sync_data, sync_folder
from storage.schema import Table
from storage.tables.log import (
    CHECKPOINT_NAME,
    DELTA_TYPES,
    HINT_NAME,
    PLAIN_READER,
    PLAIN_WRITER,
    VERSION_NAME,
    checkpoint_name,
    log_of,
    version_name,
)

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from deltalake.transaction import AddAction, RemoveAction

CHECKPOINT_INTERVAL: Final = 100
_NOT_ENCODED: Final = "/!$&'()+,:;=@"  # besides what is never encoded: as the library has it


def numbered(folder: Path, name: re.Pattern[str]) -> dict[int, Path]:
    """The files of a log that have such names, by version. Raises OSError."""
    return {int(match[1]): path for path in folder.iterdir() if (match := name.fullmatch(path.name))}


def open_delta(table: Path, version: int | None = None) -> "DeltaTable":
    """The table at its newest version, or at another one. Raises DamagedLogError."""
    from deltalake import DeltaTable

    with reading_log(table):
        base = _base(log_of(table), version)
        if base is not None and (problem := _problem_of_checkpoint(base)):
            raise DamagedLogError(table, problem)
        return DeltaTable(table.as_uri(), version=version)


def create_delta(table: Path, spec: Table) -> None:
    """Make the log aside and rename it into place: it appears whole, and of several makers one wins.

    Raises TableError.
    """
    new = table.with_name(f".{table.name}-{uuid.uuid4().hex}.new")
    try:
        table.mkdir(parents=True, exist_ok=True)
        new.mkdir()
        try:
            _write_lines(new / version_name(0), _first_actions(spec))
            try:
                new.rename(log_of(table))
            except OSError:
                if not log_of(table).is_dir():  # if it is, another was first
                    raise
        finally:
            shutil.rmtree(new, ignore_errors=True)  # there unless it was renamed
        for folder in (log_of(table), table, table.parent):
            sync_folder(folder)
    except OSError as error:
        raise TableError(f"table {table}: cannot create: {error.strerror}") from error


def _first_actions(spec: Table) -> list[dict[str, Any]]:
    """What a table begins with."""
    now_ms = time.time_ns() // 1_000_000
    fields = [
        {"name": field.name, "type": DELTA_TYPES[field.type], "nullable": True, "metadata": {}} for field in spec.schema
    ]
    described = {
        "id": str(uuid.uuid4()),
        "name": spec.name,
        "description": spec.summary,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": fields}, separators=(",", ":")),
        "partitionColumns": list(spec.partition_by),
        "createdTime": now_ms,
        "configuration": {
            "delta.checkpointInterval": str(CHECKPOINT_INTERVAL),
            "delta.dataSkippingStatsColumns": ",".join(spec.stats),  # else readers of the log handle the first 32
        },
    }
    return [
        {"commitInfo": {"timestamp": now_ms, "operation": "CREATE TABLE"}},
        {"protocol": {"minReaderVersion": PLAIN_READER, "minWriterVersion": PLAIN_WRITER}},
        {"metaData": described},
    ]


def add_action(file: DataFile) -> "AddAction":
    from deltalake.transaction import AddAction

    return AddAction(
        path=file.relative,
        size=file.size,
        partition_values=dict(file.values),
        modification_time=time.time_ns() // 1_000_000,
        data_change=True,
        stats=file.stats,
    )


def remove_action(file: DataFile) -> "RemoveAction":
    from deltalake.transaction import RemoveAction

    now_ms = time.time_ns() // 1_000_000
    return RemoveAction(file.relative, True, now_ms, file.size, dict(file.values))


def write_version(
    log: Path, version: int, files: Sequence[DataFile], remove: Sequence[DataFile], transactions: Mapping[str, int]
) -> bool:
    """Add a version to a log that is as we write it, on disk when this returns. False if there is one of that number.

    Raises OSError.
    """
    now_ms = time.time_ns() // 1_000_000
    actions: list[dict[str, Any]] = [{"commitInfo": {"timestamp": now_ms, "operation": "WRITE"}}]
    for file in files:
        add = {"modificationTime": now_ms, "dataChange": True, "stats": file.stats}
        actions.append({"add": _logged(file) | add})
    for file in remove:
        gone = {"deletionTimestamp": now_ms, "dataChange": True, "extendedFileMetadata": True}
        actions.append({"remove": _logged(file) | gone})
    actions += [{"txn": {"appId": name, "version": at}} for name, at in transactions.items()]
    new = log / f"_commit_{uuid.uuid4()}.json.tmp"
    try:
        _write_lines(new, actions)
        try:
            os.link(new, log / version_name(version))  # which fails if there is one
        except FileExistsError:
            return False
    finally:
        new.unlink(missing_ok=True)
    sync_folder(log)
    return True


def _write_lines(path: Path, actions: Sequence[Mapping[str, Any]]) -> None:
    """A version's new file, on disk when this returns."""
    with path.open("xb") as opened:
        opened.write("".join(json.dumps(action, separators=(",", ":")) + "\n" for action in actions).encode())
        opened.flush()
        sync_data(opened.fileno())


def _logged(file: DataFile) -> dict[str, Any]:
    path = quote(file.relative, safe=_NOT_ENCODED)
    return {"path": path, "partitionValues": dict(file.values), "size": file.size}


@contextlib.contextmanager
def reading_log(table: Path) -> Iterator[None]:
    """Turn whatever the library raises while it reads the table's log into a DamagedLogError that names the file."""
    try:
        yield
    except (KitelakeError, MemoryError):
        raise
    except BaseException as error:
        if not (isinstance(error, Exception) or is_panic(error)):
            raise
        raise DamagedLogError(table, _damaged_file(log_of(table)) or first_line(error)) from error


def is_refusal(error: BaseException) -> bool:
    """Whether the library, or the system, has said no, or the library has crashed."""
    from deltalake.exceptions import DeltaError

    return isinstance(error, DeltaError | OSError) or is_panic(error)


def is_panic(error: BaseException) -> bool:
    """Whether the library crashed inside. Its binding has a type of its own for that, which cannot be imported."""
    return type(error).__name__ == "PanicException"


def first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def _base(log: Path, version: int | None = None) -> Path | None:
    """The checkpoint that a reader of that version begins from."""
    checkpoints = numbered(log, CHECKPOINT_NAME)
    return checkpoints.get(max((at for at in checkpoints if version is None or at <= version), default=-1))


def _problem_of_checkpoint(path: Path) -> str | None:
    import pyarrow.parquet as pq  # most processes read no checkpoint

    try:
        pq.ParquetFile(path, page_checksum_verification=True).read()
    except FileNotFoundError:
        return None  # the log is tidied up by its own rules
    except (OSError, pa.ArrowException, ValueError) as error:
        return f"{path.name} cannot be read: {first_line(error)}"
    return None


def _damaged_file(log: Path) -> str | None:
    """What in a log is damaged so that it can be seen by itself: the first such file, and what is wrong with it."""
    try:
        base = _base(log)
        if base is not None and (problem := _problem_of_checkpoint(base)):
            return problem
        hint = log / HINT_NAME
        if hint.exists() and (problem := _problem_of_hint(hint)):
            return problem
        begin = -1 if base is None else int(base.name[:20])
        versions = {at: path for at, path in sorted(numbered(log, VERSION_NAME).items()) if at > begin}
        for path in versions.values():
            if problem := _problem_of_version(path):
                return problem
        for before, after in itertools.pairwise([begin, *versions]):
            if after > before + 1:
                return f"{version_name(before + 1)} is not there"
    except OSError as error:
        return str(error)
    return None


def _problem_of_hint(hint: Path) -> str | None:
    """A reader that finds nonsense there begins elsewhere; but a checkpoint that is named has to be there."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        named = checkpoint_name(int(json.loads(hint.read_bytes())["version"]))
        if not (hint.parent / named).exists():
            return f"{hint.name} names {named}, which is not there"
    return None


def _problem_of_version(path: Path) -> str | None:
    try:
        actions = [json.loads(line) for line in path.read_bytes().splitlines()]
    except (OSError, ValueError) as error:
        return f"{path.name} cannot be read: {first_line(error)}"
    return None if all(isinstance(action, dict) for action in actions) else f"{path.name} has a line that is no action"
