"""The broker's login page, as far as a browser that logs in without a word sees it: the way back to the app.

Kite Connect v3 docs, user, login flow: the page is opened with `v=3` and `api_key`; it sends the browser to the app's
redirect URL with a `request_token`, and with what `redirect_params` held, a query string that was encoded once more.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from ingest.server.settings import AccountSettings

LOGIN_PATH: Final = "/connect/login"


def way_back(account: AccountSettings, query: Mapping[str, Sequence[str]]) -> str:
    """Where the page sends the browser once the account's user has logged in. `query` is the page's own."""
    expected = account.request_token
    request_token = secrets.token_hex(16) if expected is None else expected.get_secret_value()
    values = [("action", "login"), ("type", "login"), ("status", "success"), ("request_token", request_token)]
    passed_on = parse_qsl(query.get("redirect_params", [""])[0], keep_blank_values=True)
    url = account.redirect_url
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(values + passed_on)}"
