"""Packets of hand-made days on their way into a journal: each in a frame of its own, and all encoded at once, which
takes hardly longer than one."""

from typing import Any

import pyarrow as pa

from ingest.wire import encode_frames
from storage.journal import JournalWriter, Kind
from storage.schema import TICKS


class WaitingPackets:
    """Those that are not appended yet."""

    def __init__(self) -> None:
        self._received_ns: list[int] = []
        self._rows: list[dict[str, Any]] = []

    def add(self, received_ns: int, row: dict[str, Any]) -> None:
        """One more, as a row of ticks."""
        self._received_ns.append(received_ns)
        self._rows.append(row)

    def append_to(self, journal: JournalWriter, channel: int) -> None:
        """Append them all, in their order."""
        if self._rows:
            frames = encode_frames(pa.Table.from_pylist(self._rows, TICKS.schema), 1)
            for received_ns, frame in zip(self._received_ns, frames, strict=True):
                journal.append(Kind.BINARY, channel, received_ns, frame)
            self._received_ns.clear()
            self._rows.clear()
