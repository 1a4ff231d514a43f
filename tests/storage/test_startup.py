"""What processes of ours do without."""

import os
import subprocess
import sys

import pytest

from tests.support.simulation import ROOT

POOL = "ARROW_DEFAULT_MEMORY_POOL"
CHILD = """
from storage.startup import environment_as_given, leave_out_needless
leave_out_needless()
import os, sys, numpy
threads = len(os.listdir("/proc/self/task"))
import pyarrow
pyarrow.array([1])
print(threads, "pandas" in sys.modules, pyarrow.default_memory_pool().backend_name)
print("OPENBLAS_NUM_THREADS" in environment_as_given(), environment_as_given().get("ARROW_DEFAULT_MEMORY_POOL", "-"))
"""


@pytest.mark.slow
def test_neither_pandas_nor_threads_that_wait_nor_another_allocator_than_the_user_s() -> None:
    """And a process in which the user's code runs has the environment as the user gave it."""
    assert _child({}) == "1 False system\nFalse -\n"
    assert _child({POOL: "mimalloc"}) == "1 False mimalloc\nFalse mimalloc\n"


def _child(given: dict[str, str]) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("OPENBLAS_NUM_THREADS", POOL)}
    command = [sys.executable, "-c", CHILD]
    child = subprocess.run(command, cwd=ROOT, env=environment | given, capture_output=True, text=True, check=True)
    return child.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="it is glibc's malloc")
def test_memory_that_is_freed_is_kept_until_it_is_given_back() -> None:
    pages = 4 * (8 << 20) // os.sysconf("SC_PAGE_SIZE")
    faults = {kind: [int(count) for count in _run(BURSTS, kind).split()] for kind in ("kept", "as ever")}
    assert faults["as ever"][0] > pages // 2
    assert faults["kept"][0] < pages // 10
    assert faults["kept"][1] > pages // 2


BURSTS = """
import ctypes, resource, sys
from storage.startup import keep_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
if sys.argv[1] == "kept":
    keep_freed_memory()
def burst():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    places = [ctypes.c_void_p(libc.malloc(8 << 20)) for _ in range(4)]
    for at in places:
        ctypes.memset(at, 1, 8 << 20)
    for at in places:
        libc.free(at)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for _ in range(3):
    burst()
again = burst()
libc.malloc_trim(0)
print(again, burst())
"""


def _run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
