"""How secrets stay out of every text.

A `Redactor` takes them out of texts that others write: the streaming URL carries the token in its query, so a library's
log line, an exception or a server's answer may quote it. Whatever leaves capture as text (events, log records,
exception texts) has passed through the redactor of its account.
"""

import json
import logging
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from pydantic import SecretStr

MASK: Final = "***"


class Redactor:
    """Replaces secrets, as they are, as URLs quote them and as Python and JSON escape them, by `***`. Its own `repr`
    shows none."""

    def __init__(self, secrets: Iterable["SecretStr"] = ()) -> None:
        self._forms: set[str] = set()
        self._pattern = re.compile("(?!)")
        self.learn(*secrets)

    def learn(self, *secrets: "SecretStr") -> None:
        """Replace these as well, from now on."""
        plain = {secret.get_secret_value() for secret in secrets} - {""}
        self._forms |= {form for text in plain for form in (quote(text), quote(text, safe=""), quote_plus(text))}
        # Twice: a line of JSON may hold the text of an exception, which shows a `repr`.
        self._forms |= {form for text in plain for once in _escaped(text) for form in _escaped(once)}
        # The longest first: one secret may begin with another.
        self._pattern = re.compile("|".join(map(re.escape, sorted(self._forms, key=len, reverse=True))) or "(?!)")

    def __call__(self, text: str) -> str:
        return self._pattern.sub(MASK, text)

    def __repr__(self) -> str:
        return "Redactor()"


def _escaped(text: str) -> set[str]:
    """The text inside of strings of JSON, and of Python in either quotes."""
    return {text, json.dumps(text)[1:-1], repr(text)[1:-1], repr(f"{text}'\"")[1:-4]}


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
        """As of any logger, with secrets masked and an exception as a part of the line."""
        if not self.isEnabledFor(level):
            return
        text = str(msg) % args if args else str(msg)
        if kwargs.get("exc_info"):
            error = sys.exc_info()[1]
            text += f": {type(error).__name__}: {error}"
        self.logger.log(level, "%s", self._redact(text))
