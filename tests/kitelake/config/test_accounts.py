"""The sections of accounts and of the login: what they may say, and that none shows a secret."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from kitelake.accounts.logins import account_of
from kitelake.config.accounts import AccountSection, LoginSection
from tests.support.accounts import CANARY, NOWHERE, section


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ({"vault": "x"}, r"expected \{env: NAME\}, \{file: PATH\}, \{command: WORDS\} or the text itself"),
        ({"env": "A", "file": "/b"}, r"expected \{env: NAME\}"),
        ({"env": 7}, r"expected \{env: NAME\}"),
        ({"file": "canary/token"}, "expected an absolute path, or one that begins with ~"),
        ({"command": ""}, r"expected \{command: WORDS\}: text as for a shell, or a list of words"),
        ({"command": []}, r"expected \{command: WORDS\}"),
        ({"command": ["", "x"]}, r"expected \{command: WORDS\}"),
        ({"command": ["x", 7]}, r"expected \{command: WORDS\}"),
        ({"command": "pass 'canary"}, "here a quote is not closed"),
        ({"command": ["canary\0"]}, "without control characters"),
        ({"command": ["canary\ud800"]}, "without control characters"),
        ("", "it is empty"),
        ("canary Token", "it holds spaces"),
        (7, r"expected \{env: NAME\}"),
    ],
)
def test_what_says_no_source_is_refused_at_load(token: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        section(token)
    assert "canaryT" not in str(caught.value)


def test_an_empty_access_token_is_a_mistake_and_an_absent_one_is_not() -> None:
    with pytest.raises(ValidationError, match="delete the key to use what `kitelake login` stores"):
        AccountSection.model_validate({"name": "mine", "api_key": "key", "access_token": None})
    assert section().access_token is None


def test_no_section_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITELAKE_TEST_TOKEN", "canaryVariable")
    for token in (CANARY, {"env": "KITELAKE_TEST_TOKEN"}, {"command": "pass show canaryName"}):
        one = section(token, api_secret="canarySecret")
        for shown in (
            repr(one),
            str(one),
            one.model_dump_json(),
            repr(account_of(one, NOWHERE)),
            repr(one.model_dump()),
        ):
            assert "canary" not in shown
    assert section(CANARY, api_secret="canarySecret").secrets() == ["key-one", "canarySecret", CANARY]
    assert section({"env": "KITELAKE_TEST_TOKEN"}).secrets() == ["key-one", "canaryVariable"]
    monkeypatch.delenv("KITELAKE_TEST_TOKEN")
    assert section({"env": "KITELAKE_TEST_TOKEN"}).secrets() == ["key-one"]


def test_where_logins_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/one")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert LoginSection().logins() == Path("/home/one/.local/state/kitelake/logins")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert LoginSection().logins() == Path("/home/one/.local/state/kitelake/logins")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert LoginSection().logins() == Path("/state/kitelake/logins")
    assert LoginSection.model_validate({"folder": "~/logins"}).logins() == Path("/home/one/logins")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"folder": "logins"}, "expected an absolute path, or one that begins with ~"),
        ({"folder": ""}, "expected the path of a folder"),
        ({"port": 0}, "greater than or equal to 1"),
        ({"page": "ftp://x"}, r"expected https://HOST\[:PORT\] or http://HOST"),
        ({"pages": "x"}, "Extra inputs"),
    ],
)
def test_a_login_section_that_cannot_be(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LoginSection.model_validate(given)
