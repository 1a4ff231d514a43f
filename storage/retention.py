"""What may go from the journal: segments whose rows are in the tables, once they are old enough.

Kept for good are segments with damage, because their bytes are in no table; somebody has to look at them. A stream's
segments go oldest first, so what is left of a stream is always its end.
"""

import contextlib
from pathlib import Path

from storage.errors import JournalError, TableMissingError
from storage.journal import is_alive, segments, streams
from storage.layout import DataLayout
from storage.schema import QUARANTINE, TICKS
from storage.table import LakeTable


def remove_committed(layout: DataLayout, *, keep_hours: float, now: float) -> list[Path]:
    """Remove segments that are committed and were last written more than `keep_hours` before `now` (epoch seconds).

    Folders of dead streams go with their last segment. The last segment of a live stream stays. Returns the segments
    removed. May run beside the writer. Raises JournalError if the system refuses; TableError if a table cannot be read.
    """
    try:
        ticks, quarantine = (LakeTable(layout.table(spec.name), spec).open() for spec in (TICKS, QUARANTINE))
    except TableMissingError:
        return []
    # What is committed first: damage in a segment is in `quarantine` before its rows are in `ticks`.
    committed = {stream: ticks.transaction(stream) for stream in streams(layout)}
    damaged = quarantine.read(columns=["stream", "segment", "record"]).to_pylist()
    kept = {(row["stream"], row["segment"]) for row in damaged if row["record"] is None}
    removed: list[Path] = []
    try:
        for stream, done in committed.items():
            numbers = segments(layout, stream)
            alive = is_alive(layout, stream)
            for number in numbers[: -1 if alive else None]:
                path = layout.segment(stream, number)
                if done is None or number > done or path.stat().st_mtime > now - keep_hours * 3600:
                    break
                if (stream, number) not in kept:
                    path.unlink()
                    removed.append(path)
            if not alive and numbers and not segments(layout, stream):
                _remove_folder(layout.stream(stream))
    except OSError as error:
        raise JournalError(f"journal {layout.journal}: cannot remove old segments: {error}") from error
    return removed


def _remove_folder(folder: Path) -> None:
    """Remove a dead stream's folder with what a crash may have left in it."""
    for path in folder.iterdir():
        path.unlink()
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()
