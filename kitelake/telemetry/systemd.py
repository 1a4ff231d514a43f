"""What the service tells systemd: that it is ready, that it reloads or stops, and that its journal still advances.

The protocol is one datagram of `NAME=value` lines to the socket that NOTIFY_SOCKET names (systemd.io, sd_notify(3)).
It is written out here, since the packages for it are unmaintained or need a compiler. Without systemd there is no such
socket, and nothing is sent.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger()

_SEND_SECONDS: Final = 1.0  # systemd reads at once; a socket that is full must not stop the event loop for long


def notify(**state: str | int) -> bool:
    """Send `NAME=value` for each; values become one line. Returns whether systemd's socket took them."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@") or not state:
        return False
    text = "\n".join(f"{name}={' '.join(str(value).split())}" for name, value in state.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(_SEND_SECONDS)
            sender.connect(f"\0{address[1:]}" if address[0] == "@" else address)
            sender.sendall(text.encode())
    except OSError:
        return False
    return True


def ready(status: str) -> bool:
    """The service has started, or its reload is done; `status` is what `systemctl status` shows."""
    return notify(READY=1, STATUS=status)


def reloading() -> bool:
    """A reload begins, as `Type=notify-reload` wants it told. `ready` ends it."""
    return notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)


def stopping(status: str) -> bool:
    """The service begins to stop."""
    return notify(STOPPING=1, STATUS=status)


def watchdog_seconds() -> float | None:
    """Within how many seconds systemd wants to hear from this process each time; None if it does not ask for that."""
    microseconds, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if pid not in ("", str(os.getpid())) or not (microseconds.isascii() and microseconds.isdigit()):
        return None
    return int(microseconds) / 1e6 or None


class Watchdog:
    """Tells systemd, twice in every `interval_seconds`, that the service lives: it restarts one that falls silent."""

    def __init__(self, interval_seconds: float) -> None:
        self._interval_seconds = interval_seconds

    async def run(self, advancing: Callable[[], bool]) -> None:
        """Until it is cancelled. Nothing is sent while `advancing` says no; both changes are logged, once."""
        silent = False
        while True:
            if advancing():
                notify(WATCHDOG=1)
                if silent:
                    log.info("the journal advances again: systemd is told so")
                silent = False
            elif not silent:
                log.error(
                    "the journal does not advance: systemd is no longer told that the service lives, and restarts it",
                    watchdog_seconds=self._interval_seconds,
                )
                silent = True
            await asyncio.sleep(self._interval_seconds / 2)
