"""From a loaded config to a running service: the order of starting, and what signals do."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine

from kitelake.config import Config
from kitelake.datafolder import hold
from kitelake.logs import configure_logs
from kitelake.service import Service
from kitelake.source import Source, open_source

Watch = Callable[[Service, Source, asyncio.Event], Coroutine[None, None, None]]


def capture(config: Config, *, seconds: float | None = None, watch: Watch | None = None) -> None:
    """Hold the data folder, open the source and capture until a signal, or for so many seconds.

    `watch` runs beside the service, for a display, and is waited for before the source closes. It should end soon after
    `service.finished` is set; if it ends before, the service is stopped.

    Raises `DataFolderError` or `StartError`, with nothing started.
    """
    configure_logs(config.log.level, config.log.format, secrets=config.secrets())
    with hold(config.data, "simulator" if config.simulator else "kite") as layout:

        async def main() -> None:
            stop = asyncio.Event()
            _stop_on_signals(stop)
            async with open_source(config) as source:
                service = Service(config, source, layout)
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
