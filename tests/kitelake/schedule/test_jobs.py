"""Jobs at set times: a clock that jumps is noticed, the next run of each job is right again, and how jobs end."""

import asyncio
import datetime as dt
import time
from functools import partial

import pytest
import time_machine
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from kitelake.schedule.jobs import ClockWatch, Moments, MomentsOf, TimedJob, jobs_ended, quietly, set_jobs
from kitelake.schedule.windows import ListHours
from storage.clock import IST
from tests.support.calendars import on as spans


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, set by hand: its first number."""
    seconds = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    return seconds


async def nothing_to_do() -> None: ...


@pytest.mark.parametrize(
    ("wall", "elapsed", "jump"),
    [
        (1, 1, 0.0),
        (2.5, 1, 0.0),  # a step of NTP
        (0.2, 1, 0.0),
        (3601, 1, 3600.0),
        (-3599, 1, -3600.0),
        (60, 60, 0.0),  # a look that came late
        (61.5, 60, 0.0),
    ],
)
async def test_a_clock_that_jumps_is_noticed_once(
    monotonic: list[float], wall: float, elapsed: float, jump: float
) -> None:
    scheduler = AsyncIOScheduler(timezone=IST)
    scheduler.start(paused=True)
    with time_machine.travel(dt.datetime(2026, 11, 23, 10, tzinfo=IST), tick=False) as clock:
        watch = ClockWatch(scheduler)
        clock.shift(wall)
        monotonic[0] += elapsed
        assert watch.look() == pytest.approx(jump, abs=1e-6)
        assert watch.look() == 0.0
    scheduler.shutdown()


async def test_after_a_jump_back_the_next_run_of_each_job_is_right_again(monotonic: list[float]) -> None:
    """Else a daily job that was reckoned after the jump forward would leave out a day."""

    def daily(date: dt.date) -> list[dt.datetime]:
        return [dt.datetime.combine(date, dt.time(10, 30), IST)]

    scheduler = AsyncIOScheduler(timezone=IST)

    def next_run() -> str:
        return f"{scheduler.get_job('daily').next_run_time.astimezone(IST):%a %H:%M}"

    with time_machine.travel(dt.datetime(2026, 11, 23, 10, tzinfo=IST), tick=False) as clock:
        scheduler.start(paused=True)
        watch = ClockWatch(scheduler)
        clock.shift(3600)
        set_jobs(scheduler, [TimedJob("daily", nothing_to_do, daily)])
        assert watch.look() == pytest.approx(3600)
        assert next_run() == "Tue 10:30"
        clock.shift(-3600)
        assert watch.look() == pytest.approx(-3600)
        assert next_run() == "Mon 10:30"
    scheduler.shutdown()


async def test_a_retry_comes_as_soon_as_it_was_meant_to_wherever_the_clock_is_set(monotonic: list[float]) -> None:
    async def run() -> None:
        ran.append(dt.datetime.now(IST))

    ran: list[dt.datetime] = []
    scheduler = AsyncIOScheduler(timezone=IST)
    with time_machine.travel(dt.datetime(2026, 11, 23, 10, tzinfo=IST), tick=False) as clock:
        scheduler.start()
        watch = ClockWatch(scheduler)
        due = dt.datetime(2026, 11, 23, 10, 5, tzinfo=IST)
        scheduler.add_job(run, "date", run_date=due, id="retry", misfire_grace_time=None)
        clock.shift(-3600)
        assert watch.look() == pytest.approx(-3600)
        assert f"{scheduler.get_job('retry').next_run_time:%H:%M}" == "09:05"
        clock.shift(3600)
        assert watch.look() == pytest.approx(3600)
        for _ in range(10):  # the loop's own clock stands still
            await asyncio.sleep(0)
        assert ran == [dt.datetime.now(IST)], "it is late, and once"
        assert scheduler.get_job("retry") is None
    scheduler.shutdown()


async def test_jobs_that_are_set_anew_leave_a_retry_alone() -> None:
    def daily(date: dt.date) -> list[dt.datetime]:
        return [dt.datetime.combine(date, dt.time(10, 30), IST)]

    scheduler = AsyncIOScheduler(timezone=IST)
    scheduler.start(paused=True)
    set_jobs(scheduler, [TimedJob(name, nothing_to_do, daily) for name in ("old", "kept")])
    scheduler.add_job(nothing_to_do, "date", run_date=dt.datetime.now(IST) + dt.timedelta(minutes=5), id="retry")
    set_jobs(scheduler, [TimedJob(name, nothing_to_do, daily) for name in ("kept", "new")])
    assert sorted(job.id for job in scheduler.get_jobs()) == ["kept", "new", "retry"]
    scheduler.shutdown()


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


# The moments of a day

MONDAY, TUESDAY, WEDNESDAY = (dt.date(2026, 11, day) for day in (9, 10, 11))
HOURS = {
    MONDAY: {
        "shares": ListHours({"NSE": spans("2026-11-09", "09:00-15:35")}),
        "mixed": ListHours({"NSE": spans("2026-11-09", "09:00-15:35"), "MCX": spans("2026-11-09", "00:05-24:00")}),
    },
    TUESDAY: {"shares": ListHours(), "mixed": ListHours({"MCX": spans("2026-11-10", "17:00-23:55")})},
}


def clocks(moments: MomentsOf, date: dt.date) -> list[str]:
    """Day and time of each moment, in order."""
    return [f"{moment:%a %H:%M}" for moment in sorted(moments(date))]


def test_the_moments_of_a_day_follow_from_the_hours_of_its_lists() -> None:
    moments = Moments(lambda date: HOURS.get(date, {"shares": ListHours(), "mixed": ListHours()}))
    assert clocks(moments.daily(dt.time(8, 30)), MONDAY) == ["Mon 08:30"]
    assert clocks(moments.daily(dt.time(8, 30)), WEDNESDAY) == [], "no list is captured"
    # 10 minutes before a start, but for the one at 00:05: that would be on Sunday.
    assert clocks(moments.token_checks(dt.time(8, 30)), MONDAY) == ["Mon 08:30", "Mon 08:50"]
    assert clocks(moments.token_checks(dt.time(8, 30)), TUESDAY) == ["Tue 08:30", "Tue 16:50"]
    assert clocks(moments.starts("mixed"), MONDAY) == ["Mon 00:05", "Mon 09:00"]
    assert clocks(moments.stops("mixed"), MONDAY) == ["Mon 15:35", "Tue 00:00"]
    assert clocks(moments.stops("shares"), TUESDAY) == []
    assert clocks(moments.steps("shares", dt.timedelta(hours=3)), MONDAY) == ["Mon 12:00", "Mon 15:00"]
    assert clocks(moments.hourly, MONDAY) == [f"Mon {hour:02}:50" for hour in range(1, 24)]
    assert clocks(moments.hourly, TUESDAY) == [f"Tue {hour}:50" for hour in range(18, 24)]
    assert clocks(moments.hourly, WEDNESDAY) == []
    short = {"one": spans("2026-11-09", "09:00-10:00"), "two": spans("2026-11-09", "11:30-12:55")}
    apart = Moments(lambda _: {name: ListHours({"NSE": each}) for name, each in short.items()})
    assert clocks(apart.hourly, MONDAY) == ["Mon 10:50", "Mon 11:50", "Mon 12:50"]
    assert clocks(moments.six_times, WEDNESDAY) == [f"Wed {hour:02}:20" for hour in (0, 4, 8, 12, 16, 20)]


def test_a_day_ends_after_its_last_list_also_past_midnight() -> None:
    moments = Moments(lambda date: HOURS.get(date, {}))
    delay = dt.timedelta(minutes=5)
    assert clocks(moments.after_last(delay), MONDAY) == [], "its last list stops at 24:00"
    assert clocks(moments.after_last(delay), TUESDAY) == ["Tue 00:05"]
    assert clocks(moments.after_last(delay), WEDNESDAY) == ["Wed 00:00"]
    assert clocks(moments.for_seal(delay), TUESDAY) == ["Tue 00:07"]
    assert clocks(moments.after_last(dt.timedelta(minutes=1)), TUESDAY) == ["Tue 00:01", "Tue 23:56"]
