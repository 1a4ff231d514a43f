"""`kitelake login` against the simulator's REST server, with an HTTP client in the place of the browser."""

import contextlib
import datetime as dt
import html
import http.client
import io
import logging
import os
import pty
import re
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from ingest.errors import AuthError, RestError
from kitelake.accounts.login import log_in
from kitelake.accounts.logins import Login, account_of, read_login, store_login
from kitelake.accounts.redirect import RedirectServer, request_token_of
from kitelake.config.accounts import AccountSection, LoginSection
from kitelake.errors import ConfigError, StartError
from storage.clock import IST
from tests.support.simulation import ROOT, Simulation, simulation
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


def test_what_is_no_redirect_is_refused_and_waited_over(
    simulator: Simulation, settings: LoginSection, browser: Browser
) -> None:
    browser.then("/").then("/?status=success").then(REDIRECT, "evil.example").then(REDIRECT, "127.0.0.1.evil.example")
    browser.then(REDIRECT, "localhost")
    log_in(account(), api_url=simulator.api, section=settings, timeout_seconds=60)
    assert [status for status, _ in browser.close()] == [404, 404, 400, 400, 200]
    assert "canary" not in str(browser.seen)


def test_a_connection_that_says_nothing_does_not_hold_up_the_login(
    simulator: Simulation, settings: LoginSection, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Browsers open some ahead of their requests."""
    monkeypatch.setattr("kitelake.accounts.redirect.IDLE_SECONDS", 5.0)
    browser.then(REDIRECT)
    opened: list[socket.socket] = []
    visit = browser._visit

    def ahead() -> None:
        opened.append(socket.create_connection(("127.0.0.1", settings.port)))
        visit()

    browser._thread = threading.Thread(target=ahead)
    log_in(account(), api_url=simulator.api, section=settings, timeout_seconds=60)
    for one in opened:
        one.close()


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


def test_an_answer_that_is_not_good_is_refused_and_waited_over(
    simulator: Simulation, settings: LoginSection, browser: Browser
) -> None:
    """Whoever sends it, and with the state or without."""
    browser.then(f"{ANSWER}canaryWrong").then(f"{ANSWER}canaryWrong&STATE").then(f"{ANSWER}two%20canaryWords")
    browser.then("/?status=cancelled").then(f"{ANSWER}canaryGood&STATE")
    made = log_in(TWO, api_url=simulator.api, section=settings, timeout_seconds=60)
    assert made.access_token.get_secret_value() == "canaryTwo"
    assert [status for status, _ in browser.close()] == [403, 403, 403, 403, 200]
    assert "canary" not in str(browser.seen)


def test_an_answer_with_another_state_is_not_brought_to_the_broker(
    simulator: Simulation, settings: LoginSection, browser: Browser
) -> None:
    simulator.fault("rest", status=500, path="/session/token", times=1)  # for the first that is
    browser.then(f"{REDIRECT}&state=canary").then(f"{REDIRECT}&STATE&state=x").then("/?status=cancelled&state=x")
    browser.then(f"{REDIRECT}&STATE")
    with pytest.raises(RestError, match="500"):
        log_in(account(), api_url=simulator.api, section=settings, timeout_seconds=60)
    assert [status for status, _ in browser.close()] == [403, 403, 403, 200]
    assert "that is the answer to another login than this one" in browser.seen[0][1]
    assert "canary" not in str(browser.seen)


@pytest.mark.parametrize(("before", "statuses"), [("KL0001", [200]), ("AB1234", [403, 200])])
def test_an_answer_without_a_state_is_taken_of_the_user_who_was_logged_in_before(
    simulator: Simulation, settings: LoginSection, browser: Browser, before: str, statuses: list[int]
) -> None:
    assert settings.folder is not None
    earlier = Login(access_token=SecretStr("x"), user_id=before, made_at=dt.datetime.now(IST))
    store_login(settings.folder, "two", earlier)
    for state in ("", "&STATE")[: len(statuses)]:
        browser.then(f"{ANSWER}canaryGood{state}")
    log_in(TWO, api_url=simulator.api, section=settings, timeout_seconds=60)
    assert [status for status, _ in browser.close()] == statuses
    refusal = "has no state that binds it to this login, and is of user KL0001, expected AB1234 as in the login before"
    assert (refusal in browser.seen[0][1]) is (before == "AB1234")


@pytest.mark.parametrize(("loaded_for", "status"), [("image", 400), ("iframe", 400), ("empty", 400), ("document", 200)])
def test_what_a_browser_loads_for_a_page_is_no_answer(
    simulator: Simulation, settings: LoginSection, browser: Browser, loaded_for: str, status: int
) -> None:
    def visit() -> None:
        host = f"127.0.0.1:{settings.port}"
        browser.seen.append(get(settings.port, REDIRECT, host, **{"Sec-Fetch-Dest": loaded_for}))
        if status != 200:
            get(settings.port, REDIRECT, host)

    browser._thread = threading.Thread(target=visit)
    log_in(account(), api_url=simulator.api, section=settings, timeout_seconds=60)
    assert [status for status, _ in browser.close()] == [status]


def test_the_way_there_and_back_by_the_brokers_login_page(
    simulator: Simulation, settings: LoginSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page passes on what binds the answer to the question."""
    seen: list[tuple[str, int]] = []
    threads: list[threading.Thread] = []

    def visit(page: str) -> None:
        with contextlib.closing(http.client.HTTPConnection(urlsplit(page).netloc, timeout=PATIENCE_SECONDS)) as broker:
            broker.request("GET", page.partition(urlsplit(page).netloc)[2])
            way_back = broker.getresponse().headers["Location"]
        ours = f"127.0.0.1:{settings.port}"  # instead of the port in the app's redirect URL
        seen.append((way_back, get(settings.port, f"/?{urlsplit(way_back).query}", ours)[0]))

    def visit_beside(page: str) -> bool:
        threads.append(threading.Thread(target=visit, args=(page,), daemon=True))
        threads[0].start()
        return True

    monkeypatch.setattr("webbrowser.open", visit_beside)
    section = settings.model_copy(update={"page": f"{simulator.api}/connect/login"})
    assert settings.folder is not None
    other = Login(access_token=SecretStr("x"), user_id="AB1234", made_at=dt.datetime.now(IST))
    store_login(settings.folder, "two", other)  # without the state this user would not be changed
    made = log_in(TWO, api_url=simulator.api, section=section, timeout_seconds=60)
    assert made.user_id == "KL0001"
    threads[0].join(60)
    ((url, status),) = seen
    assert status == 200
    assert re.fullmatch(r"http://127\.0\.0\.1:8710/\?action=login&.*&request_token=canaryGood&state=[\w-]{22}", url)


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


def test_one_redirect_is_completed_and_no_other(
    simulator: Simulation, settings: LoginSection, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one comes while the first one is being exchanged."""
    seen: list[tuple[int, str]] = []

    def store(*arguments: Any) -> object:
        seen.append(get(settings.port, REDIRECT, f"127.0.0.1:{settings.port}"))
        return store_login(*arguments)

    monkeypatch.setattr("kitelake.accounts.login.store_login", store)
    browser.then(REDIRECT)
    log_in(account(), api_url=simulator.api, section=settings, timeout_seconds=60)
    assert seen[0][0] == 409
    assert len(seen) == 1


def test_the_end_says_why_the_last_answer_was_not_taken(settings: LoginSection) -> None:
    refused: list[str] = []

    def exchange(request_token: str, bound: bool) -> Login:
        raise AuthError("of no use")

    with RedirectServer(settings.port, "state", exchange, lambda _: None, refused.append) as server:
        assert get(settings.port, REDIRECT, f"127.0.0.1:{settings.port}")[0] == 403
        with pytest.raises(
            AuthError, match=r"^nobody .* 0\.01 s: try again \(the last answer was not taken: of no use\)$"
        ):
            server.result(0.01)
        assert get(settings.port, REDIRECT, f"127.0.0.1:{settings.port}")[0] == 409
    assert refused == ["of no use"]


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
    with socket.create_server(("127.0.0.1", settings.port)):
        made = log_in(TWO, api_url=simulator.api, section=settings, paste=True)
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
        log_in(account(), api_url="http://127.0.0.1:9", section=settings, paste=True)
    assert_clean(caught.value)


@pytest.mark.parametrize(
    ("lines", "refusals"),
    [
        (["canaryWrong", f"http://127.0.0.1:8710{ANSWER}canaryGood&state=canaryOther", "canaryGood"], 2),
        (["", "?status=cancelled", "canaryGood", "canaryWrong"], 2),
        (["canaryWrong", "canaryWrong", "canaryWrong", "canaryGood"], None),
        (["canaryWrong"], None),
    ],
)
def test_after_what_is_pasted_wrong_another_may_be_pasted(
    simulator: Simulation,
    settings: LoginSection,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    lines: list[str],
    refusals: int | None,
) -> None:
    """Three in all, and as long as there is something to read."""
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    if refusals is None:
        with pytest.raises(AuthError, match="the broker refuses the login"):
            log_in(TWO, api_url=simulator.api, section=settings, paste=True)
        refusals = min(len(lines), 3)
    else:
        log_in(TWO, api_url=simulator.api, section=settings, paste=True)
    printed = capfd.readouterr()
    assert printed.err.count("An answer was not taken: ") == refusals
    assert "canary" not in printed.out + printed.err


def test_the_status_of_a_redirect_counts_before_its_token() -> None:
    assert request_token_of(urlsplit(REDIRECT).query) == "canaryRequest"
    with pytest.raises(AuthError, match="another status than `success`"):
        request_token_of("request_token=canaryRequest&status=canary")


@pytest.mark.slow
def test_a_terminal_does_not_show_what_is_pasted(simulator: Simulation, settings: LoginSection) -> None:
    code = """
import sys
from pathlib import Path
from kitelake.config.accounts import AccountSection, LoginSection
from kitelake.accounts.login import log_in
api_url, folder, secret = sys.argv[1:]
account = AccountSection.model_validate({"name": "one", "api_key": "key-one", "api_secret": secret})
made = log_in(account, api_url=api_url, section=LoginSection(folder=Path(folder)), paste=True)
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
    assert process.wait(60) == 0
    os.close(ours)
    assert b"logged in as KL0001" in shown
    assert b"canary" not in shown
