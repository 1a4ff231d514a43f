"""The command line as a user meets it: what is wrong ends with one clear message and exit status 2."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from kitelake.cli.capture import shipped_config
from tests.storage.test_datafolder import HOLDER

pytestmark = pytest.mark.slow


def kitelake(*arguments: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "kitelake", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "COLUMNS": "120", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refused(result: subprocess.CompletedProcess[str], message: str) -> None:
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert "simulator started" not in result.stderr


@pytest.mark.parametrize("command", [["run"], ["demo"], ["sql", "select 1"]])
def test_no_config(tmp_path: Path, command: list[str]) -> None:
    refused(kitelake(*command, folder=tmp_path), "config.yaml: there is no such file")
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
def test_a_config_that_cannot_be(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in shipped_config()
    (tmp_path / "config.yaml").write_text(shipped_config().replace(*change))
    refused(kitelake("run", folder=tmp_path), message)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_an_unwritable_data_folder(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(shipped_config())
    refused(kitelake("run", folder=tmp_path, KITELAKE_DATA="/proc/kitelake"), "the data folder cannot be written to")


def test_a_data_folder_that_another_process_holds(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(shipped_config())
    arguments = [sys.executable, "-c", HOLDER, str(tmp_path / "data/simulated")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        refused(kitelake("run", folder=tmp_path), f"another service captures into this folder (process {other.pid} on")
        other.communicate()


@pytest.mark.parametrize("key", ["port", "api_port"])
def test_a_port_in_use(tmp_path: Path, key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "config.yaml").write_text(shipped_config().replace(f"  {key}: 0 ", f"  {key}: {port} "))
        result = kitelake("run", folder=tmp_path)
        refused(result, "the simulator did not start")
        assert f"port {port}" in result.stderr
        refused(kitelake("simulate", f"--{key.replace('_', '-')}", str(port), folder=tmp_path), f"port {port}")
    assert not (tmp_path / "data/simulated/journal").exists()


def test_init_writes_a_config_once(tmp_path: Path) -> None:
    assert kitelake("init", folder=tmp_path).returncode == 0
    assert (tmp_path / "config.yaml").read_text() == shipped_config()
    (tmp_path / "config.yaml").write_text("mine")
    refused(kitelake("init", folder=tmp_path), "is there already")
    assert (tmp_path / "config.yaml").read_text() == "mine"


def test_help_names_every_command(tmp_path: Path) -> None:
    result = kitelake("--help", folder=tmp_path)
    assert result.returncode == 0
    for command in ("run", "demo", "simulate", "sql", "init"):
        assert f" {command} " in result.stdout
    assert kitelake("--version", folder=tmp_path).stdout.startswith("kitelake ")


def test_sql_without_a_lake_says_what_to_do(tmp_path: Path) -> None:
    refused(kitelake("sql", "select 1", "--data", tmp_path / "nowhere", folder=tmp_path), "kitelake demo")


@pytest.mark.parametrize(
    ("output_format", "expected"),
    [
        ("table", b"answer  word\n"),
        ("csv", b'answer,word\n42,"a,b"\n'),
        ("json", b'{"answer":42,"word":"a,b"}\n'),
        ("arrow", b"\xff\xff\xff\xff"),
        ("parquet", b"PAR1"),
    ],
)
def test_sql_in_every_format(tmp_path: Path, output_format: str, expected: bytes) -> None:
    (tmp_path / "journal").mkdir()  # a lake in which nothing was captured yet
    query = "select 42 as answer, 'a,b' as word"
    command = [sys.executable, "-m", "kitelake", "sql", query, "--data", str(tmp_path), "--format", output_format]
    piped = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert piped.stdout.startswith(expected)
    subprocess.run([*command, "--output", str(tmp_path / "out")], timeout=60, check=True)
    written = (tmp_path / "out").read_bytes()
    assert written == piped.stdout or output_format == "parquet"
    assert written.startswith(expected)


def test_of_several_statements_the_last_result_is_printed(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    query = "create temp table a as select 41 as x; select 1 as y; select x + 1 as z from a"
    result = kitelake("sql", query, "--data", tmp_path, "--format", "csv", folder=tmp_path)
    assert (result.returncode, result.stdout) == (0, "z\n42\n")


def test_a_mistake_in_sql_is_duckdbs_message(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    result = kitelake("sql", "select lastprice from ticks", "--data", tmp_path, folder=tmp_path)
    assert result.returncode == 1
    assert 'Candidate bindings: "last_price"' in result.stderr
    assert "Traceback" not in result.stderr


def test_simulate_says_where_it_is_and_ends_on_a_signal(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kitelake", "simulate", "--port", "0", "--api-port", "0", "--instruments", "100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as simulator:
        assert simulator.stdout is not None
        said = [simulator.stdout.readline() for _ in range(7)]
        assert said[0].startswith("WebSocket  ws://127.0.0.1:")
        api = said[1].split()[1]
        with urllib.request.urlopen(f"{api}/instruments", timeout=10) as answer:
            assert answer.read().count(b"\n") == 101
        assert "Ctrl-C ends it" in said[-1]
        simulator.send_signal(signal.SIGINT)
        assert simulator.stdout.read() == "0 packets sent\n"
    assert simulator.returncode == 0
