"""What `kitelake login` needs: a simulator of accounts with secrets, and an HTTP client in the place of the browser."""

import contextlib
import http.client
import logging
import socket
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from kitelake.config.accounts import AccountSection, LoginSection
from tests.support.simulation import Simulation, simulation
from tests.support.waiting import PATIENCE_SECONDS

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
ANSWER = "/?action=login&type=login&status=success&request_token="
REDIRECT = f"{ANSWER}canaryRequest"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulation]:
    with simulation(accounts=ACCOUNTS, instruments=100, requests_per_second=1000) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def everything_is_logged() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.DEBUG)
    yield
    root.setLevel(level)


@pytest.fixture(autouse=True)
def no_secret_shows(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    printed = capfd.readouterr()
    assert "canary" not in caplog.text + printed.out + printed.err


@pytest.fixture
def settings(tmp_path: Path) -> LoginSection:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return LoginSection(folder=tmp_path / "logins", port=port, page="https://broker.invalid/connect/login")


class Browser:
    """Answers `webbrowser.open` by visiting `paths` on the redirect port, in a thread; keeps what it saw there.

    `&STATE` in a path is what the broker brings back.
    """

    def __init__(self, settings: LoginSection, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[tuple[str, str]] = []
        self.opened: list[str] = []
        self.seen: list[tuple[int, str]] = []
        self.headers: dict[str, str] = {}
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
        (redirect_params,) = parse_qs(urlsplit(self.opened[0]).query)["redirect_params"]
        for path, host in self.paths:
            self.seen.append(get(self._port, path.replace("&STATE", f"&{redirect_params}"), host, **self.headers))

    def close(self) -> list[tuple[int, str]]:
        if self.opened:
            self._thread.join(60)
        return self.seen


def get(port: int, path: str, host: str, **headers: str) -> tuple[int, str]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)) as connection:
        connection.request("GET", path, headers={"Host": host, **headers})
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


TWO = account(name="two", api_key="key-two", api_secret="canarySecretTwo")
