"""Accounts for tests: sections of config.yaml, sources of tokens, stored logins."""

import datetime as dt
import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from kitelake.accounts.checks import token_problem
from kitelake.accounts.logins import Login, account_of
from kitelake.config.accounts import AccountSection
from storage.clock import IST

NOWHERE = Path("/nowhere")


CANARY = "canaryToken"


PYTHON = Path(sys.executable).name


def section(token: object = None, **changes: Any) -> AccountSection:
    given = {"name": "mine", "api_key": "key-one", **({} if token is None else {"access_token": token}), **changes}
    return AccountSection.model_validate(given)


def python(code: str, *arguments: str) -> dict[str, list[str]]:
    return {"command": [sys.executable, "-c", code, *arguments]}


def secret_file(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def login(token: str = "of-the-login", made_at: dt.datetime | None = None) -> Login:
    return Login(access_token=SecretStr(token), user_id="AB1234", made_at=made_at or dt.datetime.now(IST))


async def problem_of(token: object, logins: Path = NOWHERE) -> str | None:
    return await token_problem(account_of(section(token), logins))
