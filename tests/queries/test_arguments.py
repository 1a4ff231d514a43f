"""Texts and numbers, of whatever kind they come."""

import math
from typing import Any

import numpy as np
import pytest

from queries.arguments import LARGEST, is_text, is_whole, number_of


@pytest.mark.parametrize("value", [1, np.int64(1), np.uint8(1), LARGEST, np.array(1)])
def test_whole_numbers(value: Any) -> None:
    assert is_whole(value, 1)
    assert not is_whole(value, 1, 0)


@pytest.mark.parametrize("value", [0, -1, 1.0, np.float64(1), True, np.True_, "1", None, LARGEST + 1, np.array([1, 2])])
def test_what_is_no_whole_number_from_1(value: Any) -> None:
    assert not is_whole(value, 1)


@pytest.mark.parametrize("value", [2, 2.0, np.int64(2), np.float64(2), np.float32(2)])
def test_numbers(value: Any) -> None:
    found = number_of(value)
    assert found == 2
    assert type(found) in (int, float)


def test_what_is_no_number() -> None:
    assert [number_of(value) for value in (True, np.True_, "2", None, [2], np.array([2]))] == [None] * 6
    assert math.isnan(number_of(np.float64("nan")) or 0)


def test_texts_say_something() -> None:
    assert [is_text(value) for value in ("a", np.str_("a"), "", " ", b"a", None, ["a"])] == [True] * 2 + [False] * 5
