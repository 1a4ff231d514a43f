"""The access token in use: refused ones are not sent again, and whoever waits goes on with another."""

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from ingest.accounts.account import Account
from ingest.accounts.credentials import Credentials
from ingest.accounts.sources import Polled, read_secret_file
from ingest.errors import AuthError
from ingest.settings import ConnectionSettings
from tests.support.waiting import PATIENCE_SECONDS

SETTINGS = ConnectionSettings(slow_retry_seconds=0.01, token_retry_seconds=30)
OLD, NEW = SecretStr("canaryOld"), SecretStr("canaryNew")


async def settle() -> None:
    """Let all tasks run as far as they can without waiting for anything."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Wait for it, with a generous end."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


async def refused(account: Account, settings: ConnectionSettings = SETTINGS) -> Credentials:
    """Credentials of which the present token was refused."""
    credentials = Credentials(account, settings)
    credentials.refuse(await credentials.token())
    assert credentials.refused
    with pytest.raises(AuthError, match="the access token of account one was refused"):
        await credentials.token()
    return credentials


async def test_a_token_is_used_until_it_is_refused_and_the_next_one_then() -> None:
    credentials = await refused(Account("one", "key", OLD))
    waiting = [asyncio.create_task(credentials.wait()) for _ in range(3)]
    await settle()
    assert not any(task.done() for task in waiting)
    credentials.replace(OLD)
    await settle()
    assert not any(task.done() for task in waiting), "the same one is no news"
    credentials.replace("canaryNew")
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*waiting)
    assert await credentials.token() == NEW
    await credentials.wait()
    assert credentials.account.redactor()("canaryOld canaryNew") == "*** ***"


async def test_a_late_refusal_of_the_old_token_does_not_harm_the_new_one() -> None:
    credentials = Credentials(Account("one", "key", OLD), SETTINGS)
    credentials.replace(NEW)
    credentials.refuse(OLD)
    assert await credentials.token() == NEW


async def test_a_refused_token_is_tried_again_after_a_long_while_or_when_it_was_accepted_elsewhere() -> None:
    credentials = await refused(Account("one", "key", OLD), SETTINGS.model_copy(update={"token_retry_seconds": 0.01}))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await credentials.wait()
    assert await credentials.token() == OLD
    credentials = await refused(Account("one", "key", OLD))
    waiting = asyncio.create_task(credentials.wait())
    await asyncio.sleep(0)
    credentials.accept(OLD)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await waiting


async def test_a_function_is_asked_at_first_and_again_after_a_refusal() -> None:
    answers: list[str | SecretStr | None] = ["canaryOld", None, "canaryOld", NEW]

    async def source() -> str | SecretStr | None:
        return answers.pop(0)

    credentials = await refused(Account("one", "key", source))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await credentials.wait()
    assert await credentials.token() == NEW
    assert not answers
    await credentials.close()


async def test_a_function_that_fails_is_asked_again_and_its_complaint_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = 0

    def source() -> str:
        nonlocal asked
        asked += 1
        if asked < 5:
            raise RuntimeError("the vault with canaryOld is locked")
        return "canaryNew"

    account = Account("one", "key", source)
    account.replace_token(OLD)
    with caplog.at_level(logging.WARNING):
        credentials = await refused(account)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await credentials.wait()
    assert [record.getMessage() for record in caplog.records] == [
        "no access token for account one: RuntimeError: the vault with *** is locked"
    ]
    await credentials.close()


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.accounts.credentials.FILE_POLL_SECONDS", 0.01)
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return read_secret_file(path)

    monkeypatch.setattr("ingest.accounts.sources.read_secret_file", counted)
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text("canaryOld\n")
    credentials = await refused(Account("one", "key", path))
    waiting = asyncio.create_task(credentials.wait())
    seen = len(read)
    await until(lambda: len(read) >= seen + 3)
    assert not waiting.done()
    path.write_text("canaryNew\n")
    async with asyncio.timeout(PATIENCE_SECONDS):
        await waiting
    assert await credentials.token() == NEW
    await credentials.close()


async def test_a_polled_source_is_asked_as_often_as_a_file_and_its_complaint_is_the_sentence_that_it_gives(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ingest.accounts.credentials.FILE_POLL_SECONDS", 0.01)

    class Source(Polled):
        asked = 0

        def __call__(self) -> str:
            self.asked += 1
            if self.asked < 4:
                raise ValueError("no login yet: log in")
            return "canaryNew"

    account = Account("one", "key", Source())
    credentials = Credentials(account, SETTINGS.model_copy(update={"slow_retry_seconds": 1000}))
    with pytest.raises(AuthError, match="no login yet: log in"):
        await credentials.token()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await credentials.wait()
    assert await credentials.token() == NEW
    assert [record.getMessage() for record in caplog.records] == [
        "no access token for account one: no login yet: log in"
    ]
    await credentials.close()


async def test_the_complaint_of_a_source_is_the_reason_why_there_is_no_token() -> None:
    hurried = SETTINGS.model_copy(update={"open_timeout_seconds": 0.05})
    asked = asyncio.Event()

    async def slow() -> None:
        await asked.wait()
        raise AuthError("no login yet: log in")

    credentials = Credentials(Account("one", "key", slow), hurried)
    for reason in ("its source has given none yet", "no login yet: log in"):
        with pytest.raises(AuthError, match=f"account one has no access token: {reason}"):
            await credentials.token()
        asked.set()
        await settle()
    await credentials.close()


@pytest.mark.parametrize("is_file", [True, False])
async def test_a_source_that_has_none_yet_keeps_nobody_waiting(tmp_path: Path, is_file: bool) -> None:
    """By the file that is not there, or a function that gives none: the first answer counts, whoever asks then."""
    source = tmp_path / "token" if is_file else lambda: None
    patient = SETTINGS.model_copy(update={"open_timeout_seconds": 2 * PATIENCE_SECONDS})
    credentials = Credentials(Account("one", "key", source), patient)
    async with asyncio.timeout(PATIENCE_SECONDS):
        for _ in range(3):
            with pytest.raises(AuthError, match="cannot be read" if is_file else "its source has given none yet"):
                await credentials.token()
    await credentials.close()


async def test_whoever_waits_goes_on_with_a_token_that_somebody_else_got_from_the_source() -> None:
    account = Account("one", "key", lambda: "canaryNew")
    account.replace_token(OLD)
    credentials = await refused(account)
    account.replace_token(NEW)  # as the daily check does
    async with asyncio.timeout(PATIENCE_SECONDS):
        await credentials.wait()
    assert await credentials.token() == NEW
    await credentials.close()


async def test_without_any_token_it_says_so_and_waits() -> None:
    credentials = Credentials(Account("one", "key"), SETTINGS)
    for _ in range(2):
        with pytest.raises(AuthError, match="account one has no access token: log in first"):
            await credentials.token()
    waiting = asyncio.create_task(credentials.wait())
    await asyncio.sleep(0)
    credentials.replace(NEW)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await waiting
    assert await credentials.token() == NEW


async def test_closing_ends_the_asking() -> None:
    asked = asyncio.Event()

    async def source() -> None:
        asked.set()
        await asyncio.sleep(1000)

    account = Account("one", "key", source)
    account.replace_token(OLD)
    credentials = await refused(account)
    waiting = asyncio.create_task(credentials.wait())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asked.wait()
    await credentials.close()
    await credentials.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "kitelake token of one"]
    waiting.cancel()


async def test_a_function_is_asked_by_one_task_whoever_needs_a_token() -> None:
    running = most = 0

    async def source() -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await settle()
        running -= 1
        return "canaryNew"

    credentials = Credentials(Account("one", "key", source), SETTINGS)
    assert await asyncio.gather(*(credentials.token() for _ in range(3))) == [NEW] * 3
    assert most == 1
    await credentials.close()


@pytest.mark.parametrize("nonsense", [7, b"canaryNew", ["canaryNew"], asyncio.CancelledError()])
async def test_nonsense_from_a_function_is_reported_and_it_is_asked_again(
    nonsense: object, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [nonsense, "canaryNew"]

    def source() -> str:
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer  # type: ignore[return-value]

    credentials = Credentials(Account("one", "key", source), SETTINGS)
    with pytest.raises(AuthError):
        await credentials.token()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await credentials.wait()
    assert await credentials.token() == NEW
    assert caplog.records
    assert "canary" not in caplog.text
    await credentials.close()


async def test_a_function_that_blocks_does_not_stop_the_loop() -> None:
    asked, free = threading.Event(), threading.Event()

    def source() -> str:
        asked.set()
        assert free.wait(30)
        return "canaryNew"

    credentials = Credentials(Account("one", "key", source), SETTINGS)
    asking = asyncio.create_task(credentials.token())
    await until(asked.is_set)
    free.set()  # which a blocked loop would never come to
    assert await asking == NEW
    await credentials.close()


async def test_a_late_answer_of_a_function_does_not_replace_a_newer_token() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def source() -> str:
        asked.set()
        await answer.wait()
        return "canaryOld"

    credentials = Credentials(Account("one", "key", source), SETTINGS)
    waiting = asyncio.create_task(credentials.token())
    await asked.wait()
    credentials.replace(NEW)
    answer.set()
    assert await waiting == NEW
    await settle()
    assert await credentials.token() == NEW
    await credentials.close()
