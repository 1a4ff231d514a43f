"""A data folder whose log of ticks has a checkpoint, and what to write into it."""

import random
from pathlib import Path

from deltalake import DeltaTable

from storage.layout import DataLayout
from tests.support.lake import INFY, Feed, ToyWriter

STREAM = "20261123T034500-aaaaaa"
CHECKPOINT = f"{3:020d}.checkpoint.parquet"
HINT = "_last_checkpoint"
NOISE = random.Random(2).randbytes(3000)


def make_sound(root: Path) -> None:
    """Five segments in the tables, of ticks a checkpoint behind the third, and a segment in the journal alone."""
    with Feed(root, STREAM) as feed:
        for number in range(6):
            feed.tick((INFY, number))
            feed.event(f"event {number}")
            feed.roll()
            if number < 5:
                ToyWriter(root).commit_all()
            if number == 2:
                DeltaTable((root / "ticks").as_uri()).create_checkpoint()


def log_of(layout: DataLayout) -> Path:
    return layout.table("ticks") / "_delta_log"
