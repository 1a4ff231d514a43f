"""Jobs at set times, by APScheduler: at which moments of a day, and what a jump of the clock does to them.

A job that was missed, because the machine slept or the service was down, runs once and at once. Every job brings things
to what they ought to be at the time it runs, so none does harm when it runs late or twice.
"""

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Final, NamedTuple

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from kitelake.schedule.trigger import Times
from kitelake.schedule.windows import ListHours, every
from storage.clock import IST
from storage.market import Span

log = structlog.get_logger()

MomentsOf = Callable[[dt.date], Iterable[dt.datetime]]
"""The moments of an IST day, in any order."""

JUMP_SECONDS: Final = 2.0
"""The wall clock was set, or the machine slept, if it moves by so much more or less than the monotonic clock."""
BEFORE_SESSION: Final = dt.timedelta(minutes=10)
_SEAL_AFTER: Final = dt.timedelta(minutes=2)  # the last segment is in the tables by then
_HOUR: Final = dt.timedelta(hours=1)
_DAY: Final = dt.timedelta(days=1)
_JOB: Final = "a job of the scheduler"


class TimedJob(NamedTuple):
    """A job by its name, what it does, and its moments of an IST day."""

    name: str
    run: Callable[[], Awaitable[None]]
    moments: MomentsOf


class Moments:
    """When what is done each day is due, by the hours of the lists: `hours` says them for a day, by a list's name.

    On a day on which no list is captured nothing is due but what `six_times` has.
    """

    def __init__(self, hours: Callable[[dt.date], Mapping[str, ListHours]]) -> None:
        self._hours = hours

    def daily(self, at: dt.time) -> MomentsOf:
        """At that time."""
        return lambda date: [dt.datetime.combine(date, at, IST)] if self._spans(date) else []

    def token_checks(self, at: dt.time) -> MomentsOf:
        """At that time, and shortly before a list starts, as far as that is on the same day."""

        def checks(date: dt.date) -> set[dt.datetime]:
            starts = {span.start - BEFORE_SESSION for span in self._spans(date)}
            return {*self.daily(at)(date), *(start for start in starts if start.date() == date)}

        return checks

    def starts(self, name: str) -> MomentsOf:
        """When the list starts: each exchange's part of it."""
        return lambda date: self._hours(date)[name].edges(0)

    def stops(self, name: str) -> MomentsOf:
        """When the list stops: each exchange's part of it."""
        return lambda date: self._hours(date)[name].edges(1)

    def steps(self, name: str, step: dt.timedelta) -> MomentsOf:
        """One step after the other while the list is captured."""
        return lambda date: every(self._hours(date)[name].spans, step)

    def after_last(self, delay: dt.timedelta) -> MomentsOf:
        """So long after the last list of a day has stopped, also of the day before: a list may end at 24:00."""

        def ends(date: dt.date) -> list[dt.datetime]:
            stops = [max((span.stop for span in self._spans(day)), default=None) for day in (date - _DAY, date)]
            due = [stop + delay for stop in stops if stop is not None]
            return [moment for moment in due if moment.date() == date]

        return ends

    def for_seal(self, delay: dt.timedelta) -> MomentsOf:
        """Shortly `after_last`."""
        return lambda date: [moment + _SEAL_AFTER for moment in self.after_last(delay)(date)]

    def hourly(self, date: dt.date) -> list[dt.datetime]:
        """At 10 minutes to each hour, from an hour after the first list has started until the last one has stopped."""
        hours = [dt.datetime.combine(date, dt.time(hour, 50), IST) for hour in range(24)]
        spans = self._spans(date)
        first = min((span.start for span in spans), default=None)
        return [at for at in hours if first and first + _HOUR <= at < max(span.stop for span in spans)]

    @staticmethod
    def six_times(date: dt.date) -> list[dt.datetime]:
        """So often that a day's journal is not long twice as large as it need be; each time is a process of its own."""
        return [dt.datetime.combine(date, dt.time(hour, 20), IST) for hour in range(0, 24, 4)]

    def _spans(self, date: dt.date) -> list[Span]:
        return [span for each in self._hours(date).values() for span in each.spans]


def set_jobs(scheduler: AsyncIOScheduler, jobs: Iterable[TimedJob], *, only_missing: bool = False) -> None:
    """These jobs at set times, and no others; with `only_missing` those that are there stay as they are.

    What waits for a single moment, such as a fetch that is tried again, stays.
    """
    for job in () if only_missing else scheduler.get_jobs():
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
                if isinstance(job.trigger, Times):
                    moment = job.trigger.get_next_fire_time(None, now)
                else:  # a retry waits for so long, and not for a time of the day
                    moment = job.next_run_time + dt.timedelta(seconds=jump)
                job.modify(next_run_time=moment)
        self._scheduler.wakeup()
        return jump
