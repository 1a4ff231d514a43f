"""The environment of config.yaml: variables that set options, and the folders of the file and of the data."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kitelake.config.config import data_folder, load_config
from kitelake.errors import ConfigError
from tests.support.configs import GOOD, Writer


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("~no-such-user-here/x", "this one begins with `~`, and there is no such user"),
        ('"a\\0b"', "without line breaks and control characters"),
        ('"a\\nb"', "without line breaks and control characters"),
        ('"\\ud800"', "without line breaks and control characters"),
        ("a%20b", "without `%` and two hex digits anywhere in its absolute path"),
        ("''", "expected the path of a folder"),
        ("~", "expected the path of a folder"),
        ("7", "expected the path of a folder"),
    ],
)
@pytest.mark.parametrize("load", [load_config, data_folder])
def test_a_data_folder_that_cannot_be(write: Writer, load: Callable[[Path], object], data: str, message: str) -> None:
    path = write(GOOD.replace("data: ticks", f"data: {data}"))
    with pytest.raises(ConfigError, match=f"data: .*{message}") as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("load", [load_config, data_folder])
def test_the_folder_of_the_config_counts_too(tmp_path: Path, load: Callable[[Path], object]) -> None:
    (tmp_path / "a%20b").mkdir()
    with pytest.raises(ConfigError, match=r"data: .*two hex digits anywhere in its absolute path"):
        load(Writer(tmp_path / "a%20b" / "config.yaml")(GOOD))


@pytest.mark.parametrize("load", [load_config, data_folder])
def test_an_empty_variable_is_no_folder(
    write: Writer, load: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITELAKE_DATA", "")
    with pytest.raises(ConfigError, match=r"data \(the environment variable KITELAKE_DATA\): expected the path"):
        load(write(GOOD))


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("KITELAKE_JORNAL__SEGMENT_SECONDS", "KITELAKE_DATA, KITELAKE_ACCOUNTS, .*KITELAKE_JOURNAL__…"),
        ("KITELAKE_DTA", "KITELAKE_DATA, "),
        ("KITELAKE_JOURNAL__SEGMENT_SECNDS", "KITELAKE_JOURNAL__FLUSH_MILLISECONDS, "),
        ("KITELAKE_JOURNAL__SEGMENT_SECONDS__MORE", "KITELAKE_JOURNAL__FLUSH_MILLISECONDS, "),
        ("KITELAKE_ACCOUNTS__0__NAME", "KITELAKE_DATA, KITELAKE_ACCOUNTS, "),
    ],
)
@pytest.mark.parametrize("load", [load_config, data_folder])
def test_a_variable_that_sets_no_option(
    write: Writer, load: Callable[[Path], object], name: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "token-1")
    with pytest.raises(ConfigError, match=f"the environment variable {name} sets no option; allowed: {allowed}") as e:
        load(write(GOOD))
    assert "token-1" not in str(e.value)


def test_variables_that_are_not_options(write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line's own, and those that an account points to."""
    monkeypatch.setenv("KITELAKE_CONFIG", "config.yaml")
    monkeypatch.setenv("KITELAKE_TEST_KEY", "from-the-environment")
    path = write(GOOD.replace("key-1", "{env: KITELAKE_TEST_KEY}"))
    assert load_config(path).secrets()[0] == "from-the-environment"
    assert data_folder(path) == path.parent / "ticks"


def test_a_variable_that_is_not_json(write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITELAKE_ACCOUNTS", "token-1")
    with pytest.raises(ConfigError, match=r"the environment variable KITELAKE_ACCOUNTS: expected JSON$"):
        load_config(write(GOOD))


def test_the_environment_wins_over_the_file(write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITELAKE_DATA", "/srv/ticks")
    monkeypatch.setenv("KITELAKE_JOURNAL__SEGMENT_SECONDS", "30")
    config = load_config(write(GOOD))
    assert config.data == Path("/srv/ticks")
    assert config.journal.segment_seconds == 30


def test_the_data_folder_is_known_without_the_secrets(write: Writer) -> None:
    path = write(GOOD.replace("token-1", "{env: KITELAKE_TEST_NOT_SET}"))
    assert data_folder(path) == path.parent / "ticks"
    with pytest.raises(ConfigError, match="data: missing"):
        data_folder(write("accounts: []"))


@pytest.mark.parametrize("name", [b"\xff", b"two\nlines"])
@pytest.mark.parametrize("load", [load_config, data_folder])
def test_a_folder_of_config_yaml_whose_name_is_no_line_of_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Callable[[Path], object], name: bytes
) -> None:
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    (folder / "config.yaml").write_text(GOOD, encoding="utf-8")
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError) as caught:
        load(Path("config.yaml"))
    expected = "config.yaml: expected a place whose absolute path is UTF-8 without line breaks and control characters"
    assert str(caught.value) == expected


def test_a_home_folder_whose_name_is_no_text(write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", os.fsdecode(b"/home/\xff"))
    with pytest.raises(ConfigError, match="data: expected the path of a folder, without line breaks and control"):
        load_config(write(GOOD.replace("ticks", "~/ticks", 1)))
