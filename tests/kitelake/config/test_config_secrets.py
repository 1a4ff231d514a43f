"""Secrets in config.yaml: where they come from, what cannot be one, and that none shows."""

import asyncio
from pathlib import Path

import pytest

from ingest.accounts.credentials import Credentials
from kitelake.accounts.logins import account_of
from kitelake.cli.capture import shipped_config
from kitelake.config.config import load_config
from kitelake.errors import ConfigError
from tests.support.configs import GOOD, Writer
from tests.support.waiting import PATIENCE_SECONDS


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{file: ~no-such-user-here/x}", "this one begins with `~`, and there is no such user"),
        ('{file: "a\\0b"}', "expected the path of a file, without line breaks"),
        ("{file: token}", "expected an absolute path, or one that begins with ~"),
        ("töken-1", "letters beyond ASCII"),
        ("ｔoken-1", "letters beyond ASCII"),
    ],
)
@pytest.mark.parametrize("secret", ["api_key", "access_token"])
def test_a_secret_that_cannot_be(write: Writer, secret: str, given: str, message: str) -> None:
    shown = {"api_key": "key-1", "access_token": "token-1"}[secret]
    with pytest.raises(ConfigError, match=rf"accounts\[0\]\.{secret}: .*{message}") as caught:
        load_config(write(GOOD.replace(shown, given)))
    assert "oken-1" not in str(caught.value)


def test_a_secret_of_bytes_that_are_no_text(write: Writer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_bytes(b"\xff\xfe")
    token.chmod(0o600)
    with pytest.raises(ConfigError, match=r"accounts\[0\]\.api_key: .*letters beyond ASCII"):
        load_config(write(GOOD.replace("key-1", f"{{file: {token}}}")))


def test_a_folder_is_no_secret(write: Writer) -> None:
    with pytest.raises(ConfigError, match=r"accounts\[0\]\.api_key: / is a folder; expected a file"):
        load_config(write(GOOD.replace("key-1", "{file: /}")))


def test_a_token_that_is_not_there_yet_is_no_mistake(write: Writer, tmp_path: Path) -> None:
    """The other accounts go on, and this one as soon as its source has one."""
    for source in ("{env: KITELAKE_TEST_NOT_SET}", "{file: /nowhere/token}", "{command: 'false'}"):
        config = load_config(write(GOOD.replace("token-1", source)))
        account = account_of(config.accounts[0], tmp_path)
        assert account.access_token.get_secret_value() == ""
        assert account.token_source is not None


def test_secrets_come_from_the_environment_and_from_files(
    write: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "key"
    token.write_text("from-a-file\n")
    token.chmod(0o600)
    monkeypatch.setenv("KITELAKE_TEST_TOKEN", "from-the-environment")
    text = GOOD.replace("token-1", "{env: KITELAKE_TEST_TOKEN}").replace("key-1", f"{{file: {token}}}")
    assert load_config(write(text)).secrets() == ["from-a-file", "from-the-environment"]
    token.chmod(0o644)
    with pytest.raises(ConfigError, match=r"can be read by other users \(mode 0644\): chmod 600"):
        load_config(write(text))


def test_a_config_never_shows_its_secrets(write: Writer) -> None:
    config = load_config(write(GOOD))
    for shown in (repr(config), str(config), config.model_dump_json(), repr(config.accounts)):
        assert "token-1" not in shown
        assert "key-1" not in shown


async def test_an_account_reads_its_token_file_again_when_the_token_is_refused(write: Writer, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text("canaryOld")
    config = load_config(
        write(shipped_config().replace("access_token: simulated-token-1", f"access_token: {{file: {path}}}"))
    )
    account = account_of(config.accounts[0], tmp_path)
    credentials = Credentials(account, config.capture)
    credentials.refuse(await credentials.token())
    path.write_text("canaryNew")
    async with asyncio.timeout(PATIENCE_SECONDS):
        await credentials.wait()
    assert (await credentials.token()).get_secret_value() == "canaryNew"
    await credentials.close()
    assert account_of(config.accounts[1], tmp_path).token_source is None
