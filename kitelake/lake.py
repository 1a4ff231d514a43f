"""Opening a data folder for queries, and what a query gives."""

from pathlib import Path

from ingest.wire import JournalDecoder
from queries.lake import Lake as Lake
from queries.lake import Result as Result
from storage.schema import TABLES as TABLES


def open(path: str | Path) -> Lake:  # noqa: A001 (the name that users expect: kitelake.open)
    """Open a data folder for queries. Nothing is written to it and no lock is taken, so a service may be running.

    Raises `DataFolderError` if the folder is not there or holds no lake.
    """
    return Lake(Path(path), JournalDecoder())
