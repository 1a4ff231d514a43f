"""Peers of ours, each in an environment of its own in .venv-peers, made from a lock in requirements/peers."""

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.results import LeftOut
from tests.support.environments import ROOT, environment

CRATE: Final = "kiteticker-async-manager 0.4.1"
"""A client in Rust. It connects to the broker's address alone, so it cannot be run beside ours:"""
CRATE_US: Final = {50: 1.0, 5: 2.0, 1: 4.7}
"""… microseconds of CPU a full tick, by packets a frame, measured from outside once and for all."""
SCRIPT: Final = Path(__file__).parent / "peer_clients.py"


class NoPeerError(Exception):
    """A peer that cannot be run here, and why."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")
        self.left_out = LeftOut(what, why)


def python_of(name: str) -> Path:
    """The Python of a peer's environment. Raises NoPeerError if that cannot be made."""
    made = _made(name)
    if isinstance(made, NoPeerError):
        raise made
    return made


@functools.cache
def _made(name: str) -> Path | NoPeerError:
    """Tried once."""
    try:
        return environment(ROOT / ".venv-peers" / name, ROOT / "requirements" / "peers" / f"{name}.txt", sys.executable)
    except subprocess.CalledProcessError as error:
        step = "venv" if "venv" in error.cmd else "pip"
        return NoPeerError(name, f"its environment could not be made: {step} ended with {error.returncode}")


def run_client(kind: str, url: str, tokens: list[int], packets: int, folder: Path) -> dict[str, float]:
    """What a client of `benchmarks.peer_clients` took: seconds `cpu` and `wall`, and `bytes`. Raises NoPeerError."""
    python = python_of("picows" if kind == "picows" else "client")
    command = [str(python), str(SCRIPT), kind, url, json.dumps(tokens), str(packets), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoPeerError(kind, f"it ended with {done.returncode}: {(done.stderr.strip().splitlines() or [''])[-1]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found
