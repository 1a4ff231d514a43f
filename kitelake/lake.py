"""Opening a data folder for queries, and what a query gives."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from queries.errors import NoLakeError
from queries.feed import FeedMethods
from queries.history import Near
from queries.lake import RESTRICTED, Limits
from queries.lake import Result as Result
from storage.schema import TABLES as TABLES

if TYPE_CHECKING:
    from storage.commit import Decoded, Fetch, Found
    from storage.journal import Block
    from storage.tables import SymbolLookup


class _JournalDecoder:
    """`ingest.wire.JournalDecoder`, loaded when there is something to decode: most queries meet no such thing."""

    def decode(
        self,
        stream: str,
        segment: int,
        blocks: "Sequence[Block]",
        *,
        first_seq: int,
        symbols: "SymbolLookup",
    ) -> "Decoded":
        from ingest.wire import JournalDecoder

        return JournalDecoder().decode(stream, segment, blocks, first_seq=first_seq, symbols=symbols)

    def find(self, stream: str, segment: int, blocks: "Sequence[Block]", *, first_seq: int, fetch: "Fetch") -> "Found":
        from ingest.wire import JournalDecoder

        return JournalDecoder().find(stream, segment, blocks, first_seq=first_seq, fetch=fetch)


class Lake(FeedMethods):
    """A data folder as SQL, with the helpers."""


def open(  # noqa: A001 (the name that users expect: kitelake.open)
    path: str | Path,
    *,
    restricted: bool = False,
    memory_limit: str | None = None,
    threads: int | None = None,
    timeout: float | None = None,
) -> Lake:
    """Open a data folder for queries. Nothing is written to it and no lock is taken, so a service may be running.

    `restricted` is for queries of people who are not trusted with the machine: one SELECT, DESCRIBE or EXPLAIN at a
    time over the lake's own tables and macros, and nothing outside of them. What is not said of the limits is then
    `memory_limit="1GB"`, `threads=2`, `timeout=30.0`; else DuckDB's own, and no timeout.

    `memory_limit` and `threads` are those of all queries of this lake together, `timeout` is how many seconds each may
    take, as with `Lake.sql`.

    Raises `DataFolderError` if the folder is not there or holds no lake, `QueryError` for limits that cannot be kept.
    """
    if not isinstance(path, str | PathLike):
        raise NoLakeError(f"path: got {path!r}, expected that of a data folder")
    usual = RESTRICTED if restricted else Limits()
    limits = Limits(
        usual.memory if memory_limit is None else memory_limit,
        usual.threads if threads is None else threads,
        usual.seconds if timeout is None else timeout,
    )
    return Lake(Path(path), _JournalDecoder(), restricted=restricted, limits=limits)


def near(name: str, n: int = 1) -> Near:
    """The nearest future of a name on each day, or the `n`th nearest: usable wherever a symbol is.

    `name` is what `Lake.chain` takes: NIFTY, NSE:NIFTY 50, RELIANCE, MCX:CRUDEOIL. Prices are not adjusted where it
    rolls.
    """
    return Near(name, n)
