"""Brings the connections to what is wanted at the moment, and changes the difference only."""

from collections.abc import Mapping, Sequence

import structlog

from ingest.manager import TickerManager, Want
from kitelake.plan import ListPlan, wanted

log = structlog.get_logger()


class Reconciler:
    """What a manager streams of the lists that are in their hours. Sockets are open only while something is wanted."""

    def __init__(self, manager: TickerManager) -> None:
        self.manager = manager
        self.running = False
        self.on: tuple[ListPlan, ...] = ()
        self._wanted: Mapping[int, Want] = {}
        self._left_out: list[int] = []

    @property
    def left_out(self) -> int:
        """How many instruments found no room on any connection."""
        return len(self._left_out)

    @property
    def all_left_out(self) -> bool:
        """Whether something is wanted, and no connection has room for any of it."""
        return bool(self._wanted) and len(self._left_out) == len(self._wanted)

    @property
    def unserved(self) -> tuple[int, ...]:
        """Instruments that found no room on any connection, and those whose connection is lost at the moment."""
        return (*self._left_out, *self.manager.unserved)

    async def bring_to(self, on: Sequence[ListPlan]) -> None:
        """Stream these lists and nothing else. What was left out is tried again each time: there may be room by now."""
        together = wanted(on)
        before = self._left_out
        if before or together != self._wanted:
            self._wanted = {}  # until all of it is done
            self._left_out = await self.manager.bring_to(together)
        self._wanted, self.on = together, tuple(on)
        if self._left_out != before:
            log.warning(
                "there is no room for every instrument; the least important are left out", left_out=len(self._left_out)
            )
        await self._turn(bool(together))

    async def _turn(self, on: bool) -> None:
        if on and not self.running:
            await self.manager.start()
        elif self.running and not on:
            await self.manager.stop()
        self.running = on
