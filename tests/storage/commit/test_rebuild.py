"""Rebuild: a day made anew is the same rows, whatever form its segments have, and nothing is lost or renumbered."""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ingest.wire.journal import JournalDecoder
from ingest.wire.layouts import FULL, LTP
from storage import schema
from storage.commit.rebuild import rebuild_day
from storage.commit.rebuild_plan import RebuildError
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout
from storage.tables.symbols import write_instruments
from storage.upkeep.archive import archive_committed
from storage.upkeep.compact import compact_day
from tests.support.lake import CRUDE, DAY_NS, INFY, NINE_FIFTEEN_NS, Feed, ToyDecoder
from tests.support.rebuilding import (
    DAY,
    NAMES,
    NEXT,
    OLD,
    Rows,
    archive,
    cheaper,
    commit,
    copy_of,
    fill,
    rows_of,
    table,
    two_streams,
)
from tests.support.scaled import scaled
from tests.support.works import Changed, one_rupee_more

pytestmark = pytest.mark.slow

__all__ = ["two_streams"]  # the fixture


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    return DataLayout(tmp_path / "données, 100 % & more")


def files_of(layout: DataLayout, name: str = "ticks") -> set[str]:
    return {entry.relative for entry in table(layout, name).snapshot().entries}


@dataclass(frozen=True)
class Prepared:
    """A copy of `two_streams`, in one of the forms that segments and files may have."""

    archived: bool
    sealed: bool
    layout: DataLayout
    rows: Rows


FORMS = [(False, False), (False, True), (True, False), (True, True)]


@pytest.fixture(scope="module", params=FORMS[:: scaled(3, 1)])
def original(request: pytest.FixtureRequest, two_streams: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    archived, sealed = request.param
    layout = DataLayout(tmp_path_factory.mktemp("original") / "data")
    rows = copy_of(two_streams, layout)
    if archived:
        archive(layout)
    if sealed:
        compact_day(layout, DAY)
    return Prepared(archived, sealed, layout, rows)


@pytest.fixture
def prepared(original: Prepared, layout: DataLayout) -> Prepared:
    """A copy, with the times of the files."""
    shutil.copytree(original.layout.root, layout.root)
    return replace(original, layout=layout)


class TestWhatever:
    """Whatever form segments and files have."""

    def test_the_same_decoder_gives_the_same_rows(self, prepared: Prepared) -> None:
        layout, rows = prepared.layout, prepared.rows
        before = files_of(layout)
        outcome = rebuild_day(layout, ToyDecoder(), DAY)
        assert rows_of(layout) == rows
        assert outcome.rows == {name: sum(row["date"] == DAY for row in found) for name, found in rows.items()}
        assert (outcome.date, outcome.segments, set(outcome.stayed.values())) == (DAY, 5, {0})
        assert {path for path in before & files_of(layout) if "date=2026-11-23" in path} == set()
        assert {path for path in before ^ files_of(layout) if "date=2026-11-24" in path} == set()
        assert not list(layout.staging.rglob("*.parquet"))
        rebuild_day(layout, ToyDecoder(), DAY)
        assert rows_of(layout) == rows

    def test_another_decoder_gives_other_values_in_the_same_rows(self, prepared: Prepared) -> None:
        layout, rows = prepared.layout, prepared.rows
        rebuild_day(layout, Changed(ToyDecoder(), one_rupee_more), DAY)
        changed = [row | {"last_price": row["last_price"] + (row["date"] == DAY)} for row in rows["ticks"]]
        assert rows_of(layout) == rows | {"ticks": changed}

    @pytest.mark.parametrize("how", ["taken out", "unlinked", "flipped"])
    def test_partitions_that_were_lost_come_back(self, prepared: Prepared, how: str) -> None:
        layout, rows = prepared.layout, prepared.rows
        for name in NAMES:
            lost = [entry for entry in table(layout, name).snapshot().entries if entry.values["date"] == "2026-11-23"]
            if how == "taken out":
                table(layout, name).commit([], remove=lost)
                continue
            for entry in lost:
                path = layout.table(name) / entry.relative
                data = path.read_bytes()
                path.unlink()
                if how == "flipped":
                    path.write_bytes(bytes([*data[:9], data[9] ^ 1, *data[10:]]))
        rebuild_day(layout, ToyDecoder(), DAY)
        assert rows_of(layout) == rows

    def test_without_a_segment_it_is_refused_and_in_part_its_rows_stay(self, prepared: Prepared) -> None:
        layout, rows = prepared.layout, prepared.rows
        (layout.archive if prepared.archived else layout.segment)(OLD, 1).unlink()
        before = {name: files_of(layout, name) for name in NAMES}
        if prepared.sealed and not prepared.archived:  # nothing says which seq the segments behind it have
            with pytest.raises(RebuildError, match="not certain which seq"):
                rebuild_day(layout, ToyDecoder(), DAY, partial=True)
            return
        with pytest.raises(RebuildError) as caught:
            rebuild_day(layout, ToyDecoder(), DAY)
        assert f"segments 1 to 1 of stream {OLD} are gone" in str(caught.value)
        assert f"3 rows of ticks come from segments of stream {OLD} that are not decoded again" in str(caught.value)
        assert {name: files_of(layout, name) for name in NAMES} == before
        outcome = rebuild_day(layout, Changed(ToyDecoder(), one_rupee_more), DAY, partial=True)
        assert outcome.stayed == {"ticks": 3, "events": 1, "orders": 0, "quarantine": 1}
        stays = [(row["stream"], row["seq"]) for row in rows["ticks"][3:6]]
        assert stays == [(OLD, 3), (OLD, 4), (OLD, 5)]
        got = rows_of(layout)
        for row in got["ticks"]:
            if row["date"] == DAY and (row["stream"], row["seq"]) not in stays:
                row["last_price"] = round(row["last_price"] - 1, 2)
        assert got == rows


def real_frame(*packets: tuple[int, int]) -> bytes:
    """A frame of ltp packets: token and price in paise, big-endian (the broker's documentation of its binary form)."""
    body = b"".join(b"\0\x08" + np.array(each, ">i4").tobytes() for each in packets)
    return len(packets).to_bytes(2, "big") + body


def test_the_real_decoder(layout: DataLayout) -> None:
    assert LTP.length == 8 < FULL.length
    writer = JournalWriter(layout, OLD, segment_seconds=1e9)
    channel = writer.channel("asha", 1)
    for i in range(30):
        writer.append(Kind.BINARY, channel, NINE_FIFTEEN_NS + i, real_frame((INFY, 150_000 + i), (CRUDE, 5000 + i)))
        writer.append(Kind.BINARY, channel, NINE_FIFTEEN_NS + i, b"\0")
        writer.append(Kind.BINARY, channel, NINE_FIFTEEN_NS + i, b"\0\1\0\5abcde")
        writer.segment_bytes = 0 if i % 10 == 9 else 1 << 20
        writer.flush()
    writer.close()
    commit(layout, JournalDecoder())
    rows = rows_of(layout)
    assert (len(rows["ticks"]), len(rows["quarantine"])) == (60, 30)
    assert archive_committed(layout, JournalDecoder()).segments == 4
    rebuild_day(layout, JournalDecoder(), DAY)
    assert rows_of(layout) == rows
    rebuild_day(layout, Changed(JournalDecoder(), one_rupee_more), DAY)
    assert cheaper(rows_of(layout)) == rows


@pytest.mark.slow
def test_the_begin_of_a_stream_may_be_gone(layout: DataLayout) -> None:
    """Where its footer, or a file that is named after it, says which seq the first segment left begins with."""
    with Feed(layout.root, OLD) as feed:
        fill(feed, 2)
        feed.now_ns += DAY_NS
        fill(feed, 3)
    commit(layout)
    rows = rows_of(layout)
    for number in (0, 1):
        layout.segment(OLD, number).unlink()
    rebuild_day(layout, ToyDecoder(), NEXT)
    assert rows_of(layout) == rows
    archive(layout)
    compact_day(layout, NEXT)
    rebuild_day(layout, ToyDecoder(), NEXT)
    assert rows_of(layout) == rows
    with pytest.raises(RebuildError, match="got no committed record of it in the journal, expected some"):
        rebuild_day(layout, ToyDecoder(), DAY)


def test_instrument_lists_of_today_give_the_names(layout: DataLayout, two_streams: Path) -> None:
    shutil.copytree(two_streams, layout.root)
    names = schema.INSTRUMENTS.file_schema.names
    row = dict.fromkeys(names) | {"instrument_token": INFY, "symbol": "NSE:INFY"}
    write_instruments(layout, DAY, pa.Table.from_pylist([row], schema=schema.INSTRUMENTS.file_schema))
    rebuild_day(layout, ToyDecoder(), DAY)
    named = {(row["date"], row["instrument_token"]) for row in rows_of(layout)["ticks"] if row["symbol"] == "NSE:INFY"}
    assert named == {(DAY, INFY)}


def test_damage_of_the_journal_stays_recorded(layout: DataLayout) -> None:
    with Feed(layout.root, OLD) as feed:
        fill(feed, 4)
    path = layout.segment(OLD, 1)
    data = bytearray(path.read_bytes())
    data[data.index(b"junk 1")] ^= 1
    path.write_bytes(data)
    layout.segment(OLD, 2).unlink()
    layout.segment(OLD, 3).write_bytes(b"short")
    os.utime(layout.segment(OLD, 3), (NINE_FIFTEEN_NS / 1e9, NINE_FIFTEEN_NS / 1e9))
    commit(layout)
    rows = rows_of(layout)
    assert [row["reason"][:12] for row in rows["quarantine"] if row["record"] is None] == [
        "block: got b",
        "segments 2 t",
        "not decoded ",
    ]
    rebuild_day(layout, ToyDecoder(), DAY)
    assert rows_of(layout) == rows


def test_an_archive_that_is_damaged_is_missing(layout: DataLayout, two_streams: Path) -> None:
    rows = copy_of(two_streams, layout)
    archive(layout)
    path = layout.archive(OLD, 2)
    path.write_bytes(path.read_bytes()[:-1])
    table(layout, "ticks").commit(
        [], remove=[each for each in table(layout, "ticks").snapshot().entries if f"{OLD}-0000000002" in each.relative]
    )
    with pytest.raises(RebuildError, match="got no footer"):
        rebuild_day(layout, ToyDecoder(), DAY)
    rebuild_day(layout, ToyDecoder(), DAY, partial=True)
    assert rows_of(layout) == rows | {"ticks": rows["ticks"][:6] + rows["ticks"][9:]}


@pytest.mark.slow
def test_a_file_that_cannot_be_read_is_replaced_only_by_as_many_rows(layout: DataLayout, two_streams: Path) -> None:
    shutil.copytree(two_streams, layout.root)
    archive(layout)
    compact_day(layout, DAY)
    (path,) = layout.table("ticks").glob("date=2026-11-23/exchange=MCX/sealed-*.parquet")
    path.write_bytes(b"")
    layout.archive(OLD, 1).unlink()
    with pytest.raises(RebuildError, match=r"cannot be read, and the journal has 3 rows of its partition, expected 4"):
        rebuild_day(layout, ToyDecoder(), DAY, partial=True)


def test_nothing_is_committed_yet(layout: DataLayout) -> None:
    with Feed(layout.root, OLD) as feed:
        fill(feed, 1)
    with pytest.raises(RebuildError, match="nothing is committed, so there is nothing to rebuild"):
        rebuild_day(layout, ToyDecoder(), DAY)
