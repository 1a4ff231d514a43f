"""What a strategy's environment says, and that nothing starts unguarded."""

import os
import stat
import sys
from pathlib import Path

import pytest

from kitelake.errors import GuardError, NoReplayError
from kitelake.strategy.guard import FOLDER
from kitelake.strategy.launch import exit_status, guarded_environment, start_strategy

WS, API = "ws://127.0.0.1:1", "http://127.0.0.1:2"


def test_the_environment() -> None:
    given = {
        "HOME": "/home/me",
        "PYTHONPATH": "/mine",
        "NO_PROXY": "localhost",
        "NETRC": "/home/me/.netrc",
        **dict.fromkeys(("HTTP_PROXY", "https_proxy", "ALL_PROXY", "ws_proxy"), "http://proxy:3128"),
    }
    assert guarded_environment(WS + "/", API, given) == {
        "HOME": "/home/me",
        "PYTHONPATH": f"{FOLDER}{os.pathsep}/mine",
        "KITELAKE_REPLAY_WS": WS,
        "KITELAKE_REPLAY_API": API,
        "NO_PROXY": "*",
        "no_proxy": "*",
        "NETRC": os.devnull,
    }
    assert guarded_environment(WS, API, {})["PYTHONPATH"] == FOLDER


def test_a_root_elsewhere() -> None:
    with pytest.raises(NoReplayError, match=r"got a root at api\.kite\.trade"):
        guarded_environment(WS, "http://api.kite.trade:80", {})


def test_an_option_is_no_strategy() -> None:
    with pytest.raises(GuardError, match="got '-I' as a strategy, expected a file of Python"):
        start_strategy("-I", ["strategy.py"], ws=WS, api=API)


@pytest.mark.slow
def test_a_python_that_does_not_load_the_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "started"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "$@"\n')
    python.chmod(stat.S_IRWXU)
    script = tmp_path / "strategy.py"
    script.write_text(f"open({str(started)!r}, 'w')\n")
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(GuardError, match=r"does not load what keeps a strategy from the broker.*was not started"):
        start_strategy(script, [], ws=WS, api=API)
    assert not started.exists()


def test_the_exit_status() -> None:
    assert [exit_status(code) for code in (0, 3, -15)] == [0, 3, 143]
