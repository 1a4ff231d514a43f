"""Files that are replaced whole, whatever happens between the steps, and what counts as a full disk."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import storage.files
from storage.files import is_full, replacing, write_whole

OLD, NEW = "the old one", "the new one, which is longer"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file.json"
    path.write_text(OLD)
    return path


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("data", ["", "ä text\nof two lines", b"", b"\x00\xff\r\n"])
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("durable", [True, False])
def test_a_file_holds_what_was_written(path: Path, data: str | bytes, there: bool, durable: bool) -> None:
    if not there:
        path.unlink()
    write_whole(path, data, durable=durable)
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert list(path.parent.iterdir()) == [path]


def test_who_reads_meanwhile_has_the_old_file(path: Path) -> None:
    with replacing(path) as file:
        file.write(b"a part")
        file.flush()
        assert path.read_text() == OLD
        file.write(b", and the rest")
    assert path.read_text() == "a part, and the rest"


def test_two_who_write_the_same_file_do_not_mix(path: Path) -> None:
    with replacing(path) as first:
        first.write(b"first")
        with replacing(path) as second:
            second.write(b"second")
        first.write(b", to its end")
        assert path.read_text() == "second"
    assert path.read_text() == "first, to its end"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o666])
def test_a_mode_holds_before_the_first_byte(path: Path, umask: int, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    created = []
    chmod = os.fchmod

    def fchmod(descriptor: int, mode: int) -> None:
        created.append(os.fstat(descriptor).st_mode & 0o777)
        chmod(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", fchmod)
    with replacing(path, mode=mode):
        (beside,) = set(path.parent.iterdir()) - {path}
        assert (mode_of(beside), beside.stat().st_size) == (mode, 0)
    assert created == [mode & ~umask], "never more than was asked for"
    assert mode_of(path) == mode


def test_without_a_mode_it_is_that_of_any_new_file(path: Path, umask: int) -> None:
    path.chmod(0o600)
    write_whole(path, NEW)
    assert mode_of(path) == 0o666 & ~umask


def test_bytes_are_on_disk_before_the_name_and_the_name_before_the_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    plain = Path.replace

    def sync_data(descriptor: int) -> None:
        done.append(f"sync {os.fstat(descriptor).st_size} bytes")

    def replace(new: Path, target: Path) -> Path:
        done.append("replace")
        return plain(new, target)

    def sync_folder(folder: Path) -> None:
        done.append(f"sync {folder.name}")

    monkeypatch.setattr(storage.files, "sync_data", sync_data)
    monkeypatch.setattr(storage.files, "sync_folder", sync_folder)
    monkeypatch.setattr(Path, "replace", replace)
    write_whole(path, NEW)
    assert done == [f"sync {len(NEW)} bytes", "replace", f"sync {path.parent.name}"]
    done.clear()
    write_whole(path, OLD, durable=False)
    assert done == ["replace"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_is_raised_inside_leaves_the_old_file(path: Path, error: type[BaseException]) -> None:
    def write() -> None:
        with replacing(path) as file:
            file.write(b"a part")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == OLD
    assert list(path.parent.iterdir()) == [path]


def failing(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("owner", "call"), [(os, "fchmod"), (storage.files, "sync_data"), (Path, "replace")])
def test_a_step_that_the_system_refuses_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, call: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(owner, call, failing)
        with pytest.raises(OSError, match="No space left on device") as caught:
            write_whole(path, NEW, mode=0o600)
    assert is_full(caught.value)
    assert path.read_text() == OLD
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_may_not_grow_leaves_the_old_one(path: Path) -> None:
    """The system takes a part of the bytes, and no more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_whole(path, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == OLD
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "none" / "file", NEW)
    assert not list(tmp_path.iterdir())


# Ends itself before the call that it is told: as a process that is killed there.
DIES = """
import os, sys
from pathlib import Path
import storage.files

owner = {"os": os, "files": storage.files, "Path": Path}[sys.argv[2]]
setattr(owner, sys.argv[3], lambda *_: os._exit(77))
storage.files.write_whole(Path(sys.argv[1]), sys.argv[4], mode=0o600)
"""


@pytest.mark.parametrize(
    ("owner", "call", "left"),
    [
        ("os", "open", OLD),
        ("os", "fdopen", OLD),
        ("files", "sync_data", OLD),
        ("Path", "replace", OLD),
        ("files", "sync_folder", NEW),
    ],
)
def test_a_process_that_ends_between_two_steps_leaves_a_whole_file(
    path: Path, owner: str, call: str, left: str
) -> None:
    command = [sys.executable, "-c", DIES, str(path), owner, call, NEW]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 77, done.stderr
    assert path.read_text() == left
    write_whole(path, NEW)
    assert path.read_text() == NEW, "what is left beside is in nobody's way"


@pytest.mark.parametrize(
    ("number", "expected"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False), (errno.EFBIG, False)]
)
def test_only_a_lack_of_room_is_a_full_disk(number: int, expected: bool) -> None:
    assert is_full(OSError(number, "")) is expected
