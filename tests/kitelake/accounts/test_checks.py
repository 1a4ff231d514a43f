"""The check of access tokens with the broker: what it says of each, and that none holds up another."""

import socket
from pathlib import Path

import pytest
from pydantic import SecretStr

from ingest.accounts.account import Account
from ingest.accounts.credentials import Credentials
from ingest.settings import ConnectionSettings
from kitelake.accounts.checks import Verdict, check_tokens, token_problem
from kitelake.accounts.logins import account_of
from tests.support.accounts import CANARY, NOWHERE, PYTHON, python, secret_file, section
from tests.support.simulator_client import fault, running


async def test_a_function_of_any_kind_may_fail() -> None:
    def locked() -> str:
        raise RuntimeError(f"the vault with {CANARY} is locked")

    account = Account("mine", "key", locked)
    account.replace_token(CANARY)
    assert await token_problem(account) == "RuntimeError: the vault with *** is locked"
    assert await token_problem(Account("mine", "key", lambda: None)) == (
        "there is no access token: see to it that its source gives the new one"
    )


async def test_each_account_is_checked(tmp_path: Path) -> None:
    stale = secret_file(tmp_path / "stale", "canaryStale")
    accounts = [
        account_of(section("token-one", name="text"), NOWHERE),
        account_of(section("canaryText", name="wrong"), NOWHERE),
        account_of(section({"file": str(stale)}, name="file"), NOWHERE),
        account_of(section(python("print('token-one')"), name="command"), NOWHERE),
        account_of(section(python("print('canaryCommand')"), name="other"), NOWHERE),
        account_of(section(None, name="login"), NOWHERE),
    ]
    async with running(instruments=100, requests_per_second=100) as simulator:
        checks = await check_tokens(accounts, simulator.urls["api"])
    assert list(checks) == [account.name for account in accounts]
    assert {name for name, check in checks.items() if check.verdict is Verdict.GOOD} == {"text", "command"}
    assert checks["text"].text == checks["command"].text == "KL0001"
    assert accounts[3].access_token == SecretStr("token-one"), "what the command gave is in use"

    def refused(name: str, todo: str) -> str:
        return (
            f"the broker refuses the access token of account {name}: {todo} (GET /user/profile for account {name}: "
            "403 TokenException Incorrect `api_key` or `access_token`.)"
        )

    assert {name: check.text for name, check in checks.items() if check.verdict is Verdict.BAD} == {
        "wrong": refused("wrong", "put the new one into config.yaml"),
        "file": refused("file", f"put the new one into {stale}"),
        "other": refused("other", f"see to it that the command `{PYTHON}` prints the new one"),
        "login": "account login: no stored login: kitelake login login",
    }


async def test_an_account_whose_source_hangs_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kitelake.config.secrets.COMMAND_SECONDS", 0.5)
    hangs = account_of(section(python("import time; time.sleep(1000)"), name="hangs"), NOWHERE)
    text = account_of(section("token-one", name="text"), NOWHERE)
    async with running(instruments=100) as simulator:
        checks = await check_tokens([hangs, text], simulator.urls["api"])
    assert checks["text"].verdict is Verdict.GOOD
    assert checks["hangs"].verdict is Verdict.BAD
    assert checks["hangs"].text == f"account hangs: the command `{PYTHON}` did not end within 0.5 s"


async def test_a_token_that_serves_is_good_even_if_its_source_has_none_at_the_moment(tmp_path: Path) -> None:
    path = secret_file(tmp_path / "token", "token-one")
    account = account_of(section({"file": str(path)}), NOWHERE)
    path.unlink()
    async with running(instruments=100) as simulator:
        checks = await check_tokens([account], simulator.urls["api"])
        assert checks["mine"].verdict is Verdict.GOOD
        await fault(simulator, "token", account="one", access_token="newer")
        checks = await check_tokens([account], simulator.urls["api"])
        assert checks["mine"].verdict is Verdict.BAD
        assert f"of account mine: {path} cannot be read: No such file or directory (GET" in checks["mine"].text


async def test_a_new_token_is_in_use_before_the_old_one_is_refused(tmp_path: Path) -> None:
    path = secret_file(tmp_path / "token", "token-one")
    account = account_of(section({"file": str(path)}), NOWHERE)
    credentials = Credentials(account, ConnectionSettings())
    path.write_text("newer")
    async with running(instruments=100) as simulator:
        await fault(simulator, "token", account="one", access_token="newer")
        assert (await check_tokens([account], simulator.urls["api"]))["mine"].verdict is Verdict.GOOD
    assert await credentials.token() == SecretStr("newer")


@pytest.mark.parametrize("status", [429, 502])
async def test_a_broker_that_does_not_answer_says_nothing_about_the_token(status: int) -> None:
    account = account_of(section("canaryToken"), NOWHERE)
    async with running(instruments=100) as simulator:
        url = simulator.urls["api"]
        await fault(simulator, "rest", status=status)
        refused = (await check_tokens([account], url))["mine"]
    gone = (await check_tokens([account], url))["mine"]
    assert refused.verdict is gone.verdict is Verdict.UNKNOWN
    assert refused.text.startswith(
        f"the access token of account mine could not be checked: GET /user/profile for account mine: {status} "
    )
    assert "could not be checked: GET /user/profile for account mine failed: ConnectError" in gone.text
    assert "canary" not in refused.text + gone.text


async def test_a_broker_that_takes_too_long_says_nothing_about_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kitelake.accounts.checks.REST_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        check = (await check_tokens([account_of(section("token"), NOWHERE)], url))["mine"]
    assert check.verdict is Verdict.UNKNOWN
    assert check.text.endswith("could not be checked: the broker did not answer within 0.1 s")
