"""The data folder: one service at a time, and never simulated ticks beside real ones.

The marker `kitelake.json` says where the folder's contents come from, and is there before any of them. It binds once
there is something to mix with, a journal or a table: a start that failed earlier leaves the folder to either source.
"""

import contextlib
import datetime as dt
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from storage.clock import IST
from storage.errors import DataFolderError
from storage.files import is_full, write_whole
from storage.layout import DataLayout

TickSource = Literal["kite", "simulator"]

_LEAST_ROOM_BYTES: Final = 1 << 20
"""With less a service cannot begin: the room that the one before kept for the journal is given up."""

_NAMES: Final[dict[TickSource, str]] = {"kite": "Kite", "simulator": "the simulator"}


@contextlib.contextmanager
def hold(root: Path, source: TickSource) -> Iterator[DataLayout]:
    """Make the data folder if need be, and hold it for as long as the context lasts.

    Raises `DataFolderError` if it cannot be written to, if another process holds it (which it names), or if what it
    holds comes from the other source.
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
            _agree(layout, source)
            _write_holder(layout)
            held.callback(_holder_file(layout).unlink, missing_ok=True)
        except Timeout:
            raise DataFolderError(f"{root}: another service captures into this folder ({_holder(layout)})") from None
        except OSError as error:
            raise DataFolderError(f"{root}: the data folder cannot be written to: {error.strerror}") from None
        yield layout


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


def _agree(layout: DataLayout, source: TickSource) -> None:
    """Refuse what comes from the other source, and write down where it comes from now."""
    marker = layout.root / "kitelake.json"
    before = source_of(layout.root)
    if before == source:
        return
    if before is not None and _holds_something(layout):
        if before not in _NAMES:
            expected = " or ".join(f'{{"source": "{name}"}}' for name in _NAMES)
            raise DataFolderError(f"{marker}: does not say where the folder's ticks come from; expected {expected}")
        raise DataFolderError(
            f"{layout.root}: this folder holds ticks from {_NAMES[before]}, and config.yaml asks for {_NAMES[source]}: "
            "set `data` to another folder"
        )
    write_whole(marker, json.dumps({"source": source}))


def source_of(root: Path) -> TickSource | Literal["?"] | None:
    """Where the folder's ticks come from: "?" if its marker cannot be understood, None if there is none."""
    try:
        source = json.loads((root / "kitelake.json").read_text(encoding="utf-8"))["source"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return "?"
    return source if source in ("kite", "simulator") else "?"


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
