"""Looks after a running service all the time: the clock, the files, tokens, health, the status that others read."""

import asyncio
import datetime as dt
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from ingest.connection import Health, Status
from kitelake.accounts import Roster
from kitelake.config import About, FileWatch
from kitelake.plan import Desk, ListPlan, files_of
from kitelake.schedule import ClockWatch
from kitelake.service.reconciler import Streamer
from kitelake.service.recorder import Recorder
from kitelake.telemetry import ServiceStatus, write_status
from storage.clock import IST
from storage.layout import DataLayout

log = structlog.get_logger()

LOOK_SECONDS: Final = 1.0
RECONCILE_SECONDS: Final = 15.0
TOKEN_LOOK_SECONDS: Final = 10.0
PARTLY_PRICED_SECONDS: Final = 60.0
"""So often prices are looked for again of a list of which some expiry has one: each time strikes may be added."""
UNWELL_SECONDS: Final = 60.0
"""Health that is amiss for so long is told by a notification."""


class Watched(Protocol):
    """The service, as far as it is looked after."""

    desk: Desk
    roster: Roster

    @property
    def recorder(self) -> Recorder: ...
    @property
    def streamer(self) -> Streamer: ...
    def health(self) -> Health: ...
    def status(self) -> ServiceStatus: ...
    def add_jobs(self) -> None: ...
    def tell(self, about: About, title: str, body: str) -> None: ...
    async def check_tokens(self) -> None: ...
    async def fetch_instruments(self) -> None: ...
    async def reconcile(self) -> None: ...
    async def resolve_anew(self, name: str) -> None: ...
    async def reload(self) -> None: ...


class Lookout:
    """Looks every second. What fails is logged, told in the status, and looked at again."""

    def __init__(
        self, service: Watched, scheduler: AsyncIOScheduler, layout: DataLayout, config_path: Path | None
    ) -> None:
        self._service = service
        self._scheduler = scheduler
        self._layout = layout
        self._config_path = config_path
        self._unwell_since: float | None = None
        self._failures: dict[str, str] = {}  # by the name of the look
        self._priced_at: dict[str, float] = {}  # when prices of a list were looked for last
        self._clock = ClockWatch(scheduler)
        self._date = dt.datetime.now(IST).date()
        self._files = FileWatch()
        self._changed_files()  # as they are now

    @property
    def failures(self) -> list[str]:
        """What failed at the last look, in words."""
        return [f"a look at the service fails and is tried again: {text}" for text in self._failures.values()]

    async def run(self) -> None:
        """Until it is cancelled."""
        await asyncio.gather(
            self._every(LOOK_SECONDS, self._say_status),
            self._every(LOOK_SECONDS, self._look_at_clock),
            self._every(LOOK_SECONDS, self._look_at_files),
            self._every(RECONCILE_SECONDS, self._keep_in_step),
            self._every(TOKEN_LOOK_SECONDS, self._look_at_tokens),
        )

    def health_changed(self, health: Health) -> None:
        """To be called when the health of capture changes."""
        self._service.recorder.event("health", health.status, percent=health.percent, reasons=health.reasons)
        well = health.status is Status.HEALTHY
        self._unwell_since = None if well else self._unwell_since or time.monotonic()

    async def _every(self, seconds: float, look: Callable[[], Awaitable[None]]) -> None:
        """Each look by itself: one that waits for a slow file or server holds up no other."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await look()
            except Exception as error:
                text = self._service.roster.redact(f"{type(error).__name__}: {error}")
                self._failures[look.__name__] = text
                log.exception("a look at the service failed; it goes on", error=text)
            else:
                self._failures.pop(look.__name__, None)

    async def _say_status(self) -> None:
        await asyncio.to_thread(write_status, self._layout, self._service.status())

    async def _look_at_clock(self) -> None:
        if jumped := self._clock.look():
            self._service.recorder.event("clock jumped", f"by {jumped:.1f} seconds", seconds=round(jumped, 3))
            await self._keep_in_step()
        if self._date != (date := dt.datetime.now(IST).date()):
            self._date = date
            self._service.add_jobs()  # those that lay too far ahead

    async def _look_at_files(self) -> None:
        if changed := await asyncio.to_thread(self._changed_files):
            await self._files_changed(changed)

    async def _look_at_tokens(self) -> None:
        if await self._service.roster.has_news():
            await self._service.check_tokens()
            if self._service.desk.instruments is None:  # there may have been no token to fetch it with
                await self._service.fetch_instruments()

    async def _keep_in_step(self) -> None:
        service = self._service
        await service.reconcile()
        for name in [plan.name for plan in service.streamer.on]:  # the price that it waits for may have come
            plan = service.desk.lists.get(name)
            if plan is not None and (plan.unpriced or (plan.references and not plan.tokens)) and self._is_due(plan):
                await service.resolve_anew(plan.name)
        if self._unwell_since is not None and time.monotonic() - self._unwell_since >= UNWELL_SECONDS:
            self._unwell_since = None
            health = service.health()
            service.tell("problems", f"Kitelake: capture is {health.status}", "\n".join(health.reasons))

    def _is_due(self, plan: ListPlan) -> bool:
        """Whether to look for its prices again: at every look without instruments, else, for an expiry, less often."""
        now = time.monotonic()
        if plan.tokens and now - self._priced_at.get(plan.name, -PARTLY_PRICED_SECONDS) < PARTLY_PRICED_SECONDS:
            return False
        self._priced_at[plan.name] = now
        return True

    def _changed_files(self) -> list[Path]:
        config = self._service.desk.config
        paths = [*files_of(config.subscriptions), self._config_path, config.calendar.file]
        return self._files.changed(path for path in paths if path is not None)

    async def _files_changed(self, changed: list[Path]) -> None:
        specs = self._service.desk.config.subscriptions
        of_lists = {spec.file: spec.name for spec in specs if spec.file is not None}
        if any(path not in of_lists for path in changed):
            await self._service.reload()
        for path in changed:
            if path in of_lists:
                await self._service.resolve_anew(of_lists[path])
