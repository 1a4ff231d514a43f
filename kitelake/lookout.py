"""Looks after a running service all the time: the clock, the files, tokens, health, the status that others read."""

import asyncio
import datetime as dt
import time
from pathlib import Path
from typing import Final, Protocol

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from ingest.stats import Health, Status
from kitelake.desk import Desk
from kitelake.jobs import ClockWatch
from kitelake.notify import About
from kitelake.recorder import Recorder
from kitelake.reload import FileWatch
from kitelake.resolver import files_of
from kitelake.roster import Roster
from kitelake.status import ServiceStatus, write_status
from kitelake.streamer import Streamer
from storage.layout import DataLayout
from storage.schema import IST

log = structlog.get_logger()

LOOK_SECONDS: Final = 1.0
RECONCILE_SECONDS: Final = 15.0
TOKEN_LOOK_SECONDS: Final = 10.0
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
    def status(self) -> ServiceStatus: ...
    def add_jobs(self) -> None: ...
    def tell(self, about: About, title: str, body: str) -> None: ...
    async def check_tokens(self) -> None: ...
    async def reconcile(self) -> None: ...
    async def resolve_anew(self, name: str, *, keep: bool = True) -> None: ...
    async def reload(self) -> None: ...


class Lookout:
    """Looks every second. What fails is logged, and looked at again."""

    def __init__(
        self, service: Watched, scheduler: AsyncIOScheduler, layout: DataLayout, config_path: Path | None
    ) -> None:
        self._service = service
        self._scheduler = scheduler
        self._layout = layout
        self._config_path = config_path
        self._unwell_since: float | None = None
        self._files = FileWatch()
        self._changed_files()  # as they are now

    async def run(self) -> None:
        """Until it is cancelled."""
        await asyncio.gather(self._look(), self._look_for_tokens())

    def health_changed(self, health: Health) -> None:
        """To be called when the health of the connections changes."""
        self._service.recorder.event("health", health.status, percent=health.percent, reasons=health.reasons)
        well = health.status is Status.HEALTHY
        self._unwell_since = None if well else self._unwell_since or time.monotonic()

    async def _look(self) -> None:
        service = self._service
        clock = ClockWatch(self._scheduler)
        due = time.monotonic() + RECONCILE_SECONDS
        date = dt.datetime.now(IST).date()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                jumped = clock.look()
                if jumped:
                    service.recorder.event("clock jumped", f"by {jumped:.1f} seconds", seconds=round(jumped, 3))
                if changed := await asyncio.to_thread(self._changed_files):
                    await self._files_changed(changed)
                if jumped or time.monotonic() >= due:
                    due = time.monotonic() + RECONCILE_SECONDS
                    await self._keep_in_step()
                    if date != (date := dt.datetime.now(IST).date()):  # jobs that lay too far ahead
                        service.add_jobs()
                await asyncio.to_thread(write_status, self._layout, service.status())
            except Exception as error:
                log.exception("a look at the service failed; it goes on", error=service.roster.redact(str(error)))

    async def _look_for_tokens(self) -> None:
        while True:
            await asyncio.sleep(TOKEN_LOOK_SECONDS)
            try:
                if await self._service.roster.has_news():
                    await self._service.check_tokens()
            except Exception as error:
                log.exception("a check of new tokens failed", error=self._service.roster.redact(str(error)))

    async def _keep_in_step(self) -> None:
        service = self._service
        await service.reconcile()
        for plan in service.streamer.on:  # the price that it waits for may have come
            if plan.references and not plan.tokens:
                await service.resolve_anew(plan.name)
        if self._unwell_since is not None and time.monotonic() - self._unwell_since >= UNWELL_SECONDS:
            self._unwell_since = None
            health = service.streamer.manager.health()
            service.tell("problems", f"Kitelake: the connections are {health.status}", "\n".join(health.reasons))

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
                await self._service.resolve_anew(of_lists[path], keep=False)
