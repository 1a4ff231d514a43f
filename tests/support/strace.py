"""strace on a process of a test's own: system calls that fail, take long or kill. Linux alone."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import wait_until

DETACHING_SECONDS = 10
"""strace detaches at once, or waits without end for a thread that has ended; its own end detaches it as well."""


@contextlib.contextmanager
def traced(pid: int, inject: str, *paths: Path) -> Iterator[subprocess.Popen[bytes]]:
    """strace attached to all threads of a process, with what it injects into their system calls (on `paths` alone)."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not here")
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={inject.partition(':')[0]}"]
    command += [argument for path in paths for argument in ("-P", str(path))]
    process = subprocess.Popen([*command, "-e", f"inject={inject}", "-p", str(pid)], stderr=subprocess.PIPE)
    try:
        wait_until(lambda: process.poll() is not None or is_traced(pid))
        if process.poll() is not None:
            assert process.stderr is not None
            if problem := process.stderr.read().decode().strip():
                pytest.skip(f"strace may not: {problem}")
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=DETACHING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def is_traced(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()
    return True  # it has ended
