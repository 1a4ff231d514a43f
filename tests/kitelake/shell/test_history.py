"""What was typed is kept for its user alone, within bounds, and no secret with it."""

import stat
from pathlib import Path

import pytest
from prompt_toolkit.history import InMemoryHistory

from kitelake.shell.history import MOST_BYTES, KeptHistory, may_be_kept, open_history


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("select instrument_token from ticks;", True),
        (" select 1;", False),
        ("create secret s (type s3, key_id 'AKIA', secret 'x');", False),
        ("attach 'mysql://kite:hunter2@host/db' as old;", False),
        ("attach 'host=x password=hunter2' as old;", False),
        ("set s3_SECRET_access_key = 'x';", False),
        ("select 'access_token=abc';", False),
    ],
)
def test_secrets_are_not_kept(tmp_path: Path, text: str, kept: bool) -> None:
    assert may_be_kept(text) == kept
    history = KeptHistory(tmp_path / "history")
    history.append_string(text)
    assert list(KeptHistory(tmp_path / "history").load_history_strings()) == [text] * kept
    assert (text.rsplit(maxsplit=1)[-1] in (tmp_path / "history").read_text()) == kept
    assert history.get_strings() == [text]  # of this shell


def test_it_is_its_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "state" / "kitelake" / "sql-history"
    open_history().append_string("select 'नमस्ते',\n  1;")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)  # as a copy from elsewhere may be
    assert list(open_history().load_history_strings()) == ["select 'नमस्ते',\n  1;"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_without_a_place_for_it_it_is_of_this_shell_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert isinstance(open_history(), InMemoryHistory)


def test_it_does_not_grow_for_ever(tmp_path: Path) -> None:
    history = KeptHistory(tmp_path / "history")
    for number in range(12):
        history.store_string(f"select {number} as n,\n'{'x' * 100_000}';")
    kept = list(KeptHistory(tmp_path / "history").load_history_strings())
    assert (tmp_path / "history").stat().st_size <= MOST_BYTES // 2
    assert [text.split(" as")[0] for text in kept] == [f"select {number}" for number in (11, 10, 9, 8, 7)]
    assert all(text.endswith("x';") for text in kept)
