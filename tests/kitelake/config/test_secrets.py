"""Where secrets come from: a variable, a file, a command that prints one; what each says when it has none."""

import asyncio
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from kitelake.accounts.checks import token_problem
from kitelake.accounts.logins import account_of
from tests.support.accounts import CANARY, NOWHERE, PYTHON, problem_of, python, secret_file, section
from tests.support.simulator_client import until


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


async def test_a_command_is_killed_though_nobody_waited_until_it_had_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine a program may run, and have started others, before its start is known of."""
    pids, known = tmp_path / "pids", asyncio.Event()
    start = asyncio.create_subprocess_exec

    async def late(*words: str, **options: Any) -> asyncio.subprocess.Process:
        process = await start(*words, **options)
        await known.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", late)
    asking = asyncio.create_task(problem_of(shell(HANGS + "wait", str(pids))))
    await until(pids.exists)
    asking.cancel()
    asyncio.get_running_loop().call_soon(known.set)
    await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))


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
