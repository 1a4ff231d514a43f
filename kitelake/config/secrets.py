"""Where secrets come from: the environment, a file of one's own, a command, or config.yaml itself.

`api_key` and `api_secret` are read at load, and must be there. An access token lapses every day: its source is kept and
asked again, and a source that has nothing yet is no mistake in config.yaml.
"""

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from ingest.accounts import Polled, checked_secret, read_secret_file
from ingest.errors import AuthError
from kitelake.config.values import path_of

COMMAND_SECONDS: Final = 60.0
MAX_OUTPUT_BYTES: Final = 65_536
_KILL_SECONDS: Final = 5.0
_VARIABLE: Final = re.compile("[A-Z][A-Z0-9_]*")

_EXPECTED: Final = "expected {env: NAME}, {file: PATH} or the text itself"
_EXPECTED_FOR_TOKEN: Final = "expected {env: NAME}, {file: PATH}, {command: WORDS} or the text itself"  # noqa: S105
_EXPECTED_COMMAND: Final = "expected {command: WORDS}: text as for a shell, or a list of words"


@dataclass(frozen=True)
class Variable(Polled):
    """An environment variable that holds a secret."""

    name: str = field(repr=False)

    @property
    def title(self) -> str:
        """How texts call it. What does not look like a variable's name may be the secret itself, in the wrong place."""
        named = _VARIABLE.fullmatch(self.name)
        return f"the environment variable {self.name}" if named else "the environment variable that {env: …} names"

    def __call__(self) -> str:
        """Raises ValueError if it is not set or holds no secret."""
        return checked_secret(os.environ.get(self.name, ""), f"{self.title} is not set")


@dataclass(frozen=True)
class Command:
    """A program that prints a secret. Its arguments, which may hold another one, are in no text."""

    words: tuple[SecretStr, ...] = field(repr=False)

    @property
    def title(self) -> str:
        """How texts call it. A first word that is no program is not named: it may be a secret in the wrong place."""
        program = self.words[0].get_secret_value()
        return f"the command `{Path(program).name}`" if shutil.which(program) else "the command of access_token"

    async def __call__(self) -> str:
        """Run it, without a shell, and take what it prints. It ends within COMMAND_SECONDS, or is killed.

        Raises AuthError, without its output, if it fails or prints no secret.
        """
        process = await self._started()
        assert process.stdout is not None
        output, ended = b"", False
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                while chunk := await process.stdout.read(MAX_OUTPUT_BYTES):
                    output += chunk
                    if len(output) > MAX_OUTPUT_BYTES:
                        raise AuthError(
                            f"{self.title} printed more than {MAX_OUTPUT_BYTES:,} bytes, expected the token alone"
                        )
                status = await process.wait()
            ended = True
        except TimeoutError:
            raise AuthError(f"{self.title} did not end within {COMMAND_SECONDS:g} s") from None
        finally:
            if not ended:
                await _kill(process)
        return self._token(output, status)

    async def _started(self) -> asyncio.subprocess.Process:
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *(word.get_secret_value() for word in self.words),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        )
        try:
            return await asyncio.shield(starting)
        except OSError as error:
            raise AuthError(f"{self.title} cannot be started: {error.strerror}") from None
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):
                await _kill(await starting)  # it may run already, and have started others
            raise

    def _token(self, output: bytes, status: int) -> str:
        if status:
            raise AuthError(f"{self.title} ended with status {status}; run it by hand to see why")
        text = output.decode("utf-8", "replace").strip()
        lines = len(text.splitlines())
        if lines > 1:
            raise AuthError(f"{self.title} printed {lines} lines, expected the token alone")
        try:
            return checked_secret(text, "it is empty")
        except ValueError as error:
            raise AuthError(f"{self.title} printed no token: {error}") from None


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End the process and its whole group: what it has started may still run when it does not."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):  # somebody outside of the group may hold its standard output
        async with asyncio.timeout(_KILL_SECONDS):
            await process.communicate()


def resolve_secret(given: Any) -> str:
    """The secret that config.yaml points to. Raises ValueError, without the secret, if there is none."""
    if isinstance(given, str):
        return checked_secret(given, "it is empty")
    source, value = _pointer(given, ("env", "file"), _EXPECTED)
    return _variable(value, _EXPECTED)() if source == "env" else read_secret_file(_file(value))


def token_source_of(given: Any) -> SecretStr | Variable | Path | Command:
    """Where config.yaml says that the access token is; nothing is asked yet. Raises ValueError if it does not say."""
    if given is None:
        raise ValueError("it is empty: delete the key to use what `kitelake login` stores")
    if isinstance(given, str):
        return SecretStr(checked_secret(given, "it is empty"))
    source, value = _pointer(given, ("env", "file", "command"), _EXPECTED_FOR_TOKEN)
    if source == "command":
        return Command(tuple(map(SecretStr, _words(value))))
    return _variable(value, _EXPECTED_FOR_TOKEN) if source == "env" else _file(value)


def _pointer(given: Any, sources: tuple[str, ...], expected: str) -> tuple[str, Any]:
    if not isinstance(given, dict) or len(given) != 1 or next(iter(given)) not in sources:
        raise ValueError(expected)
    (pointer,) = given.items()
    return pointer


def _variable(name: Any, expected: str) -> Variable:
    if not isinstance(name, str) or not name:
        raise ValueError(expected)
    return Variable(name)


def _file(given: Any) -> Path:
    path = path_of(given, "a file")
    if not path.is_absolute():
        raise ValueError("expected an absolute path, or one that begins with ~")
    return path


def _words(given: Any) -> list[str]:
    """The words of a command. The first one is the program."""
    if isinstance(given, str):
        try:
            given = shlex.split(given)
        except ValueError:
            raise ValueError(f"{_EXPECTED_COMMAND}; here a quote is not closed") from None
    if not isinstance(given, list) or not given or not all(isinstance(word, str) for word in given) or not given[0]:
        raise ValueError(_EXPECTED_COMMAND)
    if any("\0" in word or not (word.isascii() or word.isprintable()) for word in given):
        raise ValueError(f"{_EXPECTED_COMMAND}, without control characters")
    return given
