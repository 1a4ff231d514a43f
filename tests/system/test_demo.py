"""The demo at small size: it ends with an account that is right, and says so when it is not."""

import asyncio
import io
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from rich.console import Console

import kitelake
from kitelake.cli.capture import shipped_config
from kitelake.cli.demo import Outcome, report
from kitelake.config.config import load_config
from kitelake.processes.source import Source
from kitelake.service.runner import capture
from kitelake.service.service import Service
from kitelake.service.snapshot import Progress
from tests.support.accounting import sent, stored
from tests.support.forks import run_forked
from tests.support.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.slow


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The shipped config.yaml, with a smaller and livelier market that is recorded."""
    settings = yaml.safe_load(shipped_config())
    settings["simulator"] |= {"instruments": 1000, "rate": 5, "record": "record"}
    settings["journal"] = {"segment_seconds": 2}
    settings["log"] = {"level": "warning"}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_the_demo_accounts_for_every_tick(config: Path) -> None:
    done = run_forked(
        *("kitelake", "demo", "--seconds", "4"),
        folder=config.parent / "demo",
        first=partial(os.chdir, config.parent),
        children=True,
    )
    assert done.status == 0, done.out + done.err
    counts = [line.split("│")[2].strip() for line in done.out.splitlines() if line.startswith(("│ packets", "│ rows"))]
    assert len(counts) == 3
    assert len(set(counts)) == 1
    assert int(counts[0].replace(",", "")) > 1000
    # A busy machine may be told that nothing is streamed yet: that is how capture is, and no mistake.
    assert [line for line in done.err.splitlines() if "] capture is " not in line] == []
    for shown in ("The most active names", "One-minute bars", "best bid and ask", "from bars", "┤", "What next"):
        assert shown in done.out
    assert "min(volume_traded)" not in done.out, "no bar's volume: it lacks what came with the bar's first tick"


def test_a_reader_that_goes_away_ends_the_demo(config: Path) -> None:
    command = f"{sys.executable} -m kitelake demo --seconds 600 | head -3"
    done = subprocess.run(
        command, shell=True, cwd=config.parent, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert "Kitelake" in done.stdout
    assert done.stderr == ""


def test_a_terminal_of_few_letters_gets_the_whole_demo(config: Path) -> None:
    config.write_text(config.read_text().replace("rate: 5", "rate: 1"))
    command = [sys.executable, "-m", "kitelake", "demo", "--seconds", "3"]
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        command, cwd=config.parent, env=environment, capture_output=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"What next" in done.stdout


def test_the_table_is_the_simulators_record_though_connections_drop(config: Path) -> None:
    """The demo's own parts, with all connections of one account reset and those of the other closed midway."""
    stats: dict[str, Any] = {}

    async def watch(service: Service, source: Source, stop: asyncio.Event) -> None:
        async with httpx.AsyncClient(base_url=f"{source.control}/", trust_env=False, verify=False) as client:
            for drop in ({"account": "one", "how": "rst"}, {"account": "two", "how": "close"}):
                before = service.progress().packets
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while service.progress().packets < before + 2_000:
                        await asyncio.sleep(0.05)
                (await client.post("faults", json={"kind": "drop", **drop})).raise_for_status()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while service.progress().connected < 6:
                    await asyncio.sleep(0.05)
            stop.set()
            await service.finished.wait()
            stats.update((await client.get("stats")).json())

    loaded = load_config(config)
    capture(loaded, watch=watch)
    assert loaded.simulator is not None
    assert loaded.simulator.record is not None
    expected, found = sent(loaded.simulator.record), stored(loaded.data)
    assert sum(map(len, found.values())) == sum(map(len, expected.values())) == stats["packets"]
    assert found == expected


def test_an_account_that_does_not_add_up_is_said(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    console = Console(file=io.StringIO(), width=100)
    with kitelake.open(tmp_path) as lake:
        assert not report(console, lake, Outcome("stream", sent=7, progress=Progress(packets=7)))
    assert isinstance(console.file, io.StringIO)
    assert "NOT equal" in console.file.getvalue()
