"""A lake of two days: the first committed, the second in the journal alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import kitelake
from kitelake.lake import Lake
from tests.support.asof_days import fill


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("asof") / "data"
    with fill(root):
        yield root


@pytest.fixture(scope="package")
def lake(folder: Path) -> Iterator[Lake]:
    with kitelake.open(folder) as lake:
        yield lake
