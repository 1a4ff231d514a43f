"""The data folder is held by one service, is writable, and never mixes ticks of different sources."""

import datetime as dt
import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from storage.datafolder import TickSource, hold, replayed_day, source_of
from storage.errors import DataFolderError

HOLDER = """
import sys
from pathlib import Path
from storage.datafolder import hold
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


def test_what_a_killed_holder_had_begun_to_write_is_removed(tmp_path: Path) -> None:
    (tmp_path / "days").mkdir()
    begun = ["status.json", "kitelake.json", "kitelake.holder", "days/2026-11-24.json"]
    kept = ["status.json", "days/2026-11-24.json", "mine.csv.0123abcd.new", "mine.new"]  # an export to here goes on
    for name in (*(f"{name}.0123abcd.new" for name in begun), *kept):
        (tmp_path / name).touch()
    with hold(tmp_path, "kite"):
        pass
    there = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert there == {*kept, "kitelake.json", "kitelake.lock"}


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(DataFolderError, match="cannot be written to: Not a directory"),
        hold(tmp_path / "file" / "data", "kite"),
    ):
        pass


@pytest.mark.parametrize("below", ["", "data"])
@pytest.mark.parametrize("link", [False, True])
def test_what_has_the_name_of_the_folder_and_is_none(tmp_path: Path, below: str, link: bool) -> None:
    there = tmp_path / "there"
    if link:
        there.symlink_to(tmp_path / "nowhere")
    else:
        there.touch()
    expected = rf"{there} is a file, or a link that leads nowhere" if link or not below else "Not a directory"
    with pytest.raises(DataFolderError, match=expected), hold(there / below, "kite"):
        pass


HELD = ["journal", "ticks", "instruments"]
DAY, OTHER_DAY = dt.date(2026, 11, 24), dt.date(2026, 11, 25)


@pytest.mark.parametrize("there", HELD)
@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("simulator", "kite", "holds ticks from the simulator, and config.yaml asks for Kite: set `data` to another"),
        ("kite", "simulator", "holds ticks from Kite, and config.yaml asks for the simulator: set `data` to another"),
    ],
)
def test_simulated_and_real_ticks_never_share_a_folder(
    tmp_path: Path, there: str, first: TickSource, second: TickSource, message: str
) -> None:
    with hold(tmp_path, first):
        (tmp_path / there).mkdir()
    for _ in range(2):
        with pytest.raises(DataFolderError, match=message), hold(tmp_path, second):
            pass
    with hold(tmp_path, first):
        pass


@pytest.mark.parametrize("there", HELD)
@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            ("replay", DAY),
            ("kite", None),
            "holds ticks from a replay of 2026-11-24, and config.yaml asks for Kite",
        ),
        (
            ("kite", None),
            ("replay", DAY),
            "holds ticks from Kite, and config.yaml asks for a replay of 2026-11-24",
        ),
        (("simulator", None), ("replay", DAY), "holds ticks from the simulator, and config.yaml asks for a replay of"),
        (
            ("replay", DAY),
            ("simulator", None),
            "holds ticks from a replay of 2026-11-24, and config.yaml asks for the",
        ),
        (
            ("replay", DAY),
            ("replay", OTHER_DAY),
            "from a replay of 2026-11-24, and config.yaml asks for a replay of 2026",
        ),
    ],
)
def test_a_folder_of_a_replay_has_those_of_one_day(
    tmp_path: Path,
    there: str,
    first: tuple[TickSource, dt.date | None],
    second: tuple[TickSource, dt.date | None],
    message: str,
) -> None:
    with hold(tmp_path, *first):
        (tmp_path / there).mkdir()
    with pytest.raises(DataFolderError, match=message), hold(tmp_path, *second):
        pass
    with hold(tmp_path, *first):  # the same once more is welcome
        assert (source_of(tmp_path), replayed_day(tmp_path)) == first


def test_nothing_is_replayed_where_there_is_no_marker(tmp_path: Path) -> None:
    assert (source_of(tmp_path), replayed_day(tmp_path)) == (None, None)
    (tmp_path / "kitelake.json").write_text("{")
    assert (source_of(tmp_path), replayed_day(tmp_path)) == ("?", None)


def test_a_start_that_failed_claims_nothing(tmp_path: Path) -> None:
    """Until something is captured the folder is either source's; then it is the last one's."""
    with pytest.raises(RuntimeError), hold(tmp_path, "simulator"):
        raise RuntimeError("the port is in use")
    with hold(tmp_path, "kite"):
        (tmp_path / "journal").mkdir()
    with pytest.raises(DataFolderError, match="holds ticks from Kite"), hold(tmp_path, "simulator"):
        pass


@pytest.mark.parametrize(
    "written",
    [
        '["?"]',
        '{"source": "moon"}',
        '{"source": []}',
        "{",
        "",
        '{"source": "replay"}',
        '{"source": "replay", "replayed": "yesterday"}',
        '{"source": "replay", "replayed": 24}',
        '{"source": "kite", "replayed": "2026-11-24"}',
    ],
)
def test_a_marker_that_cannot_be_understood(tmp_path: Path, written: str) -> None:
    (tmp_path / "kitelake.json").write_text(written)
    (tmp_path / "journal").mkdir()
    expected = (
        r'kitelake\.json: .*expected \{"source": "kite"\} or \{"source": "simulator"\} or '
        r'\{"source": "replay", "replayed": "2026-11-24"\}'
    )
    with pytest.raises(DataFolderError, match=expected), hold(tmp_path, "kite"):
        pass
    (tmp_path / "journal").rmdir()
    with hold(tmp_path, "kite"):
        pass
    assert json.loads((tmp_path / "kitelake.json").read_text()) == {"source": "kite"}


def test_a_marker_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "kitelake.json").mkdir()
    with pytest.raises(DataFolderError, match="the data folder cannot be"), hold(tmp_path, "kite"):
        pass


class Refusing(io.BytesIO):
    """A file on a disk, or under a quota, that has no room while the reserve is there; or that fails otherwise."""

    def __init__(self, reserve: Path, number: int) -> None:
        super().__init__()
        self._reserve = reserve
        self._number = number

    def flush(self) -> None:
        if self._reserve.exists():
            raise OSError(self._number, os.strerror(self._number))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_start_without_room_uses_the_reserve(tmp_path: Path, number: int) -> None:
    """Of a quota the disk's own free space says nothing."""
    reserve = tmp_path / "reserve"
    reserve.touch()
    with patch("tempfile.TemporaryFile", lambda **_: Refusing(reserve, number)), hold(tmp_path, "kite"):
        assert not reserve.exists()


def test_room_is_no_cure_for_a_disk_that_fails(tmp_path: Path) -> None:
    reserve = tmp_path / "reserve"
    reserve.touch()
    with (
        patch("tempfile.TemporaryFile", lambda **_: Refusing(reserve, errno.EIO)),
        pytest.raises(DataFolderError, match="cannot be written to: Input/output error"),
        hold(tmp_path, "kite"),
    ):
        pass
    assert reserve.exists()


def test_with_room_the_reserve_stays(tmp_path: Path) -> None:
    (tmp_path / "reserve").touch()
    with hold(tmp_path, "kite"):
        assert (tmp_path / "reserve").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kitelake.json", "kitelake.lock", "reserve"]


def test_another_service_keeps_its_reserve(tmp_path: Path) -> None:
    reserve = tmp_path / "reserve"
    reserve.touch()
    with (
        hold(tmp_path, "kite"),
        patch("tempfile.TemporaryFile", lambda **_: Refusing(reserve, errno.EDQUOT)),
        pytest.raises(DataFolderError, match="another service captures"),
        hold(tmp_path, "kite"),
    ):
        pass
    assert reserve.exists()
