"""What processes of ours do without."""

import subprocess
import sys

import pytest

from tests.support.simulation import ROOT

CHILD = """
from storage.startup import leave_out_needless
leave_out_needless()
import os, sys, numpy
threads = len(os.listdir("/proc/self/task"))
import pyarrow
pyarrow.array([1])
print(threads, "pandas" in sys.modules, pyarrow.default_memory_pool().backend_name)
"""


@pytest.mark.slow
def test_neither_pandas_nor_threads_that_wait_nor_another_allocator() -> None:
    command = [sys.executable, "-c", CHILD]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "1 False system\n"
