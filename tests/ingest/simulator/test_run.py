"""The simulator as a process: how it starts, what it refuses, how it ends."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from websockets.sync.client import connect

from ingest.server.record import RecordKind, read_record
from ingest.simulator.run import main
from tests.support.simulation import ROOT, settings_of, simulation, tokens_of
from tests.support.simulator_client import Client, client, until

COMMAND = [sys.executable, "-m", "ingest.simulator"]


class Ended(NamedTuple):
    """The command has ended before it was ready."""

    status: int
    stdout: str
    stderr: str


Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process, with `text` as its standard input, which may stay open behind it."""

    def one(text: str, *arguments: str, open_behind: bool = False) -> Ended:
        reading, writing = os.pipe()
        with os.fdopen(reading, encoding="utf-8") as stdin, os.fdopen(writing, "w", encoding="utf-8") as behind:
            behind.write(text)
            behind.flush()
            if not open_behind:
                behind.close()
            monkeypatch.setattr("sys.stdin", stdin)
            return Ended(main(arguments), *capsys.readouterr())

    return one


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not JSON"),
        ('{"accounts": [}', "not JSON: Expecting value at line 1 column 15"),
        ('{"accounts": ["hunter2"', "not JSON"),
        ("[]", "expected one JSON object"),
        (
            '{"accounts": [{"api_key": "k", "access_token": "hunter2"}], "sed": 1}',
            "sed: Extra inputs are not permitted",
        ),
    ],
)
def test_bad_settings_end_with_status_2_and_a_message(run: Run, text: str, complaint: str) -> None:
    ended = run(text)
    assert ended.status == 2
    assert ended.stderr.startswith("simulator: ")
    assert complaint in ended.stderr
    assert ended.stderr.count("\n") == 1, "a message, no traceback"
    assert "hunter2" not in ended.stderr
    assert ended.stdout == ""


def test_malformed_settings_are_told_though_standard_input_stays_open(run: Run) -> None:
    ended = run('{"accounts": nonsense}\n', open_behind=True)
    assert ended.status == 2
    assert "not JSON" in ended.stderr


def test_a_config_file_that_is_not_there_is_told(run: Run, tmp_path: Path) -> None:
    ended = run("", "--config", str(tmp_path / "none.json"))
    assert ended.status == 2
    assert "cannot read" in ended.stderr
    assert "No such file or directory" in ended.stderr


@pytest.mark.parametrize("which", ["port", "api_port"])
def test_a_port_in_use_is_told(run: Run, which: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run(json.dumps(settings_of(**{which: port})) + "\n")
    assert ended.status == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in ended.stderr
    assert "ddress already in use" in ended.stderr
    assert ended.stdout == "", "nothing was started"


@pytest.mark.parametrize("key", ["record", "stats_file"])
def test_a_place_that_cannot_be_written_is_told(run: Run, key: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = run(json.dumps(settings_of(**{key: tmp_path / "file" / "below"})) + "\n")
    assert ended.status == 2
    assert "cannot " in ended.stderr


@pytest.mark.slow
def test_it_speaks_when_ready_and_ends_with_its_standard_input(tmp_path: Path) -> None:
    stats_file = tmp_path / "stats.json"
    with simulation(rate=1000, stats_file=stats_file) as running:
        with connect(running.url(), compression=None, proxy=None) as client:
            client.send(json.dumps({"a": "subscribe", "v": [256265]}))
            running.wait_for(lambda stats: stats["packets"] > 2)
        running.pause()
        stats = running.stats(instruments=True)
        assert running.account("two").api_key == "key-two"
        with pytest.raises(AssertionError, match=r"400: .*not a fault"):
            running.fault("explode")
        assert running.stop() == 0
    written = json.loads(stats_file.read_text())
    assert written["connections"][0]["instruments"] == stats["connections"][0]["instruments"]
    assert written["packets"] == stats["packets"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_on_signals_with_clients_connected(number: signal.Signals, tmp_path: Path) -> None:
    config = tmp_path / "simulator.json"
    config.write_text(json.dumps(settings_of(rate=1000, exit_on_stdin_eof=False), indent=2))
    process = subprocess.Popen(
        [*COMMAND, "--config", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        urls = json.loads(process.stdout.readline())
        assert set(urls) == {"ws", "api", "control"}
        with connect(f"{urls['ws']}?api_key=key-one&access_token=token-one", proxy=None) as client:
            client.recv()
            process.send_signal(number)
            for _ in client:  # until the connection ends; it fails if that is not a clean end
                pass
            assert client.close_code == 1001
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


@pytest.mark.slow
async def test_the_record_is_exact_through_drops_between_processes(tmp_path: Path) -> None:
    settings = {"instruments": 1000, "rate": 1000, "steps_per_second": 20, "record": tmp_path}
    with simulation(**settings) as running:
        tokens = tokens_of(running.api)
        clients = []
        for how in ("rst", "close", "eof", "rst", "pause"):
            async with client(running.url()) as one:
                clients.append(one)
                await one.ask("subscribe", tokens)
                await one.ask("mode", ["full", tokens])
                await until(lambda: len(clients[-1].frames) > 20)
                if how == "pause":
                    await asyncio.to_thread(running.pause)
                    stats = await asyncio.to_thread(running.stats, instruments=True)
                    await until(partial(_has, one, stats["connections"][-1]["packets"]))
                else:
                    await asyncio.to_thread(running.fault, "drop", how=how)
                    await until(lambda: clients[-1].closed)
    assert [connection["instruments"] for connection in stats["connections"]] == [one.counts() for one in clients]
    records = [record for record in read_record(tmp_path) if record.kind is RecordKind.PACKETS]
    for number, one in enumerate(clients, 1):
        frames = [record.payload for record in records if record.connection.connection == number]
        assert [frame for frame in one.frames if len(frame) > 1] == frames


def _has(one: Client, packets: int) -> bool:
    return len(one.packets()) == packets


@pytest.mark.slow
def test_handshakes_that_are_none_leave_no_trace_of_the_token() -> None:
    process = subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(json.dumps(settings_of()) + "\n")
        process.stdin.flush()
        urls = json.loads(process.stdout.readline())
        port = int(urls["ws"].rpartition(":")[2])
        for request in (
            b"PUT /?api_key=key-one&access_token=token-one HTTP/1.1\r\n\r\n",
            b"GET /?api_key=key-one&access_token=token-one HTTP/0.9\r\n\r\n",
            b"GET /?api_key=key-one&access_token=token-one HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", port)) as plain:
                plain.sendall(request)
                while plain.recv(4096):
                    pass
        process.stdin.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == ""
