"""A peer that cannot be had costs its own figures alone, and is said with the reason."""

import subprocess
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.results import LeftOut


def test_an_environment_that_cannot_be_made_is_tried_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tried = []

    def environment(folder: Path, lock: Path, python: str) -> Path:
        tried.append(folder.name)
        raise subprocess.CalledProcessError(1, [str(folder), "-m", "pip", "install"])

    monkeypatch.setattr(peers, "environment", environment)
    peers._made.cache_clear()
    try:
        for kind in ("official", "official-ticks"):
            with pytest.raises(peers.NoPeerError) as error:
                peers.run_client(kind, "ws://127.0.0.1:1", [1], 1, tmp_path)
            assert error.value.left_out == LeftOut("client", "its environment could not be made: pip ended with 1")
    finally:
        peers._made.cache_clear()
    assert tried == ["client"]
