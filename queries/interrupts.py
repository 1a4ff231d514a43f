"""Ctrl-C while DuckDB has the main thread.

Python has a signal's handler run when its main thread is back from DuckDB, which may be in an hour. But it tells a file
at once, if it knows of one (`signal.set_wakeup_fd`): there another thread reads, and ends the query.
"""

import atexit
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import duckdb

AGAIN_SECONDS: Final = 0.05


class _Ear:
    """What hears of signals, and ends the query of a connection on SIGINT: the one that is asked at that moment."""

    def __init__(self) -> None:
        self.reads, self.writes = os.pipe()
        os.set_blocking(self.writes, False)
        self.con: duckdb.DuckDBPyConnection | None = None
        # Between the two questions the query may end, and the connection be another query's.
        self._between = threading.Lock()
        self.thread = threading.Thread(target=self._listen, name="query-interrupt", daemon=True)
        self.thread.start()

    def attend(self, con: duckdb.DuckDBPyConnection | None) -> None:
        """Nobody's query is ended from now on but this connection's."""
        with self._between:
            self.con = con

    def close(self) -> None:
        os.close(self.writes)

    def _listen(self) -> None:
        while heard := os.read(self.reads, 64):
            while signal.SIGINT in heard and self._interrupts():
                time.sleep(AGAIN_SECONDS)  # it may not have been in DuckDB yet
        os.close(self.reads)

    def _interrupts(self) -> bool:
        with self._between, suppress(duckdb.Error):
            if self.con is not None:
                self.con.interrupt()
                return True
        return False


_ears: Final[list[_Ear]] = []
"""The one that there is, if there was a query yet."""


@contextmanager
def heard(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """A query on this connection: Ctrl-C ends it, with KeyboardInterrupt.

    In the main thread, where it would end anything else in Python; and not where somebody else is told of signals.
    """
    usual = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not usual:
        yield
        return
    came = False

    def hear(*_: object) -> None:
        nonlocal came
        came = True

    if not _ears:
        _ears.append(_Ear())
    (ear,) = _ears
    signal.signal(signal.SIGINT, hear)  # Python's own raises wherever this thread is, in the middle of a clean-up too
    try:
        theirs = signal.set_wakeup_fd(ear.writes, warn_on_full_buffer=False)
        try:
            if theirs != -1:
                signal.set_wakeup_fd(theirs)
            if came:
                raise KeyboardInterrupt
            ear.attend(con)
            yield
        finally:
            ear.attend(None)
            signal.set_wakeup_fd(theirs)
    finally:
        signal.signal(signal.SIGINT, usual)
        if came:
            _ears.remove(ear)  # in which there may be more of what is over now
            ear.close()
            raise KeyboardInterrupt from None


def _end() -> None:
    """A thread that is still there at the end of the process keeps DuckDB's module, which tells of leaks then."""
    while _ears:
        ear = _ears.pop()
        ear.close()
        ear.thread.join()


def _forked() -> None:
    """The thread is not there, and the file is the other process's."""
    for ear in _ears:
        ear.close()
        os.close(ear.reads)
        if ear.con is not None:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGINT, signal.default_int_handler)
    _ears.clear()


atexit.register(_end)
os.register_at_fork(after_in_child=_forked)
