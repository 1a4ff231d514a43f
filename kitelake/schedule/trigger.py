"""A trigger of APScheduler that fires at moments of IST days."""

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Final

from apscheduler.triggers.base import BaseTrigger

from storage.clock import IST

_ONE_DAY: Final = dt.timedelta(days=1)
_LOOK_AHEAD_DAYS: Final = 40


class Times(BaseTrigger):  # type: ignore[misc]
    """Fires at the moments that a function gives for each IST day, in any order, from 00:00 up to and with 24:00.

    After a sleep, a coalescing job runs once however many of its moments have passed, and jobs run in the order of the
    first moments that they missed, which is not the order of the last ones. If the clock is set back, nothing fires a
    second time. What a job does must therefore depend on the time of day (`windows.active`), not on which job it is.
    """

    __slots__ = ("_moments_of",)

    def __init__(self, moments_of: Callable[[dt.date], Iterable[dt.datetime]]) -> None:
        self._moments_of = moments_of

    def get_next_fire_time(self, previous_fire_time: dt.datetime | None, now: dt.datetime) -> dt.datetime | None:
        """The first moment after the previous one, even if it has passed; the first time, the first from now on.

        None, and APScheduler drops the job, if there is none within 40 days.
        """
        last = previous_fire_time
        today = (last or now).astimezone(IST).date()
        for ahead in range(-1, _LOOK_AHEAD_DAYS + 1):  # 24:00 of yesterday is 00:00 of today
            moments = self._moments_of(today + ahead * _ONE_DAY)
            coming = [moment for moment in moments if (moment >= now if last is None else moment > last)]
            if coming:
                return min(coming)
        return None
