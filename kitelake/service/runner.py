"""From a loaded config to a running service: the order of starting, and what signals do."""

import asyncio
import datetime as dt
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

from kitelake.accounts import account_of, token_problem
from kitelake.config import Config, Variable
from kitelake.errors import ConfigError
from kitelake.processes import Source, open_source
from kitelake.service.service import Service
from kitelake.telemetry import configure_logs
from storage.datafolder import hold

Watch = Callable[[Service, Source, asyncio.Event], Coroutine[None, None, None]]


def capture(
    config: Config,
    *,
    config_path: Path | None = None,
    seconds: float | None = None,
    until: dt.datetime | None = None,
    watch: Watch | None = None,
) -> None:
    """Hold the data folder, open the source and capture until a signal, or for so many seconds.

    `config_path` is read again when it changes or on SIGHUP. With `until` nothing is captured from then on. `watch`
    runs beside the service, for a display, and is waited for before the source closes. It should end soon after
    `service.finished` is set; if it ends before, the service is stopped.

    Raises `ConfigError`, `DataFolderError` or `StartError`, with nothing started.
    """
    configure_logs(config.log.level, config.log.format, secrets=config.secrets())
    _check_tokens_can_come(config)
    with hold(config.data, config.source, config.kite.replay) as layout:

        async def main() -> None:
            stop = asyncio.Event()
            _stop_on_signals(stop)
            async with open_source(config) as source:
                service = Service(config, source, layout, config_path=config_path, until=until)
                configure_logs(
                    config.log.level,
                    config.log.format,
                    secrets=config.secrets(),
                    redactors=service.account_set.redactors(),
                )
                _reload_on_signal(service)
                if seconds is not None:
                    asyncio.get_running_loop().call_later(seconds, stop.set)
                watcher = asyncio.create_task(watch(service, source, stop)) if watch else None
                if watcher is not None:
                    watcher.add_done_callback(lambda _: stop.set())  # also if it fails
                try:
                    await service.run(stop)
                finally:
                    stop.set()
                    if watcher is not None:
                        await watcher

        asyncio.run(main())


def _check_tokens_can_come(config: Config) -> None:
    """An account waits for its token; but say so at once where none can come without a restart.

    That is so if every account has its token from a variable, and none is set; and with the embedded simulator, which
    is started with the tokens.
    """
    only_variables = all(isinstance(account.access_token, Variable) for account in config.accounts)
    if config.simulator is None and not only_variables:
        return

    async def problems() -> dict[str, str]:
        accounts = [account_of(account, config.login.logins()) for account in config.accounts]
        asked = {account.name: await token_problem(account) for account in accounts}
        return {name: problem for name, problem in asked.items() if problem is not None}

    found = asyncio.run(problems())
    if found and (config.simulator is not None or len(found) == len(config.accounts)):
        raise ConfigError("; ".join(f"account {name}: {problem}" for name, problem in found.items()))


def _stop_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM or Ctrl-C sets `stop`; a second one ends this process at once, and the others with it."""

    def received(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        sys.stderr.write("kitelake: stopping; once more ends it at once\n")
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, received, number)
        except NotImplementedError:  # Windows: the handler runs between two steps of the loop
            signal.signal(number, lambda n, _: loop.call_soon_threadsafe(received, n))


def _reload_on_signal(service: Service) -> None:
    """SIGHUP has config.yaml read again, where there is such a signal."""
    if hasattr(signal, "SIGHUP"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, service.reload_soon)
