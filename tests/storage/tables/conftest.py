"""A table of events, with nothing in it yet."""

from pathlib import Path

import pytest

from storage.schema import EVENTS
from storage.tables.table import LakeTable


@pytest.fixture
def table(tmp_path: Path) -> LakeTable:
    return LakeTable(tmp_path / "events", EVENTS).open(create=True)
