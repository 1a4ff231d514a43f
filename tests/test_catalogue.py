"""What people ask, in docs/queries.md: every question has an answer in SQL and in Python, and they are the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import kitelake
from kitelake.lake import Lake
from tests.support.two_days import two_days
from tests.support.written import Question, answer_of, differences, questions, run_python, section

__all__ = ["two_days"]  # the fixture

ROOT = Path(__file__).parent.parent
QUERIES = ROOT / "docs" / "queries.md"
ASKED = list(questions(section(QUERIES, "What people ask")))
EMPTY = {"What is new in today's instrument list?"}
"""Questions whose answer about these two days is nothing."""


@pytest.fixture(scope="module")
def lake(two_days: Path) -> Iterator[Lake]:
    with kitelake.open(two_days) as opened:
        yield opened


def test_there_are_enough_and_each_is_asked_once() -> None:
    assert len(ASKED) == len({question.text for question in ASKED}) >= 25


@pytest.mark.slow
@pytest.mark.parametrize("question", ASKED, ids=lambda question: question.text)
def test_sql_and_python_answer_alike(lake: Lake, question: Question) -> None:
    (sql,), (python,) = question.sql, question.python
    one, other = answer_of(lake.sql(sql)), answer_of(run_python(python, lake))
    assert not differences(one, other)
    assert bool(one.rows) != (question.text in EMPTY)
