"""A damaged log of a table: an error that names the file and the next step, whoever opens the table; never a panic."""

import datetime
import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from deltalake import DeltaTable

from queries.lake.lake import SqlLake
from storage.clock import IST
from storage.commit.rebuild import rebuild_day
from storage.commit.writer import SegmentWriter
from storage.errors import DamagedLogError, TableError
from storage.layout import DataLayout
from storage.schema import TICKS
from storage.tables.delta import is_panic
from storage.tables.log import TableLog
from storage.tables.table import LakeTable
from storage.upkeep.archive import archive_committed
from storage.upkeep.compact import compact_day
from storage.upkeep.retention import remove_committed, remove_days
from storage.upkeep.vacuum import vacuum_tables
from storage.verify.folder import verify
from tests.support.damaged_logs import CHECKPOINT, HINT, NOISE, STREAM, log_of, make_sound
from tests.support.lake import ToyDecoder, ToyWriter
from tests.support.scaled import scaled

DAY = datetime.date(2026, 11, 23)
NOW = datetime.datetime(2026, 12, 31, tzinfo=IST)
Damage = Callable[[Path], object]


class PanicException(BaseException):
    """Named as that of the library's binding."""


def version(number: int) -> str:
    return f"{number:020d}.json"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound") / "data"
    make_sound(root)
    return root


@pytest.fixture
def layout(sound: Path, tmp_path: Path) -> DataLayout:
    shutil.copytree(sound, tmp_path / "data")
    return DataLayout(tmp_path / "data")


def write(name: str, data: bytes) -> Damage:
    return lambda log: (log / name).write_bytes(data)


def cut(name: str, size: int) -> Damage:
    return lambda log: write(name, (log / name).read_bytes()[:size])(log)


def remove(name: str) -> Damage:
    return lambda log: (log / name).unlink()


def overwrite_middle(log: Path) -> None:
    data = bytearray((log / CHECKPOINT).read_bytes())
    data[300:700] = random.Random(1).randbytes(400)
    (log / CHECKPOINT).write_bytes(data)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a checkpoint without a byte": (write(CHECKPOINT, b""), f"{CHECKPOINT} cannot be read"),
    "a torn checkpoint": (cut(CHECKPOINT, 2000), f"{CHECKPOINT} cannot be read"),
    "a checkpoint of noise": (write(CHECKPOINT, NOISE), f"{CHECKPOINT} cannot be read"),
    "noise in a checkpoint": (overwrite_middle, f"{CHECKPOINT} cannot be read"),
    "a checkpoint that is gone": (remove(CHECKPOINT), f"{HINT} names {CHECKPOINT}, which is not there"),
    "a hint at nothing": (write(HINT, b'{"version":4,"size":3}'), f"{HINT} names {4:020d}.checkpoint.parquet"),
    "a hint at the future": (write(HINT, b'{"version":600,"size":3}'), f"{HINT} names {600:020d}.checkpoint"),
    "a version of noise": (write(version(4), NOISE), f"{version(4)} cannot be read"),
    "a version of other text": (write(version(5), b"[1]\n"), f"{version(5)} has a line that is no action"),
    "a torn version": (cut(version(5), 200), f"{version(5)} cannot be read"),
    "a version that is gone": (remove(version(4)), f"{version(4)} is not there"),
}


@pytest.fixture(params=DAMAGES.values(), ids=list(DAMAGES))
def damaged(request: pytest.FixtureRequest, layout: DataLayout) -> tuple[DataLayout, str]:
    damage, problem = request.param
    damage(log_of(layout))
    return layout, problem


def test_the_error_names_the_file_and_the_next_step(damaged: tuple[DataLayout, str]) -> None:
    layout, problem = damaged
    with pytest.raises(DamagedLogError) as caught:
        LakeTable(layout.table("ticks"), TICKS).open()
    text = str(caught.value)
    assert text.startswith(f"table {layout.table('ticks')}: cannot read its log: {problem}")
    assert text.endswith("; `kitelake verify` says what else is damaged, and docs/operations.md how a log is made anew")
    assert "\n" not in text
    with pytest.raises(DamagedLogError), SqlLake(layout.root, ToyDecoder()) as lake:
        lake.sql("select count(*) from ticks")


def test_verify_finds_it_and_goes_on(damaged: tuple[DataLayout, str]) -> None:
    layout, _ = damaged
    (layout.table("events") / "_delta_log" / version(2)).write_bytes(b"junk")
    findings = verify(layout, ToyDecoder()).findings
    assert {("ticks", "log"), ("events", "log")} <= {(finding.table, finding.kind) for finding in findings}
    assert not any("kitelake verify" in finding.text for finding in findings)


@pytest.mark.parametrize("hint", [b"garbage", b"", NOISE, b'{"version":"x"}', b"[]"])
def test_a_hint_of_nonsense_costs_nothing(layout: DataLayout, hint: bytes) -> None:
    (log_of(layout) / HINT).write_bytes(hint)
    assert LakeTable(layout.table("ticks"), TICKS).open().transaction(STREAM) == 4
    assert not verify(layout, ToyDecoder()).is_sound


def openers() -> dict[str, Callable[[DataLayout], object]]:
    """Everything that opens a table."""
    later = datetime.timedelta(days=100)
    return {
        "seal": lambda layout: compact_day(layout, DAY),
        "archive": lambda layout: archive_committed(layout, ToyDecoder()),
        "retention of the journal": lambda layout: remove_committed(layout, keep=later, now=NOW),
        "retention of days": lambda layout: remove_days(layout, keep_days=5, most_bytes=None, today=DAY + later),
        "vacuum": lambda layout: vacuum_tables(layout, now=NOW),
        "rebuild": lambda layout: rebuild_day(layout, ToyDecoder(), DAY),
        "writer": lambda layout: SegmentWriter(layout, ToyDecoder()).run(poll_seconds=0.01, stop=threading.Event()),
    }


@pytest.mark.parametrize("opener", openers().values(), ids=openers())
def test_whoever_opens_it(layout: DataLayout, opener: Callable[[DataLayout], object]) -> None:
    (log_of(layout) / CHECKPOINT).write_bytes(NOISE)
    before = sorted(path for path in layout.root.rglob("*") if path.suffix in (".parquet", ".json", ".journal"))
    with pytest.raises(DamagedLogError, match=CHECKPOINT):
        opener(layout)
    after = sorted(path for path in layout.root.rglob("*") if path.suffix in (".parquet", ".json", ".journal"))
    assert after == before


def test_mended_by_removing_the_checkpoint(layout: DataLayout) -> None:
    """What docs/operations.md says: as long as all versions are there, a checkpoint is a copy."""
    for name in (CHECKPOINT, HINT):
        (log_of(layout) / name).write_bytes(NOISE)
    for name in (CHECKPOINT, HINT):
        (log_of(layout) / name).unlink()
    SegmentWriter(layout, ToyDecoder()).run(poll_seconds=0.01, stop=threading.Event())
    assert verify(layout, ToyDecoder()).is_sound
    assert LakeTable(layout.table("ticks"), TICKS).open().read().num_rows == 6


class TestPanic:
    """A damaged checkpoint that Arrow reads may still crash the library."""

    def panicking(self, *_arguments: object, **_options: object) -> None:
        raise PanicException("TokioMultiThreadExecutor has crashed: RecvError\nstack")

    @pytest.fixture(autouse=True)
    def _only_the_library_knows_the_log(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(TableLog, "newest", lambda _: None)

    @pytest.mark.parametrize("call", ["get_add_actions", "transaction_version", "update_incremental", "schema"])
    def test_while_reading(self, layout: DataLayout, call: str) -> None:
        table = LakeTable(layout.table("ticks"), TICKS).open()
        table.transaction(STREAM)
        ToyWriter(layout.root).tables["ticks"].commit([], transactions={"another": 1})
        reader = LakeTable(layout.table("ticks"), TICKS) if call == "schema" else table
        with patch.object(DeltaTable, call, self.panicking), pytest.raises(DamagedLogError, match="has crashed: Recv"):
            read(reader)
        assert table.snapshot().transaction(STREAM) == 4

    def test_while_opening(self, layout: DataLayout) -> None:
        with (
            patch("deltalake.DeltaTable", self.panicking),
            pytest.raises(DamagedLogError, match="has crashed"),
        ):
            LakeTable(layout.table("ticks"), TICKS).open()

    def test_behind_a_commit_that_was_made(self, layout: DataLayout) -> None:
        real: Any = DeltaTable.create_write_transaction

        def commit(*arguments: Any, **options: Any) -> None:
            real(*arguments, **options)
            self.panicking()

        table = LakeTable(layout.table("ticks"), TICKS).open()
        with patch.object(DeltaTable, "create_write_transaction", commit):
            assert table.commit([], transactions={"another": 1})
        assert table.transaction("another") == 1

    def test_anything_else_passes(self, layout: DataLayout) -> None:
        with patch("deltalake.DeltaTable", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
            LakeTable(layout.table("ticks"), TICKS).open()


@pytest.mark.slow
@pytest.mark.parametrize("checked", [True, False], ids=["checked first", "by the library alone"])
def test_any_damage_is_an_error_of_ours_or_none(layout: DataLayout, checked: bool) -> None:
    """Bits and bytes of every file of the log. Without the check some make the library panic, as of deltalake 1.6."""
    chance = random.Random(5)
    outcomes: Counter[str] = Counter()
    log = log_of(layout)
    names = [CHECKPOINT] * 9 + [HINT, version(4), version(5)]
    for _ in range(scaled(25, 150)):
        path = log / chance.choice(names)
        whole = path.read_bytes()
        data = bytearray(whole)
        at = chance.randrange(len(data))
        size = chance.choice((1, 1, 4, 64))
        data[at : at + size] = bytes(byte ^ chance.randrange(1, 256) for byte in data[at : at + size])
        path.write_bytes(data)
        with patch("storage.tables.delta._problem_of_checkpoint", return_value=None) if not checked else patch.dict({}):
            outcomes[outcome(layout)] += 1
        path.write_bytes(whole)
        assert outcome(layout) == "read"
    assert outcomes["refused"] > outcomes.total() / 5


def read(table: LakeTable) -> None:
    """All that a log says."""
    snapshot = (table if table._delta is not None else table.open()).snapshot()
    _ = snapshot.entries, snapshot.watermark(STREAM), table.transaction("another")


def outcome(layout: DataLayout) -> str:
    try:
        read(LakeTable(layout.table("ticks"), TICKS).open())
    except DamagedLogError as error:
        return "panicked" if error.__cause__ is not None and is_panic(error.__cause__) else "refused"
    except TableError:  # other columns, other partitions
        return "refused"
    return "read"
