"""The service: it captures what the lists of config.yaml mean, in their hours, until it is told to stop.

It is made to run for months. What is to be streamed follows from three things: the lists, the day's instrument list,
and the clock. `reconcile` compares them with what is streamed and changes the difference; every job, a reload and a
look every few seconds end in it, so a start in mid-session, a missed job or a clock that was set wrong mend themselves.

It stops in the order in which nothing is lost: the sockets are closed, the journal is sealed, the writer drains it.
"""

import asyncio
import contextlib
import datetime as dt
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from ingest.connection import Health
from ingest.manager import TickerManager
from kitelake.accounts import Roster, Verdict
from kitelake.config import About, Config, reread
from kitelake.errors import ConfigError, ReportError
from kitelake.plan import Desk, calendar_of
from kitelake.processes import Housekeeping, Source, make_report_apart
from kitelake.report import Report, as_text, summary
from kitelake.schedule import entries, jobs_ended, look_again, quietly, set_jobs
from kitelake.service.day_record import DayBook
from kitelake.service.monitor import Lookout
from kitelake.service.reconciler import Streamer
from kitelake.service.recorder import Recorder
from kitelake.service.snapshot import Progress, health_of, progress_of, status_of
from kitelake.telemetry import (
    JobBook,
    Notifier,
    ServiceStatus,
    configure_logs,
    serve_metrics,
    systemd,
    watch_health,
    write_status,
)
from storage.layout import DataLayout, stream_name
from storage.schema import IST

log = structlog.get_logger()

TOKEN_SECONDS: Final = 10.0
AGAIN: Final = dt.timedelta(minutes=5)
FETCH_SOON: Final = dt.timedelta(seconds=15)
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
        self.reports: list[Report] = []
        """The reports of days that were made by this run."""
        self.roster = Roster(config, source.api)
        self.desk = Desk(config, layout, source.api, self.roster.accounts, until=until)
        self._source = source
        self._layout = layout
        self._config_path = config_path
        self._daybook = DayBook(layout.root)
        self._scheduler = AsyncIOScheduler(timezone=IST)
        self._jobs = JobBook(self.roster.redact)
        self._jobs.attach(self._scheduler)
        self._notifier = Notifier(config.notifications)
        self._housekeeping = Housekeeping(
            lambda: self.recorder.short_of_room, lambda done, data: self.recorder.event(done, None, **data)
        )
        self._reconciling, self._reporting, self._reloading = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()
        self._reloads_asked = self._reloads_begun = 0
        self.refused: ConfigError | None = None
        """Why config.yaml, as it is now, is not the one in force."""
        self._recorder: Recorder | None = None
        self._streamer: Streamer | None = None
        self._since = dt.datetime.now(IST)
        self._stopping = self._stopped = False
        self._told: set[asyncio.Task[None]] = set()
        self._lookout = Lookout(self, self._scheduler, layout, config_path)

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.desk.config

    def progress(self) -> Progress:
        """The counts of this moment; cheap enough to ask several times a second."""
        if self._recorder is None or self._streamer is None:
            return Progress()
        return progress_of(self._recorder, self._streamer.manager)

    def health(self) -> Health:
        """That of capture at this moment. To be called after `run` has begun."""
        return health_of(self.desk, self.streamer, tokens=not self.roster.none_is_good)

    def status(self) -> ServiceStatus:
        """What `kitelake status` shows. To be called after `run` has begun."""
        return status_of(
            self.desk,
            self.streamer,
            self.recorder,
            health=self.health(),
            jobs=self._jobs.jobs(self._scheduler),
            tokens=self.roster.states,
            problems=(*self._problems(), *self._old_list()),
            since=self._since,
            stopping=self._stopping,
            stopped=self._stopped,
        )

    @property
    def recorder(self) -> Recorder:
        assert self._recorder is not None
        return self._recorder

    @property
    def streamer(self) -> Streamer:
        assert self._streamer is not None
        return self._streamer

    async def run(self, stop: asyncio.Event) -> None:
        """Capture until `stop` is set; then close, seal and drain. Raises only what keeps capture from starting."""
        try:
            await self._run(stop)
        finally:
            await jobs_ended()
            self.finished.set()

    async def _run(self, stop: asyncio.Event) -> None:
        self._recorder = Recorder(self.config, self._layout, self.stream, alarm=self._alarm)
        async with self._recorder as recorder:
            manager = TickerManager(
                self.roster.accounts, self.config.capture, sink=recorder.sink, ws_url=self._source.ws
            )
            self._streamer = Streamer(manager)
            recorder.event(
                "started", "the service has started", lists=[spec.name for spec in self.config.subscriptions]
            )
            tasks: list[asyncio.Task[None]] = []
            try:
                async with self._metrics(manager):
                    self._set_jobs()
                    self._scheduler.add_job(
                        partial(quietly, self._begin), id="begin", name="begin", misfire_grace_time=None
                    )
                    self._scheduler.start()
                    tasks = [
                        asyncio.create_task(work)
                        for work in (
                            self._lookout.run(),
                            watch_health(self.health, self._lookout.health_changed, stop),
                            *self._watchdog(),
                        )
                    ]
                    systemd.ready("capturing what config.yaml says")
                    await stop.wait()
                    log.info("stopping: closing the sockets")
            finally:
                self._stopping = True
                systemd.stopping("closing, sealing, draining")
                logging.getLogger("apscheduler").setLevel(logging.CRITICAL)  # jobs that it cancels are no failures
                if self._scheduler.running:
                    self._scheduler.shutdown(wait=False)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                async with self._reconciling:
                    await manager.stop()
                if self._told:  # a slow mail server must not hold up the end
                    await asyncio.wait(self._told, timeout=LAST_WORDS_SECONDS)
                self._daybook.keep()
                recorder.event("stopped", None)
        self._stopped = True
        write_status(self._layout, self.status())

    def _metrics(self, manager: TickerManager) -> contextlib.AbstractAsyncContextManager[object]:
        metrics = self.config.metrics
        if metrics.port is None:
            return contextlib.nullcontext()
        return serve_metrics(
            manager, port=metrics.port, host=metrics.host, journal=self.recorder.journal, health=self.health
        )

    def _watchdog(self) -> list[Coroutine[Any, Any, None]]:
        seconds = systemd.watchdog_seconds()
        if seconds is None:
            return []
        pulse = systemd.JournalPulse()

        def advancing() -> bool:
            journal, connected = self.recorder.journal, self.streamer.manager.stats().total.connected
            # A disk that takes nothing is known, said, and tried again; to be killed would cost what waits in memory.
            written = journal.records if self.recorder.failing else journal.written_records
            return pulse.look(journal.records, written, connected, time.monotonic())

        return [systemd.Watchdog(seconds).run(advancing)]

    def _set_jobs(self) -> None:
        set_jobs(self._scheduler, entries(self, self.config, self.desk.hours))

    def add_jobs(self) -> None:
        """Add the jobs that the scheduler has dropped, because their next time lay too far ahead."""
        set_jobs(self._scheduler, entries(self, self.config, self.desk.hours), anew=False)

    async def _begin(self) -> None:
        """What a start makes up for: whatever is due at this time of the day, with what is there at once."""
        checking = asyncio.create_task(self.check_tokens())
        now = dt.datetime.now(IST)
        if await self.desk.load():
            self.desk.remember(await asyncio.to_thread(self._daybook.today, now.date()))
            await self.make_plan()
        due = now.time() >= self.config.instruments.fetch_at and self.desk.has_hours(now.date())
        if self.desk.instruments is None or due:  # one that is stored may be from before the broker made today's
            await asyncio.wait((checking,), timeout=TOKEN_SECONDS)  # a fetch needs a token, but not every account's
            await self.fetch_instruments()
        await checking
        await self.end_of_day()
        await self.remove_old()

    async def check_tokens(self) -> None:
        """Take each account's newest token, ask the broker whether it is good, and tell of those that are not."""
        checks = await self.roster.check()
        bad = {name: check.text if check.verdict is Verdict.BAD else None for name, check in checks.items()}
        for name, check in checks.items():
            if check.verdict is Verdict.BAD:
                self.tell("problems", f"Kitelake: account {name} has no good access token", check.text)
            elif check.verdict is Verdict.UNKNOWN:
                self.tell("problems", f"Kitelake: the access token of account {name} is not checked", check.text)
        self.recorder.event("tokens checked", None, **{name: str(check.verdict) for name, check in checks.items()})
        self._daybook.note_tokens(dt.datetime.now(IST).date(), bad)

    async def fetch_instruments(self) -> None:
        """Fetch the day's instrument list, and plan by it; if it does not come, the one before goes on for now."""
        if await self.desk.fetch():
            await self.make_plan()
            if self._is_over(dt.datetime.now(IST)):  # by a late list, whose lists were open until midnight before
                with contextlib.suppress(ReportError):  # it was told, and is tried again
                    await self.end_of_day()
            return
        nothing = self.desk.instruments is None
        serves = "There is none at all, so nothing is captured" if nothing else "An older one serves"
        self.tell("problems", "Kitelake: the day's instrument list was not fetched", f"{serves}; see the log.")
        self._once(self.fetch_instruments, FETCH_SOON if nothing else AGAIN, "fetch again")

    async def make_plan(self) -> None:
        """Resolve the lists, say what does not fit, and stream what is due."""
        if self.desk.instruments is None:
            return
        slow = [spec.name for spec in self.config.subscriptions if spec.url is not None]
        for names in ([spec.name for spec in self.config.subscriptions if spec.name not in slow], slow):
            if names:  # a slow server holds up its own list alone
                await self.desk.resolve(self.streamer.manager, names)
                await self.reconcile()
        look_again(self._scheduler)  # what the lists mean says when they are captured
        for plan in self.desk.lists.values():
            log.info(
                "subscription list",
                list=plan.name,
                instruments=len(plan.tokens),
                mode=str(plan.mode),
                notes=plan.notes,
            )
            for problem in plan.problems:
                log.warning("a list is not whole; the rest is captured", list=plan.name, problem=problem)
        phases = await self.desk.phases(dt.datetime.now(IST).date())
        left_out = {f"{phase.span.start:%H:%M}": len(phase.left_out) for phase in phases if phase.left_out}
        trouble = list(self._problems())
        if left_out:
            text = "more instruments than the connections have room for; the least important are left out"
            log.warning(text, left_out=left_out)
            trouble += [f"{count:,} instruments have no room from {start} on" for start, count in left_out.items()]
        if trouble:
            self.tell("problems", "Kitelake: not everything in the plan can be captured", "\n".join(trouble))
        self.recorder.event(
            "planned",
            f"by the instrument list of {self.desk.instruments.date}",
            lists={plan.name: len(plan.tokens) for plan in self.desk.lists.values()},
            left_out=left_out,
        )

    async def resolve_anew(self, name: str) -> None:
        """Resolve one list anew, as around a spot that has moved, or when its file has changed."""
        if self.desk.instruments is None:
            return
        before = self.desk.lists.get(name)
        for plan in await self.desk.resolve(self.streamer.manager, [name]):
            if trouble := [problem for problem in plan.problems if before is None or problem not in before.problems]:
                log.warning("a list is not whole; the rest is captured", list=name, problems=trouble)
                self.tell("problems", f"Kitelake: the list {name} is not whole", "\n".join(trouble))
            there = set(before.tokens) if before else set()
            new, gone = len(set(plan.tokens) - there), len(there - set(plan.tokens))
            log.info("list resolved anew", list=name, added=new, dropped=gone, notes=plan.notes)
            self.recorder.event("resolved anew", "; ".join(plan.notes) or None, list=name, added=new, dropped=gone)
        look_again(self._scheduler)
        await self.reconcile()

    async def reconcile(self) -> None:
        """Stream what the lists in their hours mean, and nothing else. Costs little when nothing has changed."""
        async with self._reconciling:
            if self._stopping:
                return
            now = dt.datetime.now(IST)
            on = self.desk.on(now)
            before = {plan.name for plan in self.streamer.on}
            await self.streamer.bring_to(on)
            for name in sorted(before ^ {plan.name for plan in on}):
                what = "list stopped" if name in before else "list started"
                log.info(what, list=name)
                self.recorder.event(what, name)
            self._daybook.note_lists(now, self.desk.lists, on, self.desk.hours(now.date()), self.streamer.unserved)
            self._daybook.note_sessions(now.date(), self.desk.calendar)
            await asyncio.to_thread(self._daybook.keep)

    async def end_of_day(self, after: dt.timedelta | None = None) -> None:
        """Report every day whose last list stopped so long ago (None: as config.yaml has it) and that was not reported.

        Raises ReportError if a report cannot be made.
        """
        after = self.config.schedule.end_of_day_after if after is None else after
        async with self._reporting:  # a session that is over and the job may ask at the same time
            await self._report_days(after)

    async def _report_days(self, after: dt.timedelta) -> None:
        failure: ReportError | None = None
        for record in await asyncio.to_thread(self._daybook.due, dt.datetime.now(IST), after):
            try:
                report = await make_report_apart(self._layout.root, record.date, self.config)
            except ReportError as error:
                failure = error
                continue
            self.reports.append(report)
            line = summary(report)
            log.info("end of day", report=line)
            self.recorder.event("report", line, **report.model_dump(mode="json"))
            self.tell("report", f"Kitelake: {line}", as_text(report))
            await asyncio.to_thread(self._daybook.mark_reported, record, dt.datetime.now(IST))
        if failure is not None:
            self.tell("problems", "Kitelake: a day could not be reported", str(failure))
            self._once(self.end_of_day, AGAIN, "end of day again")
            raise failure

    def _once(self, run: Callable[[], Coroutine[Any, Any, None]], later: dt.timedelta, name: str) -> None:
        """Do it again after a while."""
        self._scheduler.add_job(
            partial(quietly, run),
            "date",
            run_date=dt.datetime.now(IST) + later,
            id=name,
            name=name,
            replace_existing=True,
            misfire_grace_time=None,
        )

    async def seal_days(self) -> None:
        """Seal the days that are over, if config.yaml wants that, and remove what is old."""
        now = dt.datetime.now(IST)
        before = now.date() + dt.timedelta(days=1) if self._is_over(now) else now.date()
        await self._housekeeping.run(self.config, seal_before=before)

    def _is_over(self, now: dt.datetime) -> bool:
        """Whether no list has hours left today."""
        return all(span.stop <= now for each in self.desk.hours(now.date()).values() for span in each.spans)

    async def remove_old(self) -> None:
        """Archive segments that are in the tables, and remove what is old."""
        await self._housekeeping.run(self.config, seal_before=None)

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
        before = self.config
        try:
            after, late = await asyncio.to_thread(reread, path, before)
            calendar = calendar_of(after)
        except ConfigError as error:
            self.refused = error
            log.error("config.yaml is not usable; what was read before stays in force", problem=str(error))
            self.recorder.event("config refused", str(error))
            self.tell(
                "problems", "Kitelake: config.yaml is not usable", f"{error}\n\nWhat was read before stays in force."
            )
            return
        finally:
            systemd.ready("capturing what config.yaml says")
        self.refused = None
        if late:
            log.warning("these sections take effect at the next start", sections=late)
        async with self._reconciling:
            new_accounts = await self.roster.change(before, after, self.streamer.manager)
            self.desk.configure(after, self.roster.accounts, calendar)
        configure_logs(after.log.level, after.log.format, secrets=after.secrets(), redactors=self.roster.redactors())
        self._notifier.retarget(after.notifications)
        self._set_jobs()
        if new_accounts:
            await self.check_tokens()
        log.info("config.yaml was read anew")
        self.recorder.event("config read", None, at_next_start=late)
        await self.make_plan()

    def _problems(self) -> tuple[str, ...]:
        """What a person should know, in words."""
        lists = [f"{plan.name}: {problem}" for plan in self.desk.lists.values() for problem in plan.problems]
        left_out, lost = self.streamer.left_out, len(self.streamer.manager.unserved)
        room = [f"{left_out:,} instruments are left out: there is no room on the connections"] if left_out else []
        if lost:
            room.append(f"{lost:,} instruments wait: their connections are not up, and no other has room")
        writer = self.recorder.writer_problem
        stuck = [f"what is journalled does not come into the tables: {writer}"] if writer else []
        none = ["there is no instrument list, so nothing can be captured"] if self.desk.instruments is None else []
        refused = (
            [f"config.yaml is not usable, what was read before is in force: {self.refused}"] if self.refused else []
        )
        calendar = self.desk.calendar.warnings(dt.datetime.now(IST).date())
        return (*refused, *stuck, *none, *self._lookout.failures, *lists, *room, *calendar)

    def _old_list(self) -> list[str]:
        """That the day's instrument list has not come yet: no problem of the plan, which is made anew when it comes."""
        now, listed = dt.datetime.now(IST), self.desk.instruments
        if listed is None or listed.date is None or now.time() < self.config.instruments.fetch_at:
            return []
        days = (now.date() - listed.date).days
        if days < 1 or not self.desk.has_hours(now.date()):
            return []
        return [f"the instrument list is {days} days old, of {listed.date}: contracts listed since are not in it"]

    def _alarm(self, title: str, text: str) -> None:
        self.tell("problems", f"Kitelake: {title}", text)
        if self.recorder.short_of_room:
            self._once(self.remove_old, dt.timedelta(0), "make room")

    def tell(self, about: About, title: str, body: str) -> None:
        """Send a notification, without waiting for it."""
        task = asyncio.create_task(self._notifier.send(about, title, body))
        self._told.add(task)
        task.add_done_callback(self._told.discard)
