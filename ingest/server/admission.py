"""Who may connect: the accounts, their tokens of the hour, and their places.

Kite Connect v3 streaming docs: 403 for a wrong api_key or access_token; three connections an api_key, one more is
refused with 429 and harms none of them. A place is free again when its socket has ended.
"""

import asyncio
import time
from collections import Counter
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from ingest.server.faults import Delay, FaultError, Refuse, Standing
from ingest.server.settings import AccountSettings, SimulatorSettings


class Gate:
    """Checks handshakes. `tokens` are the access tokens in force by api_key, `refused` counts by HTTP status."""

    def __init__(self, settings: SimulatorSettings, standing: Standing) -> None:
        self.tokens = {account.api_key: account.access_token.get_secret_value() for account in settings.accounts}
        self.refused: Counter[int] = Counter()
        self._accounts = {account.api_key: account for account in settings.accounts}
        self._limit = settings.max_connections
        self._standing = standing
        self._places: Counter[str] = Counter()
        self._watches: set[asyncio.Task[None]] = set()

    def account_of(self, request: Request) -> AccountSettings:
        """Whose handshake it was; it must have passed."""
        return self._accounts[_credentials(request)[0]]

    def named(self, label: str) -> AccountSettings:
        """The account of that name; raises `FaultError`."""
        for account in self._accounts.values():
            if account.label == label:
                return account
        raise FaultError(f"no account is named {label!r}")

    async def check(self, connection: ServerConnection, request: Request) -> Response | None:
        """The refusal of a handshake, or None. Of several reasons the faults come first."""
        api_key, access_token = _credentials(request)
        account = self._accounts.get(api_key)
        name = account.label if account else None
        delay = self._standing.take(Delay, name, time.monotonic(), lambda fault: fault.what == "handshake")
        if delay is not None:
            await asyncio.sleep(delay.by_seconds)
        refusal = self._standing.take(Refuse, name, time.monotonic())
        if refusal is not None:
            return self._refuse(connection, refusal.status)
        if account is None or access_token != self.tokens[api_key]:
            return self._refuse(connection, 403)
        if self._places[api_key] >= self._limit:
            return self._refuse(connection, 429)
        self._places[api_key] += 1
        watch = asyncio.get_running_loop().create_task(self._free_place(connection, api_key))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)
        return None

    def _refuse(self, connection: ServerConnection, status: int) -> Response:
        self.refused[status] += 1
        return connection.respond(status, f"refused with {status}\n")

    async def _free_place(self, connection: ServerConnection, api_key: str) -> None:
        await connection.wait_closed()
        self._places[api_key] -= 1


def _credentials(request: Request) -> tuple[str, str]:
    """api_key and access_token of the address, empty where it has none."""
    query = parse_qs(urlsplit(request.path).query)
    return query.get("api_key", [""])[0], query.get("access_token", [""])[0]
