"""When a run of segments may replace what the tables have of it: with decoders that find other packets than before."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from storage import schema
from storage.commit.decoder import Decoded, Decoder, Part
from storage.commit.rebuild import rebuild_day
from storage.commit.rebuild_plan import RebuildError, SegmentRun
from storage.commit.rebuild_stage import is_replaceable
from storage.journal import Block
from storage.layout import DataLayout
from storage.tables.symbols import SymbolLookup
from tests.support.lake import Feed, ToyDecoder
from tests.support.rebuilding import DAY, NEW, OLD, Failing, archive, commit, copy_of, fill, rows_of, table, two_streams
from tests.support.works import Changed

pytestmark = pytest.mark.slow

__all__ = ["two_streams"]  # the fixture


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    return DataLayout(tmp_path / "données, 100 % & more")


@pytest.mark.parametrize(
    ("next_seq", "is_end", "has_other_days", "expected"),
    [
        (20, False, False, True),
        (20, True, True, True),
        (19, True, False, False),  # a row would be lost
        (21, True, False, True),
        (21, True, True, False),  # rows of another day may come behind it
        (21, False, False, False),  # the stream goes on with 20
    ],
)
def test_only_if_no_other_row_would_need_another_seq(
    next_seq: int, is_end: bool, has_other_days: bool, expected: bool
) -> None:
    run = SegmentRun("20261123T034500-aaaaaa", [3, 4], 10, 20, None, is_end)
    assert is_replaceable(run, next_seq, has_other_days=has_other_days) is expected


class TestNumbersOfPackets:
    """A decoder that finds other packets than before."""

    def twice(self, stream: str, segment: int) -> Decoder:
        """A decoder that finds one packet more in one segment, and numbers what comes behind it accordingly."""

        class Twice(ToyDecoder):
            def decode(
                self, got: str, number: int, blocks: Sequence[Block], *, first_seq: int, symbols: SymbolLookup
            ) -> Decoded:
                decoded = super().decode(got, number, blocks, first_seq=first_seq, symbols=symbols)
                if (got, number) != (stream, segment):
                    return decoded
                first, *others = decoded.parts["ticks"]
                last = first.rows.slice(0, 1).cast(schema.TICKS.file_schema).to_pylist()[0]
                more = pa.Table.from_pylist(
                    [last | {"seq": first_seq + decoded.packets}], schema=schema.TICKS.file_schema
                )
                rows = pa.concat_tables([first.rows.cast(schema.TICKS.file_schema), more])
                return Decoded({**decoded.parts, "ticks": [Part(first.values, rows), *others]}, decoded.packets + 1)

        return Twice()

    def test_one_more_at_the_end_of_a_dead_stream(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as feed:
            fill(feed, 3)
        commit(layout)
        rebuild_day(layout, self.twice(OLD, 1), DAY)
        rows = rows_of(layout)["ticks"]
        assert [row["seq"] for row in rows] == list(range(10))
        assert table(layout, "ticks").transaction(f"{OLD}/seq") == 10
        rebuild_day(layout, self.twice(OLD, 1), DAY)
        assert rows_of(layout)["ticks"] == rows

    def test_one_less_is_refused(self, layout: DataLayout, two_streams: Path) -> None:
        rows = copy_of(two_streams, layout)
        less = Changed(ToyDecoder(), lambda rows: rows.filter(pc.not_equal(rows.column("seq"), 4)))
        with pytest.raises(RebuildError, match="got 8 packets, expected 9"):
            rebuild_day(layout, less, DAY)
        assert rows_of(layout) == rows

    @pytest.mark.parametrize("archived", [False, True])
    def test_one_more_where_the_stream_goes_on_is_refused(
        self, layout: DataLayout, two_streams: Path, archived: bool
    ) -> None:
        rows = copy_of(two_streams, layout)
        if archived:
            archive(layout)
        with pytest.raises(RebuildError, match="got 6 packets, expected 5: other rows of the stream would need"):
            rebuild_day(layout, self.twice(NEW, 0), DAY)
        assert rows_of(layout) == rows

    def test_a_segment_that_was_given_up_comes_back_when_the_decoder_is_mended(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as feed:
            fill(feed, 3)
        commit(layout, Failing(1))
        given_up = rows_of(layout)
        assert len(given_up["ticks"]) == 6
        rebuild_day(layout, Failing(1), DAY)
        assert rows_of(layout) == given_up
        rebuild_day(layout, ToyDecoder(), DAY)
        rows = rows_of(layout)
        assert [(row["seq"], row["last_price"]) for row in rows["ticks"]] == [row[1::2] for row in feed.ticks]
        assert all(row["record"] is not None for row in rows["quarantine"])

    def test_a_segment_that_the_decoder_took_before_and_does_not_now(
        self, layout: DataLayout, two_streams: Path
    ) -> None:
        rows = copy_of(two_streams, layout)
        with pytest.raises(RebuildError, match=f"segment {OLD}/1: cannot be decoded: ZeroDivisionError"):
            rebuild_day(layout, Failing(1), DAY)
        assert rows_of(layout) == rows
