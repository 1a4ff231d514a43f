"""Ticks that come piece by piece, and the memory in which the writer has them."""

from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import pytest

from storage.commit.decoder import DecodedInPieces, Pieces
from storage.journal import Block
from storage.layout import DataLayout
from storage.tables.symbols import SymbolLookup
from tests.support.committing import OLD, check, column, commit_all, fill
from tests.support.lake import Feed, ToyDecoder


class InPieces(ToyDecoder):
    """Rows of ticks one by one; of segment `wrong` it says that there are more."""

    def __init__(self, wrong: int | None = None) -> None:
        super().__init__()
        self._wrong = wrong

    def decode_in_pieces(
        self, stream: str, segment: int, blocks: Sequence[Block], *, first_seq: int, symbols: SymbolLookup
    ) -> DecodedInPieces:
        found = self.decode(stream, segment, blocks, first_seq=first_seq, symbols=symbols)
        others = {name: parts for name, parts in found.parts.items() if name != "ticks"}
        ticks = [
            Pieces(part.values, [part.rows.slice(at, 1) for at in range(part.rows.num_rows)])
            for part in found.parts.get("ticks", ())
        ]
        return DecodedInPieces(others, ticks, found.packets + (segment == self._wrong))


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    return DataLayout(tmp_path)


@pytest.fixture
def feed(layout: DataLayout) -> Feed:
    with Feed(layout.root, OLD) as feed:
        fill(feed, 3)
    return feed


def test_pieces_become_the_same_rows(layout: DataLayout, feed: Feed) -> None:
    with patch("tests.support.committing.ToyDecoder", InPieces):
        commit_all(layout)
    check(layout, feed)


def test_a_failure_behind_the_first_pieces_leaves_no_file(layout: DataLayout, feed: Feed) -> None:
    with patch("tests.support.committing.ToyDecoder", lambda: InPieces(wrong=1)):
        commit_all(layout)
    assert any("as many as packets" in str(reason) for reason in column(layout, "quarantine", "reason"))
    assert not list(layout.staging.rglob("*.parquet"))
    assert not list(layout.table("ticks").rglob("*-0000000001.parquet"))
    assert list(layout.table("ticks").rglob("*-0000000002.parquet"))


@pytest.mark.parametrize("memory_bytes", [0, 400, 1 << 20])
def test_segments_that_fit_into_the_memory_or_not(layout: DataLayout, feed: Feed, memory_bytes: int) -> None:
    with patch("storage.commit.writer.MEMORY_BYTES", memory_bytes):
        commit_all(layout)
    check(layout, feed)


def test_memory_is_given_back_when_there_is_nothing_more_to_do(layout: DataLayout, feed: Feed) -> None:
    with patch("storage.commit.writer._give_back_memory") as given_back:
        commit_all(layout)
        assert given_back.call_count == 1
        commit_all(layout)
        assert given_back.call_count == 1
