"""The day's instrument list: fetched from whichever account gets it, kept in the `instruments` table.

A fetch that fails costs nothing that is there: the newest good list serves, and its age is said. A list that is much
shorter than that one counts as failed, since the file may have been cut off at the end of a line.

What was wrong with a list that serves all the same is logged, and kept beside the table, `<data>/lists/DATE.notes`, one
note a line: `kitelake plan` and `kitelake check` say it, too.
"""

import asyncio
import contextlib
import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import structlog

from ingest.accounts import Account, KiteRest
from ingest.errors import IngestError, InstrumentError
from ingest.instruments import Instruments, parse_instruments
from storage.clock import IST
from storage.errors import StorageError
from storage.layout import DataLayout
from storage.tables import read_instruments, write_instruments

LEAST_SHARE: Final = 0.7
FETCH_SECONDS: Final = 120.0

log = structlog.get_logger()


def stored_instruments(layout: DataLayout, date: dt.date) -> Instruments | None:
    """The newest stored list of the IST day `date` or before, with its notes; None if there is none.

    Reads the disk, so call it in a thread where an event loop runs. Raises TableError if the table is damaged.
    """
    table = read_instruments(layout, date)
    if table is None:
        return None
    listed = Instruments(table)
    notes = ""
    if listed.date is not None:
        with contextlib.suppress(OSError):  # a list without a flaw has none
            notes = _notes_file(layout, listed.date).read_text(encoding="utf-8", errors="replace")
    return Instruments(table, notes=notes.splitlines())


class InstrumentStore:
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
            notes: list[str] = []
            try:
                table = await self._fetched(account, today, notes)
                self._check_size(table, before)
            except IngestError as error:
                log.warning("the instrument list was not fetched", account=account.name, error=str(error))
                continue
            for note in notes:
                log.warning("the instrument list has a flaw; the rest serves", account=account.name, flaw=note)
            try:
                await asyncio.to_thread(self._store, today, table, notes)
                log.info("instrument list stored", date=str(today), instruments=table.num_rows)
            except (StorageError, OSError) as error:
                log.error("the instrument list serves, but cannot be stored", error=str(error))
            return Instruments(table, notes=notes)
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
        return stored_instruments(self._layout, _today() if date is None else date)

    def _store(self, today: dt.date, table: pa.Table, notes: Sequence[str]) -> None:
        write_instruments(self._layout, today, table)
        path = _notes_file(self._layout, today)
        path.unlink(missing_ok=True)  # of a list that was fetched earlier on this day
        if notes:
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n".join(" ".join(note.split()) for note in notes), encoding="utf-8")

    async def _fetched(self, account: Account, today: dt.date, notes: list[str]) -> pa.Table:
        try:
            # httpx limits each read only: a server that sends a byte now and then would hold us forever.
            async with asyncio.timeout(self._fetch_seconds), KiteRest(self._api_url, account) as rest:
                data = await rest.instruments()
        except TimeoutError:
            raise InstrumentError(f"the instrument list did not come within {self._fetch_seconds:g} seconds") from None
        return await asyncio.to_thread(parse_instruments, data, date=today, note=notes.append)

    def _check_size(self, table: pa.Table, before: Instruments | None) -> None:
        if before is None or table.num_rows >= self._least_share * len(before):
            return
        raise InstrumentError(
            f"the instrument list has {table.num_rows:,} rows, expected at least {self._least_share * 100:g} % of the "
            f"{len(before):,} of {before.date}: is it cut off?"
        )


def _notes_file(layout: DataLayout, date: dt.date) -> Path:
    return layout.root / "lists" / f"{date.isoformat()}.notes"


def _today() -> dt.date:
    return dt.datetime.now(IST).date()
