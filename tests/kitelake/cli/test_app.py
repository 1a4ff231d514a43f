"""The command line as a user meets it: what is wrong ends with one clear message and exit status 2."""

import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from kitelake.cli.capture import shipped_config
from storage.datafolder import hold
from tests.support.command import Ended, Run, command
from tests.support.waiting import PATIENCE_SECONDS

__all__ = ["command"]  # the fixture

HEAVY = {
    "apprise",
    "apscheduler",
    "deltalake",
    "duckdb",
    "httpx",
    "kitelake.config.config",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic_settings",
    "structlog",
    "websockets",
    "yaml",
}
LOADED = """
import sys
from kitelake.cli.app import run_command
sys.argv = ["kitelake", sys.argv[1]]
status = run_command()
print(*sys.modules, file=sys.stderr)
sys.exit(status)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("option", "heavy"), [("--version", HEAVY | {"rich"}), ("--help", HEAVY)])
def test_what_only_says_something_loads_little(option: str, heavy: set[str]) -> None:
    """In a process of its own: these modules cost what the command costs."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, option], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    )
    assert "kitelake" in done.stdout.lower()
    assert not heavy & set(done.stderr.split())


def refused(ended: Ended, message: str) -> None:
    assert ended.status == 2, ended.err
    assert message in ended.err
    assert "simulator started" not in ended.err


@pytest.mark.parametrize("arguments", [["run"], ["demo"], ["sql", "select 1"]])
def test_no_config(command: Run, tmp_path: Path, arguments: list[str]) -> None:
    refused(command(*arguments), "config.yaml: there is no such file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("data: data/simulated", "data: [data"), "not YAML"),
        (
            ("data: data/simulated", "data: data/simulated\nspeed: 9"),
            "speed: unknown key; allowed here: data, accounts",
        ),
        (
            ("simulated-token-1", "{env: KITELAKE_TEST_TOKEN}"),
            "the environment variable KITELAKE_TEST_TOKEN is not set",
        ),
        (("data: data/simulated", "data: config.yaml/data"), "the data folder cannot be written to: Not a directory"),
    ],
)
def test_a_config_that_cannot_be(command: Run, tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in shipped_config()
    (tmp_path / "config.yaml").write_text(shipped_config().replace(*change))
    refused(command("run"), message)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_an_unwritable_data_folder(command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").write_text(shipped_config())
    monkeypatch.setenv("KITELAKE_DATA", "/proc/kitelake")
    refused(command("run"), "the data folder cannot be written to")


def test_a_data_folder_that_another_process_holds(command: Run, tmp_path: Path) -> None:
    """Who holds it is this process here; that the lock is the system's, `storage.datafolder` has tests of."""
    (tmp_path / "config.yaml").write_text(shipped_config())
    with hold(tmp_path / "data/simulated", "simulator"):
        refused(command("run"), "another service captures into this folder (process ")


@pytest.mark.slow
@pytest.mark.parametrize("key", ["port", "api_port"])
def test_a_port_in_use(command: Run, tmp_path: Path, key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        small = shipped_config().replace("  instruments: 10000 ", "  instruments: 100 ")
        (tmp_path / "config.yaml").write_text(small.replace(f"  {key}: 0 ", f"  {key}: {port} "))
        ended = command("run")
        refused(ended, "the simulator did not start")
        assert f"port {port}" in ended.err
        asked = (f"--{key.replace('_', '-')}", str(port), "--instruments", "100")
        refused(command("simulate", *asked), f"port {port}")
    assert not (tmp_path / "data/simulated/journal").exists()


def test_init_writes_a_config_once(command: Run, tmp_path: Path) -> None:
    assert command("init").status == 0
    assert (tmp_path / "config.yaml").read_text() == shipped_config()
    (tmp_path / "config.yaml").write_text("mine")
    refused(command("init"), "is there already")
    assert (tmp_path / "config.yaml").read_text() == "mine"


def test_help_names_every_command(command: Run) -> None:
    ended = command("--help")
    assert ended.status == 0
    for name in ("run", "demo", "simulate", "sql", "init", "capture", "plan", "check", "status", "report", "login"):
        assert f" {name} " in ended.out
    queries = ended.out.partition(" Queries ")[2]
    for name in ("sql", "bars", "book", "latest", "chain", "find", "coverage", "gaps", "latency", "compare"):
        assert f" {name} " in queries
    assert command("--version").out.startswith("kitelake ")


@pytest.mark.slow
def test_simulate_says_where_it_is_and_ends_on_a_signal() -> None:
    arguments = [sys.executable, "-m", "kitelake", "simulate", "--port", "0", "--api-port", "0", "--instruments", "100"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as simulator:
        assert simulator.stdout is not None
        said = [simulator.stdout.readline() for _ in range(7)]
        assert said[0].startswith("WebSocket  ws://127.0.0.1:")
        api = said[1].split()[1]
        with urllib.request.urlopen(f"{api}/instruments", timeout=PATIENCE_SECONDS) as answer:
            assert answer.read().count(b"\n") == 101
        assert "Ctrl-C ends it" in said[-1]
        simulator.send_signal(signal.SIGINT)
        assert simulator.stdout.read() == "0 packets sent\n"
    assert simulator.returncode == 0
