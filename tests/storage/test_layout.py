"""Paths, compared as whole strings."""

import datetime
from pathlib import Path

import pytest

from storage.layout import (
    DataLayout,
    parse_segment,
    partition_folder,
    segment_name,
    segment_stem,
    stream_name,
    table_file,
)

LAYOUT = DataLayout(Path("/data/my lake"))
STREAM = "20261122T091500-1f3a9c"


def test_where_everything_lies() -> None:
    assert str(LAYOUT.lock) == "/data/my lake/kitelake.lock"
    assert str(LAYOUT.writer_lock) == "/data/my lake/writer.lock"
    assert str(LAYOUT.journal) == "/data/my lake/journal"
    assert str(LAYOUT.staging) == "/data/my lake/staging"
    assert str(LAYOUT.table("ticks")) == "/data/my lake/ticks"
    assert str(LAYOUT.stream(STREAM)) == "/data/my lake/journal/20261122T091500-1f3a9c"
    assert str(LAYOUT.stream_lock(STREAM)) == "/data/my lake/journal/20261122T091500-1f3a9c/stream.lock"
    assert str(LAYOUT.segment(STREAM, 7)) == "/data/my lake/journal/20261122T091500-1f3a9c/0000000007.journal"


def test_relative_roots_stay_relative() -> None:
    assert str(DataLayout(Path("data")).table("ticks")) == "data/ticks"


def test_files_of_a_table() -> None:
    values = {"date": "2026-11-22", "exchange": "NSE"}
    assert partition_folder(values) == "date=2026-11-22/exchange=NSE"
    assert partition_folder({"exchange": "A/B=é"}) == "exchange=A%2FB%3D%C3%A9"
    assert segment_stem(STREAM, 12) == "20261122T091500-1f3a9c-0000000012"
    assert (
        table_file(values, segment_stem(STREAM, 12))
        == "date=2026-11-22/exchange=NSE/20261122T091500-1f3a9c-0000000012.parquet"
    )
    assert table_file({}, "all") == "all.parquet"


def test_segments_sort_by_number_and_parse_back() -> None:
    numbers = [0, 9, 10, 123_456, 9_999_999_999, 10_000_000_000]
    for number in numbers:
        assert parse_segment(LAYOUT.segment(STREAM, number)) == (STREAM, number)
    names = [segment_name(number) for number in numbers[:-1]]
    assert names == sorted(names)


@pytest.mark.parametrize(
    "path",
    [
        "s/0000000001.journal.new",
        "s/1.journal",
        "s/0000000001",
        "s/x000000001.journal",
        "s/-000000001.journal",
        "s/٠٠٠٠٠٠٠٠٠١.journal",
        "a b/0000000001.journal",
        "0000000001.journal",
        "s/stream.lock",
    ],
)
def test_other_names_are_no_segments(path: str) -> None:
    with pytest.raises(ValueError, match="is not a segment"):
        parse_segment(Path(path))


@pytest.mark.parametrize("stream", ["", ".", "..", "a/b", "../a", "ü", "a b", "x" * 81])
def test_other_names_are_no_streams(stream: str) -> None:
    with pytest.raises(ValueError, match="stream"):
        LAYOUT.stream(stream)


def test_negative_segment() -> None:
    with pytest.raises(ValueError, match="segment -1: expected 0 or more"):
        segment_name(-1)


def test_stream_names_are_utc_and_sort_by_start() -> None:
    ist = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    early = stream_name(datetime.datetime(2026, 11, 22, 9, 15, tzinfo=ist), "ffffff")
    late = stream_name(datetime.datetime(2026, 11, 22, 3, 45, 1, tzinfo=datetime.UTC), "000000")
    assert early == "20261122T034500-ffffff"
    assert early < late
    with pytest.raises(ValueError, match="expected a time with a zone"):
        stream_name(datetime.datetime(2026, 11, 22), "x")  # noqa: DTZ001 (that is the point)
