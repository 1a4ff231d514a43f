"""`kitelake replay --run`: a strategy as it is, in a Python of its own that cannot reach the broker (see `guard`)."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from kitelake.errors import GuardError
from kitelake.strategy.guard import API_VARIABLE, FOLDER, NAME, WS_VARIABLE
from kitelake.strategy.roots import local_root
from storage.startup import environment_as_given

PROBE_SECONDS: Final = 300.0


def guarded_environment(ws: str, api: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a Python that is to load the guard: bound to the replay, no proxy, no logins of .netrc."""
    kept = {name: value for name, value in environment.items() if not name.lower().endswith("_proxy")}
    paths = [FOLDER, *filter(None, [environment.get("PYTHONPATH")])]
    return kept | {
        "PYTHONPATH": os.pathsep.join(paths),
        WS_VARIABLE: local_root(ws, "ws", WS_VARIABLE),
        API_VARIABLE: local_root(api, "http", API_VARIABLE),
        "NO_PROXY": "*",
        "no_proxy": "*",
        "NETRC": os.devnull,
    }


def start_strategy(script: str | Path, arguments: Sequence[str], *, ws: str, api: str) -> subprocess.Popen[bytes]:
    """Start `python script arguments…` on the replay with those roots, in this folder and with these standard streams.

    Raises `GuardError` if this Python does not load the guard, and `NoReplayError` for a root that is not on this
    machine; then nothing was started.
    """
    if str(script).startswith("-"):
        raise GuardError(f"got {str(script)!r} as a strategy, expected a file of Python (./{script}, if it is one)")
    environment = guarded_environment(ws, api, environment_as_given())
    code = f"import sys; sys.exit({NAME!r} not in sys.modules)"
    probe = subprocess.run([sys.executable, "-c", code], env=environment, timeout=PROBE_SECONDS, check=False)
    if probe.returncode != 0:
        raise GuardError(
            f"{sys.executable} does not load what keeps a strategy from the broker, sitecustomize.py of {FOLDER}, by "
            "PYTHONPATH. The strategy was not started: run kitelake with a Python that heeds PYTHONPATH"
        )
    return subprocess.Popen([sys.executable, str(script), *arguments], env=environment)


def exit_status(returncode: int) -> int:
    """What a shell says of a process that ended so: 128 and the signal's number, if one ended it."""
    return returncode if returncode >= 0 else 128 - returncode
