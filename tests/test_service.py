"""What the service does once a day: a new instrument list, and only the difference on the sockets."""

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from ingest.wire import Mode
from kitelake.cli import shipped_config
from kitelake.config import Config, SubscriptionList, load_config
from kitelake.runner import capture
from kitelake.service import Service, daily
from kitelake.source import Source
from storage.schema import IST


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-11-22T08:00:00+05:30", "2026-11-22T08:35:00+05:30"),
        ("2026-11-22T03:04:59+00:00", "2026-11-22T08:35:00+05:30"),
        ("2026-11-22T23:30:00-05:00", "2026-11-24T08:35:00+05:30"),
        ("2026-11-22T08:35:00.000001+05:30", "2026-11-23T08:35:00+05:30"),
    ],
)
def test_the_list_is_fetched_at_its_time_in_ist_wherever_the_host_is(now: str, expected: str) -> None:
    trigger = daily(dt.time(8, 35))
    fires: dt.datetime = trigger.get_next_fire_time(None, dt.datetime.fromisoformat(now))
    assert fires == dt.datetime.fromisoformat(expected)
    assert fires.astimezone(IST).hour == 8


@pytest.mark.slow
def test_a_new_day_changes_only_the_difference(tmp_path: Path) -> None:
    """Lists that mean something else on the new day: what is gone is unsubscribed, what is new is streamed."""
    settings = yaml.safe_load(shipped_config())
    settings["simulator"] |= {"instruments": 600, "rate": 10}
    settings["log"] = {"level": "warning"}
    settings["subscriptions"] = [
        {"name": "kept", "mode": "full", "instruments": ["NSE:INFY", "NSE:RELIANCE"]},
        {"name": "old", "mode": "quote", "select": {"exchange": "MCX"}},
    ]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    loaded = load_config(tmp_path / "config.yaml")
    seen: list[dict[str, Any]] = []

    async def watch(service: Service, source: Source, stop: asyncio.Event) -> None:
        async with httpx.AsyncClient(base_url=f"{source.control}/", trust_env=False) as client:

            async def subscribed(count: int) -> dict[str, Any]:
                async with asyncio.timeout(20):
                    while True:
                        stats: dict[str, Any] = (await client.get("stats")).json()
                        if sum(one["subscribed"] for one in stats["connections"]) == count:
                            return stats
                        await asyncio.sleep(0.05)

            async with asyncio.timeout(20):
                while service.plan is None:
                    await asyncio.sleep(0.05)
            before = service.plan.wanted
            seen.append(await subscribed(len(before)))
            service.config = with_lists(
                loaded,
                SubscriptionList(name="kept", mode=Mode.FULL, instruments=("NSE:INFY", "NSE:RELIANCE")),
                SubscriptionList(name="new", mode=Mode.LTP, instruments=("NSE:NIFTY 50", "NSE:HDFCBANK", "NSE:GONE")),
            )
            await service.new_day()
            assert len(service.plan.wanted) == 4
            assert len(service.plan.unknown) == 1
            seen.append(await subscribed(4))
        stop.set()

    capture(loaded, watch=watch)
    opened = [len(stats["connections"]) for stats in seen]
    assert opened[0] == opened[1], "no socket was closed or opened for it"


def with_lists(config: Config, *lists: SubscriptionList) -> Config:
    return config.model_copy(update={"subscriptions": lists})
