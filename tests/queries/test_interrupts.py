"""Ctrl-C while DuckDB has the main thread: that of the tests."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from queries.errors import QueryError, QueryTimeoutError
from queries.lake import Result, SqlLake
from tests.support.lake import ToyDecoder
from tests.support.scaled import scaled
from tests.support.waiting import LOOK_SECONDS, PATIENCE_SECONDS

ENDLESS: Final = "select sum(hash(a.range * b.range)) as n from range(1_000_000) a, range(1_000_000) b"
FORMS: Final[dict[str, Callable[[Result], object]]] = {
    "arrow": lambda result: result.arrow(),
    "df": lambda result: result.df(),
    "pl": lambda result: result.pl(),
    "numpy": lambda result: result.numpy(),
    "count": lambda result: result.project("#1").count(),
    "show": lambda result: result.show(),
    "head": lambda result: result.head(5),
    "reader": lambda result: result.reader().read_all(),
    "some at a time": lambda result: next(iter(result.arrow(count=5))),
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlLake]:
    root = tmp_path_factory.mktemp("nothing")
    (root / "journal").mkdir()
    with SqlLake(root, ToyDecoder()) as lake:
        yield lake


@contextmanager
def ctrl_c(lake: SqlLake) -> Iterator[None]:
    """SIGINT, as soon as the lake's query runs; the query is ended in the end, whoever hears of it."""
    ended = threading.Event()

    def send() -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while lake.progress() is None and not ended.wait(LOOK_SECONDS):
            pass
        os.kill(os.getpid(), signal.SIGINT)
        while not ended.wait(LOOK_SECONDS):
            if time.monotonic() > deadline:
                lake.interrupt()

    lake.follow_progress()
    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        ended.set()
        sender.join()


@pytest.mark.parametrize("timeout", [None, 10 * PATIENCE_SECONDS])
@pytest.mark.parametrize("form", FORMS)
def test_it_ends_the_query_in_every_form(lake: SqlLake, form: str, timeout: float | None) -> None:
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), ctrl_c(lake):
        FORMS[form](lake.sql(ENDLESS, timeout=timeout))
    assert time.monotonic() - began < PATIENCE_SECONDS
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.set_wakeup_fd(-1) == -1
    assert lake.sql("select 1 as n").arrow().to_pylist() == [{"n": 1}]


def test_it_is_left_to_those_who_have_another_use_for_it(lake: SqlLake) -> None:
    came = []
    usual = signal.signal(signal.SIGINT, lambda *_: came.append(1))
    try:
        with pytest.raises(QueryTimeoutError), ctrl_c(lake):
            lake.sql(ENDLESS, timeout=0.3).arrow()
    finally:
        signal.signal(signal.SIGINT, usual)
    assert came


def test_one_that_came_with_the_end_of_a_query_ends_no_other(lake: SqlLake) -> None:
    for _ in range(scaled(8, 20)):
        with pytest.raises(KeyboardInterrupt), ctrl_c(lake):
            lake.sql(ENDLESS).arrow()
        assert lake.sql("select count(*) as n from range(1000)").arrow().to_pylist() == [{"n": 1000}]


def test_other_threads_are_not_asked(lake: SqlLake) -> None:
    found: list[object] = []

    def ask() -> None:
        try:
            found.append(lake.sql(ENDLESS).arrow())
        except QueryError as error:
            found.append(str(error))

    def wait() -> None:
        thread.start()
        time.sleep(PATIENCE_SECONDS)

    thread = threading.Thread(target=ask)
    with pytest.raises(KeyboardInterrupt), ctrl_c(lake):
        wait()
    assert not found
    while thread.is_alive():
        lake.interrupt()
        thread.join(LOOK_SECONDS)
    assert found == ["the query was interrupted"]
