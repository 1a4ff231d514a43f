"""How jobs end: cancelled with the scheduler, and waited for."""

import asyncio
from functools import partial

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from kitelake.schedule import jobs_ended, quietly


async def test_jobs_that_are_cancelled_are_waited_for() -> None:
    """A job that stops a process needs a while for it; what it leaves behind fails once the event loop has gone."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def run() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(10):
                await asyncio.sleep(0)
            ended.set()

    scheduler = AsyncIOScheduler()
    scheduler.add_job(partial(quietly, run))
    scheduler.start()
    await begun.wait()
    scheduler.shutdown(wait=False)
    assert not ended.is_set()
    await jobs_ended()
    assert ended.is_set()
    await jobs_ended()
