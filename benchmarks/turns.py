"""How benchmarks measure: in turns, so that a busy moment hits all alike, and by medians."""

import resource
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

Key = TypeVar("Key")


def medians(rounds: int, works: Mapping[Key, Callable[[], float]]) -> dict[Key, float]:
    """The median of what each gives, in so many rounds after one that is not counted."""
    given: dict[Key, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            figure = work()
            if turn:
                given[name].append(figure)
    return {name: statistics.median(figures) for name, figures in given.items()}


def median_of_each(records: list[dict[str, float]]) -> dict[str, float]:
    """Of several measurements of the same things, the median of each thing."""
    return {name: statistics.median(record[name] for record in records) for name in records[0]}


def cpu_of(work: Callable[[], object]) -> Callable[[], float]:
    """A call that gives the seconds of CPU that `work` took: this process's, and that of children that ended."""

    def measured() -> float:
        start = cpu_seconds()
        result = work()
        spent = cpu_seconds() - start
        del result  # freed outside of the measurement
        return spent

    return measured


def cpu_seconds() -> float:
    """User and system, of this process and of its children that ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def resident_mib(what: str, pid: int | str = "self") -> float:
    """A process's memory: `what` is VmRSS, or VmHWM for the peak. Raises OSError or StopIteration if it has ended."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) / 1024


def seconds_of(work: Callable[[], object]) -> Callable[[], float]:
    """The same of the time that goes by."""

    def measured() -> float:
        start = time.perf_counter()
        result = work()
        spent = time.perf_counter() - start
        del result
        return spent

    return measured
