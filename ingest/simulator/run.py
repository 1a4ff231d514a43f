"""The simulator as a process: settings in, one line out when it is ready, a clean end when told."""

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ingest.errors import ServerError
from ingest.simulator.simulator import Simulator, SimulatorSettings

USAGE_STATUS = 2


def simulate(settings: SimulatorSettings, *, ready: Callable[[dict[str, str]], None] | None = None) -> dict[str, Any]:
    """Run until SIGTERM, SIGINT or, if the settings say so, the end of standard input; returns what was sent.

    `ready` is called with the URLs (`ws`, `api`, `control`) once it listens. Must be called from the main thread.
    Raises `ServerError`, with nothing started, if it cannot listen or record.
    """
    return asyncio.run(_simulate(settings, ready))


async def _simulate(settings: SimulatorSettings, ready: Callable[[dict[str, str]], None] | None) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    if settings.stats_file is not None:
        try:
            settings.stats_file.touch()
        except OSError as error:
            raise ServerError(f"cannot write {settings.stats_file}: {error.strerror}") from None
    simulator = Simulator(settings)
    await simulator.start()
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end.set)
        if settings.exit_on_stdin_eof:
            threading.Thread(target=_await_eof, args=(loop, end), name="stdin", daemon=True).start()
        if ready is not None:
            ready(simulator.urls)
        await simulator.serve_until(end)
    finally:
        await simulator.stop()
    stats = simulator.stats(instruments=True)
    if settings.stats_file is not None:
        settings.stats_file.write_text(json.dumps(stats), encoding="utf-8")
    return stats


def _await_eof(loop: asyncio.AbstractEventLoop, end: asyncio.Event) -> None:
    try:
        while os.read(sys.stdin.fileno(), 4096):
            pass
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(end.set)


def read_settings(path: Path | None) -> SimulatorSettings:
    """Settings from a file, or from standard input as soon as a whole JSON object has come; raises `ServerError`."""
    try:
        text = path.read_text(encoding="utf-8") if path else None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ServerError(f"cannot read the simulator's settings from {path}: {reason}") from None
    source = str(path) if path else "standard input"
    values = _from_stdin() if text is None else _parse(text, whole=True)
    if not isinstance(values, dict):
        raise ServerError(f"{source}: expected one JSON object with the simulator's settings")
    return SimulatorSettings.parse(values)


def _from_stdin() -> Any:
    """What standard input holds, which may stay open behind it."""
    got = b""
    while chunk := os.read(sys.stdin.fileno(), 65_536):
        got += chunk
        if got.rstrip().endswith(b"}"):
            values = _parse(got.decode("utf-8", "replace"), whole=False)
            if values is not None:
                return values
    return _parse(got.decode("utf-8", "replace"), whole=True)


def _parse(text: str, *, whole: bool) -> Any:
    """The JSON value; None if it is not `whole` and goes on."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        goes_on = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        if goes_on and not whole:
            return None
        place = f"line {error.lineno} column {error.colno}"
        raise ServerError(f"the simulator's settings are not JSON: {error.msg} at {place}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: exit status 0, or 2 with a message on standard error if it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m ingest.simulator", description=__doc__)
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings as JSON; default: standard input")
    options = parser.parse_args(arguments)
    try:
        simulate(read_settings(options.config), ready=_say)
    except ServerError as error:
        sys.stderr.write(f"simulator: {error}\n")
        return USAGE_STATUS
    return 0


def _say(urls: dict[str, str]) -> None:
    sys.stdout.write(json.dumps(urls) + "\n")
    sys.stdout.flush()
