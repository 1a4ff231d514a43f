"""How a query runs while somebody waits for it at a terminal: Ctrl-C ends it, and a line says how far it is.

It is loaded with every command, so it imports nothing that costs.
"""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar, cast

if TYPE_CHECKING:
    from typing import TextIO

    from kitelake.lake import Lake

Made = TypeVar("Made")

INTERRUPTED: Final = 128 + signal.SIGINT
"""The exit status after Ctrl-C."""
AGAIN_SECONDS: Final = 0.1
PATIENCE: Final = 50
QUIET_SECONDS: Final = 0.5
LOOK_SECONDS: Final = 0.1
CLEARED: Final = "\r\x1b[K"


def until_interrupted(work: Callable[[], Made], interrupt: Callable[[], None], *, stays: bool = False) -> Made:
    """Do the work in another thread, because the main one does not hear Ctrl-C while DuckDB has it.

    After a Ctrl-C it raises KeyboardInterrupt when the work has ended. Work that does not end within some seconds ends
    the process, unless the process `stays`.
    """
    from concurrent.futures import ThreadPoolExecutor, wait

    asked = 0

    def hear(*_: object) -> None:
        nonlocal asked
        asked = asked or 1

    # Python's own handler raises wherever this thread is: between the beginning of the work and the waiting for it, or
    # with a lock of the pool in its hands. Then nobody would end the work, and everybody wait for it.
    theirs = signal.getsignal(signal.SIGINT)
    heeds = threading.current_thread() is threading.main_thread() and theirs is not signal.SIG_IGN
    if heeds:
        signal.signal(signal.SIGINT, hear)
    try:
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(work)
            while not done.done():
                wait([done], AGAIN_SECONDS)
                if asked and not done.done():
                    interrupt()  # again and again: it may not be in DuckDB at that moment, but come back to it
                    asked += 1
                if asked > PATIENCE and not stays:
                    os._exit(INTERRUPTED)  # it waits for a reader that does not read
    finally:
        if heeds:
            signal.signal(signal.SIGINT, theirs)
    try:
        if asked:
            raise KeyboardInterrupt
        return done.result()
    finally:
        del done  # which has the error, and the error this frame: DuckDB's objects would never be let go


class Progress:
    """How far a lake's query is, on the standard error where that is a terminal: to be entered while it runs.

    Nothing is shown of what takes less than half a second, and nothing stays when it is left.
    """

    def __init__(self, lake: "Lake") -> None:
        self._lake = lake
        self._left = threading.Event()
        self._thread: threading.Thread | None = None
        terminal = cast("TextIO | None", sys.stderr)
        knows_escapes = os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
        self._terminal = terminal if terminal is not None and terminal.isatty() and knows_escapes else None
        if self._terminal is not None:
            lake.follow_progress()

    def __enter__(self) -> None:
        if self._terminal is not None:
            self._left.clear()
            self._thread = threading.Thread(target=self._show, args=(self._terminal,), name="progress", daemon=True)
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._left.set()
            self._thread.join()
            self._thread = None

    def _show(self, terminal: "TextIO") -> None:
        began = time.monotonic()
        if self._left.wait(QUIET_SECONDS):
            return
        try:
            while not self._left.is_set():
                line = progress_line(self._lake.progress(), time.monotonic() - began)
                terminal.write(CLEARED + line[: shutil.get_terminal_size().columns - 1])
                terminal.flush()
                self._left.wait(LOOK_SECONDS)
            terminal.write(CLEARED)
            terminal.flush()
        except (OSError, ValueError):
            return  # the terminal has gone away


def progress_line(percent: float | None, seconds: float) -> str:
    """What is said of a query that has run so long."""
    done = "" if percent is None else f"{min(percent, 100):.0f}% "
    return f"{done}{seconds:.0f} s, Ctrl-C ends it"
