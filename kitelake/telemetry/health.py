"""The health of capture: of the connections, and of what keeps anything from being asked of them.

Health is about what is wanted. Outside of every list's hours nothing is, and that is healthy. In a list's hours it is
critical if nothing is streamed: what is missing then is the reason.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from ingest.connection import Health, Status

log = structlog.get_logger()

LOOK_SECONDS: Final = 5.0


def health_of_capture(
    connections: Health, due: Mapping[str, int | None], *, listed: bool, tokens: bool, room: bool, streaming: bool
) -> Health:
    """The health of `connections`, with what keeps lists from being streamed.

    `due` are the lists that are in their hours, with the number of instruments that each means now, None before that is
    known. `listed`: there is an instrument list. `tokens`: some account's access token is good, or not checked. `room`:
    not everything that is wanted is left out for want of room. `streaming`: sockets are held open for what is wanted.
    """
    if not due:
        return connections
    reasons = []
    if not listed:
        reasons.append("there is no instrument list, so nothing can be captured")
    else:
        empty = [name for name, instruments in due.items() if instruments == 0]
        reasons += [f"list {name} is in its hours, and no instrument is found for it" for name in empty]
    if not tokens:
        reasons.append("no account has a good access token")
    if not room:
        reasons.append("there is no room for any instrument on the connections")
    nothing = not (listed and room and streaming and any(due.values()))
    if nothing and not reasons:
        reasons.append(f"{len(due)} lists are in their hours, and nothing is streamed")
    if not reasons:
        return connections
    status = Status.CRITICAL if nothing or connections.status is Status.CRITICAL else Status.DEGRADED
    return Health(status, 0.0 if nothing else connections.percent, (*reasons, *connections.reasons))


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
            log.info("capture is healthy again")
        else:
            log.warning(f"capture is {health.status}", percent=round(health.percent, 1), reasons=health.reasons)
        changed(health)
