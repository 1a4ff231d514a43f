"""The service: sockets → journal → writer process → tables, until it is told to stop.

It starts in the order in which things go wrong cheaply: the data folder, the day's instrument list, and only then the
journal, the writer and the sockets. It stops the other way round: the sockets are closed, the journal is sealed, the
writer drains it, and then everything that was received is in the tables.
"""

import asyncio
import contextlib
import datetime as dt
import json
import secrets
import time
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger

from ingest.errors import CapacityError
from ingest.instruments import Instruments
from ingest.manager import TickerManager
from ingest.placement import place, slots_of
from ingest.stats import Health
from kitelake.child import Child
from kitelake.config import Config
from kitelake.errors import ConfigError, WriterError
from kitelake.health import watch_health
from kitelake.instruments import InstrumentKeeper
from kitelake.metrics import serve_metrics
from kitelake.plan import Plan, make_plan
from kitelake.source import Source
from storage.errors import JournalError, JournalSyncError, JournalWriteError
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout, stream_name
from storage.schema import IST
from storage.writer import SegmentCommitted

T = TypeVar("T")

log = structlog.get_logger()

_WRITER_RESTART_SECONDS = (0.2, 10.0)  # the first pause and the longest
_WRITER_POLL_SECONDS = 0.2
_WRITER_DRAIN_ATTEMPTS = 3
_SEAL_RETRY_SECONDS = 1.0


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
    rows: int = 0
    file_bytes: int = 0
    committed_received_at_ns: int | None = None

    @property
    def lag_seconds(self) -> float | None:
        """How old the newest committed row is. Queries see younger rows too, from the journal."""
        if self.committed_received_at_ns is None:
            return None
        return (time.time_ns() - self.committed_received_at_ns) / 1e9


class Service:
    """Captures from one source into one data folder, which the caller holds."""

    def __init__(self, config: Config, source: Source, layout: DataLayout) -> None:
        self.config = config
        self._source = source
        self._layout = layout
        self.stream = stream_name(dt.datetime.now(dt.UTC), secrets.token_hex(3))
        self.plan: Plan | None = None
        self.finished = asyncio.Event()
        self._accounts = [account.account() for account in config.accounts]
        self._keeper = InstrumentKeeper(layout, source.api, self._accounts)
        self._journal: JournalWriter | None = None
        self._manager: TickerManager | None = None
        self._committed = Progress()
        self._sealed = False

    def progress(self) -> Progress:
        """The counts of this moment; cheap enough to ask several times a second."""
        if self._journal is None or self._manager is None:
            return self._committed
        stats = self._manager.stats()
        return replace(
            self._committed,
            connected=stats.total.connected,
            connections=stats.total.connections,
            instruments=stats.total.instruments,
            frames=stats.total.frames,
            received_bytes=stats.total.bytes,
            packets=self._journal.packets,
            journal_bytes=self._journal.written_bytes,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Capture until `stop` is set; then close, seal and drain. Raises only what keeps capture from starting."""
        try:
            await self._run(stop)
        finally:
            self.finished.set()

    async def _run(self, stop: asyncio.Event) -> None:
        instruments = await _unless(stop, self._keeper.today())
        if instruments is None:
            return
        try:
            self.plan = self._resolve(instruments)
        except CapacityError as error:
            raise ConfigError(f"the subscriptions of config.yaml: {error}") from None
        journal = self._journal = JournalWriter(
            self._layout,
            self.stream,
            segment_bytes=self.config.journal.segment_bytes,
            segment_seconds=self.config.journal.segment_seconds,
        )
        self._event("started", f"capturing {len(self.plan.wanted)} instruments", lists=dict(self.plan.lists))
        manager = self._manager = TickerManager(
            self._accounts, self.config.capture, sink=journal, ws_url=self._source.ws
        )
        writer = asyncio.create_task(self._keep_writer_running())
        keepers = [asyncio.create_task(self._flush()), asyncio.create_task(self._sync())]
        scheduler = AsyncIOScheduler(timezone=IST)
        scheduler.add_job(self.new_day, daily(self.config.instruments.fetch_at), coalesce=True, misfire_grace_time=None)
        try:
            for mode, tokens in self.plan.by_mode().items():
                await manager.subscribe(tokens, mode=mode)
            scheduler.start()
            async with self._metrics(manager), manager:
                keepers.append(asyncio.create_task(watch_health(manager.health, self._health_changed, stop)))
                await stop.wait()
                log.info("stopping: closing the sockets")
        finally:
            scheduler.shutdown(wait=False)
            for task in keepers:
                task.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            self._event("stopped", None)
            self._sealed = True
            await self._seal(journal)
            log.info("journal sealed: waiting for the writer", records=journal.records)
            await writer

    def _metrics(self, manager: TickerManager) -> contextlib.AbstractAsyncContextManager[object]:
        metrics = self.config.metrics
        if metrics.port is None:
            return contextlib.nullcontext()
        return serve_metrics(manager, port=metrics.port, host=metrics.host)

    def _health_changed(self, health: Health) -> None:
        self._event("health", health.status, percent=health.percent, reasons=health.reasons)

    async def _flush(self) -> None:
        """Hand what has come to the operating system, every few milliseconds."""
        assert self._journal is not None
        failing = False
        while True:
            await asyncio.sleep(self.config.journal.flush_milliseconds / 1000)
            try:
                self._journal.flush()
                failing = False
            except JournalError as error:
                if not failing:
                    log.error(
                        "the journal cannot be written; frames are kept in memory and tried again", error=str(error)
                    )
                failing = True

    async def _sync(self) -> None:
        """Make it survive a power cut, in a thread, since a disk may take its time."""
        assert self._journal is not None
        while True:
            await asyncio.sleep(self.config.journal.sync_milliseconds / 1000)
            try:
                await asyncio.to_thread(self._journal.sync)
            except JournalError as error:
                log.error("the journal could not be synced; a new segment was begun", error=str(error))

    async def _seal(self, journal: JournalWriter) -> None:
        """Close the journal. As long as the disk does not take it, what was received stays in memory."""
        while True:
            try:
                journal.close()
            except JournalSyncError as error:
                log.error("the journal is written, but the disk did not confirm it", error=str(error))
            except JournalWriteError as error:
                log.error(
                    "the journal cannot be written: make room, or give up what is in memory by another signal",
                    records=journal.records - journal.written_records,
                    error=str(error),
                )
                await asyncio.sleep(_SEAL_RETRY_SECONDS)
                continue
            return

    async def _keep_writer_running(self) -> None:
        """Run the writer process, and again whenever it dies, until it has committed the last segment.

        Raises WriterError if, with the journal sealed, it fails again and again without getting on.
        """
        first, longest = _WRITER_RESTART_SECONDS
        pause = first
        failures = 0
        while True:
            child = await Child.start(
                "kitelake.writer",
                {
                    "data": str(self._layout.root),
                    "live_stream": self.stream,
                    "poll_seconds": _WRITER_POLL_SECONDS,
                    "keep_hours": self.config.journal.keep_hours,
                    "log_level": self.config.log.level,
                    "log_format": self.config.log.format,
                },
                hide=self.config.secrets(),
            )
            try:
                async for segment in child.lines():
                    self._count(segment)
                    pause, failures = first, 0
                status = await child.wait()
            except asyncio.CancelledError:
                await child.stop()
                raise
            if status == 0:
                return
            failures += 1
            if self._sealed and failures >= _WRITER_DRAIN_ATTEMPTS:
                raise WriterError(
                    f"not everything is in the tables: the writer failed {failures} times in a row, see above for why. "
                    f"The journal holds it, and the next start takes it up: {self._layout.stream(self.stream)}"
                )
            log.error("the writer died; starting another", exit_status=status, pause_seconds=pause)
            self._event("writer died", f"exit status {status}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    def _count(self, segment: dict[str, object]) -> None:
        """Take in what the writer says of a segment that it has committed."""
        if segment["stream"] != self.stream:
            log.info("recovered a segment of an earlier run", **segment)
            return
        committed = SegmentCommitted(**segment)  # type: ignore[arg-type]
        self._committed = replace(
            self._committed,
            rows=self._committed.rows + committed.rows,
            file_bytes=self._committed.file_bytes + committed.file_bytes,
            committed_received_at_ns=committed.last_received_at_ns or self._committed.committed_received_at_ns,
        )

    async def new_day(self) -> None:
        """Fetch the day's instrument list, and stream what the lists in config.yaml mean from now on."""
        assert self._manager is not None
        assert self.plan is not None
        instruments = await self._keeper.fetch()
        if instruments is None:
            return
        before = self.plan.wanted
        try:
            self.plan = self._resolve(instruments)
        except CapacityError as error:
            log.error("the day's list does not fit; yesterday's instruments go on", error=str(error))
            return
        await self._manager.unsubscribe([token for token in before if token not in self.plan.wanted])
        for mode, tokens in self.plan.by_mode().items():
            await self._manager.subscribe([token for token in tokens if before.get(token) is not mode], mode=mode)

    def _resolve(self, instruments: Instruments) -> Plan:
        """What to stream by this list. Raises CapacityError if it does not fit on the connections there are."""
        capture = self.config.capture
        plan = make_plan(self.config.subscriptions, instruments, capture.default_mode)
        slots = slots_of((account.name for account in self._accounts), capture.connections)
        place(plan.wanted, slots, capacity=capture.instruments_per_connection)
        for name, count in plan.lists.items():
            log.info("subscription list", list=name, instruments=count)
        for complaint in plan.unknown:
            log.warning("not in the instrument list; the rest is captured", what=complaint)
        return plan

    def _event(self, event: str, message: str | None, **data: object) -> None:
        """Journal what happened to the service itself."""
        if self._journal is None or self._sealed:
            return
        payload = json.dumps({"event": event, "message": message, "data": data or None})
        self._journal.append(Kind.EVENT, 0, time.time_ns(), payload.encode())


async def _unless(stop: asyncio.Event, work: Coroutine[None, None, T]) -> T | None:
    """What `work` returns; or None, with `work` cancelled, if `stop` is set before."""
    task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.wait((task,))
    return None


def daily(at: dt.time) -> CronTrigger:
    return CronTrigger(hour=at.hour, minute=at.minute, second=at.second, timezone=IST)
