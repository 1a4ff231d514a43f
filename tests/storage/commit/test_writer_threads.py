"""A writer that others wait for writes two exchanges at a time: the same files, and nothing where one of them fails."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ingest.wire import JournalDecoder
from storage.commit import writer
from storage.commit.writer import SegmentCommitted, SegmentWriter
from storage.errors import TableError
from storage.layout import DataLayout
from storage.schema import TICKS
from storage.tables.parquet import stage_file
from storage.tables.table import LakeTable
from tests.support.three_days import STREAM, layout, three_days

pytestmark = pytest.mark.slow

__all__ = ["layout", "three_days"]  # the fixtures


@pytest.fixture
def journal(tmp_path: Path, layout: DataLayout) -> DataLayout:
    """A journal of ten segments, of which nothing is committed."""
    shutil.copytree(layout.journal, tmp_path / "journal alone" / "journal")
    return DataLayout(tmp_path / "journal alone")


def commit(layout: DataLayout) -> list[SegmentCommitted]:
    done: list[SegmentCommitted] = []
    SegmentWriter(layout, JournalDecoder(), on_commit=done.append).run(poll_seconds=0.01, stop=threading.Event())
    return done


def files(layout: DataLayout) -> dict[str, bytes]:
    return {str(path.relative_to(layout.root)): path.read_bytes() for path in layout.root.glob("*/date=*/**/*.parquet")}


def test_the_files_are_the_same_to_the_byte(journal: DataLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class One(ThreadPoolExecutor):
        def __init__(self, threads: int) -> None:
            asked.append(threads)
            super().__init__(1)

    alone = DataLayout(journal.root.with_name("alone"))
    shutil.copytree(journal.root, alone.root)
    done = commit(journal)
    with monkeypatch.context() as patch:
        patch.setattr(writer, "ThreadPoolExecutor", One)
        assert [(one.segment, one.rows) for one in commit(alone)] == [(one.segment, one.rows) for one in done]
    assert asked == [2] * (len(done) - 1) + [1], "nobody waits for the last"
    assert files(journal) == files(alone)
    assert len(files(journal)) > len(done)


def test_where_one_fails_nothing_is_committed(journal: DataLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*args: object, values: dict[str, str], **others: object) -> object:
        if values.get("exchange") == "NSE":
            raise TableError("the disk is full")
        return stage_file(*args, values=values, **others)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(writer, "stage_file", failing)
        with pytest.raises(TableError, match="the disk is full"):
            commit(journal)
    table = LakeTable(journal.table(TICKS.name), TICKS).open()
    assert table.transaction(STREAM) is None
    assert sum(one.rows for one in commit(journal)) == table.open().read().num_rows > 0
