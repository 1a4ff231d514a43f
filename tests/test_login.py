"""`kitelake login` against the simulator's REST server, with an HTTP client in the place of the browser."""

import contextlib
import datetime as dt
import http.client
import io
import logging
import os
import pty
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ingest.errors import AuthError, RestError
from kitelake.accounts import AccountSection, LoginSection, read_login, store_login
from kitelake.errors import ConfigError, StartError
from kitelake.login import login, request_token_of
from storage.schema import IST
from tests.simulation import ROOT, Simulation, simulation

ACCOUNTS = [
    {"name": "one", "api_key": "key-one", "access_token": "canaryAccess", "api_secret": "canarySecret"},
    {
        "name": "two",
        "api_key": "key-two",
        "access_token": "canaryTwo",
        "api_secret": "canarySecretTwo",
        "request_token": "canaryGood",
    },
]
REDIRECT = "/?action=login&type=login&status=success&request_token=canaryRequest"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulation]:
    with simulation(accounts=ACCOUNTS, instruments=100, requests_per_second=1000) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def _everything_is_logged() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.DEBUG)
    yield
    root.setLevel(level)


@pytest.fixture(autouse=True)
def _no_secret_shows(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    printed = capfd.readouterr()
    assert "canary" not in caplog.text + printed.out + printed.err


@pytest.fixture
def settings(tmp_path: Path) -> LoginSection:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return LoginSection(folder=tmp_path / "logins", port=port, page="https://broker.invalid/connect/login")


class Browser:
    """Answers `webbrowser.open` by visiting `paths` on the redirect port, in a thread; keeps what it saw there."""

    def __init__(self, settings: LoginSection, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[tuple[str, str]] = []
        self.opened: list[str] = []
        self.seen: list[tuple[int, str]] = []
        self._port = settings.port
        self._thread = threading.Thread(target=self._visit)
        monkeypatch.setattr("webbrowser.open", self._open)

    def then(self, path: str, host: str = "127.0.0.1") -> "Browser":
        self.paths.append((path, f"{host}:{self._port}"))
        return self

    def _open(self, url: str) -> bool:
        self.opened.append(url)
        self._thread.start()
        return True

    def _visit(self) -> None:
        for path, host in self.paths:
            self.seen.append(get(self._port, path, host))

    def close(self) -> list[tuple[int, str]]:
        if self.opened:
            self._thread.join(20)
        return self.seen


def get(port: int, path: str, host: str) -> tuple[int, str]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@pytest.fixture
def browser(settings: LoginSection, monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    one = Browser(settings, monkeypatch)
    yield one
    one.close()


def account(**changes: Any) -> AccountSection:
    return AccountSection.model_validate({"name": "one", "api_key": "key-one", "api_secret": "canarySecret", **changes})


def assert_clean(error: BaseException) -> None:
    text = "".join(traceback.format_exception(error))
    assert "canary" not in text + repr(error)


def test_a_login_in_the_browser_is_stored(
    simulator: Simulation, settings: LoginSection, browser: Browser, capfd: pytest.CaptureFixture[str]
) -> None:
    browser.then("/favicon.ico").then(REDIRECT)
    made = login(account(), api_url=simulator.api, section=settings, timeout_seconds=20)
    assert [status for status, _ in browser.close()] == [404, 200]
    assert "You are logged in. This window can be closed." in browser.seen[1][1]
    assert browser.opened == ["https://broker.invalid/connect/login?v=3&api_key=key-one"]
    printed = capfd.readouterr().out
    assert browser.opened[0] in printed
    assert "canary" not in printed
    assert settings.folder is not None
    assert read_login(settings.folder, "one") == made
    assert (made.user_id, made.access_token.get_secret_value()) == ("KL0001", "canaryAccess")
    assert abs(made.made_at - dt.datetime.now(IST)) < dt.timedelta(minutes=1)
    assert account().account(settings.folder).access_token == made.access_token
    assert "canary" not in repr(made)


def test_the_port_answers_when_the_prompt_is_printed(
    simulator: Simulation, settings: LoginSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[int] = []

    def printed(_: str) -> None:
        answers.append(get(settings.port, REDIRECT, f"127.0.0.1:{settings.port}")[0])

    monkeypatch.setattr("typer.echo", printed)
    login(account(), api_url=simulator.api, section=settings, open_browser=False, timeout_seconds=20)
    assert answers == [200]


def test_what_is_no_redirect_is_refused_and_waited_over(
    simulator: Simulation, settings: LoginSection, browser: Browser
) -> None:
    browser.then("/").then("/?status=success").then(REDIRECT, "evil.example").then(REDIRECT, "127.0.0.1.evil.example")
    browser.then(REDIRECT, "localhost")
    login(account(), api_url=simulator.api, section=settings, timeout_seconds=20)
    assert [status for status, _ in browser.close()] == [404, 404, 400, 400, 200]
    assert "canary" not in str(browser.seen)


def test_a_connection_that_says_nothing_does_not_hold_up_the_login(
    simulator: Simulation, settings: LoginSection, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Browsers open some ahead of their requests."""
    monkeypatch.setattr("kitelake.login._Handler.timeout", 5.0)
    browser.then(REDIRECT)
    opened: list[socket.socket] = []
    visit = browser._visit

    def ahead() -> None:
        opened.append(socket.create_connection(("127.0.0.1", settings.port)))
        visit()

    browser._thread = threading.Thread(target=ahead)
    login(account(), api_url=simulator.api, section=settings, timeout_seconds=20)
    for one in opened:
        one.close()


def test_a_user_who_declines(simulator: Simulation, settings: LoginSection, browser: Browser) -> None:
    browser.then("/?status=cancelled")
    with pytest.raises(AuthError, match="ended without a login: it gave another status than `success`"):
        login(account(), api_url=simulator.api, section=settings, timeout_seconds=20)
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
    simulator: Simulation, settings: LoginSection, browser: Browser, changes: dict[str, str], reason: str
) -> None:
    browser.then(REDIRECT)
    with pytest.raises(AuthError) as caught:
        login(account(**changes), api_url=simulator.api, section=settings, timeout_seconds=20)
    assert "see whether api_secret in config.yaml is the app's of now" in str(caught.value)
    assert reason in str(caught.value)
    assert_clean(caught.value)
    assert "Not logged in: the broker refuses the login" in browser.close()[0][1]
    assert "canary" not in str(browser.seen)


def test_a_broker_that_is_not_there(settings: LoginSection, browser: Browser) -> None:
    browser.then(REDIRECT)
    with pytest.raises(RestError, match="POST /session/token for account one failed: ConnectError") as caught:
        login(account(), api_url="http://127.0.0.1:9", section=settings, timeout_seconds=20)
    assert_clean(caught.value)


def test_the_new_token_is_checked_before_it_is_stored(
    simulator: Simulation, settings: LoginSection, browser: Browser
) -> None:
    simulator.fault("rest", status=403, path="/user/profile", times=1)
    browser.then(REDIRECT)
    with pytest.raises(AuthError, match="GET /user/profile"):
        login(account(), api_url=simulator.api, section=settings, timeout_seconds=20)
    assert settings.folder is not None
    assert list(settings.folder.iterdir()) == []


def test_a_mistake_of_our_own_ends_the_login_too(
    simulator: Simulation, settings: LoginSection, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("kitelake.login.store_login", fail)
    browser.then(REDIRECT)
    with pytest.raises(ZeroDivisionError):
        login(account(), api_url=simulator.api, section=settings, timeout_seconds=20)
    assert browser.close()[0][1].endswith("<p>Not logged in.")


def test_one_redirect_is_completed_and_no_other(
    simulator: Simulation, settings: LoginSection, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one comes while the first one is being exchanged."""
    seen: list[tuple[int, str]] = []

    def store(*arguments: Any) -> object:
        seen.append(get(settings.port, REDIRECT, f"127.0.0.1:{settings.port}"))
        return store_login(*arguments)

    monkeypatch.setattr("kitelake.login.store_login", store)
    browser.then(REDIRECT)
    login(account(), api_url=simulator.api, section=settings, timeout_seconds=20)
    assert seen[0][0] == 409
    assert len(seen) == 1


def test_nobody_logs_in(settings: LoginSection, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AuthError, match=r"nobody logged in within 0\.1 s"):
        login(account(), api_url="http://127.0.0.1:9", section=settings, open_browser=False, timeout_seconds=0.1)
    assert "https://broker.invalid/connect/login?v=3&api_key=key-one" in capfd.readouterr().out


def test_a_port_in_use(settings: LoginSection, browser: Browser) -> None:
    with socket.create_server(("127.0.0.1", settings.port)), pytest.raises(StartError, match=r"is in use.*--paste"):
        login(account(), api_url="http://127.0.0.1:9", section=settings)
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
        login(account(**changes), api_url="http://127.0.0.1:9", section=settings)
    assert not browser.opened


def test_a_folder_that_cannot_hold_the_login_is_told_before_it_is_made(
    settings: LoginSection, browser: Browser
) -> None:
    assert settings.folder is not None
    settings.folder.mkdir()
    settings.folder.chmod(0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        login(account(), api_url="http://127.0.0.1:9", section=settings)
    assert not browser.opened


# Pasted


@pytest.mark.parametrize(
    "pasted",
    [
        "canaryGood",
        "  canaryGood \n",
        "http://127.0.0.1:8710/?action=login&status=success&request_token=canaryGood",
        "https://app.example/back?request_token=canaryGood&action=login&status=success#",
        "action=login&request_token=canaryGood",
    ],
)
def test_what_is_pasted_logs_in_without_listening(
    simulator: Simulation, settings: LoginSection, browser: Browser, monkeypatch: pytest.MonkeyPatch, pasted: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(pasted))
    two = account(name="two", api_key="key-two", api_secret="canarySecretTwo")
    with socket.create_server(("127.0.0.1", settings.port)):
        made = login(two, api_url=simulator.api, section=settings, paste=True)
    assert made.access_token.get_secret_value() == "canaryTwo"
    assert not browser.opened


@pytest.mark.parametrize(
    "pasted", ["", "\n", "two canaryWords", "https://broker.invalid/connect/login?v=3&api_key=canary", "http://[/?a=b"]
)
def test_what_is_pasted_is_no_request_token(
    settings: LoginSection, monkeypatch: pytest.MonkeyPatch, pasted: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(pasted))
    with pytest.raises(AuthError, match="no request_token and no address with one") as caught:
        login(account(), api_url="http://127.0.0.1:9", section=settings, paste=True)
    assert_clean(caught.value)


def test_the_status_of_a_redirect_counts_before_its_token() -> None:
    assert request_token_of(urlsplit(REDIRECT).query) == "canaryRequest"
    with pytest.raises(AuthError, match="another status than `success`"):
        request_token_of("request_token=canaryRequest&status=canary")


@pytest.mark.slow
def test_a_terminal_does_not_show_what_is_pasted(simulator: Simulation, settings: LoginSection) -> None:
    code = """
import sys
from pathlib import Path
from kitelake.accounts import AccountSection, LoginSection
from kitelake.login import login
api_url, folder, secret = sys.argv[1:]
account = AccountSection.model_validate({"name": "one", "api_key": "key-one", "api_secret": secret})
made = login(account, api_url=api_url, section=LoginSection(folder=Path(folder)), paste=True)
print("logged in as", made.user_id)
"""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code, simulator.api, str(settings.folder), "canarySecret"],
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # Linux's end of file of a terminal
        while chunk := os.read(ours, 4096):
            shown += chunk
            if shown.endswith(b"request_token in it: "):
                os.write(ours, b"canaryRequest\n")
    assert process.wait(20) == 0
    os.close(ours)
    assert b"logged in as KL0001" in shown
    assert b"canary" not in shown
