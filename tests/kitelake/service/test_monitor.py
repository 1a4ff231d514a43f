"""What is looked at while a service runs."""

import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from kitelake.config import FileWatch
from kitelake.service.monitor import Monitor
from storage.layout import DataLayout


def monitor_of(cycle: Any, tmp_path: Path) -> Monitor:
    none: Any = None
    return Monitor(
        cycle, none, none, AsyncIOScheduler(), DataLayout(tmp_path), FileWatch([]), None,
        status=none, health=none, reload=none,
    )  # fmt: skip


async def test_a_file_that_several_lists_name_is_read_anew_for_each(tmp_path: Path) -> None:
    resolved: list[str] = []
    lists = [SimpleNamespace(name=name, file=file and tmp_path / file) for name, file in
             (("a", "one.txt"), ("b", None), ("c", "one.txt"), ("d", "other.txt"))]  # fmt: skip

    async def resolve_again(name: str) -> None:
        resolved.append(name)

    cycle = SimpleNamespace(
        today=SimpleNamespace(config=SimpleNamespace(subscriptions=lists)), resolve_again=resolve_again
    )
    await monitor_of(cycle, tmp_path)._files_changed([tmp_path / "one.txt"])
    assert resolved == ["a", "c"]


async def test_with_a_new_day_its_jobs_are_set_and_what_is_held_is_noted(tmp_path: Path) -> None:
    done: list[str] = []
    cycle: Any = SimpleNamespace(
        set_jobs=lambda *, only_missing: done.append(f"jobs, {only_missing=}"),
        reconciler=SimpleNamespace(manager=SimpleNamespace(note_held=lambda: done.append("held"))),
    )
    monitor = monitor_of(cycle, tmp_path)
    await monitor._look_at_clock()
    assert done == []
    monitor._date -= dt.timedelta(days=1)
    await monitor._look_at_clock()
    await monitor._look_at_clock()
    assert sorted(done) == ["held", "jobs, only_missing=True"]
