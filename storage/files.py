"""Data files and the calls that make bytes and names survive the end of the machine."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataFile:
    """A Parquet file in a table's folder.

    `relative` is its path below the table's folder with `/` between the parts, `size` in bytes, `values` the
    partition columns as text, `rows` the row count, `stats` the JSON text of the commit log (bounds and null counts).
    """

    relative: str
    size: int
    values: Mapping[str, str]
    rows: int
    stats: str


def sync_data(descriptor: int) -> None:
    """Wait until a file's bytes and size are on disk. Raises OSError."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


def sync_file(path: Path) -> None:
    """The same for a file that is not open. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        sync_data(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk. Raises OSError. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(folder: Path, root: Path) -> None:
    """Create `folder` and what is missing between it and `root`, names synced; `root` itself too. Raises OSError."""
    if folder.is_dir():
        return
    if folder == root:
        folder.parent.mkdir(parents=True, exist_ok=True)
    else:
        make_folders(folder.parent, root)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)
