"""Children of a forked service that are forked as well: their start, mostly imports, would cost more than their work.

That `python -m kitelake.processes.child MODULE` starts and ends as a child has to is for the tests of those processes.
What is forked is the service's own child all the same, with pipes to it, in a session of its own. Linux alone.
"""

import asyncio
import ctypes
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any, Final, NamedTuple

_STARTER: Final = "kitelake.processes.child"
_SET_CHILD_SUBREAPER: Final = 36  # of prctl(2)
_MOST_BYTES: Final = 1 << 17

_start_process: Final = asyncio.create_subprocess_exec


class Order(NamedTuple):
    """What a child is to be: the module and its arguments, its environment, and its standard streams."""

    command: list[str]
    environment: dict[str, str]
    streams: list[int]


def fork_children() -> Order | None:
    """To be called before this process has threads, which a fork would not survive.

    None in this process; and in each of its later children, once it is one, what it is to be.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        return _fork_when_told(theirs)
    theirs.close()
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1)

    async def start(*command: str, **options: Any) -> Any:
        if _STARTER not in command:
            return await _start_process(*command, **options)
        return await _ForkedChild.start(ours, command[command.index(_STARTER) + 1 :], **options)

    asyncio.create_subprocess_exec = start  # type: ignore[assignment]
    return None


def _fork_when_told(link: socket.socket) -> Order:
    """Return in each child; end with the process at the other end.

    Between us and the child is a process that ends at once: so the system hands the child to the one that asked.
    """
    while True:
        told, streams, _, _ = socket.recv_fds(link, _MOST_BYTES, 2)
        if not told:
            os._exit(0)
        between = os.fork()
        if between == 0:
            if child := os.fork():
                link.send(str(child).encode())
                os._exit(0)
            link.close()
            os.setsid()
            command, environment, folder = json.loads(told)
            os.chdir(folder)
            Path("/proc/self/comm").write_text(command[0].rpartition(".")[2])
            return Order(command, environment, streams)
        os.waitpid(between, 0)
        link.send(b"handed over")
        for stream in streams:
            os.close(stream)


class _ForkedChild:
    """As much of asyncio.subprocess.Process as a service uses."""

    def __init__(self, pid: int, stdin: asyncio.StreamWriter, stdout: asyncio.StreamReader) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self._loop = asyncio.get_running_loop()
        self._status: asyncio.Future[int] = self._loop.create_future()
        self._end = os.pidfd_open(pid)
        self._loop.add_reader(self._end, self._reap)

    @classmethod
    async def start(
        cls, link: socket.socket, command: tuple[str, ...], *, env: dict[str, str], limit: int, **_streams: object
    ) -> "_ForkedChild":
        (stdin, reads), (stdout, writes) = socket.socketpair(), os.pipe()
        socket.send_fds(link, [json.dumps([command, env, str(Path.cwd())]).encode()], [reads.fileno(), writes])
        reads.close()
        os.close(writes)
        pid = int(link.recv(_MOST_BYTES))
        link.recv(_MOST_BYTES)
        reader = asyncio.StreamReader(limit)
        said = os.fdopen(stdout, "rb", buffering=0)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), said)
        writer = (await asyncio.open_connection(sock=stdin))[1]
        return cls(pid, writer, reader)

    def _reap(self) -> None:
        self._loop.remove_reader(self._end)
        os.close(self._end)
        self._status.set_result(os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]))

    async def wait(self) -> int:
        return await asyncio.shield(self._status)

    def kill(self) -> None:
        if self._status.done():
            raise ProcessLookupError
        os.kill(self.pid, signal.SIGKILL)
