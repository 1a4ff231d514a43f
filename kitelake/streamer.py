"""Brings the connections to what is wanted at the moment, and changes the difference only."""

from collections.abc import Sequence

import structlog

from ingest.manager import TickerManager
from kitelake.plan import ListPlan, Want, alike, wanted

log = structlog.get_logger()


class Streamer:
    """What a manager streams of the lists that are in their hours. Sockets are open only while something is wanted."""

    def __init__(self, manager: TickerManager) -> None:
        self.manager = manager
        self.running = False
        self.on: tuple[ListPlan, ...] = ()
        self._wanted: dict[int, Want] = {}
        self._left_out: dict[int, None] = {}

    @property
    def left_out(self) -> tuple[int, ...]:
        """Instruments that are wanted and found no room on any connection."""
        return tuple(self._left_out)

    async def bring_to(self, on: Sequence[ListPlan]) -> bool:
        """Stream these lists and nothing else. Returns whether something changed.

        What was left out is tried again each time: there may be room by now.
        """
        together = wanted(on)
        changed = together != self._wanted
        if not changed and not self._left_out:
            self.on = tuple(on)
            return False
        before = self.left_out
        gone = [token for token in self._wanted if token not in together]
        # As it was before, if one of these is interrupted: the next call does all of it.
        self._wanted = {}
        await self.manager.unsubscribe(gone)
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
            left_out = {token: None for token in left_out if token not in set(tokens)} | dict.fromkeys(left)
        self._wanted, self._left_out, self.on = together, left_out, tuple(on)
        if self.left_out != before:
            log.warning(
                "there is no room for every instrument; the least important are left out", left_out=len(left_out)
            )
        await self._turn(bool(together))
        return changed or self.left_out != before

    async def _turn(self, on: bool) -> None:
        if on and not self.running:
            await self.manager.start()
        elif self.running and not on:
            await self.manager.stop()
        self.running = on

    async def stop(self) -> None:
        """Close the sockets. What is wanted stays as it is."""
        await self._turn(False)
