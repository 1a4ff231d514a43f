"""Data folders to verify: committed once, copied for each test."""

import shutil
from pathlib import Path

import pytest

from storage.layout import DataLayout
from tests.support.committing import commit_all as commit
from tests.support.lake import Feed
from tests.support.shared import made_once
from tests.support.verifying import STREAM, fill


def make(root: Path, days: int) -> DataLayout:
    layout = DataLayout(root / "data %")
    with Feed(layout.root, STREAM) as feed:
        fill(feed, days=days)
    commit(layout)
    return layout


def copy_of(layout: DataLayout, root: Path) -> DataLayout:
    shutil.copytree(layout.root, root / "data %")
    return DataLayout(root / "data %")


@pytest.fixture(scope="session")
def _one_day(tmp_path_factory: pytest.TempPathFactory) -> DataLayout:
    return DataLayout(made_once(tmp_path_factory, "one day", lambda folder: make(folder, 1)) / "data %")


@pytest.fixture(scope="session")
def _three_days(tmp_path_factory: pytest.TempPathFactory) -> DataLayout:
    return DataLayout(made_once(tmp_path_factory, "three days", lambda folder: make(folder, 3)) / "data %")


@pytest.fixture
def layout(tmp_path: Path, _one_day: DataLayout) -> DataLayout:
    """A day of one stream, committed."""
    return copy_of(_one_day, tmp_path)


@pytest.fixture
def three_days(tmp_path: Path, _three_days: DataLayout) -> DataLayout:
    """Three days of one stream, committed."""
    return copy_of(_three_days, tmp_path)
