"""Everything behind the sockets: the journal, and the writer process that turns it into tables.

What is appended is handed to the operating system every few milliseconds and synced a little later, off the event
loop. The writer is another process, started again whenever it dies. At the end the journal is sealed and the writer
drains it: then everything that was received is in the tables.
"""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Final, Self

import structlog

from kitelake.config import Config
from kitelake.errors import StartError, WriterError
from kitelake.processes import Child
from storage.clock import NS_PER_SECOND, ist_time
from storage.commit import SegmentCommitted
from storage.errors import DiskFullError, JournalError, JournalSyncError, JournalWriteError
from storage.events import ServiceEvent
from storage.journal import Backlog, JournalWriter, Kind, Reserve
from storage.layout import DataLayout

log = structlog.get_logger()

_WRITER_RESTART_SECONDS: Final = (0.2, 10.0)  # the first pause and the longest
_WRITER_POLL_SECONDS: Final = 0.2
_WRITER_DRAIN_ATTEMPTS: Final = 3
_SEAL_RETRY_SECONDS: Final = 1.0
_RESERVE_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Committed:
    """What of this stream is in the tables."""

    rows: int = 0
    file_bytes: int = 0
    received_at_ns: int | None = None
    """When the newest committed row was received."""

    @property
    def lag_seconds(self) -> float | None:
        """How old the newest committed row is. Queries see younger rows too, from the journal."""
        return None if self.received_at_ns is None else (time.time_ns() - self.received_at_ns) / NS_PER_SECOND


class Recorder:
    """One stream of a data folder, which the caller holds. Made on the event loop, and entered once.

    `alarm` is told, in a line and then in words, of what a person has to mend.

    Raises JournalError if the folder cannot be written. Leaving it seals and drains, and raises WriterError if the
    writer cannot commit.
    """

    def __init__(self, config: Config, layout: DataLayout, stream: str, *, alarm: Callable[[str, str], None]) -> None:
        self._config = config
        self._layout = layout
        self._alarm = alarm
        self._sealed = False
        self._tasks: list[asyncio.Task[None]] = []
        self.failing = False
        """Whether what comes waits in memory, because the disk did not take it the last time."""
        self._lacks_room = False  # for the reserve, so that nothing but the journal may have what there is
        self._reserve = Reserve(layout.reserve, config.journal.reserve_bytes)
        self.committed = Committed()
        self.writer_problem: str | None = None
        """Why nothing is committed, since the writer has died again and again."""
        self.journal = JournalWriter(
            layout,
            stream,
            segment_bytes=config.journal.segment_bytes,
            segment_seconds=config.journal.segment_seconds,
        )
        self.sink = Backlog(self.journal, config.journal.buffer_bytes)
        """Where the connections append."""

    async def __aenter__(self) -> Self:
        self._writer = asyncio.create_task(self._keep_writer_running())
        self._tasks = [asyncio.create_task(work) for work in (self._flush(), self._sync(), self._keep_reserve())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._record_losses()
        self._sealed = True
        await self._seal()
        log.info("journal sealed: waiting for the writer", records=self.journal.records)
        await self._writer

    def event(self, event: str, message: str | None, /, **data: object) -> None:
        """Journal what happened to the service itself: it becomes a row of `events`."""
        if not self._sealed:
            payload = json.dumps({"event": event, "message": message, "data": data or None})
            self.journal.append(Kind.EVENT, 0, time.time_ns(), payload.encode())

    async def _flush(self) -> None:
        """Hand what has come to the operating system, every few milliseconds."""
        while True:
            await asyncio.sleep(self._config.journal.flush_milliseconds / 1000)
            was_full = self.sink.full
            self._write()
            self.sink.look()
            if self.sink.full and not was_full:
                self._say("memory for what cannot be written is used up; frames are lost until there is room")
            if not self.sink.full:
                self._record_losses()

    def _write(self) -> None:
        """Write what has come, as far as the disk takes it."""
        problem: str | None = None
        cause: JournalError | None = None
        try:
            # A disk that takes its time to sync makes memory grow as one that takes nothing does.
            if self.journal.unsynced_bytes < self._config.journal.buffer_bytes:
                self.journal.flush()
            else:
                problem = "the disk does not say that it has what was written; frames are kept in memory meanwhile"
                self.journal.mend()
        except JournalError as error:
            if isinstance(error, DiskFullError) and self._reserve.give_up():
                self._lacks_room = True
                self._say("the disk is full; the room that was kept for the journal is in use: make room", error)
                return
            problem, cause = "the journal cannot be written; frames are kept in memory and tried again", error
        if problem is not None and not self.failing:
            self._say(problem, cause)
        elif problem is None and self.failing:
            log.warning("the journal is written again", records=self.journal.records)
        self.failing = problem is not None

    def _say(self, text: str, error: Exception | None = None) -> None:
        log.error(text, error=None if error is None else str(error))
        self._alarm(text, str(error or text))

    def _record_losses(self) -> None:
        """Journal what was not kept while memory was used up, so that what is missing is known."""
        for loss in self.sink.settle():
            log.error("frames were lost", **asdict(loss))
            first, last = (ist_time(ns) for ns in (loss.first_ns, loss.last_ns))
            text = f"{loss.frames:,} frames of {loss.account}/{loss.connection}, {first:%H:%M:%S} to {last:%H:%M:%S}"
            self.event(ServiceEvent.FRAMES_LOST, text, **asdict(loss))

    async def _keep_reserve(self) -> None:
        """Make the reserve, and again when there is room after it was given up."""
        self._lacks_room = not await asyncio.to_thread(self._reserve.keep)
        if self._lacks_room:
            self._say("the disk has too little room to keep some for the journal: make room")
        while True:
            await asyncio.sleep(_RESERVE_SECONDS)
            self._lacks_room = not await asyncio.to_thread(self._reserve.keep)

    @property
    def short_of_room(self) -> bool:
        """Whether the disk has no room for anything but the journal."""
        return self.failing or self._lacks_room

    @property
    def disk_problem(self) -> str | None:
        """What the disk does not do at the moment, in words."""
        if self.sink.full:
            return "memory for what cannot be written is used up: frames are lost until the disk takes them"
        if self.failing:
            return "the journal cannot be written: what comes is kept in memory and tried again"
        if self._lacks_room:
            return "the disk has too little room, and what there is is for the journal: make room"
        return None

    async def _sync(self) -> None:
        """Make it survive a power cut, in a thread, since a disk may take its time."""
        while True:
            await asyncio.sleep(self._config.journal.sync_milliseconds / 1000)
            try:
                await asyncio.to_thread(self.journal.sync)
            except JournalError as error:
                self._say("the journal could not be synced; what was not on disk is written anew", error)

    async def _seal(self) -> None:
        """Close the journal. As long as the disk does not take it, what was received stays in memory."""
        while True:
            try:
                self.journal.close()
            except JournalSyncError as error:
                log.error("the journal is written, but the disk did not confirm it", error=str(error))
            except JournalWriteError as error:
                if isinstance(error, DiskFullError) and self._reserve.give_up():
                    continue
                log.error(
                    "the journal cannot be written: make room, or give up what is in memory by another signal",
                    records=self.journal.records - self.journal.written_records,
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
        settings = {
            "data": str(self._layout.root),
            "live_stream": self.journal.stream,
            "poll_seconds": _WRITER_POLL_SECONDS,
            "log_level": self._config.log.level,
            "log_format": self._config.log.format,
        }
        pause = first
        failures = drain_failures = 0
        while True:
            reason, status = "", None
            try:
                child = await Child.start("kitelake.processes.writer", settings, hide=self._config.secrets())
            except StartError as error:
                reason = str(error)
            else:
                try:
                    async for line in child.lines():
                        if "failed" in line:
                            reason = line["failed"]
                            continue
                        self._count(line)
                        pause, failures, drain_failures = first, 0, 0
                        self.writer_problem = None
                    status = await child.wait()
                except asyncio.CancelledError:
                    await child.stop()
                    raise
            if status == 0:
                return
            failures += 1
            drain_failures += self.journal.closed  # what failed before may have been the disk that closing waited for
            if drain_failures >= _WRITER_DRAIN_ATTEMPTS:
                raise WriterError(
                    f"not everything is in the tables: the writer failed {failures} times in a row, see above for why. "
                    f"The journal holds it, and the next start takes it up: {self._layout.stream(self.journal.stream)}"
                )
            why = reason or f"exit status {status}; the log says more"
            log.error(
                "the writer died; starting another", exit_status=status, reason=reason or None, pause_seconds=pause
            )
            self.event("writer died", why)
            if failures > 1:
                self.writer_problem = why
                self._alarm(
                    "the writer cannot commit what is journalled", f"It failed {failures} times in a row: {why}"
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    def _count(self, segment: dict[str, object]) -> None:
        """Take in what the writer says of a segment that it has committed."""
        if segment["stream"] != self.journal.stream:
            log.info("recovered a segment of an earlier run", **segment)
            return
        one = SegmentCommitted(**segment)  # type: ignore[arg-type]
        self.committed = replace(
            self.committed,
            rows=self.committed.rows + one.rows,
            file_bytes=self.committed.file_bytes + one.file_bytes,
            received_at_ns=one.last_received_at_ns or self.committed.received_at_ns,
        )
