"""The health of capture: what is wanted and does not come is critical, for whatever reason, and nothing else is."""

import asyncio

import pytest

from ingest.connection.stats import Health, Status
from kitelake.telemetry.health import health_of_capture, watch_health
from tests.support.waiting import PATIENCE_SECONDS

HEALTHY = Health(Status.HEALTHY, 100.0, ())
HALF = Health(Status.DEGRADED, 50.0, ("one/1 is waiting",))
NONE = Health(Status.CRITICAL, 0.0, ("one/1 is unauthorized",))
NO_LIST = "there is no instrument list, so nothing can be captured"
NO_TOKEN = "no account has a good access token"
NO_ROOM = "there is no room for any instrument on the connections"
A_EMPTY = "list a is in its hours, and no instrument is found for it"


@pytest.mark.parametrize(
    ("connections", "due", "changes", "expected"),
    [
        (HEALTHY, {}, {"listed": False, "tokens": False, "streaming": False}, HEALTHY),
        (HEALTHY, {"a": 5}, {}, HEALTHY),
        (HALF, {"a": 5}, {}, HALF),
        (HEALTHY, {"a": None}, {"listed": False, "streaming": False}, Health(Status.CRITICAL, 0.0, (NO_LIST,))),
        (HEALTHY, {"a": 0}, {"streaming": False}, Health(Status.CRITICAL, 0.0, (A_EMPTY,))),
        (HEALTHY, {"a": 0}, {}, Health(Status.CRITICAL, 0.0, (A_EMPTY,))),
        (HEALTHY, {"a": 0, "b": 3}, {}, Health(Status.DEGRADED, 100.0, (A_EMPTY,))),
        (HALF, {"a": 0, "b": 3}, {}, Health(Status.DEGRADED, 50.0, (A_EMPTY, *HALF.reasons))),
        (NONE, {"b": 3}, {"tokens": False}, Health(Status.CRITICAL, 0.0, (NO_TOKEN, *NONE.reasons))),
        (HEALTHY, {"b": 3}, {"tokens": False}, Health(Status.DEGRADED, 100.0, (NO_TOKEN,))),
        (HEALTHY, {"b": 3}, {"tokens": False, "streaming": False}, Health(Status.CRITICAL, 0.0, (NO_TOKEN,))),
        (HEALTHY, {"b": 3}, {"room": False}, Health(Status.CRITICAL, 0.0, (NO_ROOM,))),
        (
            HEALTHY,
            {"a": None, "b": 3},
            {"streaming": False},
            Health(Status.CRITICAL, 0.0, ("2 lists are in their hours, and nothing is streamed",)),
        ),
    ],
)
def test_what_is_wanted_and_does_not_come_is_amiss(
    connections: Health, due: dict[str, int | None], changes: dict[str, bool], expected: Health
) -> None:
    usual = {"listed": True, "tokens": True, "room": True, "streaming": True}
    assert health_of_capture(connections, due, **(usual | changes)) == expected


async def test_each_change_of_health_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kitelake.telemetry.health.LOOK_SECONDS", 0.001)
    healthy = Health(Status.HEALTHY, 100.0, ())
    down = Health(Status.DEGRADED, 50.0, ("one/1 is closed",))
    lower = Health(Status.DEGRADED, 25.0, ("one/1 is closed",))
    both = Health(Status.CRITICAL, 0.0, ("one/1 is closed", "two/1 is closed"))
    looks = iter([healthy, down, down, lower, both, healthy, healthy])
    told: list[Health] = []
    stop = asyncio.Event()

    def look() -> Health:
        try:
            return next(looks)
        except StopIteration:
            stop.set()
            return told[-1]

    async with asyncio.timeout(PATIENCE_SECONDS):
        await watch_health(look, told.append, stop)
    assert told == [down, both, healthy]
