"""The shell: reads, runs and shows, until it is ended."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.text import Text

from kitelake.errors import AskError, KitelakeError
from kitelake.lake import Lake
from kitelake.shell.commands import Commands
from kitelake.shell.display import READ, Display, fetched, format_of
from kitelake.shell.running import Progress, until_interrupted
from kitelake.shell.statements import COMMAND, split
from kitelake.shell.vocabulary import Vocabulary
from kitelake.views import Grid, write_result


class Shell:
    """One lake, and what was chosen of how its results are shown."""

    def __init__(self, lake: Lake, mode: str = "table") -> None:
        """`mode` is one of `display.MODES`."""
        self.vocabulary = Vocabulary(lake)
        self._lake = lake
        self._display = Display(mode)
        self._commands = Commands(lake, self._display, self._read_file)
        self._progress = Progress(lake)
        self._is_reading = False

    def run(self, read: Callable[[], str]) -> None:
        """Run what `read` gives, until it raises EOFError. A KeyboardInterrupt ends what runs and nothing else."""
        while True:
            try:
                self.enter(read())
            except KeyboardInterrupt:
                continue
            except EOFError:
                return

    def enter(self, text: str) -> bool:
        """Run commands and statements, up to the first that fails. Returns whether all went well.

        Raises KeyboardInterrupt when one was ended, EOFError if one of them ends the shell.
        """
        try:
            self._run_all(text)
        except KeyboardInterrupt:
            self._display.say("interrupted")
            raise
        except KitelakeError as error:
            self._display.say(str(error))
            return False
        return True

    def _run_all(self, text: str) -> None:
        for each in parts(text):
            if each.startswith(COMMAND):
                self._commands.run(each)
            else:
                self._run(each)

    def _run(self, statement: str) -> None:
        began = time.monotonic()
        mode, once = self._display.mode, self._display.once
        self._display.once = None

        def work() -> Grid | Text | None:
            with self._progress:
                result = self._lake.sql(statement)
                if once is None and mode in READ:
                    return fetched(result)
            write_result(result, format_of(once, mode), once, self._progress)
            return None

        try:
            shown = until_interrupted(work, self._lake.interrupt, stays=True)
        finally:
            self.vocabulary.forget()
        took = time.monotonic() - began
        if shown is not None:
            self._display.show(shown)
        if self._display.timing:
            self._display.say(f"{took:.3f} s", "dim")

    def _read_file(self, path: Path) -> None:
        if self._is_reading:
            raise AskError(f"{path}: a file that is read cannot have others read")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise AskError(f"{path}: cannot be read: {error}") from error
        self._is_reading = True
        try:
            self._run_all(text)
        finally:
            self._is_reading = False


def parts(text: str) -> Iterator[str]:
    """The commands and statements of a text, one after the other; the last statement may be without its `;`."""
    statements, rest = split(text)
    for each in (*statements, rest.rstrip()):
        left = each
        while left.startswith(COMMAND):
            command, _, left = left.partition("\n")
            yield command
            left = left.lstrip()
        if left:
            yield left
