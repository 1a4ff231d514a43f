"""The broker's own Python client, in a process of its own, because its reactor starts once a process.

`official_client(…)` starts it; it subscribes, writes every binary frame with what it parsed from it, and ends with
its standard input. Instants come as epoch seconds (the client gives naive times in the host's zone).
"""

import base64
import contextlib
import datetime as dt
import json
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.simulation import ROOT
from tests.support.waiting import PATIENCE_SECONDS


class Received(NamedTuple):
    """A binary frame, and the ticks that the client made of it."""

    frame: bytes
    ticks: list[dict[str, Any]]


class OfficialClient:
    """The client's process, and the file it writes."""

    def __init__(self, process: subprocess.Popen[str], output: Path) -> None:
        self.process = process
        self.output = output

    def received(self) -> list[Received]:
        """What it got up to now, heartbeats left out."""
        lines = [line for line in self.output.read_text().splitlines(keepends=True) if line.endswith("\n")]
        values = [json.loads(line) for line in lines]
        return [Received(base64.b64decode(value["frame"]), value["ticks"]) for value in values]

    def ticks(self, mode: str) -> int:
        """How many of that mode it got up to now. Fails if the client has ended."""
        assert self.process.poll() is None, "the official client has ended"
        return self.output.read_text().count(f'"mode": "{mode}"')

    def stop(self) -> list[Received]:
        """Close its socket, wait for its end, and return all it got."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        status = self.process.wait(PATIENCE_SECONDS)
        assert status == 0, f"the official client ended with status {status}"
        return self.received()


@contextlib.contextmanager
def official_client(
    ws: str, api_key: str, access_token: str, modes: Mapping[str, Sequence[int]], output: Path
) -> Iterator[OfficialClient]:
    """Connect to `ws` and subscribe to the tokens of each mode (`ltp`, `quote`, `full`)."""
    settings = {"ws": ws, "api_key": api_key, "access_token": access_token, "modes": modes, "output": str(output)}
    output.touch()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.official_client"], cwd=ROOT, stdin=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(settings) + "\n")
    process.stdin.flush()
    client = OfficialClient(process, output)
    try:
        yield client
    finally:
        if process.poll() is None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def _epoch(value: object) -> float:
    assert isinstance(value, dt.datetime)
    return value.timestamp()


def _main() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from kiteconnect import KiteTicker
        from twisted.internet import reactor

    settings = json.loads(sys.stdin.readline())
    closed = threading.Event()
    ticker = KiteTicker(settings["api_key"], settings["access_token"], root=settings["ws"], reconnect=False)
    frames: list[bytes] = []

    with Path(settings["output"]).open("w") as output:

        def on_connect(ws: Any, _response: Any) -> None:
            for mode, tokens in settings["modes"].items():
                ws.subscribe(tokens)
                ws.set_mode(mode, tokens)

        def on_message(_ws: Any, payload: bytes, is_binary: bool) -> None:
            if is_binary and len(payload) > 4:
                frames.append(payload)

        def on_ticks(_ws: Any, ticks: list[dict[str, Any]]) -> None:
            frame = base64.b64encode(frames.pop()).decode()
            output.write(json.dumps({"frame": frame, "ticks": ticks}, default=_epoch) + "\n")
            output.flush()

        ticker.on_connect = on_connect
        ticker.on_message = on_message
        ticker.on_ticks = on_ticks
        ticker.on_close = lambda *_: closed.set()
        ticker.connect(threaded=True)
        sys.stdin.read()
        loop: Any = reactor
        loop.callFromThread(ticker.close)
        closed.wait(PATIENCE_SECONDS / 2)
        loop.callFromThread(loop.stop)
        ticker.websocket_thread.join(PATIENCE_SECONDS / 2)


if __name__ == "__main__":
    _main()
