"""A table's log for those who only look at it: which files are in it, and how far each stream is.

Opening takes the paths of the newest checkpoint and what came since, and each newer version is read by itself; the
library takes all files anew each time, with their bounds, which costs many times as much. It understands the log that
we write: our columns, the first version of the protocol, no version missing. All else is for the library (`LakeTable`),
which reads it, or says what is wrong.
"""

import datetime
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa

from storage.errors import TableMissingError
from storage.files import DataFile
from storage.schema import TIMESTAMP, Table

VERSION_NAME: Final = re.compile(r"(\d{20})\.json")
CHECKPOINT_NAME: Final = re.compile(r"(\d{20})\.checkpoint\.parquet")
HINT_NAME: Final = "_last_checkpoint"
ENCODED: Final = re.compile(r"%[0-9A-Fa-f]{2}")
"""What Delta would decode in the path of a table."""

PLAIN_READER: Final = 1
PLAIN_WRITER: Final = 2
DELTA_TYPES: Final = {
    pa.int64(): "long",
    pa.float64(): "double",
    pa.string(): "string",
    pa.bool_(): "boolean",
    pa.binary(): "binary",
    pa.date32(): "date",
    TIMESTAMP: "timestamp",
}
"""Delta's names of the types of our columns."""
_CHECKPOINT_COLUMNS: Final = (
    "add.path", "add.size", "add.stats", "txn.appId", "txn.version",
    "protocol.minReaderVersion", "protocol.minWriterVersion",
    "metaData.schemaString", "metaData.partitionColumns", "metaData.configuration",
)  # fmt: skip
Logged = tuple[str, int, str | None]
"""Of a file its path as the log has it, its size and its statistics."""
_SAYS_NOTHING: Final = frozenset({"commitInfo", "cdc"})


class _NotPlainError(Exception):
    """The log is for the library."""


@dataclass(frozen=True)
class Watermark:
    """How far a stream is in the ticks: segments up to `segment`, rows and records below the other two."""

    segment: int
    next_seq: int
    next_record: int | None = None
    """None if the table does not say."""


class Version:
    """One version of a table. `files` are the absolute paths of its files, in no particular order."""

    def __init__(
        self,
        version: int,
        files: list[str],
        transaction: Callable[[str], int | None],
        logged: Sequence[Logged] = (),
    ) -> None:
        """`transaction` gives an application's version in this one; `logged` is what the log says of each file, if it
        is known."""
        self.version = version
        self.files = files
        self._logged = logged
        self._of_application = transaction
        self._transactions: dict[str, int | None] = {}

    def transaction(self, application: str) -> int | None:
        """The application's version in this one, or None."""
        if application not in self._transactions:
            self._transactions[application] = self._of_application(application)
        return self._transactions[application]

    @cached_property
    def entries(self) -> list[DataFile]:
        """The same files in the same order, with what the log says of them; without their statistics."""
        found = []
        for path, size, stats in self._logged:
            relative = unquote(path)
            values = dict(part.split("=", 1) for part in relative.split("/")[:-1])
            rows = json.loads(stats or "{}").get("numRecords")
            found.append(DataFile(relative=relative, size=size, values=values, rows=rows, stats=""))
        return found

    def received_until(self, day: datetime.date) -> datetime.datetime | None:
        """The latest `received_at` of that day's rows, within a millisecond; None if the log does not say it of all."""
        of_day = [stats for path, _, stats in self._logged if f"date={day}/" in path]
        try:
            latest = [json.loads(each or "")["maxValues"]["received_at"] for each in of_day]
            return max(map(datetime.datetime.fromisoformat, latest), default=None)
        except (ValueError, KeyError, TypeError):
            return None

    def watermark(self, stream: str) -> Watermark | None:
        """How far the stream is in it; None if nothing of it is."""
        segment = self.transaction(stream)
        if segment is None:
            return None
        return Watermark(segment, self.transaction(f"{stream}/seq") or 0, self.transaction(f"{stream}/record"))


def log_of(table: Path) -> Path:
    """The folder of a table's log."""
    return table / "_delta_log"


def version_name(version: int) -> str:
    return f"{version:020d}.json"


def checkpoint_name(version: int) -> str:
    return f"{version:020d}.checkpoint.parquet"


class TableLog:
    """The log of the table at `path`, as it is at each call of `newest`. Belongs to one thread at a time."""

    def __init__(self, path: Path, spec: Table) -> None:
        self._path = path.absolute()
        self.spec = spec
        self._replay: _Replay | None = None
        self._newest: Version | None = None

    def newest(self) -> Version | None:
        """The newest version, the same object as before if there is none since; None if the log is for the library.

        Raises TableMissingError.
        """
        try:
            return self._followed()
        except (_NotPlainError, OSError, ValueError, TypeError, KeyError, AttributeError, pa.ArrowException):
            self._replay = self._newest = None
            return None

    @property
    def is_plain_to_write(self) -> bool:
        """Whether a version that adds and removes files can be written as we do, as of what `newest` gave last."""
        return self._replay is not None and self._replay.is_plain_to_write

    def _followed(self) -> Version:
        if self._replay is None or not self._replay.is_there():
            self._newest = None
            self._replay = _Replay(self._path, self.spec)
        if self._replay.go_on() or self._newest is None:
            replay = self._replay
            self._newest = Version(
                replay.version, [*replay.files.values()], dict(replay.transactions).get, [*replay.logged.values()]
            )
        return self._newest


class _Replay:
    """What the log says as of `version`, which goes on. Raises _NotPlainError for what is for the library."""

    def __init__(self, path: Path, spec: Table) -> None:
        """Begins with the newest checkpoint. Raises TableMissingError."""
        self._path = path
        self._log = log = log_of(path)
        self._spec = spec
        self.files: dict[str, str] = {}  # absolute, by what the log has for it
        self.logged: dict[str, Logged] = {}  # by the same
        self.transactions: dict[str, int] = {}
        folders = "".join(f"{name}=[^/%]+/" for name in spec.partition_by)
        self._usual_path = re.compile(f"{folders}[^/]+")
        self._checked: set[str] = set()
        self._writer = 0
        self._append_only = False
        self._last: tuple[int, int] | None = None  # the file of `version`: a table may be replaced by another
        names = os.listdir(log) if log.is_dir() else []  # noqa: PTH208 - names are all that is wanted
        if not names:
            raise TableMissingError(f"table {path}: there is none")
        if ENCODED.search(str(path)):
            raise _NotPlainError
        if HINT_NAME in names:
            hint = json.loads((log / HINT_NAME).read_bytes())
            if not (log / checkpoint_name(hint["version"])).exists():
                raise _NotPlainError
        self.version = max((int(at[1]) for name in names if (at := CHECKPOINT_NAME.fullmatch(name))), default=-1)
        if self.version >= 0:
            self._take_checkpoint(log / checkpoint_name(self.version))
        self.go_on()
        newest = max((int(at[1]) for name in names if (at := VERSION_NAME.fullmatch(name))), default=-1)
        if self.version < newest or self._checked != {"protocol", "metaData"}:
            raise _NotPlainError

    @property
    def is_plain_to_write(self) -> bool:
        """Whether writers need to know no more than we do."""
        return self._writer <= PLAIN_WRITER and not self._append_only

    def is_there(self) -> bool:
        """Whether it can go on: of versions that were cleaned away nothing is known, nor of another table's."""
        if not self._exists(self.version):
            return self._exists(self.version + 1)
        return self._identity(self.version) == self._last

    def go_on(self) -> bool:
        """Read up to the newest version; whether there was any."""
        before = self.version
        while self._exists(self.version + 1):
            lines = (self._log / version_name(self.version + 1)).read_bytes().splitlines()
            if not lines:
                raise _NotPlainError
            for line in lines:
                for name, action in json.loads(line).items():
                    self._take(name, action)
            self.version += 1
        if (self._last is None or self.version > before) and self._exists(self.version):
            self._last = self._identity(self.version)
        return self.version > before

    def _identity(self, version: int) -> tuple[int, int]:
        """What tells the version's file from another of its name."""
        status = (self._log / version_name(version)).stat()
        return status.st_ino, status.st_mtime_ns

    def _exists(self, version: int) -> bool:
        return (self._log / version_name(version)).exists()

    def _take(self, name: str, action: dict[str, Any]) -> None:
        match name:
            case "add":
                self._add(action["path"], action["size"], action.get("stats"))
            case "remove":
                self.files.pop(action["path"], None)
                self.logged.pop(action["path"], None)
            case "txn":
                self.transactions[action["appId"]] = int(action["version"])
            case "protocol":
                self._check(name, action["minReaderVersion"] == PLAIN_READER)
                self._writer = action["minWriterVersion"]
            case "metaData":
                self._append_only = dict(action.get("configuration") or {}).get("delta.appendOnly") == "true"
                self._check(name, self._is_ours(action["schemaString"], action["partitionColumns"]))
            case _:
                self._check(name, name in _SAYS_NOTHING)

    def _add(self, relative: str, size: int, stats: str | None) -> None:
        if not self._usual_path.fullmatch(relative):  # its partition is in the log alone
            raise _NotPlainError
        self.logged[relative] = (relative, size, stats)
        self.files[relative] = f"{self._path}{os.sep}{unquote(relative)}"

    def _check(self, name: str, is_plain: bool) -> None:
        if not is_plain:
            raise _NotPlainError
        if name not in _SAYS_NOTHING:
            self._checked.add(name)

    def _is_ours(self, schema: str, partition_by: list[str]) -> bool:
        fields = [(field["name"], field["type"]) for field in json.loads(schema)["fields"]]
        return tuple(partition_by) == self._spec.partition_by and fields == [
            (field.name, DELTA_TYPES[field.type]) for field in self._spec.schema
        ]

    def _take_checkpoint(self, path: Path) -> None:
        import pyarrow.parquet as pq  # a new table has none, and loading it takes longer than reading one

        rows = pq.ParquetFile(path, page_checksum_verification=True).read(columns=list(_CHECKPOINT_COLUMNS)).flatten()
        columns = {name: rows[name].to_pylist() for name in _CHECKPOINT_COLUMNS}
        for each, size, stats in zip(*(columns[f"add.{name}"] for name in ("path", "size", "stats")), strict=True):
            if each is not None:
                self._add(each, size, stats)
        self.transactions = {
            name: version
            for name, version in zip(columns["txn.appId"], columns["txn.version"], strict=True)
            if name is not None
        }
        for reader, writer in zip(
            columns["protocol.minReaderVersion"], columns["protocol.minWriterVersion"], strict=True
        ):
            if reader is not None:
                self._take("protocol", {"minReaderVersion": reader, "minWriterVersion": writer})
        names = ("schemaString", "partitionColumns", "configuration")
        for values in zip(*(columns[f"metaData.{name}"] for name in names), strict=True):
            if values[0] is not None:
                self._take("metaData", dict(zip(names, values, strict=True)))
