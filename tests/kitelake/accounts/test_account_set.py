"""The accounts of a running service, while config.yaml changes."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from ingest.accounts.account import Account
from ingest.manager.manager import TickerManager
from kitelake.accounts.account_set import AccountSet
from kitelake.accounts.checks import TokenCheck, Verdict
from kitelake.config.config import Config
from tests.support.simulator_client import running


def config_of(data: Path, *names: str, token: str = "token") -> Config:
    accounts = [{"name": name, "api_key": f"key-{name}", "access_token": f"{token}-{name}"} for name in names]
    lists = [{"name": "all", "instruments": ["NSE:INFY"]}]
    return Config.model_validate({"data": data, "accounts": accounts, "subscriptions": lists})


async def test_an_account_that_is_new_is_news_until_it_is_checked(tmp_path: Path) -> None:
    before, after = config_of(tmp_path, "one"), config_of(tmp_path, "one", "two")
    async with running(instruments=100) as simulator:
        account_set = AccountSet(before, simulator.urls["api"])
        await account_set.check()
        assert not await account_set.has_news()
        await account_set.change(before, after, TickerManager(account_set.accounts))
        assert await account_set.has_news()
        await account_set.check()
        assert not await account_set.has_news()


@pytest.mark.parametrize("verdict", [Verdict.BAD, Verdict.UNKNOWN])
async def test_what_a_check_says_of_an_account_that_was_given_up_meanwhile_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: Verdict
) -> None:
    before, after = config_of(tmp_path, "one", "gone"), config_of(tmp_path, "one")
    account_set = AccountSet(before, "http://127.0.0.1:1")
    manager = TickerManager(account_set.accounts)

    async def check(accounts: Iterable[Account], _: str) -> dict[str, TokenCheck]:
        await account_set.change(before, after, manager)
        verdicts = {"one": Verdict.GOOD, "gone": verdict}
        return {account.name: TokenCheck(verdicts[account.name], "") for account in accounts}

    monkeypatch.setattr("kitelake.accounts.account_set.check_tokens", check)
    assert list(await account_set.check()) == list(account_set.states) == ["one"]
    assert not account_set.none_is_good
    monkeypatch.setattr("kitelake.accounts.account_set.UNKNOWN_SECONDS", 0.0)
    assert not await account_set.has_news()


async def test_what_a_check_says_of_an_account_counts_for_no_other_that_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = config_of(tmp_path, "one"), config_of(tmp_path, "one", token="another")
    account_set = AccountSet(before, "http://127.0.0.1:1")
    manager = TickerManager(account_set.accounts)

    async def check(accounts: Iterable[Account], _: str) -> dict[str, TokenCheck]:
        await account_set.change(before, after, manager)
        return {account.name: TokenCheck(Verdict.BAD, "") for account in accounts}

    monkeypatch.setattr("kitelake.accounts.account_set.check_tokens", check)
    assert not await account_set.check()
    assert not account_set.states
    assert not account_set.none_is_good
    assert await account_set.has_news()
