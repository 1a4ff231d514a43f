"""The accounts of config.yaml, the logins that `kitelake login` stores for them, and the check of their access tokens.

A stored login is one JSON file an account, `NAME.json`, with access_token, user_id and made_at (IST). It is readable by
its owner only, and written whole or not at all.

Kite flushes its sessions once a morning, between about 06:00 and 07:30 IST (Kite Connect v3 docs, user). A stored login
counts as lapsed once a whole flush lies between it and now. In doubt, as for a login of 06:30, the broker decides.
"""

import asyncio
import contextlib
import datetime as dt
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)

from ingest.errors import AuthError, RestError
from ingest.accounts.redact import Account, Polled, TokenSource
from ingest.accounts.credentials import given_by, read_private_file, read_secret_file
from kitelake.errors import ConfigError
from kitelake.config.secrets import COMMAND_SECONDS, Command, Variable, resolve_secret, token_source_of
from kitelake.config.values import Section, address_of, path_of
from storage.schema import IST

FLUSH_BEGINS: Final = dt.time(6, 0, tzinfo=IST)
FLUSH_ENDS: Final = dt.time(7, 30, tzinfo=IST)
SOURCE_SECONDS: Final = COMMAND_SECONDS + 10  # a command ends itself before
REST_SECONDS: Final = 30.0

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Secret = Annotated[SecretStr, BeforeValidator(resolve_secret)]
TokenSetting = Annotated[SecretStr | Variable | Path | Command | None, BeforeValidator(token_source_of)]


class LoginSection(Section):
    """`kitelake login`: how the browser goes there and back, and where logins are kept."""

    folder: Path | None = Field(
        default=None, description="null: kitelake/logins below XDG_STATE_HOME or ~/.local/state"
    )
    port: int = Field(
        default=8710, ge=1, le=65_535, description="of http://127.0.0.1:8710/, the redirect URL of the Kite app"
    )
    page: str = Field(default="https://kite.zerodha.com/connect/login", description="the broker's login page")

    @field_validator("folder", mode="before")
    @classmethod
    def _absolute(cls, given: Any) -> Path | None:
        folder = None if given is None else path_of(given)
        if folder is not None and not folder.is_absolute():
            raise ValueError("expected an absolute path, or one that begins with ~")
        return folder

    @field_validator("page", mode="before")
    @classmethod
    def _address(cls, given: Any) -> str:
        return address_of(given, ("https", "http"))

    def logins(self) -> Path:
        """The folder of the stored logins. Raises ConfigError if it is below a home folder that is not there."""
        if self.folder is not None:
            return self.folder
        state = Path(os.environ.get("XDG_STATE_HOME", ""))
        try:
            return (state if state.is_absolute() else Path.home() / ".local" / "state") / "kitelake" / "logins"
        except RuntimeError:
            raise ConfigError("there is no home folder for stored logins: set login.folder in config.yaml") from None


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
        descriptor, written = tempfile.mkstemp(prefix=f".{account}.", dir=folder)  # of mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(values, file)
                file.flush()
                os.fsync(file.fileno())
            Path(written).replace(path)
        except BaseException:
            Path(written).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"{path}: the login cannot be stored: {error.strerror}") from None
    return path


def read_login(folder: Path, account: str) -> Login:
    """The stored login of an account, lapsed or not. Raises ValueError, without the token, if there is none."""
    path = folder / f"{account}.json"
    try:
        return Login.model_validate_json(read_private_file(path))
    except ValidationError:
        raise ValueError(f"{path} does not hold what a login stores: kitelake login {account}") from None
    except ValueError as error:
        if isinstance(error.__context__, FileNotFoundError):
            raise ValueError(f"no stored login: kitelake login {account}") from None
        raise


@dataclass(frozen=True)
class StoredLogin(Polled):
    """The login of an account that `kitelake login` stored last."""

    folder: Path
    account: str

    def __call__(self) -> SecretStr:
        """Raises ValueError if there is none or it has lapsed."""
        login = read_login(self.folder, self.account)
        if login.lapsed(dt.datetime.now(IST)):
            day = login.made_at.astimezone(IST).date()
            raise ValueError(f"the stored login is of {day}: kitelake login {self.account}")
        return login.access_token


class AccountSection(Section):
    """One Kite Connect app, and where its access token of the day comes from."""

    name: Name
    api_key: Secret
    api_secret: Secret | None = Field(default=None, description="of the app; for `kitelake login` only")
    access_token: TokenSetting = Field(default=None, description="absent: what `kitelake login` stored")

    def secrets(self) -> list[str]:
        """What config.yaml or the environment says and nobody may see."""
        given = [self.api_key, self.api_secret, self.access_token]
        held = [secret.get_secret_value() for secret in given if isinstance(secret, SecretStr)]
        if isinstance(self.access_token, Variable):
            with contextlib.suppress(ValueError):
                held.append(self.access_token())
        return held

    def account(self, logins: Path) -> Account:
        """As capture uses it, with the token that there is now: none from a command, which is not run here.

        `logins` is the folder of the stored logins. A source that has no token yet is no error.
        """
        given = StoredLogin(logins, self.name) if self.access_token is None else self.access_token
        account = Account(self.name, self.api_key.get_secret_value(), given, self.api_secret)
        with contextlib.suppress(ValueError):
            if isinstance(given, Path):
                account.replace_token(read_secret_file(given))
            elif isinstance(given, Variable | StoredLogin):
                account.replace_token(given())
        return account


class Verdict(StrEnum):
    GOOD = "good"  # the broker takes the token
    BAD = "bad"  # it does not, or there is none
    UNKNOWN = "unknown"  # the broker could not be asked


@dataclass(frozen=True)
class TokenCheck:
    """What came of checking an account's access token. `text` is the user's id, or what is wrong and what to do."""

    verdict: Verdict
    text: str


async def token_problem(account: Account) -> str | None:
    """Ask the account's source once, and use what it gives from now on. What is wrong and what to do if it gives none.

    An account without a source has the token that it was made with.
    """
    source = account.token_source
    if source is not None:
        before = account.access_token
        try:
            async with asyncio.timeout(SOURCE_SECONDS):
                token = await given_by(source)
        except TimeoutError:
            return f"the source of the access token did not answer within {SOURCE_SECONDS:g} s"
        except AuthError as error:
            return str(error)
        except Exception as error:  # whatever a user's function raises
            return account.redactor()(f"{type(error).__name__}: {error}")
        if token and account.access_token == before:  # else somebody was quicker
            account.replace_token(token)
    return None if account.access_token.get_secret_value() else f"there is no access token: {_remedy(account)}"


async def check_tokens(accounts: Iterable[Account], api_url: str) -> dict[str, TokenCheck]:
    """Ask each account's source for its newest token, and the broker whether it takes it. By the account's name.

    A token that is new is used from then on. All accounts at the same time; none holds up or fails another.
    """
    listed = list(accounts)
    checks = await asyncio.gather(*(_check(account, api_url) for account in listed))
    return {account.name: check for account, check in zip(listed, checks, strict=True)}


async def _check(account: Account, api_url: str) -> TokenCheck:
    from ingest.accounts.rest import KiteRest

    problem = await token_problem(account)
    if not account.access_token.get_secret_value():
        return TokenCheck(Verdict.BAD, f"account {account.name}: {problem}")
    try:
        async with asyncio.timeout(REST_SECONDS), KiteRest(api_url, account) as rest:
            profile = await rest.profile()
    except AuthError as error:
        todo = problem or _remedy(account)
        return TokenCheck(
            Verdict.BAD, f"the broker refuses the access token of account {account.name}: {todo} ({error})"
        )
    except (RestError, TimeoutError) as error:
        reason = str(error) or f"the broker did not answer within {REST_SECONDS:g} s"
        return TokenCheck(Verdict.UNKNOWN, f"the access token of account {account.name} could not be checked: {reason}")
    return TokenCheck(Verdict.GOOD, str(profile.get("user_id")))


def _remedy(account: Account) -> str:
    """Where a new token goes."""
    source: TokenSource | None = account.token_source
    match source:
        case StoredLogin():
            return f"log in anew with `kitelake login {account.name}`"
        case Path():
            return f"put the new one into {source}"
        case Command():
            return f"see to it that {source.title} prints the new one"
        case Variable():
            return f"set {source.title} anew and restart"
        case None:
            return "put the new one into config.yaml"
        case _:
            return "see to it that its source gives the new one"
