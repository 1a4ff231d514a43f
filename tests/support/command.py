"""The command line inside the test's own process, and the config.yaml and instrument lists that it is tried on."""

import datetime as dt
import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import typer.main
import yaml

from ingest.simulator import build_universe, to_csv
from kitelake.cli.app import run_command

DAY: Final = dt.date(2026, 11, 25)
SPOT: Final = 24_512.35
ACCOUNTS: Final = [{"name": name, "api_key": f"key-{name}", "access_token": f"canary-{name}"} for name in "abc"]
INDICES: Final = {"name": "indices", "mode": "full", "instruments": ["NSE:NIFTY 50", "NSE:NIFTY BANK", "BSE:SENSEX"]}
OPTIONS: Final = {
    "name": "options",
    "mode": "full",
    "priority": 1,
    "select": {"underlying": "NSE:NIFTY 50", "expiries": 2, "strikes": {"around": "spot", "count": 20}},
}
COMMODITIES: Final = {"name": "commodities", "mode": "quote", "priority": 2, "select": {"segment": "MCX-FUT"}}
REST: Final = {"name": "rest", "mode": "ltp", "priority": 9, "select": {"exchange": "NSE"}}


@dataclass(frozen=True)
class Ended:
    """The end of a command: exit status, and what it printed where."""

    status: int
    out: str
    err: str

    def __post_init__(self) -> None:
        assert "canary" not in self.out + self.err
        assert "Traceback" not in self.err


Run = Callable[..., Ended]

# What Typer makes of all our commands, 20 ms of work, is the same each time.
made = functools.cache(typer.main.get_command)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line inside this process, in a folder of its own, on a wide terminal.

    What its child processes say on the standard error is part of what it printed.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(typer.main, "get_command", made)

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["kitelake", *map(str, arguments)])
        status = run_command()
        return Ended(status, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The broker's instrument list of a small market."""
    return write_instruments(tmp_path_factory.mktemp("instruments") / "instruments.csv", 3_000)


def write_instruments(path: Path, size: int) -> Path:
    """The simulated market's list, with a price of NIFTY 50."""
    text = to_csv(build_universe(size, 1, DAY).instruments)
    without = '256265,1001,NIFTY 50,"NIFTY 50",0,'
    assert without in text
    path.write_text(text.replace(without, f'256265,1001,NIFTY 50,"NIFTY 50",{SPOT},'))
    return path


def write_config(folder: Path, *lists: dict[str, Any], **changes: Any) -> Path:
    """A config.yaml of two accounts with these lists; `changes` are sections of it."""
    path = folder / "config.yaml"
    document = {"data": "data", "accounts": ACCOUNTS[:2], "subscriptions": list(lists), **changes}
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path
