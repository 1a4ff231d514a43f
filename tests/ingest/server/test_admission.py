"""Who may come: named accounts, or anybody, of whom nothing is kept."""

import pytest
from pydantic import SecretStr

from ingest.errors import ServerError
from ingest.server.admission import Accounts, AccountSettings, ServerSettings
from ingest.server.faults import FaultError


class OpenSettings(ServerSettings):
    """Of a server that need not name anybody."""

    accounts: tuple[AccountSettings, ...] = ()


def named() -> Accounts:
    accounts = [
        {"name": "one", "api_key": "key-one", "access_token": "token-one"},
        {"api_key": "key-two", "access_token": "t2"},
    ]
    return Accounts(ServerSettings.parse({"accounts": accounts}))


def test_named_accounts_come_with_their_token_alone() -> None:
    accounts = named()
    assert not accounts.anybody
    assert [account.label for account in accounts] == ["one", "key-two"]
    one = accounts.admit("key-one", "token-one")
    assert one is accounts.of("key-one") is accounts.named("one")
    for key, token in (("key-one", "t2"), ("key-one", ""), ("", "token-one"), ("other", "token-one"), ("one", "t2")):
        assert accounts.admit(key, token) is None
    with pytest.raises(FaultError, match="no account is named 'three'"):
        accounts.named("three")


def test_a_replaced_token_is_the_only_one() -> None:
    for accounts, key, token in ((named(), "key-one", "token-one"), (Accounts(OpenSettings()), "any", "any")):
        account = accounts.admit(key, token)
        assert account is not None
        accounts.replace_token(account.label, SecretStr("newer"))
        assert accounts.admit(key, token) is None
        assert accounts.admit(key, "newer") is account
        assert accounts.token(account) == "newer"


def test_where_nobody_is_named_anybody_comes_and_is_known_again() -> None:
    accounts = Accounts(OpenSettings())
    assert accounts.anybody
    assert list(accounts) == []
    one, other = accounts.admit("my-own-key", "my-token"), accounts.admit("another", "token")
    assert one is not None
    assert other is not None
    assert one is accounts.admit("my-own-key", "another-token")
    assert list(accounts) == [one, other]
    assert one.label != other.label
    assert one.label.startswith("paper-")
    assert len(one.label) == 12
    assert Accounts(OpenSettings()).of("my-own-key") == one, "the same key is the same account in another run"
    for key, token in (("", "token"), ("key", "")):
        assert accounts.admit(key, token) is None


def test_of_who_comes_uninvited_nothing_is_kept() -> None:
    accounts = Accounts(OpenSettings())
    account = accounts.admit("my-own-key", "my-token")
    assert account is not None
    kept = repr(vars(accounts)) + repr(account.model_dump()) + account.access_token.get_secret_value()
    assert "my-own-key" not in kept
    assert "my-token" not in kept
    assert accounts.token(account) != accounts.token(account), "any will do: each is made up"


def test_names_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.server.admission._digest", lambda text: "abcdef" + text)
    accounts = Accounts(OpenSettings())
    labels = [account.label for key in ("12", "34", "13") if (account := accounts.of(key))]
    assert labels == ["paper-abcdef", "paper-abcdef3", "paper-abcdef1"]


def test_a_server_names_somebody_unless_it_says_otherwise() -> None:
    with pytest.raises(ServerError, match="accounts"):
        ServerSettings.parse({"accounts": []})
