"""seal, verify, rebuild, export: what they say, their exit statuses, and what is left."""

import re
from pathlib import Path

import pytest

from ingest.wire.journal import JournalDecoder
from storage.layout import DataLayout
from storage.upkeep.archive import archive_committed
from tests.support.command import Ended, Run, command
from tests.support.three_days import DAYS, SEGMENTS_A_DAY, STREAM, damage, layout, live, rows, three_days
from tests.support.two_days import two_days

pytestmark = pytest.mark.slow

__all__ = ["command", "layout", "three_days", "two_days"]  # the fixtures


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
    assert "there is no such folder" in result.err
    result = command(*arguments, "--data", tmp_path / ("a" * 300))
    assert (result.status, result.err.rpartition(": ")[2]) == (2, "File name too long\n")


@pytest.mark.parametrize("arguments", [["seal"], ["verify"], ["rebuild", "--date", "yesterday"]])
def test_a_folder_that_no_capture_made_is_left_as_it_is(tmp_path: Path, command: Run, arguments: list[str]) -> None:
    (tmp_path / "letters").mkdir()
    result = command(*arguments, "--data", tmp_path)
    assert (result.status, result.out) == (2, "")
    assert f"{tmp_path}: got a folder with letters; expected a data folder" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]


def test_verify_does_not_call_sound_what_was_never_captured(layout: DataLayout, command: Run) -> None:
    result = command("verify", "--date", "2026-01-02", "--data", layout.root)
    assert result.status == 0
    assert result.out.splitlines()[-1].startswith("there is no file of 2026-01-02: nothing was captured, or")


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


def test_export_writes_what_is_asked_for_and_says_how_it_goes(
    command: Run, two_days: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = ["export", tmp_path / "x", "infy", "near:NIFTY", "--stop", "09:30", "--start", "9:15", "--data", two_days]
    result = command(*asked)
    assert (result.status, result.err) == (0, ""), "no terminal, no progress"
    assert result.out.endswith("x: 60 rows of ticks, 21 rows of instruments, 13 rows of events\n")
    again = command(*asked)
    assert (again.status, again.out) == (2, "")
    assert "is there already, and stays as it is; --force replaces an older export" in again.err
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # as a terminal
    forced = command(*asked, "--force", "-f", "csv", "--tables", "ticks, orders", "--columns", "symbol, last_price")
    assert (forced.status, forced.out) == (0, f"{tmp_path}/x: 60 rows of ticks, 0 rows of orders\n")
    assert "rows so far" in forced.err
    assert (tmp_path / "x" / "ticks" / "2026-11-13-NSE.csv").read_text().startswith("symbol,last_price\n")


def test_export_says_why_it_writes_nothing(command: Run, two_days: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (["--start", "2026-10-01"], "there are no rows to export: nothing was captured on 2026-10-01, but from"),
        (["--start", "2026-11-20"], "there are no rows to export: nothing was captured on 2026-11-20, but from"),
        (["INFO"], "INFO: the instrument list has no such instrument on 2026-11-13; near it: NSE:INFY"),
        (["--tables", "tick"], "tables: got 'tick', expected some of ticks"),
        (["--start", "noon"], "start: got 'noon', expected a date"),
    ):
        result = command("export", tmp_path / "x", *arguments, "--data", two_days)
        assert (result.status, result.out) == (2, "")
        assert said in result.err
    assert not list(tmp_path.iterdir())
