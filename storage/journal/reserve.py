"""Room on the disk that is kept for the journal: a file that is given up when the disk is full.

What fills a disk is mostly something else. The file's blocks are allocated, so when the system says that there is no
space left, removing it gives the journal that much more to write, and a person time to make room.
"""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

LEAST_FACTOR: Final = 4
"""The file is made only where so many times its size is free: it must not be what fills a small disk."""


class Reserve:
    """The file `path` of `size_bytes`; 0: none is kept."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size = size_bytes

    @property
    def is_kept(self) -> bool:
        """Whether it is there; also if none is to be kept."""
        return not self._size or self._path.exists()

    def keep(self) -> bool:
        """Make the file if it is not there and there is room; whether it is there. Does I/O, never raises OSError."""
        if self.is_kept:
            return True
        new = self._path.with_suffix(".new")
        try:
            if shutil.disk_usage(self._path.parent).free < LEAST_FACTOR * self._size:
                return False
            with new.open("wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, self._size)
                else:
                    file.truncate(self._size)
            new.rename(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            return False
        return True

    def give_up(self) -> bool:
        """Remove the file; whether there was one."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
