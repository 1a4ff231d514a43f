"""The real service as a process, against a simulator of the test's own."""

import contextlib
import datetime as dt
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import time_machine
import yaml

import kitelake
from kitelake.telemetry.status import read_status
from storage.layout import DataLayout
from tests.support.forks import Forked
from tests.support.simulation import Simulation, sockets
from tests.support.waiting import PATIENCE_SECONDS, wait_until


def _set_clock(clock: str) -> None:
    """Have the clock of this process start at `clock`, an ISO time."""
    time_machine.travel(dt.datetime.fromisoformat(clock), tick=True).start()


class Running:
    """A `kitelake run`, or another `command`, that captures from `simulator` into `folder/data`."""

    def __init__(
        self,
        folder: Path,
        simulator: Simulation,
        *,
        command: Sequence[str] = ("run",),
        environment: Mapping[str, str] | None = None,
        secrets_in_environment: bool = False,
        clock: str | None = None,
        fork_children: bool = True,
        **changes: Any,
    ) -> None:
        """`changes` are sections of config.yaml. Its clock starts at `clock`, an ISO time, or is the machine's.

        Its children begin as forks, unless a test looks at what they were started with.
        """
        self.clock = clock
        self._fork_children = fork_children
        self._simulator = simulator
        self.data = folder / "data"
        self.config = folder / "config.yaml"
        self._log = folder / "service.log"
        self._output = folder / "service.out"
        self._command = command
        self._environment = {"TZ": "America/New_York", **(environment or {})}  # any zone writes the same table
        accounts = [simulator.account(one["name"]) for one in simulator.settings["accounts"]]
        tokens: dict[str, Any] = {account.name: account.access_token for account in accounts}
        if secrets_in_environment:
            for name, token in tokens.items():
                self._environment[f"TOKEN_OF_{name}"] = token
                tokens[name] = {"env": f"TOKEN_OF_{name}"}
        self._sections: dict[str, Any] = {
            "data": str(self.data),
            "kite": {"ws": simulator.ws, "api": simulator.api},
            "accounts": [{"name": a.name, "api_key": a.api_key, "access_token": tokens[a.name]} for a in accounts],
            "subscriptions": [
                {"name": "all", "mode": "ltp", "select": {"types": ["EQ", "FUT", "CE", "PE"]}},
                {"name": "NSE", "mode": "full", "select": {"exchange": "NSE"}},
                {"name": "options", "mode": "quote", "select": {"exchange": "NFO", "types": ["CE", "PE"]}},
            ],
            "capture": {"backoff_initial_seconds": 0.1, "slow_retry_seconds": 0.5, "instruments_per_connection": 200},
            "journal": {"segment_seconds": 2},
            "calendar": {"always_open": True},
        }
        self.configure(**changes)
        self.process = self.start()

    def configure(self, **changes: Any) -> None:
        """Write config.yaml anew, with these sections in place of what they were."""
        self._sections |= changes
        self.config.write_text(yaml.safe_dump(self._sections))

    def start(self) -> Forked:
        self.process = Forked(
            "kitelake",
            *self._command,
            "--config",
            str(self.config),
            output=self._output,
            errors=self._log,
            environment=os.environ | self._environment,
            first=None if self.clock is None else partial(_set_clock, self.clock),
            children=self._fork_children,
        )
        return self.process

    @property
    def log(self) -> str:
        """Standard error."""
        return self._log.read_text()

    @property
    def output(self) -> str:
        """Standard output."""
        return self._output.read_text()

    def stop(self, number: int = signal.SIGTERM) -> float:
        """Signal it, wait for its clean end, and say how long that took."""
        began = time.monotonic()
        self.process.send_signal(number)
        assert self.process.wait(timeout=PATIENCE_SECONDS) == 0, self.log
        return time.monotonic() - began

    def rows(self, query: str = "select count(*) as n from ticks") -> list[dict[str, Any]]:
        """What the lake answers at this moment; nothing before there is a lake."""
        try:
            with kitelake.open(self.data) as lake:
                answer: list[dict[str, Any]] = lake.sql(query).arrow().to_pylist()
                return answer
        except kitelake.KitelakeError:
            return []

    def sockets(self) -> list[tuple[Any, ...]]:
        """Those of the simulator, once each that the service wants is open and asks for its instruments."""
        layout = DataLayout(self.data)

        def wanted() -> int:
            status = read_status(layout)
            connections = [] if status is None else status.connections
            up = connections and all(one.uptime_seconds is not None for one in connections)
            return sum(one.instruments for one in connections) if up else 0

        def are_open() -> bool:
            asked = sum(one["subscribed"] for one in self._simulator.stats()["connections"] if one["open"])
            return bool(asked) and asked == wanted()

        wait_until(are_open)
        return sockets(self._simulator)

    def children(self) -> dict[str, int]:
        """The last part of the module's name → process id, of the service's own processes."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                if parent != self.process.pid:
                    continue
                name = (path / "comm").read_text().strip()
                command = (path / "cmdline").read_bytes().split(b"\0")
                if b"kitelake.processes.child" in command:
                    name = command[command.index(b"kitelake.processes.child") + 1].decode().rpartition(".")[2]
                found[name] = int(path.name)
        return found


@contextlib.contextmanager
def running(folder: Path, simulator: Simulation, **changes: Any) -> Iterator[Running]:
    """A running service; killed at the end if the test has not stopped it."""
    service = Running(folder, simulator, **changes)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.process.kill()
            service.process.wait()


def committed_rows(data: Path) -> int:
    """Rows in the files of the ticks table's newest version, without the live tail."""
    from storage.schema import TICKS
    from storage.tables.table import LakeTable

    snapshot = LakeTable(data / "ticks", TICKS).open().snapshot()
    return sum(entry.rows for entry in snapshot.entries)
