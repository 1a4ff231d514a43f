"""Where the secrets of an account come from: a file that only its owner can read, or a function."""

import asyncio
import inspect
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from ingest.errors import AuthError, NoSecretFileError, SecretFileError
from storage.files import open_regular

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


async def given_by(source: TokenSource) -> Token | None:
    """What the source has at this moment.

    Raises AuthError if a file or a `Polled` source has no token, whatever a function raises, and TypeError for what is
    no token.
    """
    if isinstance(source, Path | Polled):
        try:
            return await asyncio.to_thread(partial(read_secret_file, source) if isinstance(source, Path) else source)
        except ValueError as error:
            raise AuthError(str(error)) from None
    is_async = inspect.iscoroutinefunction(source) or inspect.iscoroutinefunction(type(source).__call__)
    answer = source() if is_async else await asyncio.to_thread(source)  # the others may block
    if inspect.isawaitable(answer):
        answer = await answer
    if not isinstance(answer, str | SecretStr | None):
        raise TypeError(f"the function gave a {type(answer).__name__}, expected a str, a SecretStr or None")
    return answer


def read_secret_file(path: Path) -> str:
    """The one secret in a file that only its owner can read.

    Raises SecretFileError, without the secret: NoSecretFileError if the file is not there, else if it can be read by
    others or holds no secret.
    """
    text = read_private_file(path)
    try:
        return checked_secret(text, "it is empty")
    except ValueError as error:
        raise SecretFileError(f"{path}: {error}") from None


def read_private_file(path: Path) -> str:
    """The text of a file that only its owner can read.

    Raises SecretFileError, without the text: NoSecretFileError if the file is not there, else if it can be read by
    others.
    """
    try:
        with open_regular(path) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if os.name == "posix" and mode & 0o077:
                raise SecretFileError(f"{path} can be read by other users (mode {mode:04o}): chmod 600 {path}")
            return file.read().decode(errors="replace")
    except IsADirectoryError:
        raise SecretFileError(f"{path} is a folder; expected a file") from None
    except FileNotFoundError as error:
        raise NoSecretFileError(f"{path} cannot be read: {error.strerror}") from None
    except OSError as error:
        raise SecretFileError(f"{path} cannot be read: {error.strerror}") from None


def checked_secret(secret: str, problem: str) -> str:
    """The secret without white space around it. Raises ValueError: `problem` if nothing is left."""
    secret = secret.strip()
    if not secret:
        raise ValueError(problem)
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ValueError("it holds spaces, control characters or letters beyond ASCII, which no key or token does")
    return secret
