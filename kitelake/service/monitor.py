"""Looks after a running service all the time: the clock, the files, tokens, health, the status that others read."""

import asyncio
import datetime as dt
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from ingest.connection import Health, Status
from kitelake.config import Config, FileWatch
from kitelake.plan import ListPlan, files_of
from kitelake.schedule import ClockWatch
from kitelake.service.day_cycle import DayCycle
from kitelake.service.snapshot import Problems
from kitelake.telemetry import Notifier, ServiceStatus, write_status
from storage.clock import IST
from storage.layout import DataLayout

log = structlog.get_logger()

LOOK_SECONDS: Final = 1.0
RECONCILE_SECONDS: Final = 15.0
TOKEN_LOOK_SECONDS: Final = 10.0
PARTLY_PRICED_SECONDS: Final = 60.0
"""So often prices are looked for again of a list of which some expiry has one: each time strikes may be added."""
UNWELL_SECONDS: Final = 60.0
"""What is unhealthy for so long is told by a notification."""


def watched_files(config: Config, path: Path | None) -> list[Path]:
    """The files that say what is captured: config.yaml, unless there is none, and those that it names."""
    paths = [*files_of(config.subscriptions), path, config.calendar.file]
    return [path for path in paths if path is not None]


class Monitor:
    """Looks every second. What fails is logged, told in the status, and looked at again."""

    def __init__(
        self,
        cycle: DayCycle,
        problems: Problems,
        notifier: Notifier,
        scheduler: AsyncIOScheduler,
        layout: DataLayout,
        files: FileWatch,
        config_path: Path | None,
        *,
        status: Callable[[], ServiceStatus],
        health: Callable[[], Health],
        reload: Callable[[], Awaitable[None]],
    ) -> None:
        """`status` and `health` say how the service stands; `reload` is for files of its configuration that change."""
        self._cycle = cycle
        self._problems = problems
        self._notifier = notifier
        self._layout = layout
        self._config_path = config_path
        self._status = status
        self._health = health
        self._reload = reload
        self._unwell_since: float | None = None
        self._priced_at: dict[str, float] = {}  # when prices of a list were looked for last
        self._clock = ClockWatch(scheduler)
        self._date = dt.datetime.now(IST).date()
        self._files = files

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
        self._cycle.recorder.event("health", health.status, percent=health.percent, reasons=health.reasons)
        well = health.status is Status.HEALTHY
        self._unwell_since = None if well else self._unwell_since or time.monotonic()

    async def _every(self, seconds: float, look: Callable[[], Awaitable[None]]) -> None:
        """Each look by itself: one that waits for a slow file or server holds up no other."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await look()
            except Exception as error:
                text = self._cycle.account_set.redact(f"{type(error).__name__}: {error}")
                self._problems.failures[look.__name__] = text
                log.exception("a look at the service failed; it goes on", error=text)
            else:
                self._problems.failures.pop(look.__name__, None)

    async def _say_status(self) -> None:
        await asyncio.to_thread(write_status, self._layout, self._status())

    async def _look_at_clock(self) -> None:
        if jumped := self._clock.look():
            self._cycle.recorder.event("clock jumped", f"by {jumped:.1f} seconds", seconds=round(jumped, 3))
            await self._keep_in_step()
        if self._date != (date := dt.datetime.now(IST).date()):
            self._date = date
            self._cycle.reconciler.manager.note_held()
            self._cycle.set_jobs(only_missing=True)  # those that lay too far ahead

    async def _look_at_files(self) -> None:
        if changed := await asyncio.to_thread(self._changed_files):
            await self._files_changed(changed)

    async def _look_at_tokens(self) -> None:
        if await self._cycle.account_set.has_news():
            await self._cycle.check_tokens()
            if self._cycle.today.instruments is None:  # there may have been no token to fetch it with
                await self._cycle.fetch_instruments()

    async def _keep_in_step(self) -> None:
        cycle = self._cycle
        await cycle.reconcile()
        for name in [plan.name for plan in cycle.reconciler.on]:  # the price that it waits for may have come
            plan = cycle.today.lists.get(name)
            if plan is not None and (plan.unpriced or (plan.references and not plan.tokens)) and self._is_due(plan):
                await cycle.resolve_again(plan.name)
        if self._unwell_since is not None and time.monotonic() - self._unwell_since >= UNWELL_SECONDS:
            self._unwell_since = None
            health = self._health()
            self._notifier.tell("problems", f"Kitelake: capture is {health.status}", "\n".join(health.reasons))

    def _is_due(self, plan: ListPlan) -> bool:
        """Whether to look for its prices again: at every look without instruments, else, for an expiry, less often."""
        now = time.monotonic()
        if plan.tokens and now - self._priced_at.get(plan.name, -PARTLY_PRICED_SECONDS) < PARTLY_PRICED_SECONDS:
            return False
        self._priced_at[plan.name] = now
        return True

    def _changed_files(self) -> list[Path]:
        return self._files.changed(watched_files(self._cycle.today.config, self._config_path))

    async def _files_changed(self, changed: list[Path]) -> None:
        files = {spec.file for spec in self._cycle.today.config.subscriptions}
        if any(path not in files for path in changed):
            await self._reload()
        for spec in self._cycle.today.config.subscriptions:  # several may name one file
            if spec.file in changed:
                await self._cycle.resolve_again(spec.name)
