"""Secrets: who holds them, and how they stay out of every text.

An `Account` holds its secrets as `SecretStr` and prints none. A `Redactor` takes them out of texts that others write:
the streaming URL carries the token in its query, so a library's log line, an exception or a server's answer may quote
it. Whatever leaves capture as text (events, log records, exception texts) has passed through the account's redactor.
"""

import logging
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, quote_plus

from pydantic import SecretStr

MASK: Final = "***"


class Redactor:
    """Replaces secrets, as they are and as URLs quote them, by `***`. Its own `repr` shows none."""

    def __init__(self, secrets: Iterable[SecretStr]) -> None:
        plain = {secret.get_secret_value() for secret in secrets} - {""}
        forms = {form for text in plain for form in (text, quote(text), quote(text, safe=""), quote_plus(text))}
        # The longest first: one secret may begin with another.
        self._pattern = re.compile("|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True)) or "(?!)")

    def __call__(self, text: str) -> str:
        return self._pattern.sub(MASK, text)

    def __repr__(self) -> str:
        return "Redactor()"


@dataclass(frozen=True, init=False)
class Account:
    """One Kite Connect app of one user: what a connection or a REST call needs to prove who it is.

    `name` is ours: it stands in the `account` column of every row. `access_token` may be empty as long as nobody
    connects with it (before the day's login); `api_secret` is needed for that login only.
    """

    name: str
    api_key: str = field(repr=False)
    access_token: SecretStr
    api_secret: SecretStr | None

    def __init__(
        self,
        name: str,
        api_key: str,
        access_token: str | SecretStr = "",
        api_secret: str | SecretStr | None = None,
    ) -> None:
        if not name or not api_key:
            raise ValueError(f"got account name {name!r} and an api_key of {len(api_key)} characters, expected both")
        token = access_token if isinstance(access_token, SecretStr) else SecretStr(access_token)
        secret = SecretStr(api_secret) if isinstance(api_secret, str) else api_secret
        for slot, value in (("name", name), ("api_key", api_key), ("access_token", token), ("api_secret", secret)):
            object.__setattr__(self, slot, value)

    def redactor(self) -> Redactor:
        """A redactor for the secrets of this account."""
        return Redactor(self._secrets())

    def _secrets(self) -> Iterator[SecretStr]:
        yield self.access_token
        if self.api_secret is not None:
            yield self.api_secret


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
