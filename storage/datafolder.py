"""The data folder: one service at a time, and never simulated or replayed ticks beside real ones.

The marker `kitelake.json` says where the folder's contents come from, and is there before any of them; of a replay it
has the replayed day, too, and a folder has those of one. It binds once there is something to mix with, a journal or a
table: a start that failed earlier leaves the folder to any source.
"""

import contextlib
import datetime as dt
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from storage.clock import IST
from storage.errors import DataFolderError
from storage.files import BEGUN, is_full, write_whole
from storage.layout import DataLayout

TickSource = Literal["kite", "simulator", "replay"]

_LEAST_ROOM_BYTES: Final = 1 << 20
"""With less a service cannot begin: the room that the one before kept for the journal is given up."""

_WRITTEN_WHOLE: Final = ("kitelake.json", "kitelake.holder", "status.json", "days/*.json")
"""What only the holder of a folder writes, each file whole."""

_NAMES: Final[dict[TickSource, str]] = {"kite": "Kite", "simulator": "the simulator", "replay": "a replay"}


@contextlib.contextmanager
def hold(root: Path, source: TickSource, replayed: dt.date | None = None) -> Iterator[DataLayout]:
    """Make the data folder if need be, and hold it for as long as the context lasts.

    `replayed` is the day of a replay's packets. Raises `DataFolderError` if the folder cannot be written to, if another
    process holds it (which it names), or if what it holds comes from another source, or from a replay of another day.
    """
    from filelock import FileLock, Timeout  # readers, who ask whose ticks these are, need not wait for it

    layout = DataLayout(root)
    with contextlib.ExitStack() as held:
        try:
            root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(layout.lock, thread_local=False)
            lock.acquire(timeout=0)
            held.callback(lock.release)
            if not _has_room(root):
                layout.reserve.unlink(missing_ok=True)  # it is kept for this
            _remove_begun(root)
            _agree(layout, _Marker(source, replayed))
            _write_holder(layout)
            held.callback(_holder_file(layout).unlink, missing_ok=True)
        except Timeout:
            raise DataFolderError(f"{root}: another service captures into this folder ({_holder(layout)})") from None
        except OSError as error:
            why = error.strerror
            if isinstance(error, FileExistsError):
                why = f"{error.filename} is a file, or a link that leads nowhere"
            raise DataFolderError(f"{root}: the data folder cannot be written to: {why}") from None
        yield layout


def _remove_begun(root: Path) -> None:
    """Remove what a holder that was killed had not finished."""
    for name in _WRITTEN_WHOLE:
        for begun in root.glob(f"{name}{BEGUN}"):
            begun.unlink(missing_ok=True)


def _has_room(root: Path) -> bool:
    """Whether a service can begin. By taking the room: what the disk has free says nothing of a quota."""
    try:
        with tempfile.TemporaryFile(dir=root) as probe:
            probe.write(bytes(_LEAST_ROOM_BYTES))
            probe.flush()
    except OSError as error:
        if not is_full(error):
            raise
        return False
    return True


class _Marker(NamedTuple):
    """What the marker says. `replayed` is the day of a replay's packets, and None otherwise."""

    source: TickSource
    replayed: dt.date | None

    def __str__(self) -> str:
        return _NAMES[self.source] if self.replayed is None else f"{_NAMES[self.source]} of {self.replayed}"

    def text(self) -> str:
        """As it is written."""
        return json.dumps({"source": self.source} | ({"replayed": str(self.replayed)} if self.replayed else {}))


def _agree(layout: DataLayout, now: _Marker) -> None:
    """Refuse what comes from another source, and write down where it comes from now."""
    before = _marker_of(layout.root)
    if before == now:
        return
    if before is not None and _holds_something(layout):
        if before == "?":
            day = dt.date(2026, 11, 24)
            known = [_Marker(name, day if name == "replay" else None).text() for name in _NAMES]
            raise DataFolderError(
                f"{_marker_file(layout.root)}: does not say where the folder's ticks come from; expected "
                f"{' or '.join(known)}"
            )
        raise DataFolderError(
            f"{layout.root}: this folder holds ticks from {before}, and config.yaml asks for {now}: "
            "set `data` to another folder"
        )
    write_whole(_marker_file(layout.root), now.text())


def source_of(root: Path) -> TickSource | Literal["?"] | None:
    """Where the folder's ticks come from: "?" if its marker cannot be understood, None if there is none."""
    marker = _marker_of(root)
    return marker.source if isinstance(marker, _Marker) else marker


def replayed_day(root: Path) -> dt.date | None:
    """The day of the packets in a folder whose ticks come from a replay, whenever they were captured; else None."""
    marker = _marker_of(root)
    return marker.replayed if isinstance(marker, _Marker) else None


def _marker_file(root: Path) -> Path:
    return root / "kitelake.json"


def _marker_of(root: Path) -> _Marker | Literal["?"] | None:
    try:
        found = json.loads(_marker_file(root).read_text(encoding="utf-8"))
        source, day = found["source"], found.get("replayed")
        if source not in ("kite", "simulator", "replay") or (source == "replay") != (day is not None):
            return "?"
        return _Marker(source, None if day is None else dt.date.fromisoformat(day))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return "?"


def _holds_something(layout: DataLayout) -> bool:
    from storage.schema import TABLES  # it loads pyarrow, and only a marker of the other source asks for it

    return layout.journal.exists() or any(layout.table(name).exists() for name in TABLES)


def _write_holder(layout: DataLayout) -> None:
    me = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": f"{dt.datetime.now(IST):%Y-%m-%d %H:%M:%S} IST",
    }
    write_whole(_holder_file(layout), json.dumps(me), durable=False)


def _holder_file(layout: DataLayout) -> Path:
    return layout.lock.with_suffix(".holder")


def _holder(layout: DataLayout) -> str:
    try:
        holder = json.loads(_holder_file(layout).read_text())
        return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has not said who it is"
