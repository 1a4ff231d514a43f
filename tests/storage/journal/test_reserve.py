"""Room on the disk is kept for the journal, and given up."""

import errno
import shutil
from pathlib import Path
from unittest.mock import patch

import pytest

from storage.journal.reserve import LEAST_FACTOR, Reserve

MIB = 1 << 20


def test_the_reserve_takes_up_room_and_gives_it_back(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", 8 * MIB)
    assert not reserve.is_kept
    assert not reserve.give_up()
    assert reserve.keep()
    assert reserve.is_kept
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 8 * MIB, "its blocks are allocated"
    before = (tmp_path / "reserve").stat().st_mtime_ns
    assert reserve.keep()
    assert (tmp_path / "reserve").stat().st_mtime_ns == before, "it is made once"
    assert reserve.give_up()
    assert not reserve.is_kept
    assert not list(tmp_path.iterdir())


def test_no_reserve_is_kept_where_it_would_fill_the_disk(tmp_path: Path) -> None:
    size = shutil.disk_usage(tmp_path).free // LEAST_FACTOR + 64 * MIB
    reserve = Reserve(tmp_path / "reserve", size)
    assert not reserve.keep()
    assert not list(tmp_path.iterdir())


def test_no_reserve_is_asked_for(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", 0)
    assert reserve.is_kept
    assert reserve.keep()
    assert not reserve.give_up()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", ["posix_fallocate", "rename"])
def test_a_reserve_that_cannot_be_made_leaves_nothing(tmp_path: Path, call: str) -> None:
    where = "os.posix_fallocate" if call == "posix_fallocate" else "pathlib.Path.rename"
    with patch(where, side_effect=OSError(errno.ENOSPC, "No space left on device")):
        assert not Reserve(tmp_path / "reserve", MIB).keep()
    assert not list(tmp_path.iterdir())
