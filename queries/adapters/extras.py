"""Libraries that are not among the dependencies: imported when an adapter is used."""

import importlib
import sys
from typing import Any

from queries.errors import MissingLibraryError


def needed(library: str, extra: str) -> Any:
    """The library, which the extra of that name installs. Raises MissingLibraryError, with what to do."""
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library.partition(".")[0]:  # it is there, and itself misses something
            raise
        raise MissingLibraryError(
            f"{error.name} is not installed for {sys.executable}; to install it, in an environment of its own: "
            f"pip install 'kitelake[{extra}]'"
        ) from None
