"""`kitelake login`: the day's login in the browser, and the access token that comes of it, stored.

The broker sends the browser back to the app's redirect URL, which is a port of this machine, with a `request_token`
that serves once and for some minutes. Together with the app's api_secret it is exchanged for the access token of the
day (Kite Connect v3 docs, user). Where no browser can reach this machine, the user pastes the URL instead.

No token is in a log or on the screen.
"""

import asyncio
import datetime as dt
import getpass
import secrets
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Final

import typer

from ingest.accounts import Account, KiteRest, login_url
from ingest.errors import AuthError
from kitelake.accounts.logins import Login, prepare_logins, read_login, store_login
from kitelake.accounts.redirect import NO_ANSWER, STATE, RedirectServer, brings_back, request_token_of
from kitelake.config import AccountSection, LoginSection
from kitelake.errors import ConfigError
from storage.clock import IST

LOGIN_SECONDS: Final = 300.0
PASTES: Final = 3
"""So often may be pasted what is not good."""


def log_in(
    account: AccountSection,
    *,
    api_url: str,
    section: LoginSection,
    open_browser: bool = True,
    paste: bool = False,
    timeout_seconds: float = LOGIN_SECONDS,
) -> Login:
    """Log in to one account and store what comes of it, in place of the login before.

    `paste` reads the redirect URL, or the request_token in it, from standard input and does not listen. An answer that
    is not good is refused, in words, and another one waited for.

    Raises ConfigError if config.yaml lacks what a login needs, StartError if the port cannot be listened on, AuthError
    if nobody logs in within the time or by what was pasted, and RestError if the broker cannot be asked.
    """
    if account.access_token is not None:
        raise ConfigError(
            f"account {account.name} does not use stored logins: delete its access_token from config.yaml to do so"
        )
    if account.api_secret is None:
        raise ConfigError(f"account {account.name}: a login needs the app's secret: add api_secret beside api_key")
    folder = section.logins()
    prepare_logins(folder)  # before the one request_token is spent
    app = Account(account.name, account.api_key.get_secret_value(), api_secret=account.api_secret)
    state = secrets.token_urlsafe(16)
    url = login_url(app, section.page, {STATE: state})

    def exchange(request_token: str, bound: bool) -> Login:
        made = asyncio.run(_exchange(app, api_url, request_token))
        if not bound:
            _check_user(folder, app.name, made)
        return made

    def store(made: Login) -> None:
        store_login(folder, app.name, made)

    if paste:
        typer.echo(f"Log in to account {app.name} in any browser:\n\n  {url}\n")
        made = _pasted(state, lambda request_token: exchange(request_token, True))  # the user says that it is this one
        store(made)
        return made
    with RedirectServer(section.port, state, exchange, store, _say_refused) as server:
        typer.echo(f"Log in to account {app.name} in a browser of this machine:\n\n  {url}\n")
        if open_browser:
            webbrowser.open(url)
        return server.result(timeout_seconds)


async def _exchange(account: Account, api_url: str, request_token: str) -> Login:
    """The access token for the request token, once the broker has taken it."""
    async with KiteRest(api_url, account) as rest:
        try:
            account.replace_token(await rest.session_token(request_token))
            made_at = dt.datetime.now(IST)
            profile = await rest.profile()
        except AuthError as error:
            raise AuthError(
                "the broker refuses the login: log in again (a request_token serves once, for some minutes), and if "
                f"that does not help, see whether api_secret in config.yaml is the app's of now ({error})"
            ) from None
    return Login(access_token=account.access_token, user_id=str(profile.get("user_id", "")), made_at=made_at)


def _check_user(folder: Path, account: str, made: Login) -> None:
    """Raises AuthError if the login before was another user's: nothing says that this answer is to our question."""
    try:
        before = read_login(folder, account).user_id
    except ValueError:
        return
    if before != made.user_id:
        raise AuthError(
            f"the answer has no state that binds it to this login, and is of user {made.user_id}, expected {before} "
            "as in the login before: use --paste to log in as another user"
        )


def _pasted(state: str, exchange: Callable[[str], Login]) -> Login:
    """The login by what the user pastes: the request token, by itself or in the redirect URL. It is not shown.

    Raises AuthError for the last of several pastes that are not good, or at the end of the input.
    """
    prompt = "Then paste the address that the browser ended at, or the request_token in it: "
    refusal = AuthError(NO_ANSWER)
    for _ in range(PASTES):
        given = _read_secret(prompt)
        if not given:
            break
        query = given.strip().partition("#")[0].rpartition("?")[2]
        query = query if "=" in query else f"request_token={query}"
        try:
            brings_back(query, state)
            return exchange(request_token_of(query))
        except AuthError as error:
            refusal = error
            _say_refused(str(error))
    raise refusal


def _read_secret(prompt: str) -> str:
    """A line of standard input with its end; empty at the end of it."""
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    try:
        return getpass.getpass(prompt) + "\n"
    except EOFError:
        return ""


def _say_refused(why: str) -> None:
    typer.echo(f"An answer was not taken: {why}", err=True)
