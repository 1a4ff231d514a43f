"""An export from its first row to its name: it is whole when it appears, and what fails leaves nothing under the name.

It is written into a folder of its own beside, `<name>.<random>.new`, and moved to its name when every file of it is on
disk. A process that is killed leaves that folder, which may be removed. An older export is moved out of the way before,
and removed after.
"""

import contextlib
import datetime as dt
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import duckdb

from queries.errors import ExportError, QueryError
from queries.export.choice import Choice, Part, parts_of
from queries.export.database import PLACE, create_tables, create_views, insert, write_about
from queries.export.folder import write_csv, write_parquet
from queries.export.readme import TITLE, text_of
from queries.lake import SqlLake, literal
from storage.clock import IST
from storage.files import sync_file, sync_folder
from storage.schema import INSTRUMENTS, TICKS

Form = Literal["parquet", "csv", "duckdb"]
README: Final = "README.md"
INTERRUPTED: Final = "the export was interrupted"


@dataclass(frozen=True)
class Progress:
    """So many of `total` parts are done, and so many rows written; `part` is what comes next."""

    part: str
    done: int
    total: int
    rows: int


class Export:
    """What is chosen of a lake, as it is now, for one place on disk."""

    def __init__(
        self, lake: SqlLake, target: Path, form: Form, choice: Choice, *, force: bool = False, memory_mib: int = 2048
    ) -> None:
        """`force` replaces an older export, or for `duckdb` a file; `memory_mib` is what sorting may take, the rest of
        which is sorted on disk beside the target.

        Raises ExportError for a target that it may not be written to.
        """
        self.target = target.resolve()
        self._lake = lake
        self._form = form
        self._choice = choice
        self._force = force
        self._memory_mib = memory_mib
        self._con: duckdb.DuckDBPyConnection | None = None
        self._stopped = False
        self._check_target()

    def write(self, on_progress: Callable[[Progress], None] = lambda _: None) -> dict[str, int]:
        """Write it. Returns how many rows of each table there are; if there are none at all, nothing is written.

        Raises ExportError for a disk that does not take it, SymbolError, QueryError.
        """
        work = self.target.with_name(f"{self.target.name}.{secrets.token_hex(4)}.new")
        try:
            work.mkdir()
            try:
                made = work / "export"
                rows = self._write(work, made, on_progress)
                if any(rows.values()):
                    _sync(made)
                    self._put_in_place(made)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        except duckdb.InterruptException as error:
            raise QueryError(INTERRUPTED) from error
        except (OSError, duckdb.Error) as error:
            said = error.strerror or error if isinstance(error, OSError) else error
            raise ExportError(f"{self.target}: cannot be written: {said}") from error
        return rows

    def interrupt(self) -> None:
        """End a `write` in another thread: it raises QueryError."""
        self._stopped = True
        self._lake.interrupt()
        if (con := self._con) is not None:
            with contextlib.suppress(duckdb.Error):  # it may be closed by now
                con.interrupt()

    def _write(self, work: Path, made: Path, on_progress: Callable[[Progress], None]) -> dict[str, int]:
        choice = self._choice
        rows = dict.fromkeys(choice.tables, 0)
        with contextlib.closing(self._lake.connect(macros=False)) as self._con:
            con = self._con
            con.execute(f"SET memory_limit = '{self._memory_mib}MiB'")
            con.execute(f"SET temp_directory = {literal(str(work / 'spill'))}")
            state = self._lake.look()
            parts = parts_of(state, choice)
            if self._form == "duckdb":
                con.execute(f"ATTACH {literal(str(made))} AS {PLACE}")
                create_tables(con, choice)
            for done, part in enumerate(parts):
                if self._stopped:
                    raise QueryError(INTERRUPTED)
                name = f"{part.table} {'/'.join(part.values.values())}"
                on_progress(Progress(name, done, len(parts), sum(rows.values())))
                rows[part.table] += self._write_part(con, part, made)
            on_progress(Progress("", len(parts), len(parts), sum(rows.values())))
            captured = [count for name, count in rows.items() if name != INSTRUMENTS.name]
            if not any(rows.values()) or (TICKS.name in rows and not any(captured)):
                return dict.fromkeys(rows, 0)  # an instrument list, which there is of every day, is no reason
            now = dt.datetime.now(IST)
            if self._form == "duckdb":
                beside = create_views(con, state, self._lake.relations, self._lake.macros, parts)
                write_about(con, text_of(self._lake.root, self._form, choice, rows, now, beside))
                con.execute(f"USE memory; DETACH {PLACE}")
            else:
                text = text_of(self._lake.root, self._form, choice, rows, now)
                (made / README).write_text(text, encoding="utf-8")
        return rows

    def _write_part(self, con: duckdb.DuckDBPyConnection, part: Part, made: Path) -> int:
        columns = self._choice.names(part.table)
        if self._form == "duckdb":
            return insert(con, part, columns)
        return (write_parquet if self._form == "parquet" else write_csv)(con, part, columns, made)

    def _check_target(self) -> None:
        target, root = self.target, self._lake.root.resolve()
        if target.is_relative_to(root) or root.is_relative_to(target):
            raise ExportError(f"{target}: got a place in or around the data folder {root}, expected one elsewhere")
        if not target.parent.is_dir():
            raise ExportError(f"{target}: there is no folder {target.parent}")
        if self._form == "duckdb" and "?" in str(target):
            raise ExportError(f"{target}: got a path with a `?`, to which DuckDB cannot write a database")
        if not target.exists():
            return
        if not self._force:
            raise ExportError(f"{target}: is there already, and stays as it is; --force replaces an older export")
        if self._form == "duckdb" and not target.is_file():
            raise ExportError(f"{target}: got what is no file, expected a file to replace, or none there yet")
        if self._form != "duckdb" and not _is_export(target):
            raise ExportError(f"{target}: got what is no older export, expected one to replace, or none there yet")

    def _put_in_place(self, made: Path) -> None:
        self._check_target()  # as it is now
        if self._form == "duckdb":
            made.replace(self.target)
        else:
            old = made.with_name("old")
            if self.target.exists():
                self.target.rename(old)
            try:
                made.rename(self.target)
            except OSError:
                if old.exists():
                    old.rename(self.target)
                raise
        sync_folder(self.target.parent)


def _is_export(folder: Path) -> bool:
    """Whether it is a folder with an export, or with nothing."""
    if not folder.is_dir():
        return False
    readme = folder / README
    if readme.is_file():
        return readme.read_text(encoding="utf-8", errors="replace").startswith(TITLE)
    return not any(folder.iterdir())


def _sync(made: Path) -> None:
    """Wait until all of it is on disk."""
    if made.is_file():
        sync_file(made)
        return
    for path in made.rglob("*"):
        (sync_folder if path.is_dir() else sync_file)(path)
    sync_folder(made)
