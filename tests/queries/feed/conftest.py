"""Three days of a capture, open."""

from collections.abc import Iterator

import pytest

import kitelake
from tests.support.captured import Captured
from tests.support.feeding import three_days


@pytest.fixture(scope="package")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Captured, kitelake.Lake]]:
    """What tests read and none changes."""
    captured = three_days(tmp_path_factory.mktemp("fed"))
    with kitelake.open(captured.root) as lake:
        yield captured, lake
