"""A manager of two accounts of a simulator: what it wants, and what the simulator streams."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from ingest.accounts.account import Account
from ingest.manager.manager import TickerManager
from ingest.settings import ManagerSettings
from ingest.simulator.simulator import Simulator
from ingest.wire import Mode

FAST = ManagerSettings(
    backoff_initial_seconds=0.01,
    settled_seconds=0.0,
    slow_retry_seconds=0.2,
    token_retry_seconds=60,
    answer_seconds=0.5,
    close_timeout_seconds=5,
)


def one() -> Account:
    return Account("one", "key-one", "token-one")


def two() -> Account:
    return Account("two", "key-two", "token-two")


def tokens_of(simulator: Simulator) -> list[int]:
    return [int(token) for token in simulator.market.tokens]


@contextlib.asynccontextmanager
async def managing(simulator: Simulator, *accounts: Account, **changes: Any) -> AsyncIterator[TickerManager]:
    settings = FAST.model_copy(update=changes)
    async with TickerManager(accounts or [one(), two()], settings, ws_url=simulator.urls["ws"]) as manager:
        yield manager


def streamed(simulator: Simulator) -> dict[str, dict[int, Mode]]:
    """What the simulator streams at this moment: account -> token -> mode, over its open connections."""
    found: dict[str, dict[int, Mode]] = {"one": {}, "two": {}}
    for subscriber in simulator._subscribers:
        if subscriber.open:
            for row in subscriber.subscriptions.modes.nonzero()[0].tolist():
                token = int(simulator.market.tokens[row])
                assert token not in found[subscriber.account.label], "streamed twice on one account"
                code = int(subscriber.subscriptions.modes[row])
                found[subscriber.account.label][token] = [Mode.LTP, Mode.QUOTE, Mode.FULL][code - 1]
    return found


def wanted(manager: TickerManager) -> dict[str, dict[int, Mode]]:
    found: dict[str, dict[int, Mode]] = {"one": {}, "two": {}}
    for slot, there in manager.placement().items():
        found[slot.account].update(there)
    return found
