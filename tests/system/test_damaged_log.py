"""A damaged log of a table: the upkeep, a query and the service each say what it is, and do the rest."""

import datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable

from kitelake.processes.upkeep import UpkeepSettings, keep_up
from kitelake.report import make_report
from kitelake.report.record import DayRecord
from kitelake.telemetry.status import read_status
from storage.clock import IST
from storage.errors import DamagedLogError
from storage.layout import DataLayout
from tests.support.damaged_logs import CHECKPOINT, HINT, NOISE, log_of, make_sound
from tests.support.forks import run_forked
from tests.support.running import Running, committed_rows, running
from tests.support.simulation import simulation
from tests.support.waiting import PATIENCE_SECONDS, wait_until

NOW = datetime.datetime(2026, 12, 31, tzinfo=IST)


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    """With a checkpoint that nobody can read."""
    make_sound(tmp_path / "data")
    layout = DataLayout(tmp_path / "data")
    (log_of(layout) / CHECKPOINT).write_bytes(NOISE)
    return layout


def test_the_upkeep_says_it_and_does_the_rest(layout: DataLayout, capsys: pytest.CaptureFixture[str]) -> None:
    settings = UpkeepSettings(
        data=layout.root,
        seal_before=NOW.date(),
        memory_bytes=256 << 20,
        grace=datetime.timedelta(0),
        keep_journal=datetime.timedelta(days=1000),
        keep_days=5,
        most_bytes=None,
        log_level="INFO",
        log_format="text",
    )
    assert not keep_up(settings, lambda _done, /, **_data: None)
    assert capsys.readouterr().out.count(f"{CHECKPOINT} cannot be read") == 4


def test_a_report_refuses(layout: DataLayout) -> None:
    with pytest.raises(DamagedLogError, match=CHECKPOINT):
        make_report(layout.root, DayRecord(date=datetime.date(2026, 11, 23)))


@pytest.mark.slow
def test_sql_is_one_line(layout: DataLayout, tmp_path: Path) -> None:
    query = ("sql", "select count(*) from ticks", "--data", str(layout.root))
    done = run_forked("kitelake", *query, folder=tmp_path / "asked")
    assert (done.status, done.out) == (1, "")
    (line,) = done.err.splitlines()
    assert line.startswith(f"kitelake: table {layout.table('ticks')}: cannot read its log: {CHECKPOINT} cannot be read")
    assert "`kitelake verify`" in line


@pytest.mark.slow
def test_a_service_says_why_nothing_is_committed_and_goes_on_once_it_is_mended(tmp_path: Path) -> None:
    with simulation(instruments=300, rate=3) as simulator, running(tmp_path, simulator) as service:
        wait_until(lambda: any(service.data.glob("ticks/date=*/**/*.parquet")))
        service.stop()
        log = log_of(DataLayout(service.data))
        DeltaTable(log.parent.as_uri()).create_checkpoint()
        (checkpoint,) = log.glob("*.checkpoint.parquet")
        checkpoint.write_bytes(NOISE)
        service.start()
        problem = f"cannot read its log: {checkpoint.name} cannot be read"
        wait_until(lambda: any(problem in each for each in problems_of(service)))
        assert "panic" not in service.log.lower()
        sent = simulator.stats()["packets"]
        simulator.wait_for(lambda stats: stats["packets"] > sent + 500, PATIENCE_SECONDS)
        checkpoint.unlink()
        (log / HINT).unlink()
        wait_until(lambda: not any("into the tables" in each for each in problems_of(service)))
        died = service.rows("select message from events where event = 'writer died'")
        assert len(died) > 1
        assert all(problem in row["message"] for row in died)
        simulator.pause()
        service.stop()
        assert committed_rows(service.data) == simulator.stats()["packets"]


def problems_of(service: Running) -> tuple[str, ...]:
    status = read_status(DataLayout(service.data))
    return () if status is None else tuple(status.problems)
