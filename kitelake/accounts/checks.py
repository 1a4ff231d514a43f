"""What the broker says of an account's access token, and where a new one comes from."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from ingest.accounts import Account, TokenSource, given_by
from ingest.errors import AuthError, RestError
from kitelake.accounts.logins import StoredLogin
from kitelake.config import (
    COMMAND_SECONDS,
    Command,
    Variable,
)

SOURCE_SECONDS: Final = COMMAND_SECONDS + 10  # a command ends itself before
REST_SECONDS: Final = 30.0


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
    from ingest.accounts import KiteRest

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
