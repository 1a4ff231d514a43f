"""`kitelake login` against the simulator's REST server, with an HTTP client in the place of the browser."""

import datetime as dt
import html
import re
import socket
from typing import Any

import pytest

from ingest.errors import AuthError, RestError
from kitelake.accounts.login import log_in
from kitelake.accounts.logins import account_of, read_login
from kitelake.config.accounts import LoginSection
from kitelake.errors import ConfigError, StartError
from storage.clock import IST
from tests.support.logins import (
    REDIRECT,
    Browser,
    account,
    assert_clean,
    browser,
    everything_is_logged,
    get,
    no_secret_shows,
    settings,
    simulator,
)
from tests.support.simulation import Simulation

__all__ = ["browser", "everything_is_logged", "no_secret_shows", "settings", "simulator"]  # the fixtures


def test_a_login_in_the_browser_is_stored(
    simulator: Simulation, settings: LoginSection, browser: Browser, capfd: pytest.CaptureFixture[str]
) -> None:
    browser.then("/favicon.ico").then(REDIRECT)
    made = log_in(account(), api_url=simulator.api, section=settings, timeout_seconds=60)
    assert [status for status, _ in browser.close()] == [404, 200]
    assert "You are logged in. This window can be closed." in browser.seen[1][1]
    (opened,) = browser.opened
    assert re.fullmatch(
        r"https://broker\.invalid/connect/login\?v=3&api_key=key-one&redirect_params=state%3D[\w-]{22}", opened
    )
    printed = capfd.readouterr().out
    assert browser.opened[0] in printed
    assert "canary" not in printed
    assert settings.folder is not None
    assert read_login(settings.folder, "one") == made
    assert (made.user_id, made.access_token.get_secret_value()) == ("KL0001", "canaryAccess")
    assert abs(made.made_at - dt.datetime.now(IST)) < dt.timedelta(minutes=1)
    assert account_of(account(), settings.folder).access_token == made.access_token
    assert "canary" not in repr(made)


def test_the_port_answers_when_the_prompt_is_printed(
    simulator: Simulation, settings: LoginSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[int] = []

    def printed(_: str) -> None:
        answers.append(get(settings.port, REDIRECT, f"127.0.0.1:{settings.port}")[0])

    monkeypatch.setattr("typer.echo", printed)
    log_in(account(), api_url=simulator.api, section=settings, open_browser=False, timeout_seconds=60)
    assert answers == [200]


def test_a_user_who_declines(simulator: Simulation, settings: LoginSection, browser: Browser) -> None:
    browser.then("/?status=cancelled&STATE")
    with pytest.raises(AuthError, match=r"^the broker's page ended without a login: it gave another status than `succ"):
        log_in(account(), api_url=simulator.api, section=settings, timeout_seconds=60)
    assert "Not logged in: the broker&#x27;s page ended without a login" in browser.close()[0][1]
    assert settings.folder is not None
    assert list(settings.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"api_secret": "canaryWrong"}, "403 TokenException Invalid `checksum`."),
        ({"api_key": "key-none"}, "403 TokenException Invalid `api_key`."),
        (
            {"name": "two", "api_key": "key-two", "api_secret": "canarySecretTwo"},
            "403 TokenException Token is invalid or has expired.",
        ),
    ],
)
def test_a_broker_that_refuses_the_login(
    simulator: Simulation,
    settings: LoginSection,
    browser: Browser,
    capfd: pytest.CaptureFixture[str],
    changes: dict[str, str],
    reason: str,
) -> None:
    """Another answer is waited for: here, that the user declines."""
    browser.then(f"{REDIRECT}&STATE").then("/?status=cancelled&STATE")
    with pytest.raises(AuthError, match="another status than"):
        log_in(account(**changes), api_url=simulator.api, section=settings, timeout_seconds=60)
    (status, page), _ = browser.close()
    assert status == 403
    text = html.unescape(page).partition("Not logged in: ")[2]
    assert text.startswith("the broker refuses the login: log in again")
    assert "see whether api_secret in config.yaml is the app's of now" in text
    assert reason in text
    assert text.endswith(". `kitelake login` goes on waiting.")
    assert (
        f"An answer was not taken: {text.removesuffix('. `kitelake login` goes on waiting.')}\n"
        in capfd.readouterr().err
    )
    assert "canary" not in str(browser.seen)


def test_a_broker_that_is_not_there(settings: LoginSection, browser: Browser) -> None:
    browser.then(REDIRECT)
    with pytest.raises(RestError, match="POST /session/token for account one failed: ConnectError") as caught:
        log_in(account(), api_url="http://127.0.0.1:9", section=settings, timeout_seconds=60)
    assert_clean(caught.value)


def test_the_new_token_is_checked_before_it_is_stored(
    simulator: Simulation, settings: LoginSection, browser: Browser
) -> None:
    simulator.fault("rest", status=403, path="/user/profile", times=1)
    browser.then(REDIRECT).then("/?status=cancelled&STATE")
    with pytest.raises(AuthError, match="another status than"):
        log_in(account(), api_url=simulator.api, section=settings, timeout_seconds=60)
    assert "GET /user/profile" in browser.close()[0][1]
    assert settings.folder is not None
    assert list(settings.folder.iterdir()) == []


def test_a_mistake_of_our_own_ends_the_login_too(
    simulator: Simulation, settings: LoginSection, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("kitelake.accounts.login.store_login", fail)
    browser.then(REDIRECT)
    with pytest.raises(ZeroDivisionError):
        log_in(account(), api_url=simulator.api, section=settings, timeout_seconds=60)
    assert browser.close()[0][1].endswith("<p>Not logged in.")


def test_nobody_logs_in(settings: LoginSection, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AuthError, match=r"nobody logged in within 0\.1 s"):
        log_in(account(), api_url="http://127.0.0.1:9", section=settings, open_browser=False, timeout_seconds=0.1)
    assert "https://broker.invalid/connect/login?v=3&api_key=key-one" in capfd.readouterr().out


def test_a_port_in_use(settings: LoginSection, browser: Browser) -> None:
    with socket.create_server(("127.0.0.1", settings.port)), pytest.raises(StartError, match=r"is in use.*--paste"):
        log_in(account(), api_url="http://127.0.0.1:9", section=settings)
    assert not browser.opened


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"api_secret": None}, "account one: a login needs the app's secret: add api_secret beside api_key"),
        ({"access_token": "canaryText"}, "does not use stored logins: delete its access_token from config.yaml"),
    ],
)
def test_a_config_that_a_login_cannot_use(
    settings: LoginSection, browser: Browser, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        log_in(account(**changes), api_url="http://127.0.0.1:9", section=settings)
    assert not browser.opened


def test_a_folder_that_cannot_hold_the_login_is_told_before_it_is_made(
    settings: LoginSection, browser: Browser
) -> None:
    assert settings.folder is not None
    settings.folder.mkdir()
    settings.folder.chmod(0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        log_in(account(), api_url="http://127.0.0.1:9", section=settings)
    assert not browser.opened
