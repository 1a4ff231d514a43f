"""Processes of ours without the cost of their start: forked from a server that has loaded what they need, and no more.

A process gets its arguments, environment and standard streams as it would as a command. That commands start as such is
for the tests of the command line, and of the demo.
"""

import contextlib
import fcntl
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import termios
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from tests.support.forked_children import fork_children
from tests.support.waiting import PATIENCE_SECONDS

CONTEXT: Final = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.support.preloaded"])

Stream = Connection | Path | None


class Forked:
    """`python -m MODULE ARGUMENTS…`, with as much of subprocess.Popen as tests use.

    With `piped`, `stdin` and `stdout` are its standard streams as text; without, it reads nothing and writes to
    `output`. Standard error goes to `errors`, or to that of the tests. `first`, which can be pickled, is called in the
    process before the module runs. With `children`, processes of ours that it starts are forked as
    well, where that is possible.
    """

    stdin: TextIO | None = None
    stdout: TextIO | None = None

    def __init__(
        self,
        module: str,
        *arguments: str,
        piped: bool = False,
        output: Path | None = None,
        errors: Path | None = None,
        environment: Mapping[str, str] = os.environ,
        first: Callable[[], object] | None = None,
        children: bool = False,
    ) -> None:
        with contextlib.ExitStack() as theirs:
            streams: list[Stream] = [None, output, errors]
            if piped:
                (reads, ours), (answers, said) = CONTEXT.Pipe(duplex=False), CONTEXT.Pipe(duplex=False)
                streams[:2] = theirs.enter_context(reads), theirs.enter_context(said)
                self.stdin, self.stdout = _text(ours, "w"), _text(answers, "r")
            command = ([module, *arguments], dict(environment), streams, first, children)
            self._process = CONTEXT.Process(target=_run, args=command, daemon=True)
            self._process.start()
        self.pid: Final[int] = self._process.pid or 0

    def poll(self) -> int | None:
        """The exit status, if it has ended."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, once it has ended. Raises subprocess.TimeoutExpired after so many seconds."""
        self._process.join(timeout)
        if (status := self.poll()) is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return status

    def send_signal(self, number: int) -> None:
        """Nothing if it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _text(end: Connection, mode: str) -> TextIO:
    """The end of a pipe as a file of text."""
    with end:
        return os.fdopen(os.dup(end.fileno()), mode, encoding="utf-8")  # type: ignore[return-value]


def _run(
    command: list[str],
    environment: dict[str, str],
    streams: list[Stream],
    first: Callable[[], object] | None,
    children: bool,
) -> None:
    for number, stream in enumerate(streams):
        if isinstance(stream, Connection):
            os.dup2(stream.fileno(), number)
            stream.close()
        elif stream is not None or number == 0:
            opened = os.open(stream or os.devnull, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            os.dup2(opened, number)
            os.close(opened)
    if children and sys.platform == "linux" and (order := fork_children()) is not None:
        command, environment, first = order.command, order.environment, None
        for number, descriptor in enumerate(order.streams):
            os.dup2(descriptor, number)
            os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.stdin = os.fdopen(0, closefd=False)
    sys.argv = command
    if first is not None:
        first()
    warnings.filterwarnings("ignore", ".* found in sys.modules", RuntimeWarning)  # it is loaded, as is meant
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)


class Ended(NamedTuple):
    """The end of a process: exit status, and what it printed where."""

    status: int
    out: str
    err: str


def run_forked(
    module: str,
    *arguments: str,
    folder: Path,
    environment: Mapping[str, str] = os.environ,
    first: Callable[[], object] | None = None,
    children: bool = False,
) -> Ended:
    """What `python -m MODULE ARGUMENTS…` does until its end, by way of two files in a folder, which is made."""
    folder.mkdir()
    out, err = folder / "out", folder / "err"
    process = Forked(
        module, *arguments, output=out, errors=err, environment=environment, first=first, children=children
    )
    try:
        return Ended(process.wait(PATIENCE_SECONDS), out.read_text(), err.read_text())
    finally:
        process.kill()


def find_first(folder: Path) -> None:
    """For `first`: have the process look for modules in this folder before all others."""
    sys.path.insert(0, str(folder))


def take_terminal(terminal: str, streams: Collection[int] = range(3)) -> None:
    """For `first`: have the process in this terminal, alone, so that Ctrl-C goes to it, with these of its streams."""
    os.setsid()
    opened = os.open(terminal, os.O_RDWR)
    fcntl.ioctl(opened, termios.TIOCSCTTY, 0)
    for number in streams:
        os.dup2(opened, number)
    os.close(opened)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
