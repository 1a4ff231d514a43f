"""The redirect that ends a login in the browser: what is taken for the broker's answer, and what is waited over."""

import contextlib
import datetime as dt
import http.client
import re
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from ingest.errors import AuthError, RestError
from kitelake.accounts.login import log_in
from kitelake.accounts.logins import Login, store_login
from kitelake.accounts.redirect import RedirectServer, request_token_of
from kitelake.config.accounts import LoginSection
from storage.clock import IST
from tests.support.logins import (
    ANSWER,
    REDIRECT,
    TWO,
    Browser,
    account,
    browser,
    everything_is_logged,
    get,
    no_secret_shows,
    settings,
    simulator,
)
from tests.support.simulation import Simulation
from tests.support.waiting import PATIENCE_SECONDS

__all__ = ["browser", "everything_is_logged", "no_secret_shows", "settings", "simulator"]  # the fixtures


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


def test_the_status_of_a_redirect_counts_before_its_token() -> None:
    assert request_token_of(urlsplit(REDIRECT).query) == "canaryRequest"
    with pytest.raises(AuthError, match="another status than `success`"):
        request_token_of("request_token=canaryRequest&status=canary")
