"""Opening the WebSocket: the one place where the access token becomes part of an address.

The address is made for the call that connects and kept nowhere, and redirects are not followed: the token is for this
server only. Source: Kite Connect v3 streaming docs; the header is what pykiteconnect sends.
"""

import contextlib
import ipaddress
import ssl
from collections.abc import Callable
from functools import cache
from typing import Any, Final, cast
from urllib.parse import urlencode, urlsplit

from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect

from ingest.accounts import RedactingLogger
from ingest.settings import ConnectionSettings

WS_URL: Final = "wss://ws.kite.trade"
HEADERS: Final = {"X-Kite-Version": "3"}
USER_AGENT: Final = "kitelake"
WRITE_LIMIT_BYTES: Final = 1 << 20  # all messages of a full connection fit, so that sending hardly ever waits


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        """Follow none."""
        return exc


@cache
def _tls() -> ssl.SSLContext:
    """Made once: reading the system's certificates takes longer than many frames."""
    return ssl.create_default_context()


def _is_loopback(host: str | None) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host or "").is_loopback
    return host == "localhost"


def check_ws_url(url: str) -> str:
    """The address as it is. Raises ValueError, without quoting what may hold a token, for one that cannot be used."""
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("expected ws://HOST or wss://HOST as the address of the stream, without user and query")
    return url


async def shake_hands(
    ws_url: str,
    api_key: str,
    token: SecretStr,
    settings: ConnectionSettings,
    receiver: Callable[..., ClientConnection],
    logger: RedactingLogger,
) -> ClientConnection:
    """Connect and shake hands. Raises what `websockets` and the system raise; see `session.classify`."""
    query = urlencode({"api_key": api_key, "access_token": token.get_secret_value()})
    parts = urlsplit(ws_url)
    return await _Connect(
        f"{ws_url}?{query}",
        additional_headers=HEADERS,
        user_agent_header=USER_AGENT,
        compression=None,
        proxy=None if _is_loopback(parts.hostname) else True,
        open_timeout=settings.open_timeout_seconds,
        close_timeout=settings.close_timeout_seconds,
        ping_interval=None,  # the server's heartbeats say more, and sooner
        max_size=settings.max_frame_bytes,
        max_queue=None,  # nothing is queued
        write_limit=WRITE_LIMIT_BYTES,
        logger=cast("Any", logger),
        create_connection=cast("type[ClientConnection]", receiver),
        ssl=_tls() if parts.scheme == "wss" else None,
    )
