"""What waits in memory while the journal cannot be written: bounded, and what does not fit is accounted for exactly.

The journal's writer keeps every record until the system takes it. That is right for seconds and minutes, but not for
a disk that stays full for hours. Beyond the bound the newest frames are not kept; they are counted by connection, so
that what is missing is known. Everything else, such as events and text, is small, and is kept always.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from storage.journal.format import Kind
from storage.journal.writer import JournalWriter

MEASURE_SECONDS: Final = 0.2


@dataclass
class Loss:
    """Frames of one connection that were not kept, received from `first_ns` to `last_ns` (wall clock)."""

    account: str
    connection: int
    frames: int = 0
    packets: int = 0
    bytes: int = 0
    first_ns: int = 0
    last_ns: int = 0


class Backlog:
    """A sink in front of the journal. Belongs to the event loop's thread, like the journal's `append`."""

    def __init__(self, journal: JournalWriter, most_bytes: int) -> None:
        self._journal = journal
        self._most_bytes = most_bytes
        self._names: dict[int, tuple[str, int]] = {}
        self._lost: dict[int, Loss] = {}
        self._measure_at = 0.0
        self.full = False
        """Whether frames are not kept at the moment."""

    def channel(self, account: str, connection: int) -> int:
        """The number of a connection, as the journal has it."""
        number = self._journal.channel(account, connection)
        self._names[number] = (account, connection)
        return number

    def append(self, kind: Kind, channel: int, received_at_ns: int, *payloads: bytes) -> None:
        """Hand on records that came together, or count them as lost. Heartbeats, frames of one byte, are no loss."""
        if not self.full or kind is not Kind.BINARY:
            self._journal.append(kind, channel, received_at_ns, *payloads)
            return
        for payload in payloads:
            if len(payload) > 1:
                loss = self._lost.get(channel)
                if loss is None:
                    loss = self._lost[channel] = Loss(*self._names[channel], first_ns=received_at_ns)
                loss.frames += 1
                loss.packets += int.from_bytes(payload[:2], "big")
                loss.bytes += len(payload)
                loss.last_ns = received_at_ns

    def look(self) -> None:
        """See whether there is room in memory. To be called after each attempt to write, every few milliseconds."""
        if self._journal.records == self._journal.written_records:
            self.full = False
        elif (now := time.monotonic()) >= self._measure_at:  # it takes the longer, the more waits
            self.full = self._journal.buffered_bytes >= self._most_bytes
            self._measure_at = now + MEASURE_SECONDS

    def settle(self) -> Sequence[Loss]:
        """What was lost since the last call, by connection."""
        losses, self._lost = list(self._lost.values()), {}
        return losses
