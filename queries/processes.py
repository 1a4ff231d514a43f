"""What belongs to the process that made it: in a fork of that it can neither be asked nor let go.

DuckDB's threads are not there in the child, and its locks are as those who had them left them. So whoever asked it, or
freed it, would wait for ever, or bring the child down.
"""

import os
import weakref
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from queries.errors import ForkedError

Item = TypeVar("Item")

_THINGS: Final[weakref.WeakSet[object]] = weakref.WeakSet()


class Process:
    """The process that made a thing. In its forks the thing is never freed, nor what it holds."""

    def __init__(self, thing: object) -> None:
        self._pid = os.getpid()
        _THINGS.add(thing)

    @property
    def is_this(self) -> bool:
        """Whether it is the one that asks."""
        return os.getpid() == self._pid

    def check(self) -> None:
        """Raises ForkedError in another process."""
        if not self.is_this:
            raise ForkedError(
                f"the lake was opened in process {self._pid}, of which this one, {os.getpid()}, was forked: open it "
                "here, with kitelake.open(…)"
            )


class InProcess(Iterator[Item], Generic[Item]):
    """The same items, in the process that made this alone."""

    def __init__(self, items: Iterator[Item]) -> None:
        self._items = items
        self._process = Process(self)

    def __next__(self) -> Item:
        self._process.check()
        return next(self._items)


def _keep() -> None:
    import ctypes  # a name for them would be gone before the end of the child

    for thing in list(_THINGS):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


os.register_at_fork(after_in_child=_keep)
