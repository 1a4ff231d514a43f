"""Processes of our own: settings in by standard input, JSON lines out by standard output. Both ends of that are here.

No secret is in a command line. A child runs in a session of its own, so that Ctrl-C reaches the service alone, and
ends by itself when its standard input ends, so that it never outlives who started it, however that one died.

It is started as `python -m kitelake.processes.child MODULE`, which runs that module without what it does not need:
that has to be said before anything is loaded, and is a good part of the CPU that the start of a process costs.
"""

import asyncio
import contextlib
import json
import os
import runpy
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any

from kitelake.errors import StartError
from storage.startup import leave_out_needless

LINE_LIMIT_BYTES = 16 * 2**20


class Child:
    """One running child process, of a module that can be run."""

    def __init__(self, module: str, process: asyncio.subprocess.Process) -> None:
        self.module = module
        self._process = process

    @classmethod
    async def start(cls, module: str, settings: Mapping[str, Any], *, hide: Collection[str]) -> "Child":
        """Start the module and hand it its settings as one line of JSON.

        Environment variables whose value is in `hide`, as secrets may be, are not passed on. Raises StartError if the
        system does not start it: there is no memory, no process or no file descriptor for it, or no such program.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                __name__,
                module,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if value.strip() not in hide},
                limit=LINE_LIMIT_BYTES,
            )
        except OSError as error:
            raise StartError(f"the process {module} could not be started: {error}") from None
        child = cls(module, process)
        assert process.stdin is not None
        process.stdin.write(json.dumps(settings).encode() + b"\n")
        with contextlib.suppress(ConnectionError):  # it died at once; wait() tells
            await process.stdin.drain()
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        """What it says, until it closes its standard output."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            yield json.loads(line)

    async def wait(self) -> int:
        """Its exit status, once it has ended; negative is the signal that killed it."""
        return await self._process.wait()

    async def stop(self, patience_seconds: float = 5.0) -> int:
        """End its standard input, which tells it to end; kill it if it does not in time."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(patience_seconds):
                return await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            return await self._process.wait()


def begin(*, niceness: int, ended: Callable[[], object]) -> str:
    """What a child does first; returns its settings, one line of JSON. The sockets come first, so it makes itself nice.

    The service decides when it ends, so it ignores signals; `ended` is called, in a thread, when its standard input
    ends, which is how it learns that the service has died or wants it to end.
    """
    settings = sys.stdin.readline()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError, AttributeError):
        os.nice(niceness)

    def watch() -> None:
        sys.stdin.read()
        ended()

    threading.Thread(target=watch, daemon=True).start()
    return settings


def end_at_once() -> None:
    """For a child whose work may be stopped at any moment, whatever it is doing."""
    os._exit(1)


if __name__ == "__main__":
    leave_out_needless("rich")  # structlog loads it for tracebacks, which are plain here
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
