"""Brings the connections to what is wanted at the moment, and changes the difference only."""

from collections.abc import Mapping, Sequence

import structlog

from ingest.manager import TickerManager
from kitelake.plan import ListPlan, Want, alike, wanted

log = structlog.get_logger()


class Reconciler:
    """What a manager streams of the lists that are in their hours. Sockets are open only while something is wanted."""

    def __init__(self, manager: TickerManager) -> None:
        self.manager = manager
        self.running = False
        self.on: tuple[ListPlan, ...] = ()
        self._wanted: dict[int, Want] = {}
        self._asked: set[int] = set()  # what the manager may have been asked for, also if that was interrupted
        self._left_out: dict[int, None] = {}

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
        if together != self._wanted:
            self._wanted = {}  # until all of it is done
            gone = [token for token in self._asked if token not in together]
            await self.manager.unsubscribe(gone)
            self._asked.difference_update(gone)
            self._left_out = await self._subscribe(together)
        elif before:
            self._left_out = await self._subscribe({token: together[token] for token in before})
        self._wanted, self.on = together, tuple(on)
        if self._left_out != before:
            log.warning(
                "there is no room for every instrument; the least important are left out", left_out=len(self._left_out)
            )
        await self._turn(bool(together))

    async def _subscribe(self, together: Mapping[int, Want]) -> dict[int, None]:
        """Ask for these, the most important first. Returns those that were left out, whoever had to give way."""
        self._asked.update(together)
        left_out: dict[int, None] = {}
        for want, tokens in alike(together):
            left = await self.manager.subscribe(
                tokens,
                want.mode,
                account=want.accounts or None,
                copies=want.copies,
                priority=want.priority,
                leave_out=True,
            )
            for token in tokens:
                left_out.pop(token, None)
            left_out |= dict.fromkeys(left)
        return left_out

    async def _turn(self, on: bool) -> None:
        if on and not self.running:
            await self.manager.start()
        elif self.running and not on:
            await self.manager.stop()
        self.running = on
