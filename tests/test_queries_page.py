"""The rest of docs/queries.md, beside what people ask: its examples run, and its tables name what there is."""

import datetime as dt
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import kitelake
from kitelake.lake import Lake
from queries.errors import RestrictedError
from queries.lake import RESTRICTED
from storage.clock import IST
from tests.support.command import Run, command
from tests.support.two_days import DAYS, two_days
from tests.support.written import answer_of, blocks, section

pytestmark = pytest.mark.slow

__all__ = ["command", "two_days"]  # the fixtures

ROOT = Path(__file__).parent.parent
QUERIES = ROOT / "docs" / "queries.md"
README = ROOT / "README.md"
HELPERS_OWN = {"sessions", "instrument_days", "dated_ticks"}
"""Relations that macros are made of."""
OLD = """\
received,instrument_token,last_price,volume_traded,exchange_timestamp
2026-11-11 09:15:01.250000,408065,1490.5,100,2026-11-11 09:15:01
2026-11-11 15:29:58.500000,408065,1495.25,None,2026-11-11 15:29:58
2026-11-11 15:29:59,256265,24400.1,,
2026-11-12 09:15:01.250000,408065,1.0,100,2026-11-12 09:15:01
"""


@pytest.fixture
def lake(two_days: Path) -> Iterator[Lake]:
    with kitelake.open(two_days) as opened:
        yield opened


def test_the_relations_are_those_of_a_lake(lake: Lake) -> None:
    named = re.findall(r"^\| `(\w+)` \|", section(QUERIES, "Opening a lake"), re.MULTILINE)
    assert set(named) == set(lake.tables) - HELPERS_OWN


def test_the_helpers_are_those_of_a_lake(lake: Lake) -> None:
    for row in re.findall(r"^\| (`.*)\|(?:.*)\|(.*)\|$", section(QUERIES, "Helpers"), re.MULTILINE):
        for name in re.findall(r"`(\w+)", row[0].partition("|")[0]):
            assert callable(getattr(lake, name)), name
            macros = {macro.name for macro in lake.macros}
            assert (name in macros) == bool(row[1].strip()), name


def test_a_macro_in_the_text_gives_rows(lake: Lake) -> None:
    (query,) = blocks(section(QUERIES, "Macros beside methods"), "sql")
    assert lake.sql(query).count() > 100


@pytest.mark.parametrize(("said", "rows"), [(["2026-11-13"], 375), (["2026-11-13 09:15", "2026-11-13 10:00"], 45)])
def test_ranges_are_as_the_page_says(lake: Lake, said: list[str], rows: int) -> None:
    text = section(QUERIES, "Symbols and times")
    arguments = ", ".join(f'"{each}"' for each in ["INFY", "1m", *said])
    assert f"`lake.bars({arguments})`" in text
    assert lake.bars("INFY", "1m", *said, fill="null").count() == rows


def test_results_have_the_forms_that_the_page_says(lake: Lake) -> None:
    made = lake.bars("NSE:INFY", "1h", DAYS[1])
    for call in re.findall(r"`\.(\w+)(?:\(\)|\(n\)|`)", section(QUERIES, "Results")):
        assert hasattr(made, call), call
    assert [len(part) for part in made.df(count=3)] == [3, 3, 1]
    assert str(made.arrow(tz="UTC").schema.field("time").type) == "timestamp[us, tz=UTC]"


def test_a_restricted_lake_is_as_the_page_says(two_days: Path) -> None:
    assert (RESTRICTED.memory, RESTRICTED.threads, RESTRICTED.seconds) == ("1GB", 2, 30)
    with kitelake.open(two_days, restricted=True) as lake:
        assert lake.sql("from bars('NSE:INFY', width := '1 hour', start := '2026-11-13')").count() == 7
        with pytest.raises(RestrictedError):
            lake.sql("from read_text('/etc/passwd')")


def test_old_ticks_stand_beside_ours(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "ticks.csv").write_text(OLD)
    views, query = blocks(section(QUERIES, "Old ticks beside ours"), "sql")
    lake.sql(views)
    rows = answer_of(lake.sql(query)).rows
    assert [(str(day), symbol, ticks) for day, symbol, ticks, _ in rows] == [
        ("2026-11-11", "NSE:INFY", 2),
        ("2026-11-12", "NSE:INFY", 810),
        ("2026-11-13", "NSE:INFY", 800),
    ]
    assert rows[0][3] == 1495.25
    first = lake.sql("select epoch_us(min(received_at)), count(exchange_timestamp) from every_tick").arrow()
    assert first.column(0)[0].as_py() == 1_794_368_701_250_000  # 03:45:01.25 UTC
    assert lake.sql("select count(*) from every_tick where symbol is null").arrow()[0][0].as_py() == 0


def test_the_examples_in_the_readme_run(
    two_days: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks(section(README, "First queries").partition("Kite's binary frames")[0], "python")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "kite").symlink_to(two_days)
    exec(compile(code, "README.md", "exec"), {})
    out = capsys.readouterr().out
    for word in ("74 rows", "NFO:NIFTY", "last_hour"):
        assert word in out


@pytest.mark.parametrize(
    "line",
    [
        *re.findall(r"^\$ kitelake ((?:bars|book|chain) .*)$", section(README, "First queries"), re.MULTILINE),
        *re.findall(r"^\$ kitelake (.*)$", section(QUERIES, "Command line"), re.MULTILINE),
    ],
)
def test_the_commands_that_are_shown_run(command: Run, two_days: Path, tmp_path: Path, line: str) -> None:
    times = [dt.datetime.combine(DAYS[1], dt.time(9, minute), IST).isoformat() for minute in (15, 16)]
    candles = [[time, 1500.0, 1501.0, 1499.0, 1500.0, 10, 0] for time in times]
    (tmp_path / "candles.json").write_text(json.dumps({"data": {"candles": candles}}))
    ended = command(*shlex.split(line), "--data", two_days)
    assert (ended.status, ended.err) == (int("compare" in line), "")
    assert ended.out or (tmp_path / "bars.parquet").exists()
