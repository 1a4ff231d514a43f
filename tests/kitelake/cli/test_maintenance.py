"""seal, verify, rebuild and the upkeep process: what they say, their exit statuses, and what is left."""

import datetime as dt
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import kitelake
from ingest.wire.journal import JournalDecoder
from kitelake.processes.upkeep import UpkeepSettings
from storage.clock import IST
from storage.commit.writer import SegmentWriter
from storage.journal import JournalWriter, Kind, segments
from storage.layout import DataLayout
from storage.schema import TICKS
from storage.tables.table import LakeTable
from storage.upkeep.archive import archive_committed
from tests.support.command import Ended, Run, command
from tests.support.lake import CRUDE, INFY
from tests.support.running import committed_rows, running
from tests.support.simulation import simulation
from tests.support.waiting import PATIENCE_SECONDS, wait_until

__all__ = ["command"]  # the fixture

TODAY = dt.datetime.now(IST).date()
DAYS = [TODAY - dt.timedelta(days=ago) for ago in (40, 3, 1)]
STREAM = f"{DAYS[0]:%Y%m%d}T034500-aaaaaa"
SEGMENTS_A_DAY = 3


@pytest.fixture(scope="module")
def three_days(tmp_path_factory: pytest.TempPathFactory) -> DataLayout:
    """Three days of one stream, each of three segments with ticks of two exchanges and an event, committed."""
    layout = DataLayout(tmp_path_factory.mktemp("maintenance") / "data")
    journal = JournalWriter(layout, STREAM, segment_seconds=1e9)
    channel = journal.channel("one", 1)
    written: dict[int, float] = {}
    for day in DAYS:
        noon = dt.datetime.combine(day, dt.time(12), IST).timestamp()
        for part in range(SEGMENTS_A_DAY):
            for number in range(20):
                packets = b"".join(struct.pack(">HIi", 8, token, 100 * part + number) for token in (INFY, CRUDE))
                at = int(noon + part) * 10**9 + number
                journal.append(Kind.BINARY, channel, at, struct.pack(">H", 2) + packets)
            journal.append(Kind.EVENT, 0, at, b'{"event": "started", "message": null, "data": null}')
            journal.flush()
            written[journal.segment] = noon
            journal.segment_bytes = 0
            journal.flush()
            journal.segment_bytes = 1 << 20
    journal.close()
    for segment in segments(layout, STREAM):
        noon = written.get(segment, noon)
        os.utime(layout.segment(STREAM, segment), (noon, noon))
    SegmentWriter(layout, JournalDecoder()).run(poll_seconds=0.01, stop=threading.Event())
    return layout


@pytest.fixture
def layout(tmp_path: Path, three_days: DataLayout) -> DataLayout:
    """A copy of them, for one test."""
    shutil.copytree(three_days.root, tmp_path / "data")
    return DataLayout(tmp_path / "data")


def rows(layout: DataLayout) -> list[dict[str, Any]]:
    with kitelake.open(layout.root) as lake:
        found: list[dict[str, Any]] = lake.sql("select * from ticks order by stream, seq").arrow().to_pylist()
        return found


def live(layout: DataLayout, day: dt.date) -> list[Path]:
    """The files of a day's ticks in the newest version of the table."""
    table = LakeTable(layout.table(TICKS.name), TICKS).open()
    return [table.path / e.relative for e in table.snapshot().entries if e.values["date"] == day.isoformat()]


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x40
    path.write_bytes(data)


def words(result: Ended) -> str:
    return " ".join(result.out.split())


def test_seal_says_what_became_of_each_partition_and_then_has_nothing_to_do(layout: DataLayout, command: Run) -> None:
    before = rows(layout)
    result = command("seal", "--data", layout.root, "--date", f"{DAYS[1]}")
    assert result.status == 0
    assert re.search(
        rf"^ticks {DAYS[1]}/NSE: 60 rows, files before 3 \([\d.]+ MiB\), now 1 \([\d.]+ MiB\)$",
        result.out,
        re.MULTILINE,
    )
    assert f"events {DAYS[1]}: 3 rows" in result.out
    assert str(DAYS[0]) not in result.out
    every = command("seal", "--data", layout.root)
    assert every.status == 0
    assert len(re.findall("^ticks ", every.out, re.MULTILINE)) == 4, "two exchanges of the two other days"
    assert {len(live(layout, day)) for day in DAYS} == {2}
    again = command("seal", "--data", layout.root)
    assert (again.status, again.out) == (0, "nothing to seal: every partition is sealed, or there are no rows\n")
    assert rows(layout) == before


@pytest.mark.parametrize("arguments", [["seal"], ["verify"], ["rebuild", "--date", "yesterday"]])
def test_a_data_folder_that_is_not_there_is_said(tmp_path: Path, command: Run, arguments: list[str]) -> None:
    result = command(*arguments, "--data", tmp_path / "none")
    assert result.status == 2
    assert "there is no such data folder" in result.err
    result = command(*arguments, "--data", tmp_path / ("a" * 300))
    assert (result.status, result.err.rpartition(": ")[2]) == (2, "File name too long\n")


def test_seal_leaves_a_damaged_partition_and_does_the_others(layout: DataLayout, command: Run) -> None:
    (path,) = (path for path in live(layout, DAYS[1]) if "NSE" in str(path) and "0000000004" in path.name)
    damage(path)
    result = command("seal", "--data", layout.root, "--date", f"{DAYS[1]}")
    assert result.status == 1
    assert path.name in result.err
    assert len(live(layout, DAYS[1])) == 1 + SEGMENTS_A_DAY


def test_verify_names_what_is_damaged_and_makes_it_anew_when_told(layout: DataLayout, command: Run) -> None:
    before = rows(layout)
    sound = command("verify", "--data", layout.root)
    assert sound.status == 0
    assert sound.out.endswith("sound\n")
    assert re.search(r"27 files with 369 rows and 10 segments of the journal", words(sound)), sound.out
    path = live(layout, DAYS[2])[0]
    damage(path)
    damaged = command("verify", "--data", layout.root)
    assert damaged.status == 1
    assert str(path) in damaged.out
    assert "can be made anew from the journal" in words(damaged)
    assert "`kitelake verify --repair`" in damaged.out
    assert command("verify", "--data", layout.root, "--date", f"{DAYS[0]}").status == 0, "another day is sound"
    repaired = command("verify", "--data", layout.root, "--repair")
    assert repaired.status == 0, repaired.out
    assert f"{DAYS[2]}: made anew from the journal" in repaired.out
    assert repaired.out.endswith("sound\n")
    assert rows(layout) == before


def test_verify_does_not_repair_what_the_journal_does_not_hold(layout: DataLayout, command: Run) -> None:
    damage(live(layout, DAYS[0])[0])
    layout.segment(STREAM, 1).unlink()
    result = command("verify", "--data", layout.root, "--repair")
    assert result.status == 1
    assert f"{DAYS[0]}: not repaired, since the journal does not hold all of it" in words(result)


def test_rebuild_makes_a_day_anew_or_refuses_where_segments_are_gone(layout: DataLayout, command: Run) -> None:
    before = rows(layout)
    archive_committed(layout, JournalDecoder())
    result = command("rebuild", "--date", f"{DAYS[1]}", "--data", layout.root)
    assert result.status == 0
    assert f"{DAYS[1]}: 3 rows of events, 120 rows of ticks made anew from 3 segments" in words(result)
    assert rows(layout) == before
    layout.archive(STREAM, 1).unlink()
    refused = command("rebuild", "--date", f"{DAYS[0]}", "--data", layout.root)
    assert refused.status == 1
    assert "the journal does not have all of it" in refused.err
    partial = command("rebuild", "--date", f"{DAYS[0]}", "--data", layout.root, "--partial")
    assert partial.status == 0
    assert "80 rows of ticks made anew from 2 segments" in words(partial)
    assert "40 rows of ticks stay as they were: their segments are gone" in words(partial)
    assert rows(layout) == before


def test_the_old_name_of_rebuild_works_says_so_and_is_not_shown(layout: DataLayout, command: Run) -> None:
    before = rows(layout)
    result = command("replay-journal", "--date", f"{DAYS[1]}", "--data", layout.root)
    assert result.status == 0
    assert result.err == "kitelake: `replay-journal` is now `rebuild`; the old name goes with the next version\n"
    assert f"{DAYS[1]}: 3 rows of events, 120 rows of ticks made anew from 3 segments" in words(result)
    assert rows(layout) == before
    layout.segment(STREAM, 1).unlink()
    refused = command("replay-journal", "--date", f"{DAYS[0]}", "--data", layout.root)
    assert refused.status == 1
    assert command("replay-journal", "--date", f"{DAYS[0]}", "--data", layout.root, "--partial").status == 0
    shown = command("--help").out
    assert "rebuild" in shown
    assert "replay-journal" not in shown


def upkeep(layout: DataLayout, **changes: Any) -> tuple[int, dict[str, dict[str, Any]]]:
    """Run the process as the service does: its exit status, and what it said it did."""
    settings = UpkeepSettings.model_validate(
        {
            "data": layout.root,
            "seal_before": None,
            "memory_bytes": 2**28,
            "grace": dt.timedelta(hours=1),
            "keep_journal": dt.timedelta(days=365),
            "keep_days": None,
            "most_bytes": None,
            "log_level": "info",
            "log_format": "text",
            **changes,
        }
    )
    whole = [sys.executable, "-m", "kitelake.processes.upkeep"]
    with subprocess.Popen(whole, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(settings.model_dump_json() + "\n")
        process.stdin.flush()
        said = {line["done"]: line["data"] for line in map(json.loads, process.stdout)}
        return process.wait(timeout=60), said


@pytest.mark.slow
def test_upkeep_archives_seals_and_removes_as_it_is_told(layout: DataLayout) -> None:
    before = rows(layout)
    old = [path for day in DAYS for path in live(layout, day)]
    status, said = upkeep(layout, seal_before=TODAY, keep_journal=dt.timedelta(days=2))
    assert status == 0
    assert said["archived"]["segments"] == 10
    assert said["archived"]["archived_bytes"] < said["archived"]["bytes"]
    assert said["sealed"]["files_before"] == SEGMENTS_A_DAY
    assert said["segments removed"] == {"segments": 2 * SEGMENTS_A_DAY}, "those of two days"
    assert not layout.segment(STREAM, 8).exists()
    assert layout.archive(STREAM, 8).exists()
    assert all(path.exists() for path in old), "readers may use them"
    assert {len(live(layout, day)) for day in DAYS} == {2}
    assert "superseded files removed" not in said
    assert rows(layout) == before

    status, said = upkeep(layout, grace=dt.timedelta(0), keep_days=10)
    assert status == 0
    assert said["days removed"] == {"days": [DAYS[0].isoformat()]}
    assert said["superseded files removed"]["files"] >= len(old)
    assert not any(path.exists() for path in old)
    assert rows(layout) == [row for row in before if row["date"] != DAYS[0]]


@pytest.mark.slow
def test_one_part_of_the_upkeep_that_fails_leaves_the_others(layout: DataLayout) -> None:
    damage(live(layout, DAYS[1])[0])
    status, said = upkeep(layout, seal_before=TODAY)
    assert status == 1
    assert said["archived"]["segments"] == 10, "damage is looked for when it is sealed"
    assert {len(live(layout, day)) for day in (DAYS[0], DAYS[2])} == {2}


@pytest.mark.slow
def test_upkeep_ends_with_who_started_it(layout: DataLayout) -> None:
    """It says nothing more and touches nothing more, whatever it was at."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kitelake.processes.upkeep"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.communicate(timeout=60)
    assert process.returncode == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_running_service_tidies_up_and_commands_work_beside_it(layout: DataLayout, tmp_path: Path) -> None:
    """Old days go at the start, today is sealed under its writer, and the status has the journal's counts."""
    sections = {"retention": {"days": 10, "journal": "2d"}, "journal": {"segment_seconds": 1, "reserve_bytes": 2**20}}
    with simulation(instruments=300, rate=10) as simulator, running(tmp_path, simulator, **sections) as service:
        wait_until(lambda: service.rows("select data from events where event = 'days removed'"))
        wait_until(lambda: service.rows("select data from events where event = 'segments removed'"))
        assert service.rows("select min(date) as first from ticks") == [{"first": DAYS[1]}]
        assert not layout.archive(STREAM, 0).exists()
        wait_until(lambda: len(live(layout, TODAY)) > 6)

        def beside(*arguments: str) -> str:
            whole = [sys.executable, "-m", "kitelake", *arguments, "--config", str(service.config)]
            done = subprocess.run(whole, capture_output=True, text=True, check=False, timeout=60)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        assert f"ticks {TODAY}/NSE: " in beside("seal", "--date", "today")
        simulator.wait_for(lambda stats: stats["packets"] > 3_000, PATIENCE_SECONDS)
        (counts,) = re.findall(r"received ([\d,]+), written ([\d,]+), durable ([\d,]+) records", beside("status"))
        received, written, durable = (int(count.replace(",", "")) for count in counts)
        assert received >= written >= durable > 0
        assert "sound" in beside("verify")
        assert f"{DAYS[2]}: " in beside("rebuild", "--date", str(DAYS[2]))
        simulator.pause()
        service.stop()
        assert committed_rows(service.data) == simulator.stats()["packets"] + 240
        assert service.rows("select count(*) = count(distinct (stream, seq)) as once from ticks") == [{"once": True}]
    assert "Traceback" not in service.log
