"""Says when the health of the connections changes."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import structlog

from ingest.stats import Health, Status

log = structlog.get_logger()

LOOK_SECONDS: Final = 5.0


async def watch_health(look: Callable[[], Health], changed: Callable[[Health], None], stop: asyncio.Event) -> None:
    """Look every few seconds until `stop` is set; log each change of the status or of the reasons, and call `changed`.

    Nothing is said of a start that goes well: it counts as healthy before the first look.
    """
    before = Health(Status.HEALTHY, 100.0, ())
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LOOK_SECONDS)
            return  # sockets that close because they are told to are no change of health
        health = look()
        if (health.status, health.reasons) == (before.status, before.reasons):
            continue
        before = health
        if health.status is Status.HEALTHY:
            log.info("the connections are healthy again")
        else:
            log.warning(
                f"the connections are {health.status}", percent=round(health.percent, 1), reasons=health.reasons
            )
        changed(health)
