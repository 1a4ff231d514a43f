"""The access token of an account while it is in use: which one, whether the broker took it, and waiting for another.

Rules:
- A token that the broker has refused (401 or 403 at a handshake) is not sent again by any connection of its account.
- Whoever needs a token then waits. It goes on as soon as there is another one: because somebody called `replace`, or
  because the account's source gave it. A file or a `Polled` source is looked at every `FILE_POLL_SECONDS`; any other
  function is called again after `slow_retry_seconds`, but may itself take as long as it likes to return.
- After `token_retry_seconds` without another token the refused one is tried again: a broker errs, too.

Tokens lapse daily between about 06:00 and 07:30 IST, and every new login of the same app replaces the one before (Kite
Connect v3 docs, user).
"""

import asyncio
import contextlib
import logging
import time
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from ingest.accounts.account import Account
from ingest.accounts.sources import Polled, given_by
from ingest.errors import AuthError
from ingest.settings import ConnectionSettings

FILE_POLL_SECONDS: Final = 1.0

log = logging.getLogger(__name__)


class Credentials:
    """What the connections of one account know together about its token. Belongs to one event loop."""

    def __init__(self, account: Account, settings: ConnectionSettings) -> None:
        self.account = account
        self._settings = settings
        self._refused: str | None = None
        self._changed = asyncio.Event()
        self._answered = asyncio.Event()
        """Whether there has been an answer to who asked for a first token: one, or that there is none yet."""
        self._asking: asyncio.Task[None] | None = None
        self._complaint = ""

    @property
    def refused(self) -> bool:
        """Whether the token in use was refused, and there is no other yet."""
        return self._refused is not None

    async def token(self) -> SecretStr:
        """The token for a handshake. Raises AuthError, with nothing sent, if there is none or it was refused.

        Without one so far, it waits up to `open_timeout_seconds` for the first answer of the account's source.
        """
        if not self.account.access_token.get_secret_value() and not self.refused:
            self._refused = ""
        if self._refused == "" and self.account.token_source is not None:
            self._ask()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.open_timeout_seconds):
                    await self._answered.wait()
        token = self.account.access_token
        if not token.get_secret_value():
            why = self._complaint or ("its source has given none yet" if self.account.token_source else "log in first")
            raise AuthError(f"account {self.account.name} has no access token: {why}")
        if token.get_secret_value() == self._refused:
            why = self._complaint or "log in again"
            raise AuthError(f"the access token of account {self.account.name} was refused: {why}")
        return token

    def refuse(self, token: SecretStr) -> None:
        """The broker does not take it."""
        if token == self.account.access_token:
            self._refused = token.get_secret_value()

    def accept(self, token: SecretStr) -> None:
        """The broker has taken it."""
        if token.get_secret_value() == self._refused:
            self._forgive()

    def replace(self, token: str | SecretStr) -> None:
        """Use this one from now on; whoever waits for a token goes on."""
        before = self.account.access_token
        self.account.replace_token(token)
        if self.account.access_token != before:
            self._forgive()

    async def wait(self) -> None:
        """Until there is a token that was not refused, or the refused one may be tried again."""
        if self._refused is None:
            return
        self._ask()
        try:
            async with asyncio.timeout(self._settings.token_retry_seconds):
                await self._changed.wait()
        except TimeoutError:
            self._forgive()

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
            self._asking = None

    def _forgive(self) -> None:
        self._refused = None
        self._answered.set()
        self._changed.set()
        self._changed = asyncio.Event()

    def _ask(self) -> None:
        """Have the source asked until there is a token: by one task, since a login may replace the one before."""
        if self._asking is None and self.account.token_source is not None:
            self._asking = asyncio.create_task(self._keep_asking(), name=f"kitelake token of {self.account.name}")

    async def _keep_asking(self) -> None:
        source = self.account.token_source
        pause = FILE_POLL_SECONDS if isinstance(source, Path | Polled) else self._settings.slow_retry_seconds
        while self._refused is not None:
            began = time.monotonic()
            await self._ask_source()
            if self.account.access_token.get_secret_value() not in ("", self._refused):
                self._forgive()  # the source gave another one, here or to whoever else has asked it
            self._answered.set()
            await asyncio.sleep(max(0.0, began + pause - time.monotonic()))
        self._asking = None

    async def _ask_source(self) -> None:
        """Take over what the source has, if it has something; say once what keeps it from giving."""
        source = self.account.token_source
        assert source is not None
        before = self.account.access_token
        try:
            given = await given_by(source)
        except (Exception, asyncio.CancelledError) as error:  # whatever a user's function raises, the others go on
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            text = str(error) if isinstance(error, AuthError) else f"{type(error).__name__}: {error}"
            complaint = self.account.redactor()(text)
            if complaint != self._complaint:
                log.warning("no access token for account %s: %s", self.account.name, complaint)
            self._complaint = complaint
            return
        self._complaint = ""
        if given and self.account.access_token == before:  # else somebody was quicker
            self.account.replace_token(given)
