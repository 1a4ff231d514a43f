"""The logins that `kitelake login` stores, and the accounts that use them.

A stored login is one JSON file an account, `NAME.json`, with access_token, user_id and made_at (IST). It is readable by
its owner only, and written whole or not at all.

Kite flushes its sessions once a morning, between about 06:00 and 07:30 IST (Kite Connect v3 docs, user). A stored login
counts as lapsed once a whole flush lies between it and now. In doubt, as for a login of 06:30, the broker decides.
"""

import contextlib
import datetime as dt
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from ingest.accounts import Account, Polled, read_private_file, read_secret_file
from ingest.errors import NoSecretFileError
from kitelake.config import AccountSection, Variable
from kitelake.errors import ConfigError, NoLoginError
from storage.clock import IST
from storage.files import write_whole

FLUSH_BEGINS: Final = dt.time(6, 0, tzinfo=IST)
FLUSH_ENDS: Final = dt.time(7, 30, tzinfo=IST)


class Login(BaseModel):
    """What a login gave."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    access_token: SecretStr = Field(min_length=1)
    user_id: str
    made_at: AwareDatetime

    def lapsed(self, now: dt.datetime) -> bool:
        """Whether a whole flush of the broker's sessions lies between the login and now."""
        now = now.astimezone(IST)
        flushed_on = now.date() if now.timetz() >= FLUSH_ENDS else now.date() - dt.timedelta(days=1)
        return self.made_at < dt.datetime.combine(flushed_on, FLUSH_BEGINS)


def prepare_logins(folder: Path) -> None:
    """Make the folder of the stored logins, for its owner only. Raises ConfigError if it is, or stays, none."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        open_to = folder.stat().st_mode & 0o077
    except OSError as error:
        raise ConfigError(f"{folder}: this folder for logins cannot be made: {error.strerror}") from None
    if os.name == "posix" and open_to:
        raise ConfigError(f"{folder}: this folder for logins is open to other users: chmod 700 {folder}")


def store_login(folder: Path, account: str, login: Login) -> Path:
    """Keep the login of an account in place of the one before; returns its file. Raises ConfigError if it cannot."""
    prepare_logins(folder)
    path = folder / f"{account}.json"
    values = {
        "access_token": login.access_token.get_secret_value(),
        "user_id": login.user_id,
        "made_at": login.made_at.astimezone(IST).isoformat(),
    }
    try:
        write_whole(path, json.dumps(values), mode=0o600)
    except OSError as error:
        raise ConfigError(f"{path}: the login cannot be stored: {error.strerror}") from None
    return path


def read_login(folder: Path, account: str) -> Login:
    """The stored login of an account, lapsed or not.

    Raises, without the token, NoLoginError if there is none, and SecretFileError for a file that others can read.
    """
    path = folder / f"{account}.json"
    try:
        return Login.model_validate_json(read_private_file(path))
    except ValidationError:
        raise NoLoginError(f"{path} does not hold what a login stores: kitelake login {account}") from None
    except NoSecretFileError:
        raise NoLoginError(f"no stored login: kitelake login {account}") from None


@dataclass(frozen=True)
class StoredLogin(Polled):
    """The login of an account that `kitelake login` stored last."""

    folder: Path
    account: str

    def __call__(self) -> SecretStr:
        """Raises NoLoginError if there is none or it has lapsed, and what `read_login` raises."""
        login = read_login(self.folder, self.account)
        if login.lapsed(dt.datetime.now(IST)):
            day = login.made_at.astimezone(IST).date()
            raise NoLoginError(f"the stored login is of {day}: kitelake login {self.account}")
        return login.access_token


def account_of(section: AccountSection, logins: Path) -> Account:
    """An account as capture uses it, with the token that there is now: none from a command, which is not run here.

    `logins` is the folder of the stored logins. A source that has no token yet is no error.
    """
    given = StoredLogin(logins, section.name) if section.access_token is None else section.access_token
    account = Account(section.name, section.api_key.get_secret_value(), given, section.api_secret)
    with contextlib.suppress(ValueError):
        if isinstance(given, Path):
            account.replace_token(read_secret_file(given))
        elif isinstance(given, Variable | StoredLogin):
            account.replace_token(given())
    return account
