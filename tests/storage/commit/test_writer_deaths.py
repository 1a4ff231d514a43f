"""A writer that dies, or a service before its first frame: the next one does the rest, and each row is there once."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storage.layout import DataLayout
from tests.support import works
from tests.support.committing import OLD, check, commit_all, committed_files, fill, ticks
from tests.support.lake import Feed
from tests.support.lives import Life


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    return DataLayout(tmp_path / "données, 100 % & more")


@pytest.mark.slow
class TestDeath:
    def test_between_any_two_steps(self, layout: DataLayout) -> None:
        """Dies, is started again by another that dies, and so on to the end."""
        with Feed(layout.root, OLD) as feed:
            fill(feed, 1)
        deaths = 0
        # A segment of nine steps and one of three; each life repeats what its predecessor did not commit.
        for steps in (1, 2, 3, 1, 2, 3, 2, 3, 9):
            if not Life(works.commit, layout.root, steps).wait():
                break
            deaths += 1
            assert ticks(layout) == feed.ticks[: len(ticks(layout))]
        assert deaths >= 7
        commit_all(layout)
        check(layout, feed)

    @pytest.mark.parametrize("steps", range(1, 13))
    def test_after_each_step(self, layout: DataLayout, steps: int) -> None:
        with Feed(layout.root, OLD) as feed:
            fill(feed, 1)
        assert Life(works.commit, layout.root, steps).wait()
        committed = committed_files(layout)
        commit_all(layout)
        check(layout, feed)
        assert not list(layout.staging.rglob("*.parquet"))
        # What a commit has named is never written again, not even with equal bytes.
        assert {path: inode for path, inode in committed_files(layout).items() if path in committed} == committed

    def test_killed_at_any_moment(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as feed:
            fill(feed, 10)
        rng = random.Random(5)
        for _ in range(3):
            with Life(works.commit, layout.root) as life:
                time.sleep(rng.uniform(0, 0.5))  # the moment is the point: any will do
                life.kill()
        commit_all(layout)
        check(layout, feed)

    def test_two_at_a_time(self, layout: DataLayout) -> None:
        """The second waits for the first, and finds everything done."""
        with Feed(layout.root, OLD) as feed:
            fill(feed, 5)
        lives = [Life(works.commit, layout.root) for _ in range(3)]
        for life in lives:
            assert not life.wait()
        check(layout, feed)


def test_stale_staging_files_are_removed(layout: DataLayout) -> None:
    stale = layout.staging / "writer" / "ticks-stale.parquet"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"half a file")
    others = layout.staging / "instruments" / "in use"
    others.parent.mkdir()
    others.write_bytes(b"")
    commit_all(layout)
    assert not stale.exists()
    assert others.exists()


@pytest.mark.slow
def test_the_journal_of_nobody(layout: DataLayout) -> None:
    """A service that died before its first frame."""
    program = "import os, sys; from pathlib import Path; from storage.journal import *; from storage.layout import *; "
    program += "w = JournalWriter(DataLayout(Path(sys.argv[1])), sys.argv[2]); os._exit(0)"
    subprocess.run([sys.executable, "-c", program, str(layout.root), OLD], check=True)
    assert [(each.segment, each.rows, each.last_received_at_ns) for each in commit_all(layout)] == [(0, 0, None)]
