"""Notifications: what a person should know, sent by mail, Telegram, Slack, a webhook and whatever else Apprise knows.

An Apprise URL says where to and holds the secrets of it. It is in no log and in no error: a target is named by its
place in config.yaml. Apprise's own loggers and those of its HTTP client name URLs, and are silenced.

Each delivery runs in a thread of its own, which dies with the process: neither a slow server nor Apprise, which is
large and imported at the first use, can hold up capture or its end.
"""

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from kitelake.config import About, NotificationTarget

SEND_SECONDS: Final = 30.0
SERVICES: Final = "https://appriseit.com/services/"

log = structlog.get_logger()


@dataclass
class _Sent:
    """When a title was sent last, in seconds of the clock, and how often it was held back since."""

    at: float = -math.inf
    held_back: int = 0


class Notifier:
    """Sends to those targets that want to know. Belongs to one event loop.

    A title that was sent is not sent again for `quiet_seconds`, so that a network that comes and goes is not a hundred
    mails. What was held back is counted, and the next notification of that title says so.
    """

    def __init__(
        self,
        targets: Sequence[NotificationTarget],
        quiet_seconds: float = 900.0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._targets = tuple(targets)
        self._quiet_seconds = quiet_seconds
        self._clock = clock
        self._sent: dict[str, _Sent] = {}
        self._sending: set[asyncio.Task[None]] = set()

    def retarget(self, targets: Sequence[NotificationTarget]) -> None:
        """Send to these from now on. What was told already stays told."""
        self._targets = tuple(targets)

    def secrets(self) -> list[str]:
        """What no log may show."""
        return [target.url.get_secret_value() for target in self._targets]

    def problems_with_targets(self) -> list[str]:
        """One line for each URL that Apprise does not understand, which does not quote it. Nothing is sent."""
        return [
            f"notifications[{index}].url: not an address that Apprise knows, see {SERVICES}"
            for index, target in enumerate(self._targets)
            if _service(target) is None
        ]

    def tell(self, about: About, title: str, body: str) -> None:
        """Send, without waiting for it."""
        task = asyncio.create_task(self.send(about, title, body))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def settle(self, patience_seconds: float) -> None:
        """Wait for what is being sent, but not longer: a slow mail server must not hold up the end."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=patience_seconds)

    async def send(self, about: About, title: str, body: str) -> None:
        """Send to every target that wants it, at once, and wait until that is done or `SEND_SECONDS` have passed.

        Does not raise: a delivery that fails is a warning in the log. If all fail, the title counts as not sent.
        """
        now = self._clock()
        self._sent = {each: old for each, old in self._sent.items() if old.held_back or self._is_quiet(old, now)}
        sent = self._sent.setdefault(title, _Sent())
        if self._is_quiet(sent, now):
            sent.held_back += 1
            return
        before, sent.at = sent.at, now
        held_back, sent.held_back = sent.held_back, 0
        if held_back:
            body += f"\n\nHeld back since the last notification with this title: {held_back:,} more."
        wanting = [index for index, target in enumerate(self._targets) if about in target.about]
        if not any(await asyncio.gather(*(self._deliver(index, title, body) for index in wanting))):
            sent.at = before
            sent.held_back += held_back

    def _is_quiet(self, sent: _Sent, now: float) -> bool:
        return now - sent.at < self._quiet_seconds

    async def _deliver(self, index: int, title: str, body: str) -> bool:
        """Whether the target took it."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[str | None] = loop.create_future()

        def tell(problem: str | None) -> None:
            if not done.done():
                done.set_result(problem)

        def work() -> None:
            problem = _send(self._targets[index], title, body)
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(tell, problem)

        threading.Thread(target=work, name="kitelake notification", daemon=True).start()
        try:
            async with asyncio.timeout(SEND_SECONDS):
                problem = await done
        except TimeoutError:
            problem = f"it took longer than {SEND_SECONDS:.0f} s"
        if problem is not None:
            log.warning("a notification was not delivered", target=f"notifications[{index}]", reason=problem)
        return problem is None


def _send(target: NotificationTarget, title: str, body: str) -> str | None:
    """Deliver, which may take as long as it likes. What is wrong, in words without the URL; None if nothing is."""
    try:
        service = _service(target)
        if service is None:
            return "not an address that Apprise knows"
        from apprise import Apprise, AppriseAsset, NotifyFormat

        messenger = Apprise(asset=AppriseAsset(async_mode=False))  # in this very thread
        messenger.add(service)
        if messenger.notify(title=title, body=body, body_format=NotifyFormat.TEXT):
            return None
        return f"the server of this {service.schema}:// address refused it or could not be reached"
    except Exception as error:  # of a plugin, whose text may hold anything
        return type(error).__name__


def _service(target: NotificationTarget) -> Any:
    """Apprise's object for a URL; None if it knows no such URL."""
    for name in ("apprise", "urllib3", "requests"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    from apprise import Apprise

    return Apprise.instantiate(target.url.get_secret_value())
