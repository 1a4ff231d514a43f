"""What is wanted: the lists of config.yaml as the day's instrument list resolves them, and their hours."""

import asyncio
import datetime as dt
from collections.abc import Collection, Iterable
from dataclasses import replace

import structlog

from ingest.accounts import Account
from ingest.instruments import Instruments
from ingest.manager import TickerManager
from kitelake.config import Config
from kitelake.plan.instrument_store import InstrumentStore
from kitelake.plan.list_hours import hours_of_lists
from kitelake.plan.plan import ListPlan, PlanPhase, carried_over, exchanges_of, in_hours, phases, recentred
from kitelake.plan.resolver import Resolver
from kitelake.report import DayRecord
from kitelake.schedule import Calendar, ListHours, calendar_of
from storage.clock import IST
from storage.layout import DataLayout

log = structlog.get_logger()


class TodaysPlan:
    """Holds the plan of the day, and makes it again when it is asked to. Belongs to one event loop."""

    def __init__(
        self,
        config: Config,
        layout: DataLayout,
        api_url: str,
        accounts: Iterable[Account],
        *,
        until: dt.datetime | None = None,
    ) -> None:
        """With `until` no list has hours from then on. Raises ConfigError for a calendar that cannot be read."""
        self._until = until
        self._layout = layout
        self._api_url = api_url
        self._resolver = Resolver(layout, online=True)
        self._resolving = asyncio.Lock()
        self.instruments: Instruments | None = None
        self.lists: dict[str, ListPlan] = {}
        self.configure(config, accounts, calendar_of(config))

    def configure(self, config: Config, accounts: Iterable[Account], calendar: Calendar) -> None:
        """Go by this configuration from now on. What its lists meant goes on until they are resolved again."""
        self.config = config
        self.calendar = calendar
        self._hours: dict[dt.date, dict[str, ListHours]] = {}
        # The embedded simulator and a replay have as many instruments as they are told to, other than the time before.
        least_share = config.instruments.least_share if config.source == "kite" else 0.0
        self._store = InstrumentStore(self._layout, self._api_url, list(accounts), least_share=least_share)
        default_mode = config.capture.default_mode
        found = [carried_over(self.lists, spec, default_mode) for spec in config.subscriptions]
        self.lists = {plan.name: plan for plan in found if plan is not None}

    def hours(self, date: dt.date) -> dict[str, ListHours]:
        """When each list is captured on that day, by its name, as far as it is known what the lists mean."""
        if date not in self._hours:
            if len(self._hours) > 100:
                self._hours.clear()
            hours = hours_of_lists(self.config.subscriptions, self.lists, self.calendar, date)
            until = self._until
            self._hours[date] = hours if until is None else {name: each.until(until) for name, each in hours.items()}
        return self._hours[date]

    def has_hours(self, date: dt.date) -> bool:
        """Whether any list is captured on that day."""
        return any(each.spans for each in self.hours(date).values())

    def on(self, now: dt.datetime) -> list[ListPlan]:
        """The lists that are in their hours, in the order of config.yaml, with what of them is in its hours."""
        lists = [self.lists[spec.name] for spec in self.config.subscriptions if spec.name in self.lists]
        return list(in_hours(lists, self.hours(now.date()), now))

    async def load(self) -> bool:
        """Take the newest instrument list that is stored; whether there is one that can be read."""
        self.instruments = await self._store.stored()
        return self.instruments is not None

    async def fetch(self) -> bool:
        """Fetch today's instrument list; whether it came. If it did not, the one before goes on, if there is one."""
        fetched = await self._store.fetch()
        if fetched is not None:
            self.instruments = fetched
        return fetched is not None

    def remember(self, record: DayRecord) -> None:
        """Go on with what lists that are resolved again meant earlier on this day, before the service was started."""
        assert self.instruments is not None
        known = {one.name: one for one in record.lists}
        for spec in self.config.subscriptions:
            one = known.get(spec.name)
            if spec.every is not None and one is not None and one.meaning == spec.digest:
                exchange_of = exchanges_of(self.instruments, one.tokens)
                self.lists[spec.name] = ListPlan(
                    spec, one.mode, tokens=one.tokens, exchange_of=exchange_of, resolved_on=record.date
                )
        self._hours.clear()

    async def resolve(self, manager: TickerManager, only: Collection[str] | None = None) -> list[ListPlan]:
        """Resolve every list, or `only` some; those that changed.

        A list that is in its hours goes on with what it meant earlier on that day, as far as the instrument list still
        knows it, unless it is told to drop that.
        """
        assert self.instruments is not None
        async with self._resolving:
            instruments, now = self.instruments, dt.datetime.now(IST)
            specs = [spec for spec in self.config.subscriptions if only is None or spec.name in only]
            before = dict(self.lists)
            plans = await self._resolver.resolve(
                specs,
                instruments.as_of(self.config.market_day(now.date())),
                default_mode=self.config.capture.default_mode,
                before=before,
                manager=manager,
            )
            in_hours = {plan.name for plan in self.on(dt.datetime.now(IST))}
            in_force = {spec.name: spec for spec in self.config.subscriptions}
            changed = []
            for spec, plan in zip(specs, plans, strict=True):
                if in_force.get(spec.name) != spec:
                    continue  # config.yaml was read anew meanwhile: the list has gone, or means something else
                there = before.get(plan.name)
                as_earlier = (plan.spec, now.date())
                if there and (there.spec, there.resolved_on) == as_earlier and plan.name in in_hours:
                    plan = recentred(there, plan, instruments)  # noqa: PLW2901 (the same list, as it is now)
                self.lists[plan.name] = replace(plan, resolved_on=now.date())
                if plan != there:
                    changed.append(plan)
            self._hours.clear()
            return changed

    async def phases(self, date: dt.date) -> list[PlanPhase]:
        """The day's plan with the connections that there are, as if each phase began with nothing."""
        names = [account.name for account in self.config.accounts]
        return await asyncio.to_thread(phases, list(self.lists.values()), self.hours(date), names, self.config.capture)
