"""What several test files compare with: the official client, on hosts in several zones."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

ZONES = ("UTC", "Asia/Kolkata", "America/New_York", "Pacific/Kiritimati")


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
