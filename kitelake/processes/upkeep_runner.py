"""Runs the upkeep process for the service: one at a time, and only to remove what is old while the disk is full."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import Callable
from typing import Any, Final

import structlog

from kitelake.config import Config
from kitelake.errors import StartError, UpkeepError
from kitelake.processes.child import Child
from kitelake.processes.upkeep import UpkeepSettings

log = structlog.get_logger()

LOOK_SECONDS: Final = 1.0
NOTICED_SECONDS: Final = 10.0
"""So long after a part has failed the journal may still notice that the disk is full: it has room left in a segment."""


def settings_of(
    config: Config, *, seal_before: dt.date | None, seal_of: dt.date | None = None, only_remove: bool = False
) -> UpkeepSettings:
    """What config.yaml says of the upkeep. Days before `seal_before` are sealed, if it wants that; None: none are."""
    return UpkeepSettings(
        data=config.data,
        seal_before=seal_before if config.seal.enabled else None,
        seal_of=seal_of,
        only_remove=only_remove,
        memory_bytes=config.seal.memory_bytes,
        grace=config.seal.grace,
        keep_journal=config.retention.journal,
        keep_days=config.retention.days,
        most_bytes=config.retention.disk_bytes,
        log_level=config.log.level,
        log_format=config.log.format,
    )


class UpkeepRunner:
    """The upkeep of the data folder. Belongs to one event loop.

    `short_of_room` says whether the disk has none left, `record` journals what was done: its name and its data.
    """

    def __init__(self, short_of_room: Callable[[], bool], record: Callable[[str, dict[str, Any]], None]) -> None:
        self._short_of_room = short_of_room
        self._record = record
        self._one = asyncio.Lock()

    async def run(self, config: Config, *, seal_before: dt.date | None = None, seal_of: dt.date | None = None) -> None:
        """Seal the days before that one and archive, if there is room for that, and remove what is old.

        With `seal_of` only seal what there is of that day, which goes on.

        Raises UpkeepError if a part failed, or the process could not be started.
        """
        async with self._one:
            short = self._short_of_room()
            if short:
                log.warning("nothing is sealed or archived: the disk has no room; the journal comes first")
            settings = settings_of(config, seal_before=seal_before, seal_of=seal_of, only_remove=short)
            try:
                child = await Child.start("kitelake.processes.upkeep", settings.as_json(), hide=config.secrets())
            except StartError as error:
                raise UpkeepError(str(error)) from None
            stopped = asyncio.Event()
            guard = None if short else asyncio.create_task(self._stop_when_short(child, stopped))
            try:
                async for line in child.lines():
                    self._take_in(line)
                status = await child.wait()
            finally:
                if guard is not None:
                    guard.cancel()
                await child.stop()
            if status != 0 and (short or not (stopped.is_set() or await self._is_short_soon())):
                raise UpkeepError(f"the upkeep ended with status {status}; its own messages are in the log above")

    async def _is_short_soon(self) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(NOTICED_SECONDS):
                while not self._short_of_room():  # noqa: ASYNC110 (nobody says it)
                    await asyncio.sleep(LOOK_SECONDS / 10)
                return True
        return False

    def _take_in(self, line: dict[str, Any]) -> None:
        log.info(line["done"], **line["data"])
        self._record(line["done"], line["data"])

    async def _stop_when_short(self, child: Child, stopped: asyncio.Event) -> None:
        while not self._short_of_room():  # noqa: ASYNC110 (nobody says it)
            await asyncio.sleep(LOOK_SECONDS)
        log.warning("sealing and archiving are stopped: the disk has no room; the journal comes first")
        stopped.set()
        await child.stop(patience_seconds=1.0)
