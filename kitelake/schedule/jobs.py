"""What the service does at set times, as APScheduler jobs: which job, at which moments of a day.

A job that was missed, because the machine slept or the service was down, runs once and at once. Every job brings things
to what they ought to be at the time it runs, so none does harm when it runs late or twice.
"""

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Final, NamedTuple, Protocol

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from kitelake.config import Config
from kitelake.schedule.windows import ListHours, Times, every
from storage.market import Span
from storage.schema import IST

log = structlog.get_logger()

JUMP_SECONDS: Final = 2.0
"""The wall clock was set, or the machine slept, if it moves by so much more or less than the monotonic clock."""
BEFORE_SESSION: Final = dt.timedelta(minutes=10)
_SEAL_AFTER: Final = dt.timedelta(minutes=2)  # the last segment is in the tables by then
_DAY: Final = dt.timedelta(days=1)
_JOB: Final = "a job of the scheduler"


class Work(Protocol):
    """What the jobs do; the service does it."""

    async def check_tokens(self) -> None: ...
    async def fetch_instruments(self) -> None: ...
    async def make_plan(self) -> None: ...
    async def reconcile(self) -> None: ...
    async def resolve_anew(self, name: str) -> None: ...
    async def end_of_day(self) -> None: ...
    async def seal_days(self) -> None: ...
    async def remove_old(self) -> None: ...


class Entry(NamedTuple):
    """A job by its name, what it does, and its moments of an IST day."""

    name: str
    run: Callable[[], Awaitable[None]]
    moments: Callable[[dt.date], Iterable[dt.datetime]]


def entries(work: Work, config: Config, hours: Callable[[dt.date], Mapping[str, ListHours]]) -> Iterator[Entry]:
    """The jobs of a configuration. `hours` says when each list is captured on a day, by its name."""

    def spans(date: dt.date) -> list[Span]:
        return [span for each in hours(date).values() for span in each.spans]

    def daily(at: dt.time) -> Callable[[dt.date], list[dt.datetime]]:
        return lambda date: [dt.datetime.combine(date, at, IST)] if spans(date) else []

    def checks(date: dt.date) -> set[dt.datetime]:
        starts = {span.start - BEFORE_SESSION for span in spans(date)}
        usual = daily(config.schedule.tokens_at)(date)
        return {*usual, *(start for start in starts if start.date() == date)}

    def ends(date: dt.date) -> list[dt.datetime]:
        days = (date - _DAY, date)  # the last list may end at midnight
        stops = [max((span.stop for span in spans(day)), default=None) for day in days]
        due = [stop + config.schedule.end_of_day_after for stop in stops if stop is not None]
        return [moment for moment in due if moment.date() == date]

    yield Entry("check tokens", work.check_tokens, checks)
    yield Entry("fetch instruments", work.fetch_instruments, daily(config.instruments.fetch_at))
    yield Entry("make plan", work.make_plan, daily(config.schedule.plan_at))
    for spec in config.subscriptions:
        name = spec.name
        yield Entry(f"start {name}", work.reconcile, partial(_edges, hours, name, 0))  # of each exchange's part
        yield Entry(f"stop {name}", work.reconcile, partial(_edges, hours, name, 1))
        if spec.every is not None:
            yield Entry(
                f"resolve {name} anew", partial(work.resolve_anew, name), partial(_steps, hours, name, spec.every)
            )
    yield Entry("end of day", work.end_of_day, ends)
    yield Entry("seal", work.seal_days, lambda date: [moment + _SEAL_AFTER for moment in ends(date)])
    yield Entry("retention", work.remove_old, _six_times)


def _edges(
    hours: Callable[[dt.date], Mapping[str, ListHours]], name: str, side: int, date: dt.date
) -> list[dt.datetime]:
    return hours(date)[name].edges(side)


def _steps(
    hours: Callable[[dt.date], Mapping[str, ListHours]], name: str, step: dt.timedelta, date: dt.date
) -> Iterator[dt.datetime]:
    return every(hours(date)[name].spans, step)


def _six_times(date: dt.date) -> list[dt.datetime]:
    """Often enough that a day's journal is not long twice as large as it need be; each time is a process of its own."""
    return [dt.datetime.combine(date, dt.time(hour, 20), IST) for hour in range(0, 24, 4)]


def set_jobs(scheduler: AsyncIOScheduler, jobs: Iterable[Entry], *, anew: bool = True) -> None:
    """These jobs at set times, and no others; or, not `anew`, also those that are there: only what is missing is added.

    What waits for a single moment, such as a fetch that is tried again, stays.
    """
    for job in scheduler.get_jobs() if anew else ():
        if isinstance(job.trigger, Times):
            job.remove()
    for entry in jobs:
        there = scheduler.get_job(entry.name)
        if there is None or there.next_run_time is None:  # dropped, or put aside: its moments lay too far ahead
            scheduler.add_job(
                partial(quietly, entry.run),
                Times(entry.moments),
                id=entry.name,
                name=entry.name,
                replace_existing=True,
                coalesce=True,
                misfire_grace_time=None,
            )


def look_again(scheduler: AsyncIOScheduler) -> None:
    """Have jobs at set times wait for the moments that they have now, as when it is known what a list means.

    What is due already runs first, and reckons its next moment by itself.
    """
    now = dt.datetime.now(IST)
    for job in scheduler.get_jobs():
        if isinstance(job.trigger, Times) and (job.next_run_time is None or job.next_run_time > now):
            moment = job.trigger.get_next_fire_time(None, now)
            if moment != job.next_run_time:
                job.modify(next_run_time=moment)


async def quietly(run: Callable[[], Awaitable[None]]) -> None:
    """Do it; to be cancelled, as running jobs are when the scheduler shuts down, is no failure."""
    task = asyncio.current_task()
    assert task is not None
    task.set_name(_JOB)
    with contextlib.suppress(asyncio.CancelledError):
        await run()


async def jobs_ended() -> None:
    """Wait for the jobs that the scheduler's shutdown has cancelled: they stop the processes that they have started."""
    jobs = [task for task in asyncio.all_tasks() if task.get_name() == _JOB]
    if jobs:
        await asyncio.wait(jobs)


class ClockWatch:
    """Notices that the wall clock was set, or that the machine slept, and has the scheduler look at the clock again.

    A scheduler waits by the monotonic clock, which does not move while the machine sleeps (Linux).
    """

    def __init__(self, scheduler: AsyncIOScheduler) -> None:
        self._scheduler = scheduler
        self._wall, self._monotonic = time.time(), time.monotonic()

    def look(self) -> float:
        """To be called every second or so. By how many seconds the clock jumped since; 0.0 if it did not."""
        wall, monotonic = time.time(), time.monotonic()
        jump = (wall - self._wall) - (monotonic - self._monotonic)
        self._wall, self._monotonic = wall, monotonic
        if abs(jump) < JUMP_SECONDS:
            return 0.0
        log.warning("the clock jumped; what is due now is done now", seconds=round(jump, 1))
        if jump < 0:  # what is due was reckoned from a time that has not come yet
            now = dt.datetime.now(IST)
            for job in self._scheduler.get_jobs():
                job.modify(next_run_time=job.trigger.get_next_fire_time(None, now))
        self._scheduler.wakeup()
        return jump
