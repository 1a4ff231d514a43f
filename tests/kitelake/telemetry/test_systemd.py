"""What systemd hears, on a real datagram socket."""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from kitelake.telemetry import systemd
from kitelake.telemetry.systemd import Watchdog, notify, watchdog_seconds


@pytest.fixture(params=["path", "abstract"])
def heard(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """systemd's end of the socket."""
    abstract = f"kitelake-test-{secrets.token_hex(8)}"
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path if request.param == "path" else f"\0{abstract}")
        receiver.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", path if request.param == "path" else f"@{abstract}")
        yield receiver


def test_every_state_arrives_as_one_datagram(heard: socket.socket) -> None:
    assert systemd.ready("capturing until 15:35")
    assert heard.recv(4096) == b"READY=1\nSTATUS=capturing until 15:35"
    assert systemd.stopping("the sockets are closed")
    assert heard.recv(4096) == b"STOPPING=1\nSTATUS=the sockets are closed"
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert systemd.reloading()
    reloading, microseconds = heard.recv(4096).decode().split("\n")
    assert reloading == "RELOADING=1"
    assert microseconds.startswith("MONOTONIC_USEC=")
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert before <= int(microseconds.removeprefix("MONOTONIC_USEC=")) <= after


def test_a_value_of_several_lines_cannot_set_another_state(heard: socket.socket) -> None:
    assert notify(STATUS="waiting\nSTOPPING=1\r\n₹ is fine")
    assert heard.recv(4096).decode() == "STATUS=waiting STOPPING=1 ₹ is fine"


@pytest.mark.parametrize("address", [None, "", "relative", "vsock:2:1234", "/nowhere/notify", "@kitelake-nobody", "@"])
def test_without_a_socket_nothing_is_sent(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify(READY=1)


def test_a_socket_that_nobody_reads_is_given_up(heard: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "_SEND_SECONDS", 0.01)
    sent = 0
    while notify(WATCHDOG=1):
        sent += 1
        assert sent < 100_000, "the socket takes datagrams without end"
    assert heard.recv(4096) == b"WATCHDOG=1"
    assert notify(WATCHDOG=1)


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [
        ("60000000", None, 60.0),
        ("1500000", "mine", 1.5),
        ("60000000", "", 60.0),
        ("60000000", "1", None),
        (None, "mine", None),
        ("", None, None),
        ("0", None, None),
        ("-5", None, None),
        ("soon", None, None),
    ],
)
def test_the_watchdog_that_the_unit_asks_for(
    monkeypatch: pytest.MonkeyPatch, microseconds: str | None, pid: str | None, seconds: float | None
) -> None:
    given = {"WATCHDOG_USEC": microseconds, "WATCHDOG_PID": str(os.getpid()) if pid == "mine" else pid}
    for name, value in given.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert watchdog_seconds() == seconds


async def test_the_watchdog_is_fed_while_the_journal_advances_and_the_change_is_said_once(heard: socket.socket) -> None:
    heard.setblocking(False)
    loop = asyncio.get_running_loop()
    answers = iter([True, True, False, False, False, True])
    asked_all = asyncio.Event()

    def advancing() -> bool:
        answer = next(answers, None)
        if answer is None:
            asked_all.set()
        return bool(answer)

    with capture_logs() as logs:
        task = asyncio.create_task(Watchdog(0.02).run(advancing))
        await asyncio.wait_for(asked_all.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    for _ in range(3):
        assert await asyncio.wait_for(loop.sock_recv(heard, 4096), 5) == b"WATCHDOG=1"
    with pytest.raises(BlockingIOError):
        heard.recv(4096)
    assert [(entry["log_level"], entry["event"].partition(":")[0]) for entry in logs] == [
        ("error", "the journal does not advance"),
        ("info", "the journal advances again"),
        ("error", "the journal does not advance"),
    ]
