"""What a single value of config.yaml may be: a folder, an address, a time of day.

Each function takes what the file or the environment gave and returns what it means. Each raises ValueError that says
what is expected and never quotes what was given: it may hold a secret.
"""

import datetime as dt
import re
import unicodedata
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

_UNPRINTABLE: Final = {"Cc", "Cs", "Zl", "Zp"}  # control characters, lone surrogates, line and paragraph separators
_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


def path_of(given: Any, what: str = "a folder") -> Path:
    """A path with its `~` resolved. It may still be relative."""
    if isinstance(given, Path):
        given = str(given)
    if not isinstance(given, str) or not given.strip():
        raise ValueError(f"expected the path of {what}")
    if any(unicodedata.category(character) in _UNPRINTABLE for character in given):
        raise ValueError(f"expected the path of {what}, without line breaks and control characters")
    try:
        return Path(given).expanduser()
    except RuntimeError:
        raise ValueError(
            f"expected the path of {what}; this one begins with `~`, and there is no such user or home folder"
        ) from None


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


def time_of_day(given: Any) -> dt.time:
    """HH:MM, always in IST. Without quotes YAML reads 10:35 as the number 635, minutes in base 60."""
    if isinstance(given, dt.time) and given.tzinfo is None:
        return given
    match = _CLOCK.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise ValueError('expected a time of day in IST, in quotes and without a zone: "HH:MM", such as "08:35"')
    return dt.time(int(match[1]), int(match[2]))
