"""Where the ticks come from: the broker, or the embedded simulator, which is a process of its own."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from kitelake.accounts import account_of, token_problem
from kitelake.config import Config
from kitelake.errors import StartError
from kitelake.processes.child import Child

log = structlog.get_logger()

SIMULATOR_SECRET = "simulated-secret"  # noqa: S105 (of the simulator alone)


@dataclass(frozen=True)
class Source:
    """URLs of a market-data source. `control` is the simulator's own, for its record of what it sent."""

    ws: str
    api: str
    control: str | None = None


@contextlib.asynccontextmanager
async def open_source(config: Config) -> AsyncIterator[Source]:
    """The broker's addresses, or those of a simulator that runs as long as the context lasts.

    Raises `StartError` if the simulator does not start, for example because its port is in use.
    """
    if config.simulator is None:
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
