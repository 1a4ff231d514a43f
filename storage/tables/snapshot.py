"""One version of a table: its files, and how far each stream is in it."""

import datetime
import os
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import pyarrow as pa

from storage.errors import TableError
from storage.files import DataFile
from storage.schema import Table
from storage.tables.delta import reading_log
from storage.tables.log import Version

FIRST_DAY: Final = "retention/first_day"


class Snapshot(Version):
    """One version of a table as the library has it."""

    def __init__(
        self, path: Path, spec: Table, version: int, actions: pa.Table, transaction_at: Callable[[int, str], int | None]
    ) -> None:
        """`actions` are the table's files as the library has them; `transaction_at` gives an application's version."""
        self._path = path
        self._spec = spec
        self._actions = actions
        with reading_log(path):
            self._relative = [unquote(path) for path in actions.column("path").to_pylist()]
        files = [f"{path}{os.sep}{relative}" for relative in self._relative]
        super().__init__(version, files, partial(transaction_at, version))

    @cached_property
    def entries(self) -> list[DataFile]:
        """The same files in the same order, with what the log says of them; without their statistics."""
        names = self._spec.partition_by
        with reading_log(self._path):
            values = [self._actions.column(f"partition.{name}").cast(pa.string()).to_pylist() for name in names]
            sizes = self._actions.column("size_bytes").to_pylist()
            rows = self._actions.column("num_records").to_pylist()
        partitions = [dict(zip(names, texts, strict=True)) for texts in zip(*values, strict=True)]
        return [
            DataFile(relative=relative, size=size, values=partition, rows=count, stats="")
            for relative, size, partition, count in zip(self._relative, sizes, partitions, rows, strict=True)
        ]


def first_day(ordinal: int | None) -> datetime.date:
    """The first IST day that retention has left in the tables, as FIRST_DAY of ticks has it. Raises TableError.

    Rows of days before it may be there all the same: of segments that were committed later.
    """
    try:
        return datetime.date.min if ordinal is None else datetime.date.fromordinal(ordinal)
    except (ValueError, OverflowError):
        raise TableError(f"transaction {FIRST_DAY}: got {ordinal}, expected the ordinal of a day") from None
