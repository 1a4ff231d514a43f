"""The data folder: one service at a time, and never simulated ticks beside real ones."""

import contextlib
import datetime as dt
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from storage.errors import DataFolderError
from storage.layout import DataLayout

Source = Literal["kite", "simulator"]


@contextlib.contextmanager
def hold(root: Path, source: Source) -> Iterator[DataLayout]:
    """Make the data folder if need be, and hold it for as long as the context lasts.

    Raises `DataFolderError` if it cannot be written to, if another process holds it (which it names), or if it holds
    ticks from the other source.
    """
    layout = DataLayout(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
        lock = FileLock(layout.lock, thread_local=False)
        lock.acquire(timeout=0)
    except Timeout:
        raise DataFolderError(f"{root}: another service captures into this folder ({_holder(layout)})") from None
    except OSError as error:
        raise DataFolderError(f"{root}: the data folder cannot be written to: {error.strerror}") from None
    try:
        _claim(root / "kitelake.json", source)
        me = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        }
        _holder_file(layout).write_text(json.dumps(me))
        yield layout
        _holder_file(layout).unlink(missing_ok=True)
    finally:
        lock.release()


def _holder_file(layout: DataLayout) -> Path:
    return layout.lock.with_suffix(".holder")


def _holder(layout: DataLayout) -> str:
    try:
        holder = json.loads(_holder_file(layout).read_text())
        return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has not said who it is"


def _claim(marker: Path, source: Source) -> None:
    """The first service writes down where the folder's ticks come from; later ones must agree."""
    try:
        claimed = json.loads(marker.read_text())["source"]
    except FileNotFoundError:
        marker.write_text(json.dumps({"source": source}))
        return
    except (OSError, ValueError, KeyError, TypeError):
        raise DataFolderError(f"{marker}: cannot be read; expected {{'source': '{source}'}}") from None
    if claimed != source:
        raise DataFolderError(
            f"{marker.parent}: this folder holds ticks from the {claimed}, and config.yaml asks for the {source}: "
            "set `data` to another folder"
        )
