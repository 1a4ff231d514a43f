"""The accounts of a running service: which there are, and how the access token of each stands."""

import asyncio
import datetime as dt
import time
from collections.abc import Mapping
from typing import Final

import structlog
from pydantic import SecretStr

from ingest.accounts import Account, Redactor
from ingest.manager import TickerManager
from kitelake.accounts.checks import TokenCheck, Verdict, check_tokens, token_problem
from kitelake.accounts.logins import account_of
from kitelake.config import Config, account_changes
from storage.clock import IST

log = structlog.get_logger()

UNKNOWN_SECONDS: Final = 60.0


class AccountSet:
    """The accounts, in the order of config.yaml. Belongs to one event loop."""

    def __init__(self, config: Config, api_url: str) -> None:
        self._api_url = api_url
        self._accounts = {account.name: account_of(account, config.login.logins()) for account in config.accounts}
        self._bad: dict[str, SecretStr] = {}  # tokens that are not good, as they were when they were checked
        self._unknown_since: float | None = None
        self._unchecked = False  # whether there are accounts that are newer than the last check
        self.states: dict[str, str] = {}
        """How each account's token stands, in words; of those that were checked."""

    @property
    def accounts(self) -> list[Account]:
        return list(self._accounts.values())

    @property
    def none_is_good(self) -> bool:
        """Whether every account's token was checked last time, and found not good."""
        return len(self._bad) == len(self._accounts)

    def redactors(self) -> list[Redactor]:
        """Those of the accounts: they learn of every new token."""
        return [account.redactor() for account in self._accounts.values()]

    def redact(self, text: str) -> str:
        """The text without any secret of the accounts."""
        for redactor in self.redactors():
            text = redactor(text)
        return text

    async def check(self) -> Mapping[str, TokenCheck]:
        """Take each account's newest token, and ask the broker whether it is good.

        What comes of an account that is given up meanwhile counts for nothing, also if another one has its name.
        """
        asked = self.accounts
        self._unchecked = False
        found = await check_tokens(asked, self._api_url)
        accounts = [account for account in asked if self._accounts.get(account.name) is account]
        checks = {account.name: found[account.name] for account in accounts}
        now = dt.datetime.now(IST)
        self._bad = {}
        for account in accounts:
            check = checks[account.name]
            good = check.verdict is Verdict.GOOD
            self.states[account.name] = f"{check.verdict}, checked at {now:%H:%M}" if good else check.text
            if check.verdict is Verdict.BAD:
                self._bad[account.name] = account.access_token
                log.error("an account has no good access token; the others go on", account=account.name, why=check.text)
            elif check.verdict is Verdict.UNKNOWN:
                log.warning("an access token could not be checked", account=account.name, why=check.text)
            else:
                log.info("access token checked", account=account.name, verdict=str(check.verdict), text=check.text)
        unknown = any(check.verdict is Verdict.UNKNOWN for check in checks.values())
        self._unknown_since = time.monotonic() if unknown else None
        return checks

    async def has_news(self) -> bool:
        """Whether the tokens should be checked again: one that was not good has changed, or one was not checked yet.

        Connections ask for new tokens, too, but only while something is to be streamed.
        """
        unknown_since = self._unknown_since
        if self._unchecked or (unknown_since is not None and time.monotonic() - unknown_since >= UNKNOWN_SECONDS):
            return True
        bad = [account for account in self.accounts if account.name in self._bad]
        await asyncio.gather(*(token_problem(account) for account in bad))
        return any(account.access_token != self._bad.get(account.name) for account in bad)

    async def change(self, before: Config, after: Config, manager: TickerManager) -> None:
        """Take on and give up accounts as the configuration has changed."""
        gone, new = account_changes(before, after)
        settings = {account.name: account for account in after.accounts}
        for name in gone:
            self.states.pop(name, None)
            self._bad.pop(name, None)
            del self._accounts[name]
            await manager.remove_account(name)
        for name in new:
            self._accounts[name] = account_of(settings[name], after.login.logins())
            self._unchecked = True
            await manager.add_account(self._accounts[name])
        self._accounts = {name: self._accounts[name] for name in settings}
