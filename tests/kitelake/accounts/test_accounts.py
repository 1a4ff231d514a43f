"""Accounts: where tokens come from, what is said when there is none, stored logins, and the check with the broker."""

import asyncio
import datetime as dt
import json
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from ingest.accounts.account import Account
from ingest.accounts.credentials import Credentials
from ingest.settings import ConnectionSettings
from kitelake.accounts.checks import Verdict, check_tokens, token_problem
from kitelake.accounts.logins import Login, account_of, read_login, store_login
from kitelake.config.accounts import AccountSection, LoginSection
from kitelake.errors import ConfigError
from storage.clock import IST
from tests.support.simulator_client import fault, running, until

NOWHERE = Path("/nowhere")
CANARY = "canaryToken"


def section(token: object = None, **changes: Any) -> AccountSection:
    given = {"name": "mine", "api_key": "key-one", **({} if token is None else {"access_token": token}), **changes}
    return AccountSection.model_validate(given)


def python(code: str, *arguments: str) -> dict[str, list[str]]:
    return {"command": [sys.executable, "-c", code, *arguments]}


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=IST)


def secret_file(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path


async def problem_of(token: object, logins: Path = NOWHERE) -> str | None:
    return await token_problem(account_of(section(token), logins))


# What config.yaml may say


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ({"vault": "x"}, r"expected \{env: NAME\}, \{file: PATH\}, \{command: WORDS\} or the text itself"),
        ({"env": "A", "file": "/b"}, r"expected \{env: NAME\}"),
        ({"env": 7}, r"expected \{env: NAME\}"),
        ({"file": "canary/token"}, "expected an absolute path, or one that begins with ~"),
        ({"command": ""}, r"expected \{command: WORDS\}: text as for a shell, or a list of words"),
        ({"command": []}, r"expected \{command: WORDS\}"),
        ({"command": ["", "x"]}, r"expected \{command: WORDS\}"),
        ({"command": ["x", 7]}, r"expected \{command: WORDS\}"),
        ({"command": "pass 'canary"}, "here a quote is not closed"),
        ({"command": ["canary\0"]}, "without control characters"),
        ({"command": ["canary\ud800"]}, "without control characters"),
        ("", "it is empty"),
        ("canary Token", "it holds spaces"),
        (7, r"expected \{env: NAME\}"),
    ],
)
def test_what_says_no_source_is_refused_at_load(token: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        section(token)
    assert "canaryT" not in str(caught.value)


def test_an_empty_access_token_is_a_mistake_and_an_absent_one_is_not() -> None:
    with pytest.raises(ValidationError, match="delete the key to use what `kitelake login` stores"):
        AccountSection.model_validate({"name": "mine", "api_key": "key", "access_token": None})
    assert section().access_token is None


def test_no_section_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITELAKE_TEST_TOKEN", "canaryVariable")
    for token in (CANARY, {"env": "KITELAKE_TEST_TOKEN"}, {"command": "pass show canaryName"}):
        one = section(token, api_secret="canarySecret")
        for shown in (
            repr(one),
            str(one),
            one.model_dump_json(),
            repr(account_of(one, NOWHERE)),
            repr(one.model_dump()),
        ):
            assert "canary" not in shown
    assert section(CANARY, api_secret="canarySecret").secrets() == ["key-one", "canarySecret", CANARY]
    assert section({"env": "KITELAKE_TEST_TOKEN"}).secrets() == ["key-one", "canaryVariable"]
    monkeypatch.delenv("KITELAKE_TEST_TOKEN")
    assert section({"env": "KITELAKE_TEST_TOKEN"}).secrets() == ["key-one"]


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


# What a source says when asked


async def test_a_variable_and_a_file_say_what_is_missing(tmp_path: Path) -> None:
    assert await problem_of({"env": "KITELAKE_TEST_NOT_SET"}) == (
        "the environment variable KITELAKE_TEST_NOT_SET is not set"
    )
    assert await problem_of({"file": "/nowhere/token"}) == "/nowhere/token cannot be read: No such file or directory"
    path = secret_file(tmp_path / "token", "")
    assert await problem_of({"file": str(path)}) == f"{path}: it is empty"
    path.write_text(CANARY)
    path.chmod(0o644)
    assert await problem_of({"file": str(path)}) == (f"{path} can be read by other users (mode 0644): chmod 600 {path}")
    path.chmod(0o600)
    assert await problem_of({"file": str(path)}) is None


PYTHON = Path(sys.executable).name


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("print('canary')", None),
        ("import sys; print('canary', file=sys.stderr); sys.exit(3)", "ended with status 3; run it by hand to see why"),
        ("print('a\\ncanary\\nb')", "printed 3 lines, expected the token alone"),
        ("pass", "printed no token: it is empty"),
        (
            "print('a canary')",
            "printed no token: it holds spaces, control characters or letters beyond ASCII, which no ",
        ),
        ("import sys; sys.stdout.buffer.write(b'\\xff\\xfe')", "printed no token: it holds spaces"),
        ("while True: print('canary' * 1000)", "printed more than 65,536 bytes, expected the token alone"),
        ("import sys; print(len(sys.stdin.read()) or 'canary')", None),
    ],
)
async def test_a_command_gives_the_token_or_says_why_not(code: str, problem: str | None) -> None:
    account = account_of(section(python(code, "canaryArgument")), NOWHERE)
    said = await token_problem(account)
    if problem is None:
        assert said is None
        assert account.access_token == SecretStr("canary")
    else:
        assert said is not None
        assert said.startswith(f"the command `{PYTHON}` {problem}")
        assert "canary" not in said


@pytest.mark.parametrize("command", [CANARY, f"KEY={CANARY} pass show"])
async def test_a_command_that_is_no_program_is_not_named(command: str) -> None:
    assert await problem_of({"command": command}) == (
        "the command of access_token cannot be started: No such file or directory"
    )


async def test_a_command_may_be_text_with_quotes_and_no_shell_reads_it() -> None:
    code = "import sys; print(sys.argv[1])"
    account = account_of(
        section({"command": f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} '$HOME|x'"}), NOWHERE
    )
    assert await token_problem(account) is None
    assert account.access_token == SecretStr("$HOME|x")


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


HANGS = "sleep 1000 & echo $$ $! > $1.new; mv $1.new $1; "


def shell(script: str, *arguments: str) -> dict[str, list[str]]:
    return {"command": ["sh", "-c", script, "sh", *arguments]}


@pytest.mark.parametrize("script", [HANGS + "wait", HANGS + "echo canary"])
async def test_a_command_that_hangs_is_killed_with_all_that_it_started(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one ends, but leaves a child with its standard output open."""
    monkeypatch.setattr("kitelake.config.secrets.COMMAND_SECONDS", 0.5)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    turning = asyncio.create_task(turn())
    assert await problem_of(shell(script, str(tmp_path / "pids"))) == "the command `sh` did not end within 0.5 s"
    turning.cancel()
    assert turns > 5, "the loop goes on meanwhile"
    await until(lambda: not any(alive(int(pid)) for pid in (tmp_path / "pids").read_text().split()))


async def test_a_command_is_killed_when_nobody_waits_for_it_any_more(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    asking = asyncio.create_task(problem_of(shell(HANGS + "wait", str(pids))))
    await until(pids.exists)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))


async def test_a_function_of_any_kind_may_fail() -> None:
    def locked() -> str:
        raise RuntimeError(f"the vault with {CANARY} is locked")

    account = Account("mine", "key", locked)
    account.replace_token(CANARY)
    assert await token_problem(account) == "RuntimeError: the vault with *** is locked"
    assert await token_problem(Account("mine", "key", lambda: None)) == (
        "there is no access token: see to it that its source gives the new one"
    )


@pytest.mark.parametrize("given", [CANARY, "9canary", "CANARYabc123", "CANARY-B"])
async def test_a_secret_in_the_place_of_a_name_does_not_show(given: str, tmp_path: Path) -> None:
    one = section({"env": given})
    told = await token_problem(account_of(one, tmp_path))
    assert told == "the environment variable that {env: …} names is not set"
    assert "canary" not in repr(one).lower()
    for wrong in ({"api_key": {"env": given}}, {"api_secret": {"file": given}}, {"access_token": {"file": given}}):
        with pytest.raises(ValidationError) as caught:
            section(**wrong)
        assert "canary" not in str(caught.value).lower()


# Stored logins


def login(token: str = "of-the-login", made_at: dt.datetime | None = None) -> Login:
    return Login(access_token=SecretStr(token), user_id="AB1234", made_at=made_at or dt.datetime.now(IST))


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


def test_where_logins_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/one")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert LoginSection().logins() == Path("/home/one/.local/state/kitelake/logins")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert LoginSection().logins() == Path("/home/one/.local/state/kitelake/logins")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert LoginSection().logins() == Path("/state/kitelake/logins")
    assert LoginSection.model_validate({"folder": "~/logins"}).logins() == Path("/home/one/logins")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"folder": "logins"}, "expected an absolute path, or one that begins with ~"),
        ({"folder": ""}, "expected the path of a folder"),
        ({"port": 0}, "greater than or equal to 1"),
        ({"page": "ftp://x"}, r"expected https://HOST\[:PORT\] or http://HOST"),
        ({"pages": "x"}, "Extra inputs"),
    ],
)
def test_a_login_section_that_cannot_be(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LoginSection.model_validate(given)


async def test_a_new_login_is_taken_up_by_whoever_waits_for_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.accounts.credentials.FILE_POLL_SECONDS", 0.01)
    account = account_of(section(), tmp_path / "logins")
    credentials = Credentials(account, ConnectionSettings(slow_retry_seconds=1000))
    waiting = asyncio.create_task(credentials.token())
    await asyncio.sleep(0.03)
    store_login(tmp_path / "logins", "mine", login("first"))
    assert await asyncio.wait_for(waiting, 10) == SecretStr("first")
    credentials.refuse(SecretStr("first"))
    again = asyncio.create_task(credentials.wait())
    await asyncio.sleep(0.03)
    assert not again.done()
    store_login(tmp_path / "logins", "mine", login("second"))
    await asyncio.wait_for(again, 10)
    assert await credentials.token() == SecretStr("second")
    await credentials.close()


# The check with the broker


async def test_each_account_is_checked_and_none_holds_up_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kitelake.config.secrets.COMMAND_SECONDS", 0.5)
    stale = secret_file(tmp_path / "stale", "canaryStale")
    accounts = [
        account_of(section("token-one", name="text"), NOWHERE),
        account_of(section("canaryText", name="wrong"), NOWHERE),
        account_of(section({"file": str(stale)}, name="file"), NOWHERE),
        account_of(section(python("print('token-one')"), name="command"), NOWHERE),
        account_of(section(python("print('canaryCommand')"), name="other"), NOWHERE),
        account_of(section(python("import time; time.sleep(1000)"), name="hangs"), NOWHERE),
        account_of(section(None, name="login"), NOWHERE),
    ]
    async with running(instruments=100, requests_per_second=100) as simulator:
        checks = await check_tokens(accounts, simulator.urls["api"])
    assert list(checks) == [account.name for account in accounts]
    assert {name for name, check in checks.items() if check.verdict is Verdict.GOOD} == {"text", "command"}
    assert checks["text"].text == checks["command"].text == "KL0001"
    assert accounts[3].access_token == SecretStr("token-one"), "what the command gave is in use"

    def refused(name: str, todo: str) -> str:
        return (
            f"the broker refuses the access token of account {name}: {todo} (GET /user/profile for account {name}: "
            "403 TokenException Incorrect `api_key` or `access_token`.)"
        )

    assert {name: check.text for name, check in checks.items() if check.verdict is Verdict.BAD} == {
        "wrong": refused("wrong", "put the new one into config.yaml"),
        "file": refused("file", f"put the new one into {stale}"),
        "other": refused("other", f"see to it that the command `{PYTHON}` prints the new one"),
        "hangs": f"account hangs: the command `{PYTHON}` did not end within 0.5 s",
        "login": "account login: no stored login: kitelake login login",
    }


async def test_a_token_that_serves_is_good_even_if_its_source_has_none_at_the_moment(tmp_path: Path) -> None:
    path = secret_file(tmp_path / "token", "token-one")
    account = account_of(section({"file": str(path)}), NOWHERE)
    path.unlink()
    async with running(instruments=100) as simulator:
        checks = await check_tokens([account], simulator.urls["api"])
        assert checks["mine"].verdict is Verdict.GOOD
        await fault(simulator, "token", account="one", access_token="newer")
        checks = await check_tokens([account], simulator.urls["api"])
        assert checks["mine"].verdict is Verdict.BAD
        assert f"of account mine: {path} cannot be read: No such file or directory (GET" in checks["mine"].text


async def test_a_new_token_is_in_use_before_the_old_one_is_refused(tmp_path: Path) -> None:
    path = secret_file(tmp_path / "token", "token-one")
    account = account_of(section({"file": str(path)}), NOWHERE)
    credentials = Credentials(account, ConnectionSettings())
    path.write_text("newer")
    async with running(instruments=100) as simulator:
        await fault(simulator, "token", account="one", access_token="newer")
        assert (await check_tokens([account], simulator.urls["api"]))["mine"].verdict is Verdict.GOOD
    assert await credentials.token() == SecretStr("newer")


@pytest.mark.parametrize("status", [429, 502])
async def test_a_broker_that_does_not_answer_says_nothing_about_the_token(status: int) -> None:
    account = account_of(section("canaryToken"), NOWHERE)
    async with running(instruments=100) as simulator:
        url = simulator.urls["api"]
        await fault(simulator, "rest", status=status)
        refused = (await check_tokens([account], url))["mine"]
    gone = (await check_tokens([account], url))["mine"]
    assert refused.verdict is gone.verdict is Verdict.UNKNOWN
    assert refused.text.startswith(
        f"the access token of account mine could not be checked: GET /user/profile for account mine: {status} "
    )
    assert "could not be checked: GET /user/profile for account mine failed: ConnectError" in gone.text
    assert "canary" not in refused.text + gone.text


async def test_a_broker_that_takes_too_long_says_nothing_about_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kitelake.accounts.checks.REST_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        check = (await check_tokens([account_of(section("token"), NOWHERE)], url))["mine"]
    assert check.verdict is Verdict.UNKNOWN
    assert check.text.endswith("could not be checked: the broker did not answer within 0.1 s")
