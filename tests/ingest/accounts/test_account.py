"""An account: what it needs, and that it prints no secret."""

import pytest
from pydantic import SecretStr

from ingest.accounts.account import Account
from ingest.accounts.redact import MASK

TOKEN = "canaryToken+/=1234567890"
SECRET = "canarySecret0987654321"
ACCOUNT = Account("one", "key1", TOKEN, SECRET)


def test_an_account_prints_no_secret_and_cannot_be_changed() -> None:
    for text in (repr(ACCOUNT), str(ACCOUNT), f"{ACCOUNT}", repr(ACCOUNT.redactor()), repr([ACCOUNT])):
        assert "canary" not in text
        assert "key1" not in text
    with pytest.raises(AttributeError):
        ACCOUNT.name = "two"  # type: ignore[misc]
    assert Account("one", "key1", SecretStr(TOKEN), SecretStr(SECRET)) == ACCOUNT


def test_the_redactor_of_an_account_knows_past_and_present_tokens() -> None:
    account = Account("one", "key1", "canaryYesterday")
    redact = account.redactor()
    account.replace_token(SecretStr("canaryToday"))
    assert account.access_token.get_secret_value() == "canaryToday"
    assert redact("canaryYesterday canaryToday") == f"{MASK} {MASK}"


@pytest.mark.parametrize(("name", "key"), [("", "key"), ("one", "")])
def test_an_account_needs_a_name_and_a_key(name: str, key: str) -> None:
    with pytest.raises(ValueError, match="expected both"):
        Account(name, key)
