"""A sink that keeps what managers give it, with the accounts and the settings of these managers."""

import json
from collections import Counter
from typing import Any

from ingest.accounts.account import Account
from ingest.manager.want import Slot
from ingest.settings import ManagerSettings
from storage.journal import Kind

ONE, TWO = Account("one", "key-one", "token-one"), Account("two", "key-two", "token-two")
FAST = ManagerSettings(
    backoff_initial_seconds=0.01,
    settled_seconds=0.0,
    slow_retry_seconds=0.1,
    token_retry_seconds=0.1,
    close_timeout_seconds=5,
)


class Sink:
    """Keeps the records of each connection, and counts packets as the frames claim them."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []
        self.records: list[tuple[Slot, Kind, bytes]] = []

    def channel(self, account: str, connection: int) -> int:
        self.slots.append(Slot(account, connection))
        return len(self.slots) - 1

    def append(self, kind: Kind, channel: int, received_at_ns: int, *payloads: bytes) -> None:
        self.records += [(self.slots[channel], kind, payload) for payload in payloads]

    def frames(self, account: str) -> Counter[bytes]:
        return Counter(data for slot, kind, data in self.records if slot.account == account and kind is Kind.BINARY)

    def events(self, account: str | None = None) -> list[dict[str, Any]]:
        return [
            json.loads(data)
            for slot, kind, data in self.records
            if kind is Kind.EVENT and account in (None, slot.account)
        ]

    def count(self, event: str, account: str | None = None) -> int:
        return sum(one["event"] == event for one in self.events(account))
