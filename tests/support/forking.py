"""What Python does in a fork of the process of the tests, as users' programs and multiprocessing fork theirs."""

import multiprocessing
import os
import pickle
import signal
import warnings
from collections.abc import Callable, Mapping
from typing import Final

from queries.errors import ForkedError
from tests.support.waiting import PATIENCE_SECONDS

ANSWERED: Final = "answered"


def in_fork(works: Mapping[str, Callable[[], object]]) -> dict[str, str]:
    """What becomes of each of these in one fork: it was `ANSWERED`, or the text of the ForkedError."""
    reads, writes = multiprocessing.Pipe(duplex=False)
    with reads, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads, which is what is tested
        pid = os.fork()
        if pid == 0:
            try:
                writes.send_bytes(pickle.dumps({name: _outcome(work) for name, work in works.items()}))
            finally:
                os._exit(0)
        writes.close()
        try:
            assert reads.poll(PATIENCE_SECONDS), "the fork hangs"
            found: dict[str, str] = pickle.loads(reads.recv_bytes())
            return found
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _outcome(work: Callable[[], object]) -> str:
    try:
        work()
    except ForkedError as error:
        return str(error)
    return ANSWERED
