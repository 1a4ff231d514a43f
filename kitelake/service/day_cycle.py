"""What a day of the service consists of: tokens, instrument list, plan, streaming, report, seal; and when each is due.

Every step brings things to what they ought to be at the time it runs, so none does harm when it runs late or twice.
Those that change what is wanted end in `reconcile`, which compares it with what is streamed.
"""

import asyncio
import contextlib
import datetime as dt
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any, Final

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from kitelake.accounts import AccountSet, Verdict
from kitelake.config import Config
from kitelake.errors import ReportError
from kitelake.plan import TodaysPlan
from kitelake.processes import UpkeepRunner, make_report_apart
from kitelake.report import Report, as_text, summary
from kitelake.schedule import Calendar, Moments, TimedJob, look_again, quietly, set_jobs
from kitelake.service.day_record import DayRecorder
from kitelake.service.reconciler import Reconciler
from kitelake.service.recorder import Recorder
from kitelake.service.snapshot import Problems
from kitelake.telemetry import Notifier
from storage.clock import IST
from storage.journal import streams
from storage.layout import DataLayout

log = structlog.get_logger()

TOKEN_SECONDS: Final = 10.0
AGAIN: Final = dt.timedelta(minutes=5)
FETCH_SOON: Final = dt.timedelta(seconds=15)


class DayCycle:
    """The steps of each day, for whoever has to take them: jobs, the monitor, a reload. Belongs to one event loop."""

    def __init__(
        self,
        today: TodaysPlan,
        account_set: AccountSet,
        recorder: Recorder,
        reconciler: Reconciler,
        *,
        day_recorder: DayRecorder,
        problems: Problems,
        notifier: Notifier,
        scheduler: AsyncIOScheduler,
    ) -> None:
        self.today = today
        self.account_set = account_set
        self.recorder = recorder
        self.reconciler = reconciler
        self.reports: list[Report] = []
        """The reports of days that were made by this run."""
        self._day_recorder = day_recorder
        self._problems = problems
        self._notifier = notifier
        self._scheduler = scheduler
        self._upkeep = UpkeepRunner(
            lambda: recorder.short_of_room, lambda done, data: recorder.event(done, None, **data)
        )
        self._reconciling, self._reporting = asyncio.Lock(), asyncio.Lock()
        self.stopping = False
        """Whether nothing is to be started any more, whoever asks for it."""

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.today.config

    def set_jobs(self, *, only_missing: bool = False) -> None:
        """Set the jobs of the configuration in force; `only_missing`: those alone that the scheduler has dropped."""
        set_jobs(self._scheduler, self._jobs(), only_missing=only_missing)

    def _jobs(self) -> Iterator[TimedJob]:
        config, moments = self.config, Moments(self.today.hours)
        ends = moments.after_last(config.schedule.end_of_day_after)
        yield TimedJob("check tokens", self.check_tokens, moments.token_checks(config.schedule.tokens_at))
        yield TimedJob("fetch instruments", self.fetch_instruments, moments.daily(config.instruments.fetch_at))
        yield TimedJob("make plan", self.make_plan, moments.daily(config.schedule.plan_at))
        for spec in config.subscriptions:
            name = spec.name
            yield TimedJob(f"start {name}", self.reconcile, moments.starts(name))
            yield TimedJob(f"stop {name}", self.reconcile, moments.stops(name))
            if spec.every is not None:
                again = partial(self.resolve_again, name)
                yield TimedJob(f"resolve {name} anew", again, moments.steps(name, spec.every))
        yield TimedJob("end of day", self.end_of_day, ends)
        if config.seal.enabled and config.seal.hourly:
            yield TimedJob("seal hours", self.seal_hours, moments.hourly)
        yield TimedJob("seal", self.seal_days, moments.for_seal(config.schedule.end_of_day_after))
        yield TimedJob("retention", self.remove_old, moments.six_times)

    def begin_soon(self) -> None:
        """Have the scheduler do first what a start makes up for."""
        self._scheduler.add_job(partial(quietly, self._begin), id="begin", name="begin", misfire_grace_time=None)

    async def _begin(self) -> None:
        """What a start makes up for: whatever is due at this time of the day, with what is there at once."""
        checking = asyncio.create_task(self.check_tokens())
        now = dt.datetime.now(IST)
        if await self.today.load():
            self.today.remember(await asyncio.to_thread(self._day_recorder.today, now.date()))
            await self.make_plan()
        due = now.time() >= self.config.instruments.fetch_at and self.today.has_hours(now.date())
        if self.today.instruments is None or due:  # one that is stored may be from before the broker made today's
            await asyncio.wait((checking,), timeout=TOKEN_SECONDS)  # a fetch needs a token, but not every account's
            await self.fetch_instruments()
        await checking
        await self.end_of_day()
        if len(await asyncio.to_thread(streams, DataLayout(self.config.data))) > 1:  # our own is not old
            await self.remove_old()

    async def configure(self, config: Config, calendar: Calendar) -> None:
        """Go by this configuration from now on. What is streamed follows with the plan."""
        async with self._reconciling:
            await self.account_set.change(self.config, config, self.reconciler.manager)
            self.today.configure(config, self.account_set.accounts, calendar)

    async def check_tokens(self) -> None:
        """Take each account's newest token, ask the broker whether it is good, and tell of those that are not."""
        checks = await self.account_set.check()
        bad = {name: check.text if check.verdict is Verdict.BAD else None for name, check in checks.items()}
        for name, check in checks.items():
            if check.verdict is Verdict.BAD:
                self._notifier.tell("problems", f"Kitelake: account {name} has no good access token", check.text)
            elif check.verdict is Verdict.UNKNOWN:
                title = f"Kitelake: the access token of account {name} is not checked"
                self._notifier.tell("problems", title, check.text)
        self.recorder.event("tokens checked", None, **{name: str(check.verdict) for name, check in checks.items()})
        self._day_recorder.note_tokens(dt.datetime.now(IST).date(), bad)

    async def fetch_instruments(self) -> None:
        """Fetch the day's instrument list, and plan by it; if it does not come, the one before goes on for now."""
        if await self.today.fetch():
            await self.make_plan()
            if self._is_over(dt.datetime.now(IST)):  # by a late list, whose lists were open until midnight before
                with contextlib.suppress(ReportError):  # it was told, and is tried again
                    await self.end_of_day()
            return
        nothing = self.today.instruments is None
        serves = "There is none at all, so nothing is captured" if nothing else "An older one serves"
        title = "Kitelake: the day's instrument list was not fetched"
        self._notifier.tell("problems", title, f"{serves}; see the log.")
        self._once(self.fetch_instruments, FETCH_SOON if nothing else AGAIN, "fetch again")

    async def make_plan(self) -> None:
        """Resolve the lists, say what does not fit, and stream what is due."""
        if self.today.instruments is None:
            return
        slow = [spec.name for spec in self.config.subscriptions if spec.url is not None]
        for names in ([spec.name for spec in self.config.subscriptions if spec.name not in slow], slow):
            if names:  # a slow server holds up its own list alone
                await self.today.resolve(self.reconciler.manager, names)
            await self.reconcile()
        look_again(self._scheduler)  # what the lists mean says when they are captured
        for plan in self.today.lists.values():
            log.info(
                "subscription list",
                list=plan.name,
                instruments=len(plan.tokens),
                mode=str(plan.mode),
                notes=plan.notes,
            )
            for problem in plan.problems:
                log.warning("a list is not whole; the rest is captured", list=plan.name, problem=problem)
        phases = await self.today.phases(dt.datetime.now(IST).date())
        left_out = {f"{phase.span.start:%H:%M}": len(phase.left_out) for phase in phases if phase.left_out}
        trouble = self._problems.of_capture()
        if left_out:
            text = "more instruments than the connections have room for; the least important are left out"
            log.warning(text, left_out=left_out)
            trouble += [f"{count:,} instruments have no room from {start} on" for start, count in left_out.items()]
        if trouble:
            title = "Kitelake: not everything in the plan can be captured"
            self._notifier.tell("problems", title, "\n".join(trouble))
        self.recorder.event(
            "planned",
            f"by the instrument list of {self.today.instruments.date}",
            lists={plan.name: len(plan.tokens) for plan in self.today.lists.values()},
            left_out=left_out,
        )

    async def resolve_again(self, name: str) -> None:
        """Resolve one list again, as around a spot that has moved, or when its file has changed."""
        if self.today.instruments is None:
            return
        before = self.today.lists.get(name)
        for plan in await self.today.resolve(self.reconciler.manager, [name]):
            if trouble := [problem for problem in plan.problems if before is None or problem not in before.problems]:
                log.warning("a list is not whole; the rest is captured", list=name, problems=trouble)
                self._notifier.tell("problems", f"Kitelake: the list {name} is not whole", "\n".join(trouble))
            there = set(before.tokens) if before else set()
            new, gone = len(set(plan.tokens) - there), len(there - set(plan.tokens))
            log.info("list resolved anew", list=name, added=new, dropped=gone, notes=plan.notes)
            self.recorder.event("resolved anew", "; ".join(plan.notes) or None, list=name, added=new, dropped=gone)
        look_again(self._scheduler)
        await self.reconcile()

    async def reconcile(self) -> None:
        """Stream what the lists in their hours mean, and nothing else. Costs little when nothing has changed."""
        async with self._reconciling:
            if self.stopping:
                return
            now = dt.datetime.now(IST)
            on = self.today.on(now)
            before = {plan.name for plan in self.reconciler.on}
            await self.reconciler.bring_to(on)
            for name in sorted(before ^ {plan.name for plan in on}):
                what = "list stopped" if name in before else "list started"
                log.info(what, list=name)
                self.recorder.event(what, name)
            hours = self.today.hours(now.date())
            self._day_recorder.note_lists(now, self.today.lists, on, hours, self.reconciler.unserved)
            self._day_recorder.note_sessions(now.date(), self.today.calendar)
            await asyncio.to_thread(self._day_recorder.keep)

    async def close_sockets(self) -> None:
        """Stream nothing any more, whoever asks for it."""
        self.stopping = True
        async with self._reconciling:
            await self.reconciler.manager.stop()

    async def end_of_day(self, after: dt.timedelta | None = None) -> None:
        """Report every day whose last list stopped so long ago (None: as config.yaml has it) and that was not reported.

        Raises ReportError if a report cannot be made.
        """
        after = self.config.schedule.end_of_day_after if after is None else after
        async with self._reporting:  # a session that is over and the job may ask at the same time
            await self._report_days(after)

    async def _report_days(self, after: dt.timedelta) -> None:
        failure: ReportError | None = None
        for record in await asyncio.to_thread(self._day_recorder.due, dt.datetime.now(IST), after):
            try:
                report = await make_report_apart(self._day_recorder.data, record.date, self.config)
            except ReportError as error:
                failure = error
                continue
            self.reports.append(report)
            line = summary(report)
            log.info("end of day", report=line)
            self.recorder.event("report", line, **report.model_dump(mode="json"))
            self._notifier.tell("report", f"Kitelake: {line}", as_text(report))
            await asyncio.to_thread(self._day_recorder.mark_reported, record, dt.datetime.now(IST))
        if failure is not None:
            self._notifier.tell("problems", "Kitelake: a day could not be reported", str(failure))
            self._once(self.end_of_day, AGAIN, "end of day again")
            raise failure

    async def seal_days(self) -> None:
        """Seal the days that are over, if config.yaml wants that, and remove what is old."""
        now = dt.datetime.now(IST)
        before = now.date() + dt.timedelta(days=1) if self._is_over(now) else now.date()
        await self._upkeep.run(self.config, seal_before=before)

    async def seal_hours(self) -> None:
        """Seal what there is of the day that goes on: its small files are as many as come within an hour."""
        await self._upkeep.run(self.config, seal_of=dt.datetime.now(IST).date())

    async def remove_old(self) -> None:
        """Archive segments that are in the tables, and remove what is old."""
        await self._upkeep.run(self.config)

    def make_room(self) -> None:
        """Have what is old removed soon, for a disk that is full."""
        self._once(self.remove_old, dt.timedelta(0), "make room")

    def _is_over(self, now: dt.datetime) -> bool:
        """Whether no list has hours left today."""
        return all(span.stop <= now for each in self.today.hours(now.date()).values() for span in each.spans)

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
