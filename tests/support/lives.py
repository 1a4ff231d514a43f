"""Work in a process of its own that dies: by itself after one of its steps, or killed at any moment.

The processes are forked from a server that has imported what they need and done nothing else, so that a test may have
dozens of them.
"""

import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

from tests.support.forks import CONTEXT
from tests.support.waiting import PATIENCE_SECONDS

Step = Callable[[str], None]
Work = Callable[[Path, Step], None]


class Life:
    """A process that does `work` on a data folder. Leaving it waits for its end.

    With `dies_after` it kills itself once so many steps are done, or the one of that name.
    """

    def __init__(self, work: Work, root: Path, dies_after: int | str | None = None) -> None:
        begun, begins = CONTEXT.Pipe(duplex=False)
        self._process = CONTEXT.Process(target=_live, args=(work, root, dies_after, begins))
        self._process.start()
        begins.close()
        with begun:
            begun.recv()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> bool:
        """Wait until it has ended, and say whether it died before its work was done. If that failed, so does this."""
        self._process.join(PATIENCE_SECONDS)
        assert self._process.exitcode in (0, -signal.SIGKILL), self._process.exitcode
        return self._process.exitcode != 0


def _live(work: Work, root: Path, dies_after: int | str | None, begins: Connection) -> None:
    done = 0

    def step(name: str) -> None:
        nonlocal done
        done += 1
        if dies_after in (name, done):
            os.kill(os.getpid(), signal.SIGKILL)

    begins.send(None)
    begins.close()
    work(root, step)
