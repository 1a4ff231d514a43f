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
