"""Gathers what the service says of itself: its status for other processes, and its progress for a display."""

import datetime as dt
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ingest.connection import Health, Status
from ingest.manager import TickerManager
from kitelake.plan import Desk
from kitelake.service.reconciler import Streamer
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


def status_of(
    desk: Desk,
    streamer: Streamer,
    recorder: Recorder,
    *,
    health: Health,
    jobs: tuple[Job, ...],
    tokens: Mapping[str, str],
    problems: tuple[str, ...],
    since: dt.datetime,
    stopping: bool,
    stopped: bool,
) -> ServiceStatus:
    """The whole service at this moment. After a clean end nothing is wanted, and so nothing is amiss."""
    now = dt.datetime.now(IST)
    hours = desk.hours(now.date())
    on = {plan.name for plan in streamer.on}
    without_room = set(streamer.unserved)
    committed = recorder.committed
    phase: Literal["capturing", "waiting", "stopping"] = "stopping"
    if not stopping:
        phase = "capturing" if streamer.running else "waiting"
    return ServiceStatus(
        at=now,
        pid=os.getpid(),
        host=socket.gethostname(),
        stream=recorder.journal.stream,
        since=since,
        phase=phase,
        doing=STOPPED if stopped else _doing(desk, streamer, jobs, now, phase),
        health=Health(Status.HEALTHY, 100.0, ()) if stopped else health,
        connections=() if stopped else connections_of(streamer.manager.stats()),
        accounts=tuple(
            AccountStatus(name=account.name, token=tokens.get(account.name, "not checked yet"))
            for account in desk.config.accounts
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
            for plan in desk.lists.values()
        ),
        journal=journal_of(recorder.journal),
        tables=TablesStatus(rows=committed.rows, lag_seconds=committed.lag_seconds),
        jobs=jobs,
        problems=problems,
    )


def health_of(desk: Desk, streamer: Streamer, *, tokens: bool) -> Health:
    """The health of capture at this moment; `tokens`: see `health_of_capture`."""
    now = dt.datetime.now(IST)
    due: dict[str, int | None] = {}
    for name, each in desk.hours(now.date()).items():
        plan, open_now = desk.lists.get(name), each.at(now)
        # Of a list whose instruments rest, names that are not in the instrument list yet may still be open.
        if open_now and not (plan is not None and plan.tokens and open_now.isdisjoint(plan.exchanges)):
            due[name] = None if plan is None else len(plan.tokens)
    return health_of_capture(
        streamer.manager.health(),
        due,
        listed=desk.instruments is not None,
        tokens=tokens,
        room=not streamer.all_left_out,
        streaming=streamer.running,
    )


def _doing(desk: Desk, streamer: Streamer, jobs: tuple[Job, ...], now: dt.datetime, phase: str) -> str:
    if phase == "stopping":
        return "stopping"
    if streamer.running:
        hours = desk.hours(now.date())
        on = [hours[plan.name] for plan in streamer.on if plan.name in hours]
        stop = max((span.stop for each in on for span in each.spans), default=now)
        many = f"{len(streamer.on)} of {len(desk.lists)} lists"
        return f"capturing {many} until {stop:%H:%M}" if stop.date() == now.date() else f"capturing {many}"
    if desk.instruments is None:
        return "waiting for an instrument list"
    starts = [job.next_at for job in jobs if job.name.startswith("start ") and job.next_at is not None]
    if not starts:
        return "waiting: no list is captured within the next 40 days"
    return f"waiting: the next list starts on {min(starts).astimezone(IST):%a %d %b at %H:%M}"
