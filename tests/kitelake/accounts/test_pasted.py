"""`kitelake login --paste`: what is pasted logs in, what is no token is asked for again, and none shows."""

import contextlib
import io
import os
import pty
import socket
import subprocess
import sys

import pytest

from ingest.errors import AuthError
from kitelake.accounts.login import log_in
from kitelake.config.accounts import LoginSection
from tests.support.logins import (
    ANSWER,
    TWO,
    Browser,
    account,
    assert_clean,
    browser,
    everything_is_logged,
    no_secret_shows,
    settings,
    simulator,
)
from tests.support.simulation import ROOT, Simulation

__all__ = ["browser", "everything_is_logged", "no_secret_shows", "settings", "simulator"]  # the fixtures


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
