"""What is typed, as a text to run: with history, completion and colours where the terminal can do that."""

import os
import shutil
from collections.abc import Callable
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.sql import SqlLexer

from kitelake.shell.commands import COMMANDS
from kitelake.shell.completion import SqlCompleter
from kitelake.shell.history import open_history
from kitelake.shell.statements import is_complete
from kitelake.shell.vocabulary import Vocabulary

PROMPT: Final = "kitelake> "
SHORT: Final = "> "
NARROW: Final = 40
MENU_ROWS: Final = 8
OTHER_ROWS: Final = 3


def reader(vocabulary: Vocabulary) -> Callable[[], str]:
    """What gives the next text, or raises KeyboardInterrupt or EOFError as Ctrl-C and Ctrl-D are pressed."""
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return read_plainly
    session: PromptSession[str] = PromptSession(
        history=open_history(),
        completer=SqlCompleter(vocabulary, list(COMMANDS)),
        complete_while_typing=False,
        complete_in_thread=True,
        lexer=PygmentsLexer(SqlLexer),
        multiline=True,
        prompt_continuation=lambda width, *_: "…> ".rjust(width) if width > len(SHORT) else SHORT,
        key_bindings=_keys(),
    )

    def read() -> str:
        size = shutil.get_terminal_size()
        # Else a low terminal would have no line left to type in.
        menu = max(0, min(MENU_ROWS, size.lines - OTHER_ROWS))
        return session.prompt(SHORT if size.columns < NARROW else PROMPT, reserve_space_for_menu=menu)

    return read


def read_plainly() -> str:
    """The same by lines alone, for a terminal that cannot move its cursor."""
    lines = [input(PROMPT)]
    while not is_complete("\n".join(lines)):
        lines.append(input(" " * len(PROMPT)))
    return "\n".join(lines)


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def enter(event: KeyPressEvent) -> None:
        """Take what is chosen in the menu; else run what is complete; else begin a line."""
        buffer = event.current_buffer
        if buffer.complete_state is not None and buffer.complete_state.current_completion is not None:
            buffer.complete_state = None
        elif is_complete(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.newline(copy_margin=False)

    return keys
