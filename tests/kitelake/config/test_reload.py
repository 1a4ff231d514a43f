"""Noticing that a file has changed since it was read, and what of a changed configuration takes effect."""

from pathlib import Path
from typing import Any

import pytest

from kitelake.config.config import load_config
from kitelake.config.reload import FileWatch, account_changes, reread
from kitelake.errors import ConfigError


def test_what_changes_after_the_watch_was_made_is_noticed_once(tmp_path: Path) -> None:
    file, gone = tmp_path / "list.txt", tmp_path / "gone.txt"
    file.write_text("NSE:INFY\n")
    gone.write_text("NSE:INFY\n")
    watch = FileWatch([file, gone])
    assert watch.changed([file, gone]) == []
    file.write_text("NSE:INFY\nNSE:TCS\n")
    gone.unlink()
    assert watch.changed([file, gone]) == [file, gone]
    assert watch.changed([file, gone]) == []
    gone.write_text("")
    assert watch.changed([file, gone]) == [gone]


def test_a_file_that_is_named_later_may_have_changed_since_it_was_read(tmp_path: Path) -> None:
    """Whoever named it read it before this look: what was written in between would else never be noticed."""
    file = tmp_path / "list.txt"
    file.write_text("NSE:INFY\n")
    watch = FileWatch([])
    assert watch.changed([file]) == [file]
    assert watch.changed([file]) == []
    assert watch.changed([]) == []
    assert watch.changed([file]) == [file]  # named again


@pytest.mark.parametrize(
    ("capture", "accounts", "after", "problem"),
    [
        (
            "{strategy: manual}",
            ["one"],
            {"capture": "{strategy: balanced}", "placed": ""},
            "subscriptions[0].accounts: expected some, since capture.strategy is manual",
        ),
        (
            "{strategy: redundant, copies: 2}",
            ["one", "two"],
            {"capture": "{strategy: balanced}", "accounts": ["one"]},
            "capture.copies: expected at most 1, the number of accounts",
        ),
    ],
)
def test_what_does_not_fit_what_is_read_at_the_start_only_needs_a_restart(
    tmp_path: Path, capture: str, accounts: list[str], after: dict[str, Any], problem: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text_of(capture, accounts))
    before = load_config(path)
    path.write_text(text_of(**{"capture": capture, "accounts": accounts, **after}))
    load_config(path)  # by itself it is good
    with pytest.raises(ConfigError) as refused:
        reread(path, before)
    said = f"{path}: restart the service: `capture` as it is in force until then does not fit the rest of it: {problem}"
    assert str(refused.value) == said


def test_what_is_read_at_the_start_only_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text_of("{strategy: balanced}", ["one"]))
    before = load_config(path)
    path.write_text(text_of("{strategy: manual}", ["one", "two"]))
    now, late = reread(path, before)
    assert late == ["capture"]
    assert now.capture == before.capture
    assert [account.name for account in now.accounts] == ["one", "two"]


def text_of(capture: str, accounts: list[str], placed: str = "accounts: [one], ") -> str:
    """A config.yaml of one list, which is `placed` on accounts."""
    named = "".join(f"  - {{name: {name}, api_key: key-{name}}}\n" for name in accounts)
    entry = f"  - {{name: a, mode: full, {placed}instruments: [NSE:INFY]}}\n"
    return f"data: ticks\ncapture: {capture}\naccounts:\n{named}subscriptions:\n{entry}"


def test_an_account_changes_with_what_its_sockets_need(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    text = text_of("{}", ["one", "two", "three"])
    path.write_text(text)
    before = load_config(path)
    text = text.replace("api_key: key-one", "api_key: key-one, api_secret: secret")
    path.write_text(
        text.replace("key-two", "key-2").replace("api_key: key-three", "api_key: key-three, access_token: t")
    )
    assert account_changes(before, load_config(path)) == (["two", "three"], ["two", "three"])
