"""What a process of ours does before anything else."""

import ctypes
import os
import sys
from collections.abc import Collection, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

_NEEDLESS: Final = ("pandas", "twisted")
_SETTINGS: Final = {"OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # glibc's malloc.h
_KEPT_BYTES: Final = 256 << 20
_APART_BYTES: Final = 32 << 20  # the most that glibc takes
_added: set[str] = set()


class _LeftOut(MetaPathFinder):
    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in self._names:
            raise ModuleNotFoundError(f"this process does without {fullname}", name=fullname)
        return None


def leave_out_needless(*others: str) -> None:
    """Have this process do without pandas and Twisted, even where they are installed, without OpenBLAS's threads, and
    without an allocator beside C's.

    `others` are further modules that it does without.

    pyarrow imports the one when it is first given a value of Python's, structlog the other when it is imported; both
    do as well without, and start sooner. numpy's OpenBLAS starts a thread for each further processor,
    which for a while is busy with waiting for work that nobody here has. Arrow's own allocator keeps
    some 40 MB for later, in the service and in the writer alike, and is no quicker there than C's. To be called before
    numpy and pyarrow are loaded. For processes of ours alone, and never for one in which the user's own code runs.
    """
    sys.meta_path.insert(0, _LeftOut({*_NEEDLESS, *others}))
    _added.update(_SETTINGS.keys() - os.environ.keys())
    os.environ.update({name: _SETTINGS[name] for name in _added})


def have_one_arena() -> None:
    """Have the threads of this process share the memory that glibc's malloc keeps for later, where that is C's library.

    A second thread would have as much of its own. To be called before there is one.
    """
    _set_malloc(_M_ARENA_MAX, 1)


def keep_freed_memory() -> None:
    """Have glibc's malloc keep what is freed until `malloc_trim`, where that is C's library.

    For a process that works in bursts, and needs at once again as much as it frees: what was given back is had again
    page by page, each zeroed by the system.
    """
    _set_malloc(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    _set_malloc(_M_MMAP_THRESHOLD, _APART_BYTES)


def _set_malloc(setting: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(setting, value)


def environment_as_given() -> dict[str, str]:
    """The environment without what `leave_out_needless` added: for a process in which the user's own code runs."""
    return {name: value for name, value in os.environ.items() if name not in _added}
