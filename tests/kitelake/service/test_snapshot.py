"""What the service says of itself: when each job ran last and how that went, and what a person should know."""

import asyncio
import datetime as dt
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from kitelake.service.snapshot import MAX_OUTCOME, JobHistory, Problems
from kitelake.telemetry.status import Job
from storage.clock import IST


def jobs_of(history: JobHistory, scheduler: AsyncIOScheduler) -> dict[str, Job]:
    return {job.name: job for job in history.jobs(scheduler)}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_job_history_knows_when_and_how_each_job_went(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "apscheduler")  # it logs the exception whole, which no report could hold
    release = asyncio.Event()

    async def waits() -> None:
        await release.wait()

    def fails() -> None:
        raise OSError(f"no\n room for canarySecret \udcff {'x' * MAX_OUTCOME}")

    scheduler = AsyncIOScheduler(timezone=IST)
    history = JobHistory(lambda text: text.replace("canarySecret", "***"))
    history.attach(scheduler)
    now = dt.datetime.now(IST)
    for number, (name, job) in enumerate({"waits": waits, "fails": fails, "never": waits}.items(), start=1):
        scheduler.add_job(job, "interval", hours=number, id=name, next_run_time=now if number < 3 else None)
    scheduler.add_job(
        waits, "interval", hours=4, id="late", next_run_time=now - dt.timedelta(hours=1), misfire_grace_time=1
    )
    scheduler.add_job(waits, "interval", hours=5, id="later")
    assert {job.name: (job.last_at, job.outcome) for job in history.jobs(scheduler)} == dict.fromkeys(
        ["waits", "fails", "never", "late", "later"], (None, None)
    )
    assert history.jobs(scheduler)[-1].next_at is None
    scheduler.start()
    try:
        await until(lambda: jobs_of(history, scheduler)["fails"].outcome not in (None, "running"))
        jobs = jobs_of(history, scheduler)
        assert list(jobs) == ["waits", "fails", "late", "later", "never"], "the next one first, a paused one last"
        assert jobs["waits"].outcome == "running"
        assert jobs["late"].outcome == "missed"
        assert (jobs["later"].outcome, jobs["later"].last_at) == (None, None)
        assert jobs["never"].next_at is None
        outcome = jobs["fails"].outcome
        assert outcome is not None
        assert outcome.startswith("failed: OSError: no room for *** ? xxx")
        assert len(outcome) == MAX_OUTCOME
        assert jobs["fails"].next_at == now + dt.timedelta(hours=2)
        last_at = jobs["fails"].last_at
        assert last_at is not None
        assert now <= last_at <= dt.datetime.now(IST)
        release.set()
        await until(lambda: jobs_of(history, scheduler)["waits"].outcome == "done")
    finally:
        scheduler.shutdown()


def test_what_keeps_the_journal_and_the_tables_from_going_on_is_a_problem() -> None:
    today: Any = SimpleNamespace(instruments=object(), lists={}, calendar=SimpleNamespace(warnings=lambda _: []))
    reconciler: Any = SimpleNamespace(left_out=0, manager=SimpleNamespace(unserved=()))
    recorder: Any = SimpleNamespace(disk_problem=None, writer_problem=None)
    assert Problems(today, recorder, reconciler).of_capture() == []
    recorder.disk_problem, recorder.writer_problem = "the disk is full", "no memory"
    assert Problems(today, recorder, reconciler).of_capture() == [
        "the disk is full",
        "what is journalled does not come into the tables: no memory",
    ]
