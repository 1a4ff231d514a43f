"""A running service looks after its data by itself, and commands do the same beside it."""

import re
from pathlib import Path

import pytest

from storage.layout import DataLayout
from tests.support.command import Run, command
from tests.support.running import committed_rows, running
from tests.support.simulation import simulation
from tests.support.three_days import DAYS, STREAM, TODAY, layout, live, three_days
from tests.support.waiting import PATIENCE_SECONDS, wait_until

__all__ = ["command", "layout", "three_days"]  # the fixtures


@pytest.mark.slow
def test_a_running_service_tidies_up_and_commands_work_beside_it(
    layout: DataLayout, tmp_path: Path, command: Run
) -> None:
    """Old days go at the start, today is sealed under its writer, and the status has the journal's counts."""
    sections = {"retention": {"days": 10, "journal": "2d"}, "journal": {"segment_seconds": 1, "reserve_bytes": 2**20}}
    with simulation(instruments=300, rate=10) as simulator, running(tmp_path, simulator, **sections) as service:
        wait_until(lambda: service.rows("select data from events where event = 'days removed'"))
        wait_until(lambda: service.rows("select data from events where event = 'segments removed'"))
        assert service.rows("select min(date) as first from ticks") == [{"first": DAYS[1]}]
        assert not layout.archive(STREAM, 0).exists()
        wait_until(lambda: len(live(layout, TODAY)) > 6)

        def beside(*arguments: str) -> str:
            ended = command(*arguments, "--config", service.config)
            assert ended.status == 0, ended
            return ended.out

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
