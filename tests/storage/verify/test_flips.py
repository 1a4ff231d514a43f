"""Every byte of each kind of file, changed one at a time: `verify` says so, or a reader gets the very same rows.

A change that neither shows may not exist. Where the file by itself shows a change, `verify` as a whole is not run for
it: that it passes on what each of these checks finds is in the tests beside this and in the samples here.
"""

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from ingest.wire.journal import JournalDecoder
from queries.lake.lake import SqlLake
from storage.clock import IST
from storage.commit.writer import SegmentWriter
from storage.errors import JournalError
from storage.journal import JournalWriter, Kind, SegmentReader
from storage.journal.archive_format import read_archive
from storage.journal.format import BLOCK_HEADER, SEGMENT_HEADER
from storage.layout import DataLayout
from storage.schema import TABLES
from storage.tables.symbols import write_instruments
from storage.tables.table import LakeTable
from storage.upkeep.archive import archive_committed
from storage.verify.actions import LoggedFile
from storage.verify.files import check_file
from storage.verify.folder import verify
from storage.verify.log import compare_with_library, newest_version, read_log
from tests.support.lists import listed_on
from tests.support.packets import random_frame
from tests.support.scaled import scaled

pytestmark = pytest.mark.slow

DAY = date(2026, 11, 23)
OPEN_NS = int(datetime(2026, 11, 23, 9, 15, tzinfo=IST).timestamp()) * 10**9
COMMITTED, LIVE = "20261123T034500-aaaaaa", "20261123T060000-bbbbbb"
PLACES = 12
TABLES_WITH_FILES = ["ticks", "orders", "events", "quarantine", "instruments"]


def record(layout: DataLayout, stream: str, frames: int) -> None:
    """Two segments of real frames, order updates, events and junk. The stream has ended."""
    rng = random.Random(stream)
    writer = JournalWriter(layout, stream, segment_bytes=1 << 20, segment_seconds=1e9)
    channel = writer.channel("asha", 1)
    now_ns = OPEN_NS
    for part in range(2):
        for i in range(frames):
            writer.append(Kind.BINARY, channel, now_ns + i, random_frame(rng, 3))
        update = {"type": "order", "data": {"order_id": f"{stream} {part}", "quantity": 5, "price": 1500.5}}
        writer.append(Kind.TEXT, channel, now_ns, json.dumps(update).encode())
        writer.append(Kind.EVENT, channel, now_ns, json.dumps({"event": "connected", "part": part}).encode())
        writer.append(Kind.BINARY, channel, now_ns, b"\x00\x02\x00\x08" + rng.randbytes(7))
        writer.flush()
        if part == 0:
            writer.segment_bytes = 0
            writer.flush()
            writer.segment_bytes = 1 << 20
    writer.close()


def commit(layout: DataLayout) -> None:
    SegmentWriter(layout, JournalDecoder()).run(poll_seconds=0.01, stop=threading.Event())


def fill(root: Path) -> DataLayout:
    """A data folder with all kinds of files.

    The first stream is in the tables, and one segment of it is archived; the second is in the journal only.
    """
    layout = DataLayout(root)
    write_instruments(layout, DAY, listed_on(DAY))
    record(layout, COMMITTED, 6)
    commit(layout)
    whole = layout.segment(COMMITTED, 1).read_bytes()
    archive_committed(layout, JournalDecoder())
    layout.archive(COMMITTED, 1).unlink()
    layout.segment(COMMITTED, 1).write_bytes(whole)
    DeltaTable(layout.table("orders").as_uri()).create_checkpoint()
    DeltaTable(layout.table("ticks").as_uri()).create_checkpoint()
    record(layout, LIVE, 2)
    (root / "kitelake.json").write_text('{"source": "kite"}')
    (root / "days").mkdir()
    (root / "days" / f"{DAY}.json").write_text('{"date": "2026-11-23", "lists": []}')
    return layout


def rows(layout: DataLayout) -> dict[str, pa.Table]:
    """What a reader gets: every column of every row."""
    with SqlLake(layout.root, JournalDecoder()) as lake:
        return {name: lake.sql(f"select * from {name} order by all").arrow() for name in TABLES}


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> DataLayout:
    return fill(tmp_path_factory.mktemp("flips"))


@pytest.fixture(scope="module")
def truth(layout: DataLayout) -> Iterator[dict[str, pa.Table]]:
    truth = rows(layout)
    assert all(len(table) for table in truth.values())
    assert verify(layout, JournalDecoder()).is_sound
    yield truth
    assert verify(layout, JournalDecoder()).is_sound, "each test has left every file as it was"


Kinds = Mapping[str, Sequence[int]]
"""Places in a file by what stands there."""


def of_parquet(path: Path) -> Kinds:
    """The kinds of places of a Parquet file with one row group."""
    whole = path.read_bytes()
    size = len(whole)
    footer = size - 8 - int.from_bytes(whole[-8:-4], "little")
    found: dict[str, list[int]] = {
        "magic": [*range(4), *range(size - 4, size)],
        "size of the footer": list(range(size - 8, size - 4)),
        "footer": list(range(footer, size - 8)),
        "statistics": [],
        "page headers": [],
        "page bodies": [],
    }
    with pq.ParquetFile(path) as file:
        group = file.metadata.row_group(0)
        for column in map(group.column, range(group.num_columns)):
            begins = [at for at in (column.dictionary_page_offset, column.data_page_offset) if at is not None]
            end = min(begins) + column.total_compressed_size
            found["page headers"] += [at + i for at in begins for i in range(12)]  # no header is shorter
            found["page bodies"].append(end - 1)
            if column.statistics is not None and isinstance(least := column.statistics.min, str):
                at = whole.index(least.encode(), footer)
                found["statistics"] += range(at, at + len(least.encode()))
    return found


def of_segment(path: Path) -> Kinds:
    """The kinds of places of a plain segment."""
    found: dict[str, list[int]] = {"header": list(range(SEGMENT_HEADER.size)), "block headers": [], "block ends": []}
    with SegmentReader(path) as reader:
        for block in reader.read():
            found["block headers"] += range(block.offset, block.offset + BLOCK_HEADER.size)
            found["block ends"] += range(block.offset + block.size - 8, block.offset + block.size)
    return found


def of_archive(path: Path) -> Kinds:
    """The kinds of places of an archived segment."""
    size = path.stat().st_size
    return {"frame": range(16), "footer": range(size - 84, size)}


def flips(path: Path, sample: int | None, kinds: Kinds | None = None) -> Iterator[int]:
    """Change each byte of a file, or a seeded sample of them, one at a time; the file is whole again afterwards.

    A sample has places of each of the `kinds`, PLACES at most.
    """
    whole = path.read_bytes()
    rng = random.Random(path.name)
    places: Iterable[int] = range(len(whole))
    if sample is not None and sample < len(whole):
        chosen = set(rng.sample(range(len(whole)), sample))
        for kind, there in (kinds or {}).items():
            assert there, f"{path.name}: no place of the kind {kind}"
            chosen.update(rng.sample(there, min(PLACES, len(there))))
        places = sorted(chosen)
    try:
        for at in places:
            # All bits of it, or another digit where a digit was: what is most like something that is right.
            digit = chr(whole[at]).isdigit() and rng.random() < 0.8
            other = ord(rng.choice([d for d in "0123456789" if ord(d) != whole[at]])) if digit else whole[at] ^ 0xFF
            if not digit and rng.random() < 0.5:
                other = whole[at] ^ (1 << rng.randrange(8))
            path.write_bytes(whole[:at] + bytes([other]) + whole[at + 1 :])
            yield at
    finally:
        path.write_bytes(whole)


def check_flips(
    layout: DataLayout,
    path: Path,
    sample: int | None,
    truth: dict[str, pa.Table],
    shows: Callable[[], bool],
    same: Callable[[], bool] = lambda: False,
    kinds: Kinds | None = None,
) -> Counter[str]:
    """Of each change: the file itself `shows` it, or `verify` as a whole finds it, or readers get the same rows.

    `same` says that readers will get the same, where that can be told without reading.
    """
    return Counter(outcome_of(layout, path, at, truth, shows, same) for at in flips(path, sample, kinds))


def outcome_of(
    layout: DataLayout,
    path: Path,
    at: int,
    truth: dict[str, pa.Table],
    shows: Callable[[], bool],
    same: Callable[[], bool],
) -> str:
    """What becomes of one change."""
    if shows():
        return "file"
    if same():
        return "harmless"
    if not verify(layout, JournalDecoder()).is_sound:
        return "verify"
    got = rows(layout)
    different = [name for name in truth if not got[name].equals(truth[name])]
    assert not different, f"{path.name}: a change at {at} is not found, and gives other rows of {different}"
    return "harmless"


def logged(layout: DataLayout, name: str) -> tuple[Path, LoggedFile]:
    """The first file of a table."""
    table = LakeTable(layout.table(name), TABLES[name])
    state, problems, _ = read_log(table, newest_version(table) or 0)
    assert not problems
    file = min(state.files.values(), key=lambda file: file.relative)
    return table.path / file.relative, file


def log_shows(layout: DataLayout, name: str) -> bool:
    """Whether the log of a table is refused, or contradicts itself."""
    table = LakeTable(layout.table(name), TABLES[name])
    state, problems, _ = read_log(table, newest_version(table) or 0)
    try:
        return bool(problems) or bool(compare_with_library(state, table.open().snapshot_of_library()))
    except Exception:  # as verify has it
        return True


def seen(layout: DataLayout, name: str) -> tuple[object, ...]:
    """All that a reader takes from the log of a table."""
    snapshot = LakeTable(layout.table(name), TABLES[name]).open().snapshot()
    return sorted(snapshot.files), snapshot.watermark(COMMITTED), snapshot.watermark(LIVE)


def sees(layout: DataLayout, name: str, before: tuple[object, ...]) -> bool:
    """Whether a reader takes the same from the log as before. One that cannot is told so, and has no rows."""
    try:
        return seen(layout, name) == before
    except Exception:
        return True


def check_log_flips(layout: DataLayout, path: Path, name: str, sample: int | None, truth: dict[str, pa.Table]) -> None:
    before = seen(layout, name)
    outcomes = check_flips(
        layout, path, sample, truth, shows=lambda: log_shows(layout, name), same=lambda: sees(layout, name, before)
    )
    assert outcomes["file"]


def segment_shows(path: Path) -> bool:
    try:
        with SegmentReader(path) as reader:
            reader.read()
            return bool(reader.finish())
    except JournalError:
        return True


@pytest.mark.parametrize("name", TABLES_WITH_FILES)
def test_a_parquet_file(layout: DataLayout, truth: dict[str, pa.Table], name: str) -> None:
    path, file = logged(layout, name)
    spec = TABLES[name]
    outcomes = check_flips(
        layout,
        path,
        scaled(100, 1500),
        truth,
        shows=lambda: bool(list(check_file(spec, layout.table(name), file, lambda _rows: None))),
        kinds=of_parquet(path),
    )
    assert outcomes.keys() == {"file"}


@pytest.mark.parametrize("name", TABLES_WITH_FILES)
def test_verify_tells_of_it(layout: DataLayout, truth: dict[str, pa.Table], name: str) -> None:
    path, _ = logged(layout, name)
    assert check_flips(layout, path, scaled(1, 3), truth, shows=lambda: False).keys() == {"verify"}


@pytest.mark.parametrize("sample", [scaled(5, 25), pytest.param(None, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", TABLES_WITH_FILES)
def test_the_log_of_a_table(layout: DataLayout, truth: dict[str, pa.Table], name: str, sample: int | None) -> None:
    for path in sorted((layout.table(name) / "_delta_log").glob("*.json")):
        check_log_flips(layout, path, name, sample, truth)


@pytest.mark.parametrize("sample", [scaled(15, 80), pytest.param(None, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", ["ticks", "orders"])
def test_a_checkpoint(layout: DataLayout, truth: dict[str, pa.Table], name: str, sample: int | None) -> None:
    log = layout.table(name) / "_delta_log"
    (path,) = log.glob("*.checkpoint.parquet")
    for each in (path, log / "_last_checkpoint"):
        check_log_flips(layout, each, name, sample, truth)


@pytest.mark.parametrize("sample", [200, pytest.param(None, marks=pytest.mark.soak)])
@pytest.mark.parametrize(
    ("stream", "number", "archived"), [(COMMITTED, 0, True), (COMMITTED, 1, False), (LIVE, 0, False)]
)
def test_a_segment(
    layout: DataLayout, truth: dict[str, pa.Table], stream: str, number: int, archived: bool, sample: int | None
) -> None:
    segment = layout.segment(stream, number)
    path = layout.archive(stream, number) if archived else segment
    whole = read_archive(path) if archived else b""
    outcomes = check_flips(
        layout,
        path,
        sample,
        truth,
        shows=lambda: segment_shows(segment),
        same=lambda: archived and read_archive(path) == whole,  # a few bits of zstd's frames mean nothing
        kinds=of_archive(path) if archived else of_segment(path),
    )
    assert outcomes["file"] > 0.99 * outcomes.total()
    assert outcomes.keys() <= ({"file", "harmless"} if archived else {"file"})
    assert check_flips(layout, path, scaled(1, 3), truth, shows=lambda: False).keys() <= {"verify", "harmless"}


@pytest.mark.parametrize("name", ["kitelake.json", f"days/{DAY}.json"])
def test_what_no_row_depends_on(layout: DataLayout, truth: dict[str, pa.Table], name: str) -> None:
    count = scaled(1, 2)
    assert check_flips(layout, layout.root / name, count, truth, shows=lambda: False) == {"harmless": count}
