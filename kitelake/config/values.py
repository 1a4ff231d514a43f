"""What a single value of config.yaml may be: a folder, an address, a time of day, a stretch of time.

Each function takes what the file or the environment gave and returns what it means. Each raises ValueError that says
what is expected and never quotes what was given: it may hold a secret.
"""

import datetime as dt
import re
import unicodedata
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

_UNPRINTABLE: Final = {"Cc", "Cs", "Zl", "Zp"}  # control characters, lone surrogates, line and paragraph separators
_STRETCH: Final = re.compile(r"(\d+)\s*(s|m|h|d)", re.ASCII)
_BROKER: Final = ("kite.trade", "zerodha.com")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Section(BaseModel):
    """A part of config.yaml: frozen, an unknown key is an error, and no error shows a value.

    What checks a section is put together when it is first needed: a query needs one option of all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)


def one_line(given: str) -> str:
    """Text that no terminal takes for a command and that fits into a line of a table."""
    if not is_one_line(given):
        raise ValueError("expected text without line breaks and control characters")
    return given


def is_one_line(given: str) -> bool:
    """Whether text, or a path, is UTF-8 without line breaks and control characters."""
    return all(unicodedata.category(character) not in _UNPRINTABLE for character in given)


def path_of(given: Any, what: str = "a folder") -> Path:
    """A path with its `~` resolved. It may still be relative."""
    if isinstance(given, Path):
        given = str(given)
    if not isinstance(given, str) or not given.strip():
        raise ValueError(f"expected the path of {what}")
    try:
        path = Path(given).expanduser()
    except RuntimeError:
        raise ValueError(
            f"expected the path of {what}; this one begins with `~`, and there is no such user or home folder"
        ) from None
    if not is_one_line(str(path)):
        raise ValueError(f"expected the path of {what}, without line breaks and control characters")
    return path


def address_of(given: Any, schemes: tuple[str, ...]) -> str:
    """An address with one of the schemes, a host and nothing that might hold a token."""
    expected = " or ".join(f"{scheme}://HOST[:PORT]" for scheme in schemes)
    if not isinstance(given, str) or not given.isprintable() or " " in given:
        raise ValueError(f"expected {expected}")
    try:
        parts = urlsplit(given)
        usable = parts.scheme in schemes and bool(parts.hostname)
    except ValueError:  # of its own: it quotes the address
        usable = False
    if not usable:
        raise ValueError(f"expected {expected}")
    if "@" in parts.netloc or "?" in given or "#" in given:
        raise ValueError(f"expected {expected}, without user, query and fragment")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"expected {expected} with a port from 1 to 65535")
    return given


def is_of_broker(address: str) -> bool:
    """Whether it leads to the broker itself."""
    host = urlsplit(address).hostname or ""
    return any(host == domain or host.endswith(f".{domain}") for domain in _BROKER)


def stretch_of_time(given: Any) -> dt.timedelta:
    """A number of seconds, minutes, hours or days: 30s, 15m, 6h, 7d."""
    if isinstance(given, dt.timedelta):
        return given
    match = _STRETCH.fullmatch(given) if isinstance(given, str) else None
    if match is None or not 0 < int(match[1]) * _SECONDS[match[2]] <= 100 * 365 * 86_400:
        raise ValueError("expected a stretch of time such as 30s, 15m, 6h or 7d")
    return dt.timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
