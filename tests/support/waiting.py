"""Waiting for what a test expects: for the event, with so much patience that no test fails on a busy machine."""

import time
from collections.abc import Callable
from typing import Final

PATIENCE_SECONDS: Final = 240.0
"""How long anything may take that comes in a moment on a machine that has nothing else to do."""


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Return as soon as the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not come true within {seconds:.0f} s"
        time.sleep(0.05)
