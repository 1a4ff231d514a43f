"""The real service under a clock of its own: scheduler, sockets, journal, writer and tables are real as well.

    with clock_at("2026-11-09T08:00") as clock:
        diary = run(config, simulator, clock, scenario)

A scenario lets time pass from job to job, has the machine sleep, or sets its clock. What came of it is in the diary.

The writer, reports and upkeep are in this process, by its clock, since the start of a process each would take longer
than all else; with `children` they are processes as ever, by the clock of the machine.
"""

import asyncio
import contextlib
import datetime as dt
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self
from unittest.mock import patch

import time_machine
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, EVENT_JOB_SUBMITTED, JobEvent

import kitelake
from ingest.wire import JournalDecoder
from kitelake.config.config import Config
from kitelake.processes.source import Source
from kitelake.processes.upkeep import keep_up
from kitelake.processes.upkeep_runner import UpkeepRunner, settings_of
from kitelake.report import Report, make_report, read_record
from kitelake.service.service import Service
from kitelake.telemetry.status import Job, read_status
from storage.clock import IST
from storage.commit import SegmentWriter
from storage.datafolder import hold
from storage.layout import DataLayout
from tests.support.calendars import ist as ist
from tests.support.simulation import Simulation
from tests.support.waiting import PATIENCE_SECONDS

QUIET_SECONDS: Final = 0.005
LOOKS: Final = {
    "kitelake.service.monitor.LOOK_SECONDS": 0.2,
    "kitelake.service.monitor.TOKEN_LOOK_SECONDS": 0.1,
    "kitelake.service.monitor.RECONCILE_SECONDS": 3.0,  # jobs come before it
    "kitelake.telemetry.health.LOOK_SECONDS": 0.1,
}
"""How many seconds pass between two looks of the service, so that none waits for them."""
RETENTION: Final = "retention"

_TOLD: Final[dict[str, Callable[[str, dict[str, Any]], str]]] = {
    "started": lambda _, __: "service started",
    "stopped": lambda _, __: "service stopped",
    "tokens checked": lambda _, data: f"tokens: {', '.join(data.values())}",
    "planned": lambda message, _: f"planned by {message.removeprefix('by the instrument list of ')}",
    "list started": lambda name, _: f"{name} started",
    "list stopped": lambda name, _: f"{name} stopped",
    "report": lambda _, data: f"reported {data['date']}",
    "clock jumped": lambda _, data: f"clock jumped by {round(data['seconds'] / 60)} min",
}


EQUITIES = {"name": "equities", "mode": "full", "instruments": ["NSE:INFY", "NSE:RELIANCE"]}

# Trading hours around which is captured from 09:00 to 15:35, and to 23:55; and a holiday of NSE on Tuesday.
USUAL = {"NSE": "09:20-14:50", "NFO": "09:20-14:50", "MCX": "09:20-23:10"}
HOLIDAY = {"date": dt.date(2026, 11, 10), "exchanges": ["NSE", "NFO"], "hours": "closed"}


class Clock:
    """The wall clock and the monotonic clock of this process. Both tick, and both can be moved."""

    def __init__(self, traveller: time_machine.Traveller) -> None:
        self._traveller = traveller
        self._monotonic = time.monotonic
        self._passed = 0.0

    def monotonic(self) -> float:
        return self._monotonic() + self._passed

    def now(self) -> dt.datetime:
        return dt.datetime.now(IST)

    def pass_until(self, moment: dt.datetime) -> None:
        """So much time goes by, for both clocks."""
        seconds = (moment - self.now()).total_seconds()
        self._traveller.shift(seconds)
        self._passed += seconds

    def jump_to(self, moment: dt.datetime) -> None:
        """The wall clock moves alone: it was set, or the machine slept (Linux stops the monotonic clock then)."""
        self._traveller.shift((moment - self.now()).total_seconds())


@contextlib.contextmanager
def clock_at(text: str) -> Iterator[Clock]:
    """The clocks of this process as if it were so late in IST."""
    with time_machine.travel(ist(text), tick=True) as traveller:
        clock = Clock(traveller)
        with patch.object(time, "monotonic", clock.monotonic):
            yield clock


@dataclass(frozen=True)
class Diary:
    """What happened, as `Mon 09 08:30 …`: by the minute, and within one by the alphabet, as much happens at once."""

    told: list[str]
    """The service's own events, as they are in the table. A list that is resolved anew is among the jobs."""
    in_order: list[str]
    """The same in the order in which they came, without the time."""
    ran: list[str]
    """The jobs of the scheduler when they began, without the one that runs six times a day."""
    retention: list[str]


class Trial:
    """A running service, and the clock that it runs by."""

    def __init__(self, service: Service, layout: DataLayout, simulator: Simulation, clock: Clock) -> None:
        self.service = service
        self.clock = clock
        self.ran: list[tuple[dt.datetime, str]] = []
        self._layout = layout
        self._simulator = simulator
        self._running: set[str] = set()
        self._scheduler = service._scheduler
        events = EVENT_JOB_SUBMITTED | EVENT_JOB_EXECUTED | EVENT_JOB_ERROR
        self._scheduler.add_listener(self._heard, events)

    def _heard(self, event: JobEvent) -> None:
        if event.code == EVENT_JOB_SUBMITTED:
            self.ran.append((self.clock.now(), event.job_id))
            self._running.add(event.job_id)
        else:
            self._running.discard(event.job_id)
        if event.code == EVENT_JOB_ERROR:
            self.ran.append((self.clock.now(), f"{event.job_id} failed: {event.exception!r}"))

    def jobs(self) -> dict[str, Job]:
        """The jobs as the service's status has them."""
        return {job.name: job for job in self.service.status().jobs}

    async def settle(self) -> None:
        """Until every job that is due has run."""
        quiet = 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            while quiet < 2:
                await asyncio.sleep(QUIET_SECONDS)
                now = self.clock.now()
                due = any(moment <= now for moment in self._moments())
                quiet = 0 if due or self._running else quiet + 1

    async def until(self, text: str) -> None:
        """Let time pass, from the moment of one job to that of the next."""
        end = ist(text)
        while True:
            await self.settle()
            if self.clock.now() >= end:
                return
            self.clock.pass_until(min([*self._moments(), end]))

    def _moments(self) -> list[dt.datetime]:
        """When jobs are due next."""
        return [job.next_run_time for job in self._scheduler.get_jobs() if job.next_run_time is not None]

    async def jump_to(self, text: str) -> None:
        """The machine sleeps until then, or its clock is set; then the service has a look, and does what is due."""
        self.clock.jump_to(ist(text))
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(2):  # one look may have been on its way
                before = read_status(self._layout)
                while read_status(self._layout) == before:
                    await asyncio.sleep(QUIET_SECONDS)
        await self.settle()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until it holds, with the clock ticking as usual."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                await asyncio.sleep(4 * QUIET_SECONDS)  # it may ask the simulator

    async def streamed(self) -> list[str]:
        """The lists that are streamed, once the simulator has sockets that ask for just their instruments."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self._subscribed() != self._placed():  # which a list that is resolved anew changes meanwhile
                await asyncio.sleep(0.05)
        return [one.name for one in self.service.status().lists if one.active]

    def _placed(self) -> int:
        placement = self.service.cycle.reconciler.manager.placement()
        return len({token for there in placement.values() for token in there})

    async def _subscribed(self) -> int:
        stats = await asyncio.to_thread(self._simulator.stats)
        return sum(one["subscribed"] for one in stats["connections"] if one["closed_at_ns"] is None)


def config_of(data: Path, simulator: Simulation, *lists: dict[str, Any], **changes: Any) -> Config:
    """A configuration with one account of the simulator, USUAL hours, and NSE's HOLIDAY."""
    account = simulator.account("one")
    return Config(
        **{
            "data": data,
            "accounts": [{"name": "one", "api_key": account.api_key, "access_token": account.access_token}],
            "subscriptions": lists,
            "kite": {"ws": simulator.ws, "api": simulator.api},
            "capture": {"backoff_initial_seconds": 0.1, "slow_retry_seconds": 0.5},
            "log": {"level": "warning"},
            "calendar": {"hours": USUAL, "special_days": [HOLIDAY]},
            **changes,
        }
    )


Scenario = Callable[[Trial], Awaitable[None]]


async def _report_here(data: Path, date: dt.date, _: Config) -> Report:
    """The report, without a process of its own."""
    record = read_record(data, date)
    assert record is not None
    return await asyncio.to_thread(make_report, data, record)


async def _keep_up_here(
    runner: UpkeepRunner, config: Config, *, seal_before: dt.date | None = None, seal_of: dt.date | None = None
) -> None:
    """The upkeep, without a process of its own."""
    done: list[tuple[str, dict[str, Any]]] = []
    settings = settings_of(config, seal_before=seal_before, seal_of=seal_of)
    assert await asyncio.to_thread(keep_up, settings, lambda what, /, **data: done.append((what, data)))
    for what, data in done:
        runner._record(what, data)


class _WriterHere:
    """The writer without a process of its own, for a service that takes it for its child."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._said: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._work = asyncio.create_task(asyncio.to_thread(self._commit))

    @classmethod
    async def start(cls, _module: str, settings: Mapping[str, Any], *, hide: Collection[str]) -> Self:
        assert hide, "there are secrets"
        return cls(settings)

    def _commit(self) -> None:
        layout, stream = DataLayout(Path(self._settings["data"])), self._settings["live_stream"]
        writer = SegmentWriter(layout, JournalDecoder(), stream, on_commit=lambda one: self._say(asdict(one)))
        try:
            writer.run(poll_seconds=self._settings["poll_seconds"], stop=self._stop)
        finally:
            self._say(None)

    def _say(self, line: dict[str, Any] | None) -> None:
        self._loop.call_soon_threadsafe(self._said.put_nowait, line)

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        while (line := await self._said.get()) is not None:
            yield line

    async def wait(self) -> int:
        await self._work
        return 0

    async def stop(self) -> int:
        self._stop.set()
        return await self.wait()


@contextlib.contextmanager
def lively(*, children: bool = False) -> Iterator[None]:
    """Services of this process look every moment, and have `children` only if that is said."""
    with contextlib.ExitStack() as patches:
        for name, seconds in LOOKS.items():
            patches.enter_context(patch(name, seconds))
        if not children:
            patches.enter_context(patch("kitelake.service.recorder.Child", _WriterHere))
            patches.enter_context(patch("kitelake.service.day_cycle.make_report_apart", _report_here))
            patches.enter_context(patch.object(UpkeepRunner, "run", _keep_up_here))
        yield


def run(
    config: Config,
    simulator: Simulation,
    clock: Clock,
    scenario: Scenario,
    *,
    children: bool = False,
    settled: bool = True,
) -> Diary:
    """A service from its start to its end, with the scenario in between.

    It begins once everything is done that a start does, or, not `settled`, at once.
    """
    ran: list[tuple[dt.datetime, str]] = []

    async def main(layout: DataLayout) -> str:
        stop = asyncio.Event()
        service = Service(config, Source(simulator.ws, simulator.api), layout)
        trial = Trial(service, layout, simulator, clock)
        running = asyncio.create_task(service.run(stop))
        try:
            while not trial.ran:
                await asyncio.sleep(QUIET_SECONDS)
            if settled:
                await trial.settle()
            await scenario(trial)
        finally:
            stop.set()
            await running
        ran.extend(trial.ran)
        return service.stream

    with hold(config.data, "kite") as layout, lively(children=children):
        stream = asyncio.run(main(layout))
    told = list(_told(config.data, stream))
    return Diary(
        told=_lines(told),
        in_order=[text for _, text in told],
        ran=_lines(entry for entry in ran if entry[1] != RETENTION),
        retention=_lines(entry for entry in ran if entry[1] == RETENTION),
    )


def _told(data: Path, stream: str) -> Iterator[tuple[dt.datetime, str]]:
    query = "select received_at, event, message, data from events where stream = $stream order by record"
    with kitelake.open(data) as lake:
        for row in lake.sql(query, {"stream": stream}).arrow().to_pylist():
            if (told := _TOLD.get(row["event"])) is not None:
                yield row["received_at"], told(row["message"] or "", json.loads(row["data"] or "{}"))


def _lines(entries: Iterable[tuple[dt.datetime, str]]) -> list[str]:
    minutes = [(at.astimezone(IST).replace(second=0, microsecond=0), text) for at, text in entries]
    return [f"{at:%a %d %H:%M} {text}" for at, text in sorted(minutes)]
