"""Waiting for what a test expects: for the event, with so much patience that no test fails on a busy machine."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

PATIENCE_SECONDS: Final = 240.0
"""How long anything may take that comes in a moment on a machine that has nothing else to do."""
LOOK_SECONDS: Final = 0.05


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Return as soon as the condition holds.

    A condition that takes long is looked at less often: it takes the processor from what it waits for.
    """
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if condition():
            return
        took = time.monotonic() - began
        assert began < deadline, f"it did not come true within {seconds:.0f} s"
        time.sleep(max(LOOK_SECONDS, min(4 * took, 20 * LOOK_SECONDS)))


async def until(condition: Callable[[], object]) -> None:
    """The same where the event loop of the test has to make it true."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)
