"""Gathers what the service says of itself: status and problems for other processes, progress for a display."""

import datetime as dt
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, EVENT_JOB_MISSED, EVENT_JOB_SUBMITTED, JobEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from ingest.connection import Health, Status
from ingest.manager import TickerManager
from kitelake.errors import ConfigError
from kitelake.plan import TodaysPlan
from kitelake.service.reconciler import Reconciler
from kitelake.service.recorder import Committed, Recorder
from kitelake.telemetry import (
    STOPPED,
    AccountStatus,
    Job,
    ListStatus,
    ServiceStatus,
    TablesStatus,
    connections_of,
    health_of_capture,
    journal_of,
)
from storage.clock import IST

MAX_OUTCOME: Final = 300

_OUTCOMES: Final = {EVENT_JOB_SUBMITTED: "running", EVENT_JOB_EXECUTED: "done", EVENT_JOB_MISSED: "missed"}


@dataclass(frozen=True)
class Progress:
    """How far the service has come, at one moment."""

    connected: int = 0
    connections: int = 0
    instruments: int = 0
    frames: int = 0
    packets: int = 0
    received_bytes: int = 0
    journal_bytes: int = 0
    committed: Committed = field(default_factory=Committed)


def progress_of(recorder: Recorder, manager: TickerManager) -> Progress:
    """The counts of this moment; cheap enough to ask several times a second."""
    total = manager.stats().total
    return Progress(
        connected=total.connected,
        connections=total.connections,
        instruments=total.instruments,
        frames=total.frames,
        packets=recorder.journal.packets,
        received_bytes=total.bytes,
        journal_bytes=recorder.journal.written_bytes,
        committed=recorder.committed,
    )


class JobHistory:
    """Remembers how each job of a scheduler went the last time. Texts of exceptions pass through `redact`."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self._last: dict[str, tuple[dt.datetime, str]] = {}

    def attach(self, scheduler: AsyncIOScheduler) -> None:
        """Listen from now on. The outcomes come in the event loop's thread, as those of an AsyncIOScheduler do."""
        scheduler.add_listener(self._heard, EVENT_JOB_ERROR | sum(_OUTCOMES))

    def jobs(self, scheduler: AsyncIOScheduler) -> tuple[Job, ...]:
        """Every job that the scheduler has now, the next one first."""
        jobs = []
        for job in scheduler.get_jobs():
            last_at, outcome = self._last.get(job.id, (None, None))
            next_at = getattr(job, "next_run_time", None)  # a scheduler that has not started has not reckoned it
            jobs.append(Job(name=job.id, next_at=next_at, last_at=last_at, outcome=outcome))
        return tuple(sorted(jobs, key=lambda job: (job.next_at is None, job.next_at, job.name)))

    def _heard(self, event: JobEvent) -> None:
        outcome = _OUTCOMES.get(event.code)
        if outcome is None:
            text = " ".join(f"failed: {type(event.exception).__name__}: {event.exception}".split())
            text = self._redact(text)[:MAX_OUTCOME]  # in this order: half a secret would pass
            outcome = text.encode(errors="replace").decode()  # a file's name may hold what JSON cannot
        self._last[event.job_id] = dt.datetime.now(IST), outcome


class Problems:
    """What a person should know, in words: what its parts met with, and what can be seen of them at the moment."""

    def __init__(self, today: TodaysPlan, recorder: Recorder, reconciler: Reconciler) -> None:
        self._today = today
        self._recorder = recorder
        self._reconciler = reconciler
        self.refused: ConfigError | None = None
        """Why config.yaml, as it is now, is not the one in force."""
        self.failures: dict[str, str] = {}
        """What failed at the last look at the service, by the name of the look."""

    def of_capture(self) -> list[str]:
        """What keeps something from being captured or put into the tables, or may do so."""
        today, reconciler = self._today, self._reconciler
        found = []
        if self.refused:
            found.append(f"config.yaml is not usable, what was read before is in force: {self.refused}")
        if disk := self._recorder.disk_problem:
            found.append(disk)
        if writer := self._recorder.writer_problem:
            found.append(f"what is journalled does not come into the tables: {writer}")
        if today.instruments is None:
            found.append("there is no instrument list, so nothing can be captured")
        found += [f"a look at the service fails and is tried again: {text}" for text in self.failures.values()]
        found += [f"{plan.name}: {problem}" for plan in today.lists.values() for problem in plan.problems]
        if left_out := reconciler.left_out:
            found.append(f"{left_out:,} instruments are left out: there is no room on the connections")
        if lost := len(reconciler.manager.unserved):
            found.append(f"{lost:,} instruments wait: their connections are not up, and no other has room")
        return found + today.calendar.warnings(dt.datetime.now(IST).date())

    def all(self) -> list[str]:
        """With an old instrument list, which is no problem of the plan: that is made again when today's comes."""
        return [*self.of_capture(), *self._old_list()]

    def _old_list(self) -> list[str]:
        now, listed = dt.datetime.now(IST), self._today.instruments
        if listed is None or listed.date is None or now.time() < self._today.config.instruments.fetch_at:
            return []
        days = (now.date() - listed.date).days
        if days < 1 or not self._today.has_hours(now.date()):
            return []
        return [f"the instrument list is {days} days old, of {listed.date}: contracts listed since are not in it"]


def status_of(
    today: TodaysPlan,
    reconciler: Reconciler,
    recorder: Recorder,
    *,
    health: Health,
    jobs: tuple[Job, ...],
    tokens: Mapping[str, str],
    problems: Problems,
    since: dt.datetime,
    stopping: bool,
    stopped: bool,
) -> ServiceStatus:
    """The whole service at this moment. After a clean end nothing is wanted, and so all is healthy."""
    now = dt.datetime.now(IST)
    hours = today.hours(now.date())
    on = {plan.name for plan in reconciler.on}
    without_room = set(reconciler.unserved)
    committed = recorder.committed
    phase: Literal["capturing", "waiting", "stopping"] = "stopping"
    if not stopping:
        phase = "capturing" if reconciler.running else "waiting"
    return ServiceStatus(
        at=now,
        pid=os.getpid(),
        host=socket.gethostname(),
        stream=recorder.journal.stream,
        since=since,
        phase=phase,
        doing=STOPPED if stopped else _doing(today, reconciler, jobs, now, phase),
        health=Health(Status.HEALTHY, 100.0, ()) if stopped else health,
        connections=() if stopped else connections_of(reconciler.manager.stats()),
        accounts=tuple(
            AccountStatus(name=account.name, token=tokens.get(account.name, "not checked yet"))
            for account in today.config.accounts
        ),
        lists=tuple(
            ListStatus(
                name=plan.name,
                mode=plan.mode,
                instruments=len(plan.tokens),
                active=plan.name in on,
                left_out=sum(token in without_room for token in plan.tokens) if plan.name in on else 0,
                hours=tuple(span.hours for span in hours[plan.name].spans) if plan.name in hours else (),
                problems=max(len(plan.missing), len(plan.problems)),
            )
            for plan in today.lists.values()
        ),
        journal=journal_of(recorder.journal),
        tables=TablesStatus(rows=committed.rows, lag_seconds=committed.lag_seconds),
        jobs=jobs,
        problems=tuple(problems.all()),
    )


def health_of(today: TodaysPlan, reconciler: Reconciler, *, tokens: bool) -> Health:
    """The health of capture at this moment; `tokens`: see `health_of_capture`."""
    now = dt.datetime.now(IST)
    due: dict[str, int | None] = {}
    for name, each in today.hours(now.date()).items():
        plan, open_now = today.lists.get(name), each.at(now)
        # Of a list whose instruments rest, names that are not in the instrument list yet may still be open.
        if open_now and not (plan is not None and plan.tokens and open_now.isdisjoint(plan.exchanges)):
            due[name] = None if plan is None else len(plan.tokens)
    return health_of_capture(
        reconciler.manager.health(),
        due,
        listed=today.instruments is not None,
        tokens=tokens,
        room=not reconciler.all_left_out,
        streaming=reconciler.running,
    )


def _doing(today: TodaysPlan, reconciler: Reconciler, jobs: tuple[Job, ...], now: dt.datetime, phase: str) -> str:
    if phase == "stopping":
        return "stopping"
    if reconciler.running:
        hours = today.hours(now.date())
        on = [hours[plan.name] for plan in reconciler.on if plan.name in hours]
        stop = max((span.stop for each in on for span in each.spans), default=now)
        many = f"{len(reconciler.on)} of {len(today.lists)} lists"
        return f"capturing {many} until {stop:%H:%M}" if stop.date() == now.date() else f"capturing {many}"
    if today.instruments is None:
        return "waiting for an instrument list"
    starts = [job.next_at for job in jobs if job.name.startswith("start ") and job.next_at is not None]
    if not starts:
        return "waiting: no list is captured within the next 40 days"
    return f"waiting: the next list starts on {min(starts).astimezone(IST):%a %d %b at %H:%M}"
