"""What a line does that begins with a dot."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.text import Text

from kitelake.errors import AskError
from kitelake.lake import Lake
from kitelake.shell.display import MODES, Display
from kitelake.shell.vocabulary import columns_of, relations_of, signatures
from kitelake.views import check_output

COMMANDS: Final = {
    ".help": ("", "this list"),
    ".tables": ("", "the tables and views, and the macros"),
    ".schema": ("[NAME]", "the columns of a table or view, or of all"),
    ".mode": (f"[{'|'.join(MODES)}]", "how results are shown"),
    ".once": ("FILE", "the next result goes to this file: .csv, .json, .parquet, .arrow, or else as in .mode"),
    ".read": ("FILE", "run the statements of a file"),
    ".timer": ("[on|off]", "whether it is said how long a statement took"),
    ".quit": ("", "end the shell, as Ctrl-D and .exit do"),
    ".exit": ("", ""),
}
KEYS: Final = (
    "SQL ends with `;` and may have several lines; Alt-Enter runs it as it is. Tab completes, Up and Ctrl-R find what "
    "was typed before,\nCtrl-C ends the query that runs. A line that begins with a space is not kept in the history."
)


class Commands:
    """The commands of a shell. `read` runs what a file has."""

    def __init__(self, lake: Lake, display: Display, read: Callable[[Path], None]) -> None:
        self._lake = lake
        self._display = display
        self._read = read

    def run(self, line: str) -> None:
        """Do what the line says. Raises EOFError to end the shell, AskError for what it cannot mean, QueryError."""
        try:
            name, *arguments = shlex.split(line.rstrip().rstrip(";"))
        except ValueError as error:
            raise AskError(f"{line}: {error}") from None
        if name not in COMMANDS:
            raise AskError(f"{name}: there is no such command; .help lists them")
        usage = COMMANDS[name][0]
        if len(arguments) > bool(usage) or (usage and not usage.startswith("[") and not arguments):
            raise AskError(f"expected {name} {usage}".rstrip())
        argument = arguments[0] if arguments else None
        match name:
            case ".help":
                self._page(_help())
            case ".tables":
                self._page("\n".join([*self._lake.tables, *_calls(self._lake)]))
            case ".schema":
                self._page(self._schema(argument))
            case ".mode":
                self._display.mode = self._chosen(name, argument, MODES, self._display.mode)
            case ".timer":
                now = "on" if self._display.timing else "off"
                self._display.timing = self._chosen(name, argument, ("on", "off"), now) == "on"
            case ".once":
                path = Path(argument or "").expanduser()
                check_output(path, self._lake.root)
                self._display.once = path
            case ".read":
                self._read(Path(argument or "").expanduser())
            case _:
                raise EOFError

    def _page(self, text: str) -> None:
        self._display.page(Text(text))

    def _chosen(self, name: str, argument: str | None, choices: tuple[str, ...], now: str) -> str:
        if argument is None:
            self._page(f"{name} {now}")
            return now
        if argument not in choices:
            raise AskError(f"{name}: got {argument}, expected {' or '.join(choices)}")
        return argument

    def _schema(self, name: str | None) -> str:
        relations = relations_of(self._lake) if name is None else {name: columns_of(self._lake, name)}
        lines = []
        for relation, columns in relations.items():
            width = max(map(len, columns), default=0)
            lines += [relation, *(f"    {column:<{width}}  {kind.lower()}" for column, kind in columns.items())]
        return "\n".join([*lines, *(_calls(self._lake) if name is None else ())])


def _help() -> str:
    shown = {f"{name} {usage}".rstrip(): what for name, (usage, what) in COMMANDS.items() if what}
    width = max(map(len, shown))
    return "\n".join([*(f"{name:<{width}}  {what}" for name, what in shown.items()), "", KEYS])


def _calls(lake: Lake) -> list[str]:
    return [f"{name}({each})" for name, overloads in signatures(lake.macros).items() for each in overloads]
