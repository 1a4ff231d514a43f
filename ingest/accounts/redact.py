"""Secrets: who holds them, and how they stay out of every text.

An `Account` holds its secrets as `SecretStr` and prints none. A `Redactor` takes them out of texts that others write:
the streaming URL carries the token in its query, so a library's log line, an exception or a server's answer may quote
it. Whatever leaves capture as text (events, log records, exception texts) has passed through the account's redactor.
"""

import logging
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus

from pydantic import SecretStr

MASK: Final = "***"

Token = str | SecretStr
TokenSource = Path | Callable[[], Token | Awaitable[Token | None] | None]
"""Where an access token comes from: a file that holds it, or a function, which may be a coroutine function or a
`Polled` one. The function returns None as long as it has none."""


class Polled(ABC):
    """A function that is as cheap to ask as a file, and is asked as often. It is called in a thread.

    It raises ValueError, without the secret, that says what is missing and what to do.
    """

    @abstractmethod
    def __call__(self) -> Token | None: ...


class Redactor:
    """Replaces secrets, as they are and as URLs quote them, by `***`. Its own `repr` shows none."""

    def __init__(self, secrets: Iterable[SecretStr] = ()) -> None:
        self._forms: set[str] = set()
        self._pattern = re.compile("(?!)")
        self.learn(*secrets)

    def learn(self, *secrets: SecretStr) -> None:
        """Replace these as well, from now on."""
        plain = {secret.get_secret_value() for secret in secrets} - {""}
        self._forms |= {form for text in plain for form in (text, quote(text), quote(text, safe=""), quote_plus(text))}
        # The longest first: one secret may begin with another.
        self._pattern = re.compile("|".join(map(re.escape, sorted(self._forms, key=len, reverse=True))) or "(?!)")

    def __call__(self, text: str) -> str:
        return self._pattern.sub(MASK, text)

    def __repr__(self) -> str:
        return "Redactor()"


@dataclass(frozen=True, init=False)
class Account:
    """One Kite Connect app of one user: what a connection or a REST call needs to prove who it is.

    `name` is ours: it stands in the `account` column of every row. `access_token` is the day's token, or where to get
    it: a `Path` (a file that only its owner can read) or a function, see `TokenSource`. A source is asked again when
    the broker refuses what it gave last. `access_token` is empty as long as there is none. `api_secret` is needed for
    the day's login only.

    Raises ValueError without a name or an api_key.
    """

    name: str
    api_key: str = field(repr=False)
    access_token: SecretStr = field(hash=False)
    api_secret: SecretStr | None
    token_source: TokenSource | None = field(repr=False)
    _redactor: Redactor = field(repr=False, compare=False)

    def __init__(
        self,
        name: str,
        api_key: str,
        access_token: Token | TokenSource = "",
        api_secret: Token | None = None,
    ) -> None:
        if not name or not api_key:
            raise ValueError(f"got account name {name!r} and an api_key of {len(api_key)} characters, expected both")
        token, source = (access_token, None) if isinstance(access_token, str | SecretStr) else ("", access_token)
        secret = SecretStr(api_secret) if isinstance(api_secret, str) else api_secret
        given = {"name": name, "api_key": api_key, "api_secret": secret, "token_source": source}
        for slot, value in (given | {"_redactor": Redactor([secret] if secret else [])}).items():
            object.__setattr__(self, slot, value)
        self.replace_token(token)

    def replace_token(self, token: Token) -> None:
        """Use this access token from now on: for the next handshake and the next REST call."""
        token = SecretStr(token) if isinstance(token, str) else token
        self._redactor.learn(token)
        object.__setattr__(self, "access_token", token)

    def redactor(self) -> Redactor:
        """The one redactor for the secrets of this account, past tokens too; it learns of a new token with it."""
        return self._redactor


class RedactingLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger to hand to libraries: nothing below INFO, secrets taken out, exceptions as one redacted line.

    DEBUG is off whatever the root logger's level is: at DEBUG `websockets` writes the request line, token included,
    and formats every frame. A traceback is not passed on, since a handler that prints local variables would show the
    URL.
    """

    def __init__(self, logger: logging.Logger, redact: Redactor) -> None:
        super().__init__(logger, {})
        self._redact = redact

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 (the name is logging's)
        return level >= logging.INFO and super().isEnabledFor(level)

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if not self.isEnabledFor(level):
            return
        text = str(msg) % args if args else str(msg)
        if kwargs.get("exc_info"):
            error = sys.exc_info()[1]
            text += f": {type(error).__name__}: {error}"
        self.logger.log(level, "%s", self._redact(text))
