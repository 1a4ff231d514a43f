"""The data folder is held by one service, is writable, and never mixes simulated with real ticks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kitelake.datafolder import hold
from storage.errors import DataFolderError

HOLDER = """
import sys
from pathlib import Path
from kitelake.datafolder import hold
with hold(Path(sys.argv[1]), "kite"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_held_by_another_process_names_it(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        expected = rf"another service captures into this folder \(process {other.pid} on"
        with pytest.raises(DataFolderError, match=expected), hold(tmp_path, "kite"):
            pass
        other.communicate()
    with hold(tmp_path, "kite"):
        pass


def test_a_killed_holder_holds_no_more(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        other.kill()
    with hold(tmp_path, "kite"):
        pass


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(DataFolderError, match="cannot be written to: Not a directory"),
        hold(tmp_path / "file" / "data", "kite"),
    ):
        pass


def test_simulated_and_real_ticks_never_share_a_folder(tmp_path: Path) -> None:
    with hold(tmp_path, "simulator"):
        pass
    with (
        pytest.raises(DataFolderError, match=r"ticks from the simulator.*asks for the kite: set `data`"),
        hold(tmp_path, "kite"),
    ):
        pass
    with hold(tmp_path, "simulator"):
        pass


def test_a_marker_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "kitelake.json").write_text(json.dumps(["?"]))
    with pytest.raises(DataFolderError, match=r"kitelake\.json: cannot be read; expected"), hold(tmp_path, "kite"):
        pass
