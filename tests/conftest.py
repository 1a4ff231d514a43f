"""What several test files compare with: the official client, on hosts in several zones; and logs left as they were."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import structlog

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.load_profile("default")

ZONES = ("UTC", "Asia/Kolkata", "America/New_York", "Pacific/Kiritimati")


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A service in the process of a test sets the logs of the process up, and so would those of the tests after it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def official() -> Any:
    from kiteconnect import KiteTicker

    return KiteTicker("key", "token")


@pytest.fixture(params=ZONES)
def host_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()
