"""The accounts of a running service, while config.yaml changes."""

from pathlib import Path

from ingest.manager.manager import TickerManager
from kitelake.accounts.account_set import AccountSet
from kitelake.config.config import Config
from tests.support.simulator_client import running


def config_of(data: Path, *names: str) -> Config:
    accounts = [{"name": name, "api_key": f"key-{name}", "access_token": f"token-{name}"} for name in names]
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
