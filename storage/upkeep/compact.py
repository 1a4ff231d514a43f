"""Compaction: the many files of a day become few, in an order that serves one instrument's day and the market in time.

A partition is cut into stretches of time, whole seconds of some 2 million rows. Stretches follow each other;
inside one, rows lie by instrument, then stream and `seq`, in row groups of 65,536. An instrument's day is then a row
group or two of each stretch, found by bounds; any moment of the market is in one stretch; and who replays the day in
the order of time sorts one stretch at a time. `python -m benchmarks.bench_seal` compares that with other
orders, see benchmarks/RESULTS.md: by time alone, files are much larger and an instrument's day costs many times as
much; by instrument alone, a large day could only be written, and replayed, by sorting all of it. With stretches a
moment costs the same however large the day is. Longer ones make an instrument's day little quicker, but a moment costs
in proportion to them, and so does the memory of who replays several exchanges, and holds a stretch of each. With fewer
row groups in a stretch an instrument's day costs more, with more of them every file is larger.

The rows of the other tables, which seldom fill a stretch, lie in the order of their keys.

Invariants
----------
1. Nothing is swapped unless the new files, read back, have as many rows as the old ones and the same digest
   (`storage.tables.content`), and the old ones are byte for byte what was written and what the log says.
2. One commit adds the new files and removes exactly the files that were read. If one of those has gone from the table
   meanwhile, it is not made. Files that a writer commits in between stay beside.
3. Until that commit the table is untouched; after it, the old files stay for readers that use them
   (`storage.upkeep.vacuum` unlinks them). A process may therefore die anywhere, and the next one begins again.
4. Memory is bounded: a stretch is read whole, and is shorter where there is less for it; of anything else there is one
   file, or one row group, at a time.

A compacted file is called `sealed-<digest>-<number>-of-<count>.parquet`; all files of one digest are a set. Equal rows
give equal names, so what a dead run left is replaced.

A set of three quarters of a stretch or more is done, and not touched again. All other files of a partition are loose:
a day that is over has them compacted into one set, and has nothing to do if they are one already. Of a day that goes
on, loose files are taken in the order of time, as many as make a set that is done, and again; what is left then becomes
a set as well if it is many files, and stays loose. So each row is sorted once, but for those of a partition that takes
hours to have so many.
"""

import contextlib
import datetime
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import pyarrow as pa

from storage.errors import SealError, TableChangedError, TableError, TableMissingError
from storage.files import DataFile, make_folders, sync_folder
from storage.layout import DataLayout, table_file
from storage.schema import EVENTS, ORDERS, QUARANTINE, TICKS, Table
from storage.tables import Content, LakeTable, digester, hold_tables, is_as_stamped, read_contents
from storage.upkeep import sort
from storage.upkeep.stretches import Source, look_at
from storage.upkeep.vacuum import COMPACTED_NAME

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FILE_BYTES: Final = 384 << 20
MEMORY_BYTES: Final = 2 << 30
_FILES_AT_ONCE: Final = 16  # between two reports of progress
WORTH_A_SET: Final = 16  # files of a day that goes on, which together have not the rows of a stretch

Step = Literal["checking", "writing", "comparing"]


@dataclass(frozen=True)
class CompactProgress:
    """How far the compaction of one partition is: `rows` of it have passed the present step, of `total`."""

    table: str
    partition: Mapping[str, str]
    step: Step
    rows: int
    total: int


@dataclass(frozen=True)
class CompactedPartition:
    """A partition that was compacted. `digest` is that of its rows, in hex; bytes are those of the Parquet files."""

    table: str
    partition: Mapping[str, str]
    rows: int
    digest: str
    files_before: int
    files: int
    bytes_before: int
    bytes: int


def compact_day(
    layout: DataLayout,
    date: datetime.date,
    *,
    goes_on: bool = False,
    tables: Sequence[Table] = (TICKS, ORDERS, EVENTS, QUARANTINE),
    memory_bytes: int = MEMORY_BYTES,
    file_bytes: int = FILE_BYTES,
    on_progress: Callable[[CompactProgress], None] = lambda _progress: None,
    on_done: Callable[[CompactedPartition], None] = lambda _compacted: None,
    after_step: Callable[[str], None] = lambda _step: None,
) -> list[CompactedPartition]:
    """Compact what is loose in the partitions of an IST day. Returns what was, of which `on_done` is told each at once.

    `goes_on`: more rows of the day are to come, so that few files are left for the next time.

    `memory_bytes` is what a stretch may take; with less than 1.25 GiB those of ticks are shorter. The process needs
    about a quarter of a GiB more, and the disk room for one more copy of the partition. `after_step` is called with the
    name of each step that is done; it is for tests that end the process there.

    Safe beside a writer and readers. Raises SealError, after compacting the other partitions, if one cannot be: files
    of it are damaged, or changed places meanwhile, or the new ones would not be the same rows. Raises TableError if the
    disk or the log refuses, DataFolderError if another process swaps files for too long.
    """
    done: list[CompactedPartition] = []
    failures: list[str] = []
    staging = layout.staging / "seal"
    with hold_tables(layout):
        for spec in tables:
            try:
                table = LakeTable(layout.table(spec.name), spec).open()
            except TableMissingError:
                continue
            for files in _due(table.snapshot().entries, date, goes_on=goes_on):
                try:
                    with _working(table, staging) as con:
                        sizes = (memory_bytes, file_bytes)
                        partition = _Partition(con, table, files, staging, *sizes, on_progress, after_step)
                        done.append(partition.compact())
                    on_done(done[-1])
                except (SealError, TableChangedError) as error:
                    failures.append(str(error))
    if failures:
        raise SealError("; ".join(failures))
    return done


@contextlib.contextmanager
def _working(table: LakeTable, staging: Path) -> Iterator["DuckDBPyConnection"]:
    """A database to look at rows with, and an empty folder for files. Raises TableError for the system's refusals."""
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        with digester() as con:
            yield con
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or error
        raise TableError(f"table {table.path}: cannot rewrite: {reason}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def loose_files(files: Sequence[DataFile]) -> list[DataFile]:
    """The files of a partition that are not compacted, or only until there are more of them: these come first."""
    sets: dict[tuple[str, int], list[DataFile]] = {}
    for file in files:
        if name := _compacted_name(file):
            sets.setdefault((name[1], int(name[2])), []).append(file)
    whole = [some for (_, count), some in sets.items() if len(some) == count]
    done = {file.relative for some in whole if _rows(some) >= _rows_of_a_set() for file in some}
    loose = [file for file in files if file.relative not in done]
    if any(len(some) == len(loose) and some[0] in loose for some in whole):
        return []
    # The name of any other file begins with when its stream did.
    return sorted(loose, key=lambda file: (_compacted_name(file) is None, file.relative))


def _compacted_name(file: DataFile) -> re.Match[str] | None:
    return COMPACTED_NAME.fullmatch(file.relative.rpartition("/")[2])


def _due(entries: Sequence[DataFile], date: datetime.date, *, goes_on: bool) -> list[list[DataFile]]:
    """The files of a day that are to be compacted, those together that make a set."""
    partitions: dict[tuple[str, ...], list[DataFile]] = {}
    for entry in entries:
        if entry.values["date"] == date.isoformat():
            partitions.setdefault(tuple(entry.values.values()), []).append(entry)
    loose = [loose_files(files) for _, files in sorted(partitions.items())]
    if not goes_on:
        return [files for files in loose if files]
    return [some for files in loose for some in _sets(files)]


def _sets(loose: Sequence[DataFile]) -> Iterator[list[DataFile]]:
    """As many of them as make a set that is done, again and again, and what is left if it is many files."""
    some: list[DataFile] = []
    for file in loose:
        some.append(file)
        if _rows(some) >= _rows_of_a_set():
            yield some
            some = []
    if len(some) >= WORTH_A_SET:
        yield some


def _rows_of_a_set() -> int:
    return sort.STRETCH_ROWS * 3 // 4


def _rows(files: Sequence[DataFile]) -> int:
    return sum(file.rows for file in files)


class _Partition:
    """One partition on its way."""

    def __init__(
        self,
        con: "DuckDBPyConnection",
        table: LakeTable,
        files: Sequence[DataFile],
        staging: Path,
        memory_bytes: int,
        file_bytes: int,
        on_progress: Callable[[CompactProgress], None],
        after_step: Callable[[str], None],
    ) -> None:
        self._con = con
        self._table = table
        self._files = files
        self._values = files[0].values
        self._name = "/".join((table.spec.name, *self._values.values()))
        self._staging = staging
        self._memory_bytes = memory_bytes
        self._file_bytes = file_bytes
        self._on_progress = on_progress
        self._after_step = after_step
        self._total = _rows(files)

    def compact(self) -> CompactedPartition:
        sources = self._sources()
        self._after_step("checked")
        done = sort.write_sorted(
            self._con,
            self._table.spec,
            sources,
            self._staging,
            memory_bytes=self._memory_bytes,
            file_bytes=self._file_bytes,
            on_rows=lambda rows: self._report("writing", rows),
        )
        self._after_step("written")
        after = self._contents([str(path) for path in done.files])
        rows, digest = sum(content.rows for content in after), sum(content.digest for content in after)
        if (rows, digest) != (self._total, done.digest):
            raise SealError(
                f"{self._name}: nothing was swapped: the new files have {rows} rows with the digest {digest:x}, "
                f"expected {self._total} rows with the digest {done.digest:x} as in the old ones"
            )
        self._after_step("compared")
        files = self._move(done.files, after, digest)
        self._after_step("moved")
        old, new = ({file.relative: file for file in some} for some in (self._files, files))
        self._table.commit(
            [file for name, file in new.items() if name not in old],
            remove=[file for name, file in old.items() if name not in new],
        )
        self._after_step("committed")
        return CompactedPartition(
            table=self._table.spec.name,
            partition=self._values,
            rows=rows,
            digest=f"{digest:x}",
            files_before=len(self._files),
            files=len(files),
            bytes_before=sum(file.size for file in self._files),
            bytes=sum(file.size for file in files),
        )

    def _sources(self) -> list[Source]:
        """The files, of which each is what was written: what is damaged must not get fresh checksums."""
        found: list[Source] = []
        for file in self._files:
            try:
                found.append(self._checked(file))
            except (OSError, pa.ArrowException) as error:
                reason = getattr(error, "strerror", None) or error
                raise SealError(f"{self._name}: cannot read {file.relative}: {reason}") from error
            if len(found) % _FILES_AT_ONCE == 0 or len(found) == len(self._files):
                self._report("checking", sum(source.rows for source in found))
        return found

    def _checked(self, file: DataFile) -> Source:
        path = self._table.path / file.relative
        size = path.stat().st_size
        if size != file.size:
            raise SealError(f"{self._name}: file {file.relative} has {size} bytes, expected {file.size}")
        if not is_as_stamped(path):
            raise SealError(f"{self._name}: file {file.relative} is damaged: it does not have the digest in its footer")
        source = look_at(self._table.spec, path)
        if source.rows != file.rows:
            raise SealError(f"{self._name}: file {file.relative} has {source.rows} rows, {file.rows} expected")
        return source

    def _contents(self, paths: Sequence[str]) -> list[Content]:
        contents: list[Content] = []
        for at in range(0, len(paths), _FILES_AT_ONCE):
            contents += read_contents(self._con, self._table.spec, paths[at : at + _FILES_AT_ONCE])
            self._report("comparing", sum(content.rows for content in contents))
        return contents

    def _move(self, staged: Sequence[Path], contents: Sequence[Content], digest: int) -> list[DataFile]:
        """Give the new files their names in the table's folder. They are not in the table yet.

        If all of them are, with the same rows, as beside a file without any, these stay as they are.
        """
        stem, count = f"sealed-{digest % (1 << 64):016x}", len(staged)
        names = [table_file(self._values, f"{stem}-{number:04d}-of-{count:04d}") for number in range(1, count + 1)]
        there = [file for file in self._files if file.relative in names]
        if len(there) == len(names):
            return there
        files = []
        for relative, path, content in zip(names, staged, contents, strict=True):
            target = self._table.path / relative
            files.append(DataFile(relative, path.stat().st_size, self._values, content.rows, content.stats))
            make_folders(target.parent, self._table.path)
            path.replace(target)
            sync_folder(target.parent)
        return files

    def _report(self, step: Step, rows: int) -> None:
        self._on_progress(CompactProgress(self._table.spec.name, self._values, step, rows, self._total))
