"""Who may come, and within what limits: the settings, the accounts, their access tokens, the places of an account.

Kite Connect v3 streaming docs: 403 for a wrong api_key or access_token; three connections an api_key, one more is
refused with 429 and harms none of them. A place is free again when its socket has ended.

Settings are frozen; an unknown key is an error; secrets are `SecretStr`. No error text holds a value that was given,
since it might be a secret.
"""

import asyncio
import hashlib
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self
from urllib.parse import parse_qs

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from ingest.errors import ServerError
from ingest.server.faults import Delay, FaultError, Refuse, StandingFaults, describe
from ingest.server.http import OTHER_SITE, is_loopback, of_another_site

MAX_CONNECTIONS: Final = 3  # an api_key (Kite Connect v3 streaming docs)
MAX_SUBSCRIPTIONS: Final = 3000  # instruments a connection (Kite Connect v3 streaming docs)
HEARTBEAT_SECONDS: Final = 3.0


def _loopback(host: str) -> str:
    if not is_loopback(host):
        raise ValueError("expected a loopback address: it serves this machine only")
    return host


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class AccountSettings(_Settings):
    """One Kite Connect app with its access token of the day."""

    name: str = Field(
        default="", max_length=64, description="how the record of what was sent calls it; empty: the api_key"
    )
    api_key: str = Field(min_length=1, max_length=256)
    access_token: SecretStr = Field(min_length=1, max_length=256)
    api_secret: SecretStr = Field(default=SecretStr("simulated-secret"), min_length=1, max_length=256)
    request_token: SecretStr | None = Field(default=None, description="the only one that a login may bring; None: any")
    user_id: str = Field("KL0001", min_length=1, max_length=32)
    redirect_url: str = Field(
        default="http://127.0.0.1:8710/", min_length=1, description="of the app: where the login page sends the browser"
    )

    @property
    def label(self) -> str:
        """The name, or the api_key where none was given."""
        return self.name or self.api_key


class ServerSettings(_Settings):
    """What a server can be told before it starts, whatever it streams; faults are ordered while it runs."""

    whose: ClassVar[str] = "server"

    accounts: tuple[AccountSettings, ...] = Field(min_length=1)
    seed: int = Field(default=1, ge=0, description="the same seed gives the same, packet for packet")
    host: Annotated[str, AfterValidator(_loopback)] = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65_535, description="WebSocket port; 0 takes a free one")
    api_port: int = Field(default=0, ge=0, le=65_535, description="REST and control port; 0 takes a free one")
    max_connections: int = Field(default=MAX_CONNECTIONS, ge=1, description="open sockets an api_key")
    max_subscriptions: int = Field(default=MAX_SUBSCRIPTIONS, ge=1, description="instruments a connection")
    max_packets_per_frame: int = Field(default=200, ge=1, le=65_535)
    heartbeat_seconds: float = Field(default=HEARTBEAT_SECONDS, gt=0)
    requests_per_second: int = Field(default=10, ge=1, description="REST calls an api_key, more are answered with 429")
    send_buffer_bytes: int = Field(
        default=4 * 2**20, ge=0, description="a client with more unread than this gets no packets"
    )
    stall_seconds: float = Field(default=60.0, gt=0, description="a client that stays so for this long is dropped")
    record: Path | None = Field(default=None, description="a folder for every frame sent, for tests to read back")

    @classmethod
    def parse(cls, values: Any) -> Self:
        """The settings in what came as JSON; raises `ServerError` that names every wrong key, and no value."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ServerError(f"the {cls.whose}'s settings are wrong: {describe(error)}") from None

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for what in ("api_key", "label"):
            values = [getattr(account, what) for account in self.accounts]
            if len(set(values)) != len(values):
                raise ValueError(f"accounts: each needs {'an api_key' if what == 'api_key' else 'a name'} of its own")
        return self


class SteppedSettings(ServerSettings):
    """Those of a server whose source goes from step to step."""

    steps_per_second: float = Field(default=4.0, gt=0, le=1000, description="an instrument ticks at most once a step")


class Accounts:
    """Who may come: the accounts of the settings, or, where these name none, anybody with any token.

    Who comes uninvited is an account from then on: its api_key and its name are made of a digest, and neither the key
    nor the token that it brought is kept. Safe from several threads.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.anybody = not settings.accounts
        self._by_key = {_digest(account.api_key): account for account in settings.accounts}
        self._tokens = {account.label: account.access_token for account in settings.accounts}
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[AccountSettings]:
        with self._lock:
            return iter(list(self._by_key.values()))

    def of(self, api_key: str) -> AccountSettings | None:
        """The account of that key; None if it may not come."""
        if not api_key:
            return None
        digest = _digest(api_key)
        with self._lock:
            if digest not in self._by_key and self.anybody:
                self._by_key[digest] = self._made(digest)
            return self._by_key.get(digest)

    def admit(self, api_key: str, access_token: str) -> AccountSettings | None:
        """The account of that key, if the token is in force; None if it may not come."""
        account = self.of(api_key)
        if account is None or not access_token:
            return None
        expected = self._tokens.get(account.label)
        if expected is not None and _digest(expected.get_secret_value()) != _digest(access_token):
            return None
        return account

    def named(self, label: str) -> AccountSettings:
        """The account of that name; raises `FaultError`."""
        for account in self:
            if account.label == label:
                return account
        raise FaultError(f"no account is named {label!r}")

    def token(self, account: AccountSettings) -> str:
        """The access token that a login brings; where any will do, one that is made up."""
        expected = self._tokens.get(account.label)
        return secrets.token_hex(16) if expected is None else expected.get_secret_value()

    def replace_token(self, label: str, access_token: SecretStr) -> None:
        """From now on this one only. Raises `FaultError`."""
        self._tokens[self.named(label).label] = access_token

    def _made(self, digest: str) -> AccountSettings:
        taken = {account.name for account in self._by_key.values()}
        name = next(name for size in range(6, 65) if (name := f"paper-{digest[:size]}") not in taken)
        return AccountSettings(name=name, api_key=digest, access_token=SecretStr("any"), user_id=name.upper())


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()


class Admission:
    """Checks handshakes. `refused` counts by HTTP status."""

    def __init__(self, settings: ServerSettings, accounts: Accounts, standing: StandingFaults) -> None:
        self.refused: Counter[int] = Counter()
        self._accounts = accounts
        self._limit = settings.max_connections
        self._standing = standing
        self._places: Counter[str] = Counter()
        self._watches: set[asyncio.Task[None]] = set()

    def account_of(self, request: Request) -> AccountSettings:
        """Whose handshake it was; it must have passed."""
        account = self._accounts.of(_credentials(request)[0])
        assert account is not None
        return account

    async def check(self, connection: ServerConnection, request: Request) -> Response | None:
        """The refusal of a handshake, or None. Of several reasons to refuse an account the faults come first."""
        if of_another_site(request.headers.get("Host"), request.headers.get("Origin")):
            return self._refuse(connection, 403, OTHER_SITE)
        api_key, access_token = _credentials(request)
        account = self._accounts.of(api_key)
        name = account.label if account else None
        delay = self._standing.take(Delay, name, time.monotonic(), lambda fault: fault.what == "handshake")
        if delay is not None:
            await asyncio.sleep(delay.by_seconds)
        refusal = self._standing.take(Refuse, name, time.monotonic())
        if refusal is not None:
            return self._refuse(connection, refusal.status)
        if account is None or self._accounts.admit(api_key, access_token) is None:
            return self._refuse(connection, 403)
        if self._places[account.label] >= self._limit:
            return self._refuse(connection, 429)
        self._places[account.label] += 1
        watch = asyncio.get_running_loop().create_task(self._free_place(connection, account.label))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)
        return None

    def _refuse(self, connection: ServerConnection, status: int, why: str = "") -> Response:
        self.refused[status] += 1
        return connection.respond(status, f"{why or f'refused with {status}'}\n")

    async def _free_place(self, connection: ServerConnection, label: str) -> None:
        await connection.wait_closed()
        self._places[label] -= 1


def _credentials(request: Request) -> tuple[str, str]:
    """api_key and access_token of the address, empty where it has none."""
    query = parse_qs(request.path.partition("?")[2])
    return query.get("api_key", [""])[0], query.get("access_token", [""])[0]
