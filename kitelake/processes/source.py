"""Where the ticks come from: the broker, a replay, or the embedded simulator, which is a process of its own."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx
import structlog

from ingest.accounts import LOOPBACK, tls_context
from kitelake.accounts import account_of, token_problem
from kitelake.config import Config, is_of_broker
from kitelake.errors import StartError
from kitelake.processes.child import Child

log = structlog.get_logger()

STATUS: Final = "/replay/status"
"""Under the REST address: what a replay says of itself, as a JSON object whose `day` is that of its packets."""
STATUS_SECONDS: Final = 5.0
SIMULATOR_SECRET = "simulated-secret"  # noqa: S105 (of the simulator alone)


@dataclass(frozen=True)
class Source:
    """URLs of a market-data source. `control` is the simulator's own, for its record of what it sent."""

    ws: str
    api: str
    control: str | None = None


@contextlib.asynccontextmanager
async def open_source(config: Config) -> AsyncIterator[Source]:
    """The addresses of the broker or of a replay, or those of a simulator that runs as long as the context lasts.

    Raises `StartError` if the simulator does not start, for example because its port is in use; if there is a replay
    at addresses that are not said to be those of one, or not that which was said.
    """
    if config.simulator is None:
        if not is_of_broker(config.kite.api):
            await _is_what_was_said(config)
        yield Source(config.kite.ws, config.kite.api)
        return
    accounts = [account_of(account, config.login.logins()) for account in config.accounts]
    for account in accounts:
        await token_problem(account)  # a command is run
    child = await Child.start(
        "ingest.simulator",
        {
            "accounts": [
                {
                    "name": account.name,
                    "api_key": account.api_key,
                    "access_token": account.access_token.get_secret_value(),
                    "api_secret": SIMULATOR_SECRET,
                }
                for account in accounts
            ],
            **config.simulator.model_dump(mode="json"),
            "exit_on_stdin_eof": True,
        },
        hide=config.secrets(),
    )
    try:
        ready = await anext(child.lines(), None)
        if ready is None:
            raise StartError(
                f"the simulator did not start (exit status {await child.wait()}); its message stands above"
            )
        log.info("simulator started", ws=ready["ws"], pid=child.pid)
        yield Source(ready["ws"], ready["api"], ready["control"])
    finally:
        await child.stop()


async def _is_what_was_said(config: Config) -> None:
    """Ask who is at the address of the REST calls. Whoever does not answer now is none that can be refused."""
    api, said = config.kite.api, config.kite.replay
    try:
        trusted = urlsplit(api).hostname not in LOOPBACK  # as with any call: no proxy on this machine's own addresses
        async with (
            asyncio.timeout(STATUS_SECONDS),
            httpx.AsyncClient(verify=tls_context(), trust_env=trusted) as client,
        ):
            answer = await client.get(f"{api.rstrip('/')}{STATUS}")
    except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, OSError):
        return
    day = _day_of(answer)
    if day is None and said is not None:
        raise StartError(
            f"kite.replay: {api} is no replay: its answer to {STATUS} is none of one; expected the addresses that "
            "`kitelake replay` prints"
        )
    if day != said:
        asked = "does not say `replay`" if said is None else f"says `replay: {said}`"
        raise StartError(
            f"kite: {api} is a replay of {day}, and config.yaml {asked}: write `replay: {day}` under `kite`, and set "
            "`data` to a folder of its own"
        )


def _day_of(answer: httpx.Response) -> dt.date | None:
    """The day of the packets that a replay sends; None if it is no replay's answer."""
    try:
        return dt.date.fromisoformat(answer.json()["day"]) if answer.is_success else None
    except (ValueError, TypeError, KeyError):
        return None
