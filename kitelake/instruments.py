"""The day's instrument list: fetched from whichever account gets it, kept in the `instruments` table.

A fetch that fails costs nothing that is there: the newest good list serves, and its age is said.
"""

import asyncio
import datetime as dt
from collections.abc import Sequence
from itertools import chain, repeat

import structlog

from ingest.auth import Account, KiteRest
from ingest.errors import IngestError
from ingest.instruments import Instruments, parse_instruments
from storage.layout import DataLayout
from storage.schema import IST
from storage.symbols import read_instruments, write_instruments

log = structlog.get_logger()

_ATTEMPTS = 3  # on every account, as long as an older list could serve
_RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)  # and the last one from then on


class InstrumentKeeper:
    """Fetches, stores and falls back. `api_url` is the REST API that all `accounts` have in common."""

    def __init__(self, layout: DataLayout, api_url: str, accounts: Sequence[Account]) -> None:
        self._layout = layout
        self._api_url = api_url
        self._accounts = accounts

    async def today(self) -> Instruments:
        """Today's list, or the newest one that is there after a few failures.

        Without any list, and so without a single name, it keeps trying.
        """
        for attempt, pause in enumerate(chain(_RETRY_SECONDS, repeat(_RETRY_SECONDS[-1])), start=1):
            instruments = await self.fetch()
            if instruments is None and attempt >= _ATTEMPTS:
                instruments = await asyncio.to_thread(self._newest)
            if instruments is not None:
                return instruments
            await asyncio.sleep(pause)
        raise AssertionError("the pauses never end")

    async def fetch(self) -> Instruments | None:
        """Fetch, check and store today's list. None, and a warning for each account, if none gets a good one."""
        today = dt.datetime.now(IST).date()
        for account in self._accounts:
            try:
                async with KiteRest(self._api_url, account) as rest:
                    data = await rest.instruments()
                table = await asyncio.to_thread(parse_instruments, data, date=today)
            except IngestError as error:
                log.warning("the instrument list was not fetched", account=account.name, error=str(error))
                continue
            await asyncio.to_thread(write_instruments, self._layout, today, table)
            log.info("instrument list stored", date=str(today), instruments=table.num_rows)
            return Instruments(table)
        return None

    def _newest(self) -> Instruments | None:
        table = read_instruments(self._layout)
        if table is None:
            return None
        instruments = Instruments(table)
        log.warning("an older instrument list serves; contracts listed since are not in it", date=str(instruments.date))
        return instruments
