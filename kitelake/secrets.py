"""Where secrets come from: the environment, a file of one's own, or (for the simulator) the config file itself."""

import os
import stat
from pathlib import Path
from typing import Any

from kitelake.values import path_of

_EXPECTED = "expected {env: NAME}, {file: PATH} or the text itself"


def resolve_secret(given: Any) -> str:
    """The secret that config.yaml points to. Raises ValueError, without the secret, if there is none."""
    if isinstance(given, str):
        return _checked(given, "it is empty")
    if not isinstance(given, dict) or len(given) != 1 or next(iter(given)) not in ("env", "file"):
        raise ValueError(_EXPECTED)
    (source, name) = next(iter(given.items()))
    if not isinstance(name, str) or not name:
        raise ValueError(_EXPECTED)
    if source == "env":
        return _checked(os.environ.get(name, ""), f"the environment variable {name} is not set")
    return _from_file(path_of(name, "a file"))


def _from_file(path: Path) -> str:
    if not path.is_absolute():
        raise ValueError(f"{path}: expected an absolute path, or one that begins with ~")
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ValueError(f"{path} is a folder; expected a file")
        mode = stat.S_IMODE(status.st_mode)
        if os.name == "posix" and mode & 0o077:
            raise ValueError(f"{path} can be read by other users (mode {mode:04o}): chmod 600 {path}")
        return _checked(path.read_text(encoding="utf-8", errors="replace"), f"{path} is empty")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def _checked(secret: str, problem: str) -> str:
    secret = secret.strip()
    if not secret:
        raise ValueError(problem)
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ValueError("it holds spaces, control characters or letters beyond ASCII, which no key or token does")
    return secret
