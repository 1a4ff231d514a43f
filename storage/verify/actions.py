"""The actions of a Delta log that we write, read strictly: what has another form is damaged."""

import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from storage.layout import partition_folder
from storage.schema import Table

_KEYS: Final = {
    "add": {"path", "partitionValues", "size", "modificationTime", "dataChange", "stats"},
    "remove": {"path", "dataChange", "deletionTimestamp"},
    "txn": {"appId", "version"},
    "commitInfo": {"timestamp"},
    "metaData": {"id", "format", "schemaString", "partitionColumns", "configuration"},
    "protocol": {"minReaderVersion", "minWriterVersion"},
}
"""The actions that we write, and the fields that each must have."""
_EMPTY: Final = {"tags", "baseRowId", "defaultRowCommitVersion", "clusteringProvider", "deletionVector", "lastUpdated"}
"""Fields that no action of ours gives a value to."""
_ALSO: Final = {
    "add": _EMPTY,
    "remove": _EMPTY | {"extendedFileMetadata", "partitionValues", "size", "stats"},
    "txn": _EMPTY,
    "commitInfo": {"operation", "operationParameters", "engineInfo", "clientVersion", "operationMetrics", "readVersion",
                   "isBlindAppend", "inCommitTimestamp", "userId", "userName", "txnId", "isolationLevel"},
    "metaData": {"name", "description", "createdTime"},
    "protocol": {"readerFeatures", "writerFeatures"},
}  # fmt: skip
_STATS: Final = {"numRecords", "minValues", "maxValues", "nullCount"}


@dataclass(frozen=True)
class LoggedFile:
    """A file as the log has it. `stats` is the parsed statistics."""

    relative: str
    size: int
    values: dict[str, str]
    stats: dict[str, Any]

    @property
    def rows(self) -> int:
        return int(self.stats["numRecords"])


class BadLogError(Exception):
    """What is wrong with an action."""


def parse_action(line: str) -> tuple[str, dict[str, Any]]:
    """The name of the action in a line, and its fields. Raises ValueError for no JSON, BadLogError."""
    action = json.loads(line)
    if not isinstance(action, dict) or len(action) != 1:
        raise BadLogError("got a line that is no action")
    ((name, values),) = action.items()
    if name not in _KEYS or not isinstance(values, dict):
        raise BadLogError("got an action of an unknown name")
    unknown = values.keys() - _KEYS[name] - _ALSO[name]
    missing = _KEYS[name] - values.keys()
    if unknown or missing:
        raise BadLogError(f"{name}: got {len(unknown)} unknown fields, and {sorted(missing)} are missing")
    if name != "commitInfo" and any(values.get(key) is not None for key in _EMPTY):
        raise BadLogError(f"{name}: got values in fields that we leave empty")
    return name, values


def parse_added(spec: Table, values: dict[str, Any]) -> LoggedFile:
    """The file of an `add`. Raises BadLogError."""
    try:
        partition = dict(values["partitionValues"])
        file = LoggedFile(unquote(values["path"]), int(values["size"]), partition, json.loads(values["stats"]))
        complete = file.stats.keys() == _STATS and isinstance(file.stats["numRecords"], int)
    except (ValueError, TypeError, AttributeError):
        complete = False
    if not complete:
        raise BadLogError("adds a file whose size or statistics cannot be read")
    ordered = {name: partition.get(name) for name in spec.partition_by}
    if partition.keys() != ordered.keys() or None in ordered.values():
        raise BadLogError(f"adds {file.relative} with other partition columns")
    if unquote(partition_folder(ordered)) != file.relative.rpartition("/")[0]:  # type: ignore[arg-type]
        raise BadLogError(f"adds {file.relative} as of the partition {ordered}")
    return file
