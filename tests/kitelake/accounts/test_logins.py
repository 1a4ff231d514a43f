"""Stored logins, and the accounts that begin with what they and other sources have."""

import asyncio
import datetime as dt
import json
import os
from pathlib import Path

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from ingest.accounts.credentials import Credentials
from ingest.errors import AuthError, SecretFileError
from ingest.settings import ConnectionSettings
from kitelake.accounts.logins import Login, account_of, read_login, store_login
from kitelake.errors import ConfigError, NoLoginError
from storage.clock import IST
from tests.support.accounts import CANARY, login, problem_of, python, secret_file, section
from tests.support.calendars import ist as at
from tests.support.waiting import PATIENCE_SECONDS


def test_an_account_begins_with_the_token_that_its_source_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITELAKE_TEST_TOKEN", "of-the-variable")
    store_login(tmp_path / "logins", "mine", login())
    sources: list[tuple[object, str]] = [
        (CANARY, CANARY),
        ({"env": "KITELAKE_TEST_TOKEN"}, "of-the-variable"),
        ({"file": str(secret_file(tmp_path / "token", "of-the-file\n"))}, "of-the-file"),
        (python("print('of-the-command')"), ""),
        (None, "of-the-login"),
        ({"env": "KITELAKE_TEST_NOT_SET"}, ""),
        ({"file": "/nowhere/token"}, ""),
    ]
    for token, expected in sources:
        account = account_of(section(token, api_secret="secret-one"), tmp_path / "logins")
        assert account.access_token.get_secret_value() == expected
        assert (account.token_source is None) == (token == CANARY)
        assert account.api_secret == SecretStr("secret-one")


@given(
    token=st.text(min_size=1),
    user_id=st.text(),
    made_at=st.datetimes(timezones=st.sampled_from([IST, dt.UTC])).filter(lambda moment: 1 < moment.year < 9999),
)
def test_a_login_is_read_as_it_was_stored(
    tmp_path_factory: pytest.TempPathFactory, token: str, user_id: str, made_at: dt.datetime
) -> None:
    folder = tmp_path_factory.getbasetemp() / "round-trip"
    stored = Login(access_token=SecretStr(token), user_id=user_id, made_at=made_at)
    store_login(folder, "mine", stored)
    assert read_login(folder, "mine") == stored


def test_a_stored_login_is_for_its_owner_only_and_whole(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "logins"
    before = os.umask(0)
    try:
        path = store_login(folder, "mine", login("canaryOne", at("2026-11-23T08:05:00")))
        store_login(folder, "mine", login("canaryTwo", at("2026-11-24T08:05:00")))
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(folder.iterdir()) == [path]
    assert json.loads(path.read_text()) == {
        "access_token": "canaryTwo",
        "user_id": "AB1234",
        "made_at": "2026-11-24T08:05:00+05:30",
    }
    assert "canary" not in repr(read_login(folder, "mine"))


def test_a_folder_that_cannot_hold_logins(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigError, match=r"is open to other users: chmod 700 "):
        store_login(tmp_path, "mine", login(CANARY))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file: this folder for logins cannot be made: File exists"):
        store_login(tmp_path / "file", "mine", login(CANARY))
    (tmp_path / "logins" / "mine.json" / "in the way").mkdir(parents=True)
    (tmp_path / "logins").chmod(0o700)
    with pytest.raises(ConfigError, match=r"mine\.json: the login cannot be stored: Is a directory"):
        store_login(tmp_path / "logins", "mine", login(CANARY))
    assert [path.name for path in (tmp_path / "logins").iterdir()] == ["mine.json"]


def test_that_there_is_no_login_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(NoLoginError, match="no stored login: kitelake login mine"):
        read_login(tmp_path, "mine")
    path = secret_file(tmp_path / "mine.json", "{}")
    with pytest.raises(NoLoginError, match="does not hold what a login stores: kitelake login mine"):
        read_login(tmp_path, "mine")
    path.chmod(0o644)
    with pytest.raises(SecretFileError, match="can be read by other users"):
        read_login(tmp_path, "mine")


async def test_a_stored_login_that_does_not_serve_says_what_to_do(tmp_path: Path) -> None:
    assert await problem_of(None, tmp_path) == "no stored login: kitelake login mine"
    path = store_login(tmp_path / "logins", "mine", login(CANARY, at("2026-11-23T08:05:00")))
    with time_machine.travel(at("2026-11-24T08:00:00"), tick=False):
        assert await problem_of(None, path.parent) == "the stored login is of 2026-11-23: kitelake login mine"
        assert account_of(section(), path.parent).access_token == SecretStr("")
    path.chmod(0o640)
    assert await problem_of(None, path.parent) == (f"{path} can be read by other users (mode 0640): chmod 600 {path}")
    path.chmod(0o600)
    for text in ("", "{", '{"access_token": "canaryToken"}', "[]"):
        path.write_text(text)
        assert await problem_of(None, path.parent) == (f"{path} does not hold what a login stores: kitelake login mine")


@pytest.mark.parametrize(
    ("made", "now", "lapsed"),
    [
        ("2026-11-23T08:00", "2026-11-23T23:59", False),
        ("2026-11-23T08:00", "2026-11-24T07:29", False),
        ("2026-11-23T08:00", "2026-11-24T07:30", True),
        ("2026-11-24T05:59", "2026-11-24T07:29", False),
        ("2026-11-24T05:59", "2026-11-24T07:30", True),
        ("2026-11-24T06:30", "2026-11-24T07:30", False),
        ("2026-11-24T06:30", "2026-11-25T07:29", False),
        ("2026-11-24T06:30", "2026-11-25T07:30", True),
        ("2026-11-24T08:00", "2026-11-24T07:00", False),
    ],
)
def test_a_login_lapses_once_a_whole_flush_lies_behind_it(made: str, now: str, lapsed: bool) -> None:
    for zone in (IST, dt.UTC, dt.timezone(dt.timedelta(hours=-5))):
        assert login(made_at=at(made).astimezone(zone)).lapsed(at(now).astimezone(zone)) is lapsed


async def test_a_new_login_is_taken_up_by_whoever_waits_for_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.accounts.credentials.FILE_POLL_SECONDS", 0.01)
    account = account_of(section(), tmp_path / "logins")
    credentials = Credentials(account, ConnectionSettings(slow_retry_seconds=1000))
    with pytest.raises(AuthError, match="kitelake login mine"):
        await credentials.token()
    waiting = asyncio.create_task(credentials.wait())
    await asyncio.sleep(0.03)
    assert not waiting.done()
    store_login(tmp_path / "logins", "mine", login("first"))
    await asyncio.wait_for(waiting, PATIENCE_SECONDS)
    assert await credentials.token() == SecretStr("first")
    credentials.refuse(SecretStr("first"))
    again = asyncio.create_task(credentials.wait())
    await asyncio.sleep(0.03)
    assert not again.done()
    store_login(tmp_path / "logins", "mine", login("second"))
    await asyncio.wait_for(again, PATIENCE_SECONDS)
    assert await credentials.token() == SecretStr("second")
    await credentials.close()
