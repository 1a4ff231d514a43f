"""The service: it captures what the lists of config.yaml mean, in their hours, until it is told to stop.

It is made to run for months. What is to be streamed follows from three things: the lists, the day's instrument list,
and the clock. `DayCycle.reconcile` compares them with what is streamed and changes the difference; every job, a reload
and a look every few seconds end in it, so a start in mid-session, a missed job or a clock that was set wrong mend
themselves.

It stops in the order in which nothing is lost: the sockets are closed, the journal is sealed, the writer drains it.
"""

import asyncio
import contextlib
import datetime as dt
import logging
import secrets
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from ingest.connection import Health
from ingest.manager import TickerManager
from kitelake.accounts import AccountSet
from kitelake.config import Config, FileWatch, reread
from kitelake.errors import ConfigError
from kitelake.plan import TodaysPlan
from kitelake.processes import Source
from kitelake.schedule import calendar_of, jobs_ended
from kitelake.service.day_cycle import DayCycle
from kitelake.service.day_record import DayRecorder
from kitelake.service.monitor import Monitor, watched_files
from kitelake.service.reconciler import Reconciler
from kitelake.service.recorder import Recorder
from kitelake.service.snapshot import JobHistory, Problems, Progress, health_of, progress_of, status_of
from kitelake.telemetry import (
    JournalPulse,
    MetricsServer,
    Notifier,
    ServiceStatus,
    configure_logs,
    systemd,
    watch_health,
    write_status,
)
from storage.clock import IST
from storage.events import ServiceEvent
from storage.layout import DataLayout, stream_name

log = structlog.get_logger()

CAPTURING: Final = "capturing what config.yaml says"
LAST_WORDS_SECONDS: Final = 5.0


class Service:
    """Captures from one source into one data folder, which the caller holds. Belongs to one event loop."""

    def __init__(
        self,
        config: Config,
        source: Source,
        layout: DataLayout,
        *,
        config_path: Path | None = None,
        until: dt.datetime | None = None,
    ) -> None:
        """`config_path` is looked at for changes. With `until` nothing is captured from then on.

        Raises ConfigError for a calendar that cannot be read.
        """
        self.stream = stream_name(dt.datetime.now(dt.UTC), secrets.token_hex(3))
        self.finished = asyncio.Event()
        self.account_set = AccountSet(config, source.api)
        self.today = TodaysPlan(config, layout, source.api, self.account_set.accounts, until=until)
        self._source = source
        self._layout = layout
        self._config_path = config_path
        self._files = FileWatch(watched_files(config, config_path))
        self._scheduler = AsyncIOScheduler(timezone=IST)
        self._jobs = JobHistory(self.account_set.redact)
        self._jobs.attach(self._scheduler)
        self._notifier = Notifier(config.notifications)
        self._reloading = asyncio.Lock()
        self._reloads_asked = self._reloads_begun = 0
        self._reloads: set[asyncio.Task[None]] = set()
        self._cycle: DayCycle | None = None
        self._problems: Problems | None = None
        self._since = dt.datetime.now(IST)
        self._stopped = False

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.today.config

    @property
    def cycle(self) -> DayCycle:
        """What the service does each day. There once `run` has begun."""
        assert self._cycle is not None
        return self._cycle

    @property
    def problems(self) -> Problems:
        """What a person should know. There once `run` has begun."""
        assert self._problems is not None
        return self._problems

    def progress(self) -> Progress:
        """The counts of this moment; cheap enough to ask several times a second."""
        if self._cycle is None:
            return Progress()
        return progress_of(self._cycle.recorder, self._cycle.reconciler.manager)

    def health(self) -> Health:
        """That of capture at this moment. To be called after `run` has begun."""
        return health_of(self.today, self.cycle.reconciler, tokens=not self.account_set.none_is_good)

    def status(self) -> ServiceStatus:
        """What `kitelake status` shows. To be called after `run` has begun."""
        return status_of(
            self.today,
            self.cycle.reconciler,
            self.cycle.recorder,
            health=self.health(),
            jobs=self._jobs.jobs(self._scheduler),
            tokens=self.account_set.states,
            problems=self.problems,
            since=self._since,
            stopping=self.cycle.stopping,
            stopped=self._stopped,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Capture until `stop` is set; then close, seal and drain. Raises only what keeps capture from starting."""
        try:
            await self._run(stop)
        finally:
            await jobs_ended()
            self.finished.set()

    async def _run(self, stop: asyncio.Event) -> None:
        async with (
            self._metrics() as metrics,  # before anything is written: its port may be in use
            Recorder(self.config, self._layout, self.stream, alarm=self._alarm) as recorder,
        ):
            manager = TickerManager(
                self.account_set.accounts, self.config.capture, sink=recorder.sink, ws_url=self._source.ws
            )
            day_recorder = DayRecorder(self._layout.root)
            reconciler = Reconciler(manager)
            self._problems = Problems(self.today, recorder, reconciler)
            self._cycle = cycle = DayCycle(
                self.today,
                self.account_set,
                recorder,
                reconciler,
                day_recorder=day_recorder,
                problems=self._problems,
                notifier=self._notifier,
                scheduler=self._scheduler,
            )
            names = [spec.name for spec in self.config.subscriptions]
            recorder.event(ServiceEvent.STARTED, "the service has started", lists=names)
            served: contextlib.AbstractAsyncContextManager[object] = contextlib.nullcontext()
            if metrics is not None:
                served = metrics.serve(manager, journal=recorder.journal, health=self.health)
            tasks: list[asyncio.Task[None]] = []
            try:
                async with served:
                    cycle.set_jobs()
                    cycle.begin_soon()
                    self._scheduler.start()
                    monitor = Monitor(
                        cycle,
                        self._problems,
                        self._notifier,
                        self._scheduler,
                        self._layout,
                        self._files,
                        self._config_path,
                        status=self.status,
                        health=self.health,
                        reload=self.reload,
                    )
                    tasks = [
                        asyncio.create_task(work)
                        for work in (
                            monitor.run(),
                            watch_health(self.health, monitor.health_changed, stop),
                            *self._watchdog(manager, recorder),
                        )
                    ]
                    systemd.ready(CAPTURING)
                    await stop.wait()
                    log.info("stopping: closing the sockets")
            finally:
                cycle.stopping = True
                systemd.stopping("closing, sealing, draining")
                logging.getLogger("apscheduler").setLevel(logging.CRITICAL)  # jobs that it cancels are no failures
                if self._scheduler.running:
                    self._scheduler.shutdown(wait=False)
                ending = [*tasks, *self._reloads]
                for task in ending:
                    task.cancel()
                await asyncio.gather(*ending, return_exceptions=True)
                await cycle.close_sockets()
                await self._notifier.settle(LAST_WORDS_SECONDS)
                day_recorder.keep()
                recorder.event(ServiceEvent.STOPPED, None)
        self._stopped = True
        write_status(self._layout, self.status())

    def _metrics(self) -> contextlib.AbstractAsyncContextManager[MetricsServer | None]:
        metrics = self.config.metrics
        if metrics.port is None:
            return contextlib.nullcontext()
        return MetricsServer(port=metrics.port, host=metrics.host)

    def _watchdog(self, manager: TickerManager, recorder: Recorder) -> list[Coroutine[Any, Any, None]]:
        seconds = systemd.watchdog_seconds()
        if seconds is None:
            return []
        pulse = JournalPulse()

        def advancing() -> bool:
            journal, connected = recorder.journal, manager.stats().total.connected
            # A disk that takes nothing is known, said, and tried again; to be killed would cost what waits in memory.
            written = journal.records if recorder.failing else journal.written_records
            return pulse.look(journal.records, written, connected, time.monotonic())

        return [systemd.Watchdog(seconds).run(advancing)]

    def _alarm(self, title: str, text: str) -> None:
        self._notifier.tell("problems", f"Kitelake: {title}", text)
        if self._cycle is not None and self._cycle.recorder.short_of_room:
            self._cycle.make_room()

    def reload_soon(self) -> None:
        """`reload`, for whoever cannot wait. It ends with the service; while that starts or stops nothing is read."""
        if self._cycle is not None and not self._cycle.stopping:
            task = asyncio.create_task(self.reload())
            self._reloads.add(task)
            task.add_done_callback(self._reloads.discard)

    async def reload(self) -> None:
        """Read config.yaml again. A bad one changes nothing and is reported; a good one changes only the difference.

        Whoever asks waits until it has been read, by this call or by another that began to read it later than this.
        """
        if self._config_path is None:
            return
        self._reloads_asked += 1
        asked = self._reloads_asked
        async with self._reloading:
            if self._reloads_begun < asked:  # a changed file and a signal often come together: one reading does
                self._reloads_begun = self._reloads_asked
                await self._reload(self._config_path)

    async def _reload(self, path: Path) -> None:
        systemd.reloading()
        doing = CAPTURING
        try:
            after, late = await asyncio.to_thread(reread, path, self.config)
            calendar = calendar_of(after)
        except ConfigError as error:
            doing = "config.yaml is not usable: capturing what it said before"
            self.problems.refused = error
            log.error("config.yaml is not usable; what was read before stays in force", problem=str(error))
            self.cycle.recorder.event("config refused", str(error))
            told = f"{error}\n\nWhat was read before stays in force."
            self._notifier.tell("problems", "Kitelake: config.yaml is not usable", told)
            return
        finally:
            systemd.ready(doing)
        self.problems.refused = None
        if late:
            log.warning("these sections take effect at the next start", sections=late)
        await self.cycle.configure(after, calendar)
        configure_logs(
            after.log.level, after.log.format, secrets=after.secrets(), redactors=self.account_set.redactors()
        )
        self._notifier.retarget(after.notifications)
        self.cycle.set_jobs()
        log.info("config.yaml was read anew")
        self.cycle.recorder.event("config read", None, at_next_start=late)
        await self.cycle.make_plan()
