"""One day's session, for `kitelake capture`: the service until the last list has ended, and the report of that day."""

import asyncio
import datetime as dt
from typing import NamedTuple

from kitelake.config import Config
from kitelake.plan import hours_of_lists, lists_known, why_not
from kitelake.processes import Source
from kitelake.report import Report
from kitelake.schedule import calendar_of
from kitelake.service.service import Service
from storage.clock import IST
from storage.market import clock

LOOK_SECONDS = 0.5


class Nothing(NamedTuple):
    """Why there is nothing to capture today, and the exit status that goes with it."""

    text: str
    status: int


class OneDay:
    """The session of one IST day. `report` is there once it is over."""

    def __init__(self, date: dt.date) -> None:
        self._date = date
        self._known_end = dt.datetime.combine(date, dt.time(), IST)
        self.report: Report | None = None
        self.stopped = False
        """Whether it was stopped before its end."""

    def nothing_to_do(self, config: Config, now: dt.datetime, until: dt.datetime | None) -> Nothing | None:
        """Whether the day has nothing, or nothing more, to capture. Raises ConfigError for an unusable calendar."""
        calendar = calendar_of(config)
        plans = lists_known(config, self._date)
        hours = hours_of_lists(config.subscriptions, plans, calendar, self._date)
        stops = [span.stop for each in hours.values() for span in each.spans]
        if not stops:
            reasons = (why_not(spec, plans.get(spec.name), calendar, self._date) for spec in config.subscriptions)
            whys = dict.fromkeys(pair for several in reasons for pair in several)
            text = "; ".join(f"{name}: {why}" for name, why in whys)
            return Nothing(f"no list is captured on {self._date:%a %d %b %Y} ({text})", 0)
        self._known_end = end = max(stops) if until is None else min(max(stops), until)
        if end <= now:
            return Nothing(f"it is {now:%H:%M}, and today's session ended at {end:%H:%M}: nothing was captured", 1)
        start, name = min((span.start, name) for name, each in hours.items() for span in each.spans if span.stop > now)
        if until is not None and start >= until:
            text = f"no list starts before {clock(until.time())}: the first, {name}, starts at {clock(start.time())}"
            return Nothing(text, 1)
        return None

    async def watch(self, service: Service, _: Source, stop: asyncio.Event) -> None:
        """Wait until no list has hours left today, then close, and make the report."""
        while dt.datetime.now(IST) < self._end(service):
            if stop.is_set():
                self.stopped = True
                return
            await asyncio.sleep(LOOK_SECONDS)
        await service.cycle.reconcile()
        await service.cycle.end_of_day(dt.timedelta())
        self.report = next((made for made in service.cycle.reports if made.date == self._date), None)

    def _end(self, service: Service) -> dt.datetime:
        """When the last list of the day ends; the configuration may change until then.

        As long as the service does not know what each list means, not before the end that was known beforehand.
        """
        today = service.today
        stops = [span.stop for each in today.hours(self._date).values() for span in each.spans]
        if any(spec.name not in today.lists for spec in today.config.subscriptions):
            stops.append(self._known_end)
        return max(stops, default=dt.datetime.combine(self._date, dt.time(), IST))
