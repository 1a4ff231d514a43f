"""The day's instrument list: fetched from whichever account gets it, kept in the `instruments` table.

A fetch that fails costs nothing that is there: the newest good list serves, and its age is said. A list that is much
shorter than that one counts as failed, since the file may have been cut off at the end of a line.
"""

import asyncio
import datetime as dt
from collections.abc import Sequence
from typing import Final

import pyarrow as pa
import structlog

from ingest.auth import Account, KiteRest
from ingest.errors import IngestError, InstrumentError
from ingest.instruments import Instruments, parse_instruments
from storage.errors import StorageError
from storage.layout import DataLayout
from storage.schema import IST
from storage.symbols import read_instruments, write_instruments

LEAST_SHARE: Final = 0.7
FETCH_SECONDS: Final = 120.0

log = structlog.get_logger()


class InstrumentKeeper:
    """Fetches, stores and falls back. `api_url` is the REST API that all `accounts` have in common.

    A list with fewer rows than `least_share` of the newest stored one is refused; 0 takes any. `fetch_seconds` is how
    long a fetch with one account may take as a whole.
    """

    def __init__(
        self,
        layout: DataLayout,
        api_url: str,
        accounts: Sequence[Account],
        *,
        least_share: float = LEAST_SHARE,
        fetch_seconds: float = FETCH_SECONDS,
    ) -> None:
        self._layout = layout
        self._api_url = api_url
        self._accounts = accounts
        self._least_share = least_share
        self._fetch_seconds = fetch_seconds

    async def fetch(self) -> Instruments | None:
        """Fetch, check and store today's list. None, with warnings that say why, if no account gets a good one."""
        today = _today()
        before = await self.stored()
        for account in self._accounts:
            try:
                table = await self._fetched(account, today)
                self._check_size(table, before)
            except IngestError as error:
                log.warning("the instrument list was not fetched", account=account.name, error=str(error))
                continue
            try:
                await asyncio.to_thread(write_instruments, self._layout, today, table)
                log.info("instrument list stored", date=str(today), instruments=table.num_rows)
            except (StorageError, OSError) as error:
                log.error("the instrument list serves, but cannot be stored", error=str(error))
            return Instruments(table)
        if before is not None and before.date is not None:
            log.warning(
                "the newest stored instrument list serves; contracts listed since are not in it",
                date=str(before.date),
                age_days=(today - before.date).days,
            )
        return None

    async def stored(self) -> Instruments | None:
        """The newest stored list of today or before. A table that is damaged counts as none, with a warning."""
        try:
            return await asyncio.to_thread(self.newest)
        except StorageError as error:
            log.warning("the stored instrument lists cannot be read; they are of no use now", error=str(error))
            return None

    def newest(self, date: dt.date | None = None) -> Instruments | None:
        """The newest stored list of the IST day `date` (None: of today) or before; None if there is none.

        Reads the disk, so call it in a thread where an event loop runs. Raises TableError if the table is damaged.
        """
        table = read_instruments(self._layout, _today() if date is None else date)
        return None if table is None else Instruments(table)

    async def _fetched(self, account: Account, today: dt.date) -> pa.Table:
        try:
            # httpx limits each read only: a server that sends a byte now and then would hold us forever.
            async with asyncio.timeout(self._fetch_seconds), KiteRest(self._api_url, account) as rest:
                data = await rest.instruments()
        except TimeoutError:
            raise InstrumentError(f"the instrument list did not come within {self._fetch_seconds:g} seconds") from None
        return await asyncio.to_thread(parse_instruments, data, date=today)

    def _check_size(self, table: pa.Table, before: Instruments | None) -> None:
        if before is None or table.num_rows >= self._least_share * len(before):
            return
        raise InstrumentError(
            f"the instrument list has {table.num_rows:,} rows, expected at least {self._least_share * 100:g} % of the "
            f"{len(before):,} of {before.date}: is it cut off?"
        )


def _today() -> dt.date:
    return dt.datetime.now(IST).date()
