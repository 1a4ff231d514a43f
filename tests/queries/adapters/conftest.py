"""The two days of a small market, opened."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import kitelake
from tests.support.two_days import two_days

__all__ = ["two_days"]


@pytest.fixture(scope="module")
def lake(two_days: Path) -> Iterator[kitelake.Lake]:
    with kitelake.open(two_days) as opened:
        yield opened
