"""What was typed, in a file of the user's alone, from one shell to the next; never what looks like a secret."""

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from kitelake.config import state_folder
from storage.files import write_whole

FILE: Final = "sql-history"
MOST_BYTES: Final = 1 << 20
_SECRET: Final = re.compile(
    r"secret|passw|pwd|access_token|api_?key|key_id|bearer|request_token|://[^\s/']*:[^\s/']*@", re.IGNORECASE
)


def open_history() -> History:
    """The history in the user's state folder; one of this shell alone where no file can be had."""
    try:
        folder = state_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return KeptHistory(folder / FILE)
    except (OSError, RuntimeError):
        return InMemoryHistory()


class KeptHistory(FileHistory):
    """A file that only its owner reads, and that does not grow for ever."""

    def __init__(self, path: Path) -> None:
        """Raises OSError if it can be neither read nor made."""
        self._path = path
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
        if path.stat().st_size > MOST_BYTES:
            # Each entry begins with an empty line; what is cut off at the front is whole ones.
            kept = path.read_bytes()[-MOST_BYTES // 2 :]
            write_whole(path, kept[kept.find(b"\n\n") + 1 :], mode=0o600)
        super().__init__(str(path))

    def load_history_strings(self) -> Iterable[str]:
        with contextlib.suppress(OSError):
            yield from super().load_history_strings()

    def store_string(self, string: str) -> None:
        if may_be_kept(string):
            with contextlib.suppress(OSError):  # a full disk ends no shell
                super().store_string(string)


def may_be_kept(text: str) -> bool:
    """Whether it is fit for a file: no word of it is about secrets, and it does not begin with a space."""
    return not text.startswith(" ") and _SECRET.search(text) is None
