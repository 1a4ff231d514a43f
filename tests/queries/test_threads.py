"""Work that threads do while their caller goes on."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from queries.threads import made_ahead


def test_what_is_made_comes_in_order() -> None:
    assert list(made_ahead(lambda number: number * number, range(50), threads=3)) == [n * n for n in range(50)]
    assert list(made_ahead(str, [], threads=3)) == []


def test_no_more_parts_are_taken_than_there_are_threads() -> None:
    taken: list[int] = []

    def parts() -> Iterator[int]:
        for number in range(9):
            taken.append(number)
            yield number

    made = made_ahead(str, parts(), threads=2)
    assert next(made) == "0"
    assert taken == [0, 1]
    made.close()  # type: ignore[attr-defined]
    assert taken == [0, 1]


def test_several_are_made_at_a_time() -> None:
    together = threading.Barrier(2, timeout=30)
    assert list(made_ahead(lambda _: together.wait() >= 0, range(2), threads=2)) == [True, True]


def test_what_work_raises_comes_out_and_no_thread_stays() -> None:
    def work(number: int) -> int:
        return 1 // (number - 3)

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(made_ahead(work, range(9), threads=2))
    assert threading.active_count() == before


@pytest.mark.parametrize("begin", ["threading.Thread(target=work).start()", "atexit.register(work)"])
def test_work_is_done_after_the_main_thread_has_ended_too(begin: str) -> None:
    text = f"""
import atexit, threading
from queries.threads import made_ahead

def work():
    threading.main_thread().join()
    print(list(made_ahead(str, range(5), threads=2)))

{begin}
"""
    text = text.replace("    threading.main_thread().join()\n", "") if "atexit.register" in begin else text
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.stderr) == (str(list("01234")), "")
