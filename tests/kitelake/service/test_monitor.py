"""What is looked at while a service runs."""

import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from kitelake.config import FileWatch
from kitelake.service.monitor import Monitor
from storage.layout import DataLayout


async def test_with_a_new_day_its_jobs_are_set_and_what_is_held_is_noted(tmp_path: Path) -> None:
    done: list[str] = []
    cycle: Any = SimpleNamespace(
        set_jobs=lambda *, only_missing: done.append(f"jobs, {only_missing=}"),
        reconciler=SimpleNamespace(manager=SimpleNamespace(note_held=lambda: done.append("held"))),
    )
    none: Any = None
    monitor = Monitor(
        cycle, none, none, AsyncIOScheduler(), DataLayout(tmp_path), FileWatch([]), None,
        status=none, health=none, reload=none,
    )  # fmt: skip
    await monitor._look_at_clock()
    assert done == []
    monitor._date -= dt.timedelta(days=1)
    await monitor._look_at_clock()
    await monitor._look_at_clock()
    assert sorted(done) == ["held", "jobs, only_missing=True"]
