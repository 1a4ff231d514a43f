"""The upkeep: what it does as it is told, what it says, and that it ends with who started it."""

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kitelake.processes.upkeep import UpkeepSettings, keep_up
from storage.layout import DataLayout
from storage.upkeep import compact
from tests.support.three_days import DAYS, SEGMENTS_A_DAY, STREAM, TODAY, damage, layout, live, rows, three_days
from tests.support.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.slow

__all__ = ["layout", "three_days"]  # the fixtures


def settings_of(layout: DataLayout, **changes: Any) -> UpkeepSettings:
    """Nothing to do but to archive, and what `changes` say."""
    nothing: dict[str, Any] = {
        "data": layout.root,
        "seal_before": None,
        "memory_bytes": 2**28,
        "grace": dt.timedelta(hours=1),
        "keep_journal": dt.timedelta(days=365),
        "keep_days": None,
        "most_bytes": None,
        "log_level": "info",
        "log_format": "text",
    }
    return UpkeepSettings(**nothing | changes)


def upkeep(layout: DataLayout, **changes: Any) -> tuple[bool, dict[str, dict[str, Any]]]:
    """Whether all of it went well, and what it said it did."""
    said: dict[str, dict[str, Any]] = {}

    def tell(done: str, /, **data: Any) -> None:
        said[done] = data

    return keep_up(settings_of(layout, **changes), tell), said


def test_the_process_says_what_it_does_in_lines_of_json(layout: DataLayout) -> None:
    """It is started as the service does it: settings in, lines out."""
    whole = [sys.executable, "-m", "kitelake.processes.child", "kitelake.processes.upkeep"]
    with subprocess.Popen(whole, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(settings_of(layout, seal_before=DAYS[1]).as_json()) + "\n")
        process.stdin.flush()
        said = {line["done"]: line["data"] for line in map(json.loads, process.stdout)}
        assert process.wait(timeout=PATIENCE_SECONDS) == 0
    assert said["archived"]["segments"] == 10
    assert said["sealed"]["files_before"] == SEGMENTS_A_DAY


@pytest.mark.parametrize("seal_before", [None, dt.date(2026, 11, 10)])
def test_its_settings_come_out_of_json_as_they_went_in(tmp_path: Path, seal_before: dt.date | None) -> None:
    grace = dt.timedelta(days=3, microseconds=1)
    days = {"seal_before": seal_before, "seal_of": seal_before}
    settings = settings_of(DataLayout(tmp_path), **days, grace=grace, keep_days=7, only_remove=True)
    assert UpkeepSettings.from_json(json.dumps(settings.as_json())) == settings


def test_what_starts_often_starts_without_pydantic() -> None:
    """Its import and the making of a model take a third of what such a process takes to start."""
    program = "import sys, kitelake.processes.upkeep, kitelake.processes.writer; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_upkeep_archives_seals_and_removes_as_it_is_told(layout: DataLayout) -> None:
    before = rows(layout)
    old = [path for day in DAYS for path in live(layout, day)]
    good, said = upkeep(layout, seal_before=TODAY, keep_journal=dt.timedelta(days=2))
    assert good
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

    good, said = upkeep(layout, grace=dt.timedelta(0), keep_days=10)
    assert good
    assert said["days removed"] == {"days": [DAYS[0].isoformat()]}
    assert said["superseded files removed"]["files"] >= len(old)
    assert not any(path.exists() for path in old)
    assert rows(layout) == [row for row in before if row["date"] != DAYS[0]]


def test_of_a_day_that_goes_on_it_only_seals_what_there_is(layout: DataLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rows(layout)
    good, said = upkeep(layout, seal_of=DAYS[2], grace=dt.timedelta(0))
    assert (good, said) == (True, {}), "so few files are left for the next time"
    monkeypatch.setattr(compact, "WORTH_A_SET", SEGMENTS_A_DAY)
    old = live(layout, DAYS[2])
    good, said = upkeep(layout, seal_of=DAYS[2], grace=dt.timedelta(0), keep_days=2)
    assert good
    assert said.keys() == {"sealed"}
    assert {len(live(layout, day)) for day in DAYS[:2]} == {2 * SEGMENTS_A_DAY}
    assert len(live(layout, DAYS[2])) == 2
    assert all(path.exists() for path in old)
    assert rows(layout) == before


def test_on_a_full_disk_it_only_removes_whatever_it_is_told(
    layout: DataLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compact, "WORTH_A_SET", SEGMENTS_A_DAY)
    good, said = upkeep(layout, seal_of=DAYS[2], only_remove=True, keep_days=2)
    assert good
    assert said.keys() == {"days removed"}


def test_one_part_of_the_upkeep_that_fails_leaves_the_others(layout: DataLayout) -> None:
    damage(live(layout, DAYS[1])[0])
    good, said = upkeep(layout, seal_before=TODAY)
    assert not good
    assert said["archived"]["segments"] == 10, "damage is looked for when it is sealed"
    assert {len(live(layout, day)) for day in (DAYS[0], DAYS[2])} == {2}


def test_upkeep_ends_with_who_started_it(layout: DataLayout) -> None:
    """It says nothing more and touches nothing more, whatever it was at."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kitelake.processes.child", "kitelake.processes.upkeep"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
