"""Where a picture goes: the terminal, or a file."""

from pathlib import Path

import pyarrow as pa

from kitelake.drawing.terminal import print_drawing
from kitelake.errors import OutputError
from queries.pictures import Picture, subject_of


def write_drawing(
    rows: pa.Table,
    path: Path | None,
    *,
    dark: bool = False,
    gaps: pa.Table | None = None,
    definition: str | None = None,
) -> int:
    """Draw rows on the terminal, or into the file. Returns how many rows there are.

    Raises PictureError for rows or a name that cannot be, MissingLibraryError, OutputError.
    """
    subject = subject_of(rows, gaps=gaps, definition=definition)
    if path is None:
        print_drawing(subject)
        return len(rows)
    try:
        Picture(subject, dark=dark).save(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    return len(rows)
