"""The trigger of jobs, in a real scheduler that is stepped by hand through whole weeks under a set clock."""

import datetime as dt
from collections.abc import Callable, Iterable

import time_machine
from apscheduler.executors.debug import DebugExecutor
from apscheduler.schedulers.base import BaseScheduler

from kitelake.schedule.calendar import Calendar
from kitelake.schedule.trigger import Times
from kitelake.schedule.windows import ListHours, active, windows_of
from storage.clock import IST
from storage.market.hours import Span, hours_of
from tests.support.calendars import NOVEMBER, calendar, ist

DAY = dt.timedelta(days=1)
MINUTE = dt.timedelta(minutes=1)


def test_the_trigger_looks_forty_days_ahead() -> None:
    only = ist("2026-12-20T12:00")
    trigger = Times(lambda date: [only] if date == only.date() else [])
    assert trigger.get_next_fire_time(None, only - 40 * DAY) == only
    assert trigger.get_next_fire_time(None, only - 41 * DAY) is None
    assert trigger.get_next_fire_time(None, ist("2026-11-10T01:00").astimezone(dt.UTC)) == only
    assert trigger.get_next_fire_time(None, ist("2026-11-09T23:00").astimezone(dt.UTC)) is None
    assert trigger.get_next_fire_time(None, only) == only
    assert trigger.get_next_fire_time(only, only - DAY) is None
    assert trigger.get_next_fire_time(only - DAY, only + DAY) == only


def test_the_end_of_a_day_is_found_from_the_next_one() -> None:
    trigger = Times(lambda date: [dt.datetime.combine(date + DAY, dt.time(), IST)])
    assert trigger.get_next_fire_time(None, ist("2026-11-10T00:00")) == ist("2026-11-10T00:00")
    assert trigger.get_next_fire_time(ist("2026-11-10T00:00"), ist("2026-11-10T00:00")) == ist("2026-11-11T00:00")


# A scheduler, stepped by hand


class SteppedScheduler(BaseScheduler):  # type: ignore[misc]
    """APScheduler without a thread of its own; its jobs run at once in `step`."""

    def __init__(self) -> None:
        super().__init__(timezone=IST, executors={"default": DebugExecutor()})

    def wakeup(self) -> None:
        """It is woken by `step` alone."""

    def shutdown(self, wait: bool = True) -> None:
        super().shutdown(wait)

    def step(self) -> float | None:
        """Run what is due; seconds until the next is."""
        seconds: float | None = self._process_jobs()
        return seconds


class Clock:
    """Start and stop of one list under a clock that stands still until it is moved."""

    def __init__(self, traveller: time_machine.Traveller, *exchanges: str, by: Calendar, window: str | None) -> None:
        self.fired: list[str] = []
        self._traveller = traveller
        self._day: Callable[[dt.date], tuple[Span, ...]] = lambda date: (
            ListHours(windows_of("trading", None if window is None else hours_of(window), exchanges, by, date)).spans
        )
        self._scheduler = SteppedScheduler()
        for name, side in (("start", 0), ("stop", 1)):
            self._scheduler.add_job(
                self._fire, Times(self._moments(side)), (name,), coalesce=True, misfire_grace_time=None
            )
        self._scheduler.start()

    def _moments(self, side: int) -> Callable[[dt.date], Iterable[dt.datetime]]:
        return lambda date: [span[side] for span in self._day(date)]

    def _fire(self, name: str) -> None:
        now = dt.datetime.now(IST)
        self.fired.append(f"{now:%a %d %H:%M:%S} {name}")

    def active(self) -> bool:
        now = dt.datetime.now(IST)
        return active(self._day(now.date()), now)

    def run_until(self, text: str) -> None:
        """Let time pass, with the scheduler awake at each moment that it asks for."""
        end = ist(text)
        while (seconds := self._scheduler.step()) is not None:
            then = dt.datetime.now(IST) + dt.timedelta(seconds=seconds)
            if then >= end:
                break
            self._traveller.move_to(then)
        self._traveller.move_to(end)

    def jump_to(self, text: str) -> None:
        """The host sleeps, or its clock is set; then the scheduler wakes."""
        self._traveller.move_to(ist(text))
        self._scheduler.step()


def clock_at(text: str) -> time_machine.travel:
    return time_machine.travel(ist(text), tick=False)


def test_two_weeks_of_equities_wherever_the_host_is(host_zone: str) -> None:
    """With Muhurat trading on a Sunday, a holiday on Tuesday and two short sessions on a Saturday.

    Summer time ends in New York on November 1.
    """
    with clock_at("2026-10-30T00:00") as traveller:
        clock = Clock(traveller, "NSE", "BSE", by=NOVEMBER, window=None)
        clock.run_until("2026-11-16T00:00")
    assert clock.fired == [
        *("Fri 30 08:55:00 start", "Fri 30 16:15:00 stop"),
        *("Mon 02 08:55:00 start", "Mon 02 16:15:00 stop"),
        *("Tue 03 08:55:00 start", "Tue 03 16:15:00 stop"),
        *("Wed 04 08:55:00 start", "Wed 04 16:15:00 stop"),
        *("Thu 05 08:55:00 start", "Thu 05 16:15:00 stop"),
        *("Fri 06 08:55:00 start", "Fri 06 16:15:00 stop"),
        *("Sun 08 17:40:00 start", "Sun 08 20:00:00 stop"),
        *("Mon 09 08:55:00 start", "Mon 09 16:15:00 stop"),
        *("Wed 11 08:55:00 start", "Wed 11 16:15:00 stop"),
        *("Thu 12 08:55:00 start", "Thu 12 16:15:00 stop"),
        *("Fri 13 08:55:00 start", "Fri 13 16:15:00 stop"),
        *("Sat 14 08:55:00 start", "Sat 14 10:45:00 stop"),
        *("Sat 14 11:10:00 start", "Sat 14 13:15:00 stop"),
    ]


def test_a_week_of_commodities_with_a_window_and_one_evening(host_zone: str) -> None:
    with clock_at("2026-11-08T00:00") as traveller:
        clock = Clock(traveller, "MCX", by=NOVEMBER, window="10:00-23:35")
        clock.run_until("2026-11-15T00:00")
    assert clock.fired == [
        *("Sun 08 17:40:00 start", "Sun 08 20:00:00 stop"),
        *("Mon 09 10:00:00 start", "Mon 09 23:35:00 stop"),
        *("Tue 10 16:40:00 start", "Wed 11 00:00:00 stop"),
        *("Wed 11 10:00:00 start", "Wed 11 23:35:00 stop"),
        *("Thu 12 10:00:00 start", "Thu 12 23:35:00 stop"),
        *("Fri 13 10:00:00 start", "Fri 13 23:35:00 stop"),
    ]


def test_a_late_start_is_active_and_waits_for_the_stop() -> None:
    with clock_at("2026-11-09T11:00") as traveller:
        clock = Clock(traveller, "NSE", by=NOVEMBER, window=None)
        assert clock.active()
        clock.run_until("2026-11-11T12:00")
    assert clock.fired == ["Mon 09 16:15:00 stop", "Wed 11 08:55:00 start"]


def test_a_start_at_the_very_moment_of_the_open_is_not_missed() -> None:
    with clock_at("2026-11-09T08:55") as traveller:
        clock = Clock(traveller, "NSE", by=NOVEMBER, window=None)
        clock.run_until("2026-11-09T10:00")
    assert clock.fired == ["Mon 09 08:55:00 start"]


def test_a_sleep_across_the_open_starts_at_once() -> None:
    with clock_at("2026-11-09T08:00") as traveller:
        clock = Clock(traveller, "NSE", by=NOVEMBER, window=None)
        clock.run_until("2026-11-09T08:30")
        clock.jump_to("2026-11-09T10:12:34")
        assert clock.active()
        clock.run_until("2026-11-10T00:00")
    assert clock.fired == ["Mon 09 10:12:34 start", "Mon 09 16:15:00 stop"]


def test_after_a_sleep_of_days_each_job_runs_once_and_the_time_says_what_holds() -> None:
    """The last job to run is the stop, of which fewer were missed, although the market is open."""
    with clock_at("2026-11-09T08:00") as traveller:
        clock = Clock(traveller, "NSE", by=NOVEMBER, window=None)
        clock.jump_to("2026-11-12T10:00")
        assert clock.fired == ["Thu 12 10:00:00 start", "Thu 12 10:00:00 stop"]
        assert clock.active()
        clock.run_until("2026-11-13T12:00")
    assert clock.fired[2:] == ["Thu 12 16:15:00 stop", "Fri 13 08:55:00 start"]


def test_a_clock_that_jumps_forward_and_back_fires_nothing_twice() -> None:
    with clock_at("2026-11-09T08:00") as traveller:
        clock = Clock(traveller, "NSE", by=NOVEMBER, window=None)
        clock.run_until("2026-11-09T14:50")
        clock.jump_to("2026-11-09T16:30")
        assert not clock.active()
        clock.jump_to("2026-11-09T14:51")
        assert clock.active()  # and no job will say so
        clock.run_until("2026-11-11T10:00")
    assert clock.fired == ["Mon 09 08:55:00 start", "Mon 09 16:30:00 stop", "Wed 11 08:55:00 start"]


def test_a_clock_that_is_set_back_across_the_open_fires_nothing_twice() -> None:
    with clock_at("2026-11-09T08:00") as traveller:
        clock = Clock(traveller, "NSE", by=NOVEMBER, window=None)
        clock.run_until("2026-11-09T09:30")
        clock.jump_to("2026-11-09T08:30")
        assert not clock.active()
        clock.run_until("2026-11-10T00:00")
    assert clock.fired == ["Mon 09 08:55:00 start", "Mon 09 16:15:00 stop"]


def test_a_market_that_never_closes_stops_and_starts_at_midnight() -> None:
    with clock_at("2026-11-07T12:00") as traveller:
        clock = Clock(traveller, "NSE", by=calendar(always_open=True), window=None)
        clock.run_until("2026-11-09T12:00")
        assert clock.active()
    assert sorted(clock.fired) == [
        *("Mon 09 00:00:00 start", "Mon 09 00:00:00 stop"),
        *("Sun 08 00:00:00 start", "Sun 08 00:00:00 stop"),
    ]
