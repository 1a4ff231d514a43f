"""The few REST calls that capture needs: the day's login, who is logged in, the instrument list.

Errors are typed and carry the broker's message and its name for the error. No secret gets into a text: what the
broker answers passes through the account's redactor, and an exception of the HTTP library, whose request holds the
token in a header, is not chained.

Source: Kite Connect v3 docs (user, market quotes and instruments, exceptions).
"""

import functools
import hashlib
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode, urlsplit

import httpx
from pydantic import SecretStr

from ingest.accounts.account import Account
from ingest.errors import AuthError, RestError

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
TOKEN_ERROR: Final = "TokenException"  # noqa: S105 (the broker's name of an error)
TIMEOUT_SECONDS: Final = 30.0
MAX_QUOTED: Final = 300


@functools.cache
def tls_context() -> ssl.SSLContext:
    """The authorities by which HTTPS is checked. Reading them takes so long that the streams would wait for it: it is
    done once in a process."""
    return httpx.create_ssl_context()


def login_url(account: Account, page: str, redirect_params: Mapping[str, str] | None = None) -> str:
    """Where the user logs in. The browser comes back to the app's redirect URL with a `request_token`.

    It brings `redirect_params` back as further parameters (https://kite.trade/docs/connect/v3/user/, login flow).
    """
    query = {"v": "3", "api_key": account.api_key}
    if redirect_params:
        query["redirect_params"] = urlencode(redirect_params)
    return f"{page}?{urlencode(query)}"


class KiteRest:
    """REST calls of one account. `async with KiteRest(base_url, account) as rest: …`

    Every call raises AuthError when the broker refuses the credentials or one is missing, and RestError, which says
    whether the same call may succeed later, for everything else.
    """

    def __init__(self, base_url: str, account: Account, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected http://HOST or https://HOST as the address of the REST API")
        self.account = account
        self._redact = account.redactor()
        self._client = httpx.AsyncClient(
            base_url=base_url,
            verify=tls_context(),
            headers={"X-Kite-Version": "3"},
            timeout=timeout_seconds,
            trust_env=parts.hostname not in LOOPBACK,  # no proxy lies between us and a simulator
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give up the connections. Safe to call twice."""
        await self._client.aclose()

    async def instruments(self, exchange: str | None = None) -> bytes:
        """The instrument list of today, or of one exchange, as CSV bytes for `parse_instruments`.

        The broker gives it without an access token, too; one that is there is sent along.
        """
        path = "/instruments" if exchange is None else f"/instruments/{exchange}"
        return (await self._call("GET", path, needs_token=False)).content

    async def profile(self) -> dict[str, Any]:
        """Who is logged in: `user_id`, `user_name`, `exchanges`, …"""
        return self._data(await self._call("GET", "/user/profile"))

    async def session_token(self, request_token: str) -> SecretStr:
        """Exchange the `request_token` of a login for the day's access token. Needs the account's `api_secret`.

        The account's redactor learns of both tokens.
        """
        self._redact.learn(SecretStr(request_token))
        if self.account.api_secret is None:
            raise AuthError(f"account {self.account.name} has no api_secret, which a login needs")
        secret = self.account.api_secret.get_secret_value()
        checksum = hashlib.sha256((self.account.api_key + request_token + secret).encode()).hexdigest()
        form = {"api_key": self.account.api_key, "request_token": request_token, "checksum": checksum}
        data = self._data(await self._call("POST", "/session/token", form=form))
        token = data.get("access_token")
        if not isinstance(token, str) or not token:
            raise RestError(
                "the broker's answer to the login has no access_token", status=200, error_type="", retryable=False
            )
        self._redact.learn(SecretStr(token))
        return SecretStr(token)

    async def _call(
        self, method: str, path: str, *, form: dict[str, str] | None = None, needs_token: bool = True
    ) -> httpx.Response:
        headers = {}
        if form is None:
            token = self.account.access_token.get_secret_value()
            if token:
                headers["Authorization"] = f"token {self.account.api_key}:{token}"
            elif needs_token:
                raise AuthError(f"account {self.account.name} has no access token: log in first")
        failure = ""
        try:
            response = await self._client.request(method, path, data=form, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError) as error:
            failure = f"{type(error).__name__}: {error}"
        # Raised out here, so that the library's exception, and the request in it, is not the context of ours.
        if failure:
            text = self._redact(f"{method} {path} for account {self.account.name} failed: {failure}")
            raise RestError(text, status=0, error_type="NetworkException", retryable=True)
        if response.is_success:
            return response
        raise self._error(method, path, response)

    def _data(self, response: httpx.Response) -> dict[str, Any]:
        payload = _json(response)
        data = payload.get("data") if isinstance(payload, dict) else None
        if not isinstance(data, dict):
            text = f"the broker's answer to {response.request.url.path} is not an object with data"
            raise RestError(text, status=response.status_code, error_type="", retryable=False)
        return data

    def _error(self, method: str, path: str, response: httpx.Response) -> AuthError | RestError:
        payload = _json(response)
        message, error_type = response.text, ""
        if isinstance(payload, dict):
            message, error_type = str(payload.get("message", "")), str(payload.get("error_type", ""))
        status = response.status_code
        text = f"{method} {path} for account {self.account.name}: {status} {error_type} {message}".rstrip()
        text = self._redact(text)[:MAX_QUOTED]  # in this order: half a secret would pass
        if status in (401, 403) or error_type == TOKEN_ERROR:
            return AuthError(text)
        retryable = status == 429 or status >= 500
        return RestError(text, status=status, error_type=error_type, retryable=retryable)


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
