"""Where a test writes its config.yaml."""

from pathlib import Path

import pytest

from tests.support.configs import Writer


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    return Writer(tmp_path / "config.yaml")
