"""Where secrets come from: the environment, a file of one's own, or (for the simulator) the config file itself."""

import os
from pathlib import Path
from typing import Any

from ingest.tokens import checked_secret, read_secret_file
from kitelake.values import path_of

_EXPECTED = "expected {env: NAME}, {file: PATH} or the text itself"


def resolve_secret(given: Any) -> str:
    """The secret that config.yaml points to. Raises ValueError, without the secret, if there is none."""
    if isinstance(given, str):
        return checked_secret(given, "it is empty")
    if not isinstance(given, dict) or len(given) != 1 or next(iter(given)) not in ("env", "file"):
        raise ValueError(_EXPECTED)
    (source, name) = next(iter(given.items()))
    if not isinstance(name, str) or not name:
        raise ValueError(_EXPECTED)
    if source == "env":
        return checked_secret(os.environ.get(name, ""), f"the environment variable {name} is not set")
    return _from_file(path_of(name, "a file"))


def _from_file(path: Path) -> str:
    if not path.is_absolute():
        raise ValueError(f"{path}: expected an absolute path, or one that begins with ~")
    return read_secret_file(path)
