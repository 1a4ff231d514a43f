"""Where everything lies in a data folder: path arithmetic only, no I/O.

    <root>/
      kitelake.lock                       held by the service that captures into this folder
      writer.lock                         held by the one process that commits to the tables
      archive.lock                        held by the process that compresses segments
      seal.lock                           held by the process that takes files out of the tables
      journal/<stream>/<segment>.journal  raw frames, in the order in which they came
      journal/<stream>/<segment>.journal.zst         the same, compressed
      journal/<stream>/<segment>.journal.unverified  why the tables do not have what the segment holds
      journal/<stream>/stream.lock        held by the process that writes the stream
      staging/                            files being written; on the same file system as the tables
      <table>/_delta_log/…                a Delta table's log
      <table>/date=2026-11-22/exchange=NSE/<stream>-<segment>.parquet

A stream is one run of the service, named after its start in UTC and a random tail, as in `20261122T091500-1f3a9c`.
Names of streams therefore sort by start, and a dead stream is never appended to again. Segments count from 0 and are
written with ten digits, so they sort too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

SEGMENT_DIGITS: Final = 10
SEGMENT_SUFFIX: Final = ".journal"
ARCHIVE_SUFFIX: Final = ".zst"
_FILE_OF_SEGMENT: Final = re.compile(rf"(.+)-([0-9]{{{SEGMENT_DIGITS},}})(-r[0-9a-f]+)?\.parquet")
STREAM_PATTERN: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,79}")


@dataclass(frozen=True)
class DataLayout:
    """The paths of one data folder. Relative roots stay relative; nothing is created or looked at."""

    root: Path

    @property
    def lock(self) -> Path:
        """Held while a service captures into this folder."""
        return self.root / "kitelake.lock"

    @property
    def writer_lock(self) -> Path:
        """Held while a process commits journal segments to the tables."""
        return self.root / "writer.lock"

    @property
    def archive_lock(self) -> Path:
        """Held while a process compresses journal segments."""
        return self.root / "archive.lock"

    @property
    def seal_lock(self) -> Path:
        """Held while a process removes files from the tables, or swaps them for others: one at a time."""
        return self.root / "seal.lock"

    @property
    def reserve(self) -> Path:
        """Room on the disk that is kept for the journal."""
        return self.root / "reserve"

    @property
    def journal(self) -> Path:
        return self.root / "journal"

    @property
    def staging(self) -> Path:
        """Where files are written before they are renamed into a table's folder."""
        return self.root / "staging"

    def table(self, name: str) -> Path:
        return self.root / name

    def stream(self, stream: str) -> Path:
        """The folder of one stream's segments. Raises ValueError for a name that is not one."""
        if STREAM_PATTERN.fullmatch(stream) is None:
            raise ValueError(f"stream {stream!r}: expected letters, digits, '.', '_' and '-', at most 80")
        return self.journal / stream

    def stream_lock(self, stream: str) -> Path:
        """Held while a process writes the stream: a stream is dead when nobody holds it."""
        return self.stream(stream) / "stream.lock"

    def segment(self, stream: str, number: int) -> Path:
        return self.stream(stream) / segment_name(number)

    def archive(self, stream: str, number: int) -> Path:
        """The same segment, compressed."""
        return archive_of(self.segment(stream, number))

    def unverified(self, stream: str, number: int) -> Path:
        """Says why a segment is kept: its rows are committed, and the tables do not have them all."""
        path = self.segment(stream, number)
        return path.with_name(path.name + ".unverified")


def segment_name(number: int) -> str:
    """`7` -> `0000000007.journal`."""
    if number < 0:
        raise ValueError(f"segment {number}: expected 0 or more")
    return f"{number:0{SEGMENT_DIGITS}d}{SEGMENT_SUFFIX}"


def archive_of(segment: Path) -> Path:
    """`…/0000000007.journal` -> `…/0000000007.journal.zst`."""
    return segment.with_name(segment.name + ARCHIVE_SUFFIX)


def parse_segment(path: Path) -> tuple[str, int]:
    """The stream and number of `…/<stream>/<number>.journal`, or of its archive. Raises ValueError for other names."""
    name, stream = path.name.removesuffix(ARCHIVE_SUFFIX), path.parent.name
    stem = name.removesuffix(SEGMENT_SUFFIX)
    is_number = stem.isascii() and stem.isdigit() and len(stem) >= SEGMENT_DIGITS
    if not is_number or stem == name or STREAM_PATTERN.fullmatch(stream) is None:
        raise ValueError(f"{str(path)!r} is not a segment: expected <stream>/<ten digits>{SEGMENT_SUFFIX}")
    return stream, int(stem)


def stream_name(started_at: datetime, tail: str) -> str:
    """The name of a stream that began at `started_at` (any zone, not naive); `tail` tells two of a second apart."""
    if started_at.tzinfo is None:
        raise ValueError(f"started_at {started_at}: expected a time with a zone")
    return f"{started_at.astimezone(UTC):%Y%m%dT%H%M%S}-{tail}"


def partition_folder(values: Mapping[str, str]) -> str:
    """`{"date": "2026-11-22", "exchange": "NSE"}` -> `date=2026-11-22/exchange=NSE`, in the mapping's order."""
    return "/".join(f"{name}={quote(value, safe=' ')}" for name, value in values.items())


def table_file(values: Mapping[str, str], stem: str) -> str:
    """A data file's path relative to its table: `date=2026-11-22/exchange=NSE/<stem>.parquet`."""
    folder = partition_folder(values)
    return f"{folder}/{stem}.parquet" if folder else f"{stem}.parquet"


def segment_stem(stream: str, number: int) -> str:
    """The stem of the files that come from one segment: `<stream>-<number>`."""
    return f"{stream}-{number:0{SEGMENT_DIGITS}d}"


def rebuilt_stem(stream: str, number: int, rebuild: str) -> str:
    """The stem of files that a rebuild made of one segment: `<stream>-<number>-r<rebuild>`, in hex digits."""
    return f"{segment_stem(stream, number)}-r{rebuild}"


def parse_file(relative: str) -> tuple[str, int] | None:
    """The stream and segment that all rows of a table's file come from; None if its name does not say so."""
    found = _FILE_OF_SEGMENT.fullmatch(relative.rpartition("/")[2])
    return None if found is None else (found[1], int(found[2]))


def is_rebuilt(relative: str) -> bool:
    """Whether the name of a table's file says that a rebuild made it of a segment."""
    found = _FILE_OF_SEGMENT.fullmatch(relative.rpartition("/")[2])
    return found is not None and found[3] is not None
