"""Opening a data folder for queries, and what a query gives."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from queries.lake import Result as Result
from queries.lake import SqlLake
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


class Lake(SqlLake):
    """A data folder as SQL, with the helpers."""


def open(path: str | Path) -> Lake:  # noqa: A001 (the name that users expect: kitelake.open)
    """Open a data folder for queries. Nothing is written to it and no lock is taken, so a service may be running.

    Raises `DataFolderError` if the folder is not there or holds no lake.
    """
    return Lake(Path(path), _JournalDecoder())
