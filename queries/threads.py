"""Work that threads of a pool do while their caller goes on."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

Part = TypeVar("Part")
Made = TypeVar("Made")


def submitted(pool: ThreadPoolExecutor, work: Callable[[], Made]) -> Future[Made]:
    """What the pool makes; or what was made here and now, where the main thread has ended, and pools take no more."""
    try:
        return pool.submit(work)
    except RuntimeError:
        done: Future[Made] = Future()
        done.set_result(work())
        return done


def made_ahead(make: Callable[[Part], Made], parts: Iterable[Part], threads: int) -> Iterator[Made]:
    """What is made of each part, in their order, of so many at once. Raises what `make` raises."""
    pool = ThreadPoolExecutor(threads, "made-ahead")
    ahead: deque[Future[Made]] = deque()
    try:
        for part in parts:
            ahead.append(submitted(pool, partial(make, part)))
            if len(ahead) == threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
