"""Where secrets come from: files that only their owner can read, and whatever gives one when it is called."""

import asyncio
import contextlib
import gc
import os
from pathlib import Path

import pytest

from ingest.accounts.sources import given_by, read_private_file, read_secret_file
from ingest.errors import NoSecretFileError, SecretFileError


@pytest.mark.parametrize(
    ("text", "mode", "problem"), [("", 0o600, "is empty"), ("x", 0o640, "chmod 600"), ("a b", 0o600, "spaces")]
)
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, text: str, mode: int, problem: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(SecretFileError, match=problem):
        read_secret_file(path)


def test_a_secret_is_in_a_regular_file(tmp_path: Path) -> None:
    with pytest.raises(SecretFileError, match="is a folder; expected a file"):
        read_secret_file(tmp_path)
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(SecretFileError, match="fifo cannot be read: it is a FIFO, a device or a socket"):
        read_secret_file(tmp_path / "fifo")


def test_a_file_that_is_not_there_has_an_error_of_its_own(tmp_path: Path) -> None:
    for read in (read_secret_file, read_private_file):
        with pytest.raises(NoSecretFileError, match="token cannot be read: No such file or directory"):
            read(tmp_path / "token")
    assert issubclass(NoSecretFileError, ValueError), "as the checks of a configuration raise it"


class Late:
    """A source that has to be awaited, and is no function."""

    async def __call__(self) -> str:
        await asyncio.sleep(0)
        return "token"


async def test_a_source_that_is_awaited_may_be_given_up_at_any_moment() -> None:
    """Nothing of it is left that nobody awaits, which Python would complain of."""
    for turns in range(5):
        asking = asyncio.create_task(given_by(Late()))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            assert await asking == "token"
        del asking
        gc.collect()
    assert await given_by(Late()) == "token"
