"""The broker's own clients in other languages, and `make clients`: they run against our servers, field by field.

A client is a small program in tests/clients, made in .clients with the locked version of the broker's library; nothing
is fetched later. It takes its settings and calls, and gives what it gets, by its standard streams, and ends with its
input.

    python -m tests.support.clients [NAME …]

makes them anew if anything has changed, runs the tests of each, and says what ran, and what was left out and why. Exits
with 1 if a test failed, or a client could not be made.
"""

import base64
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.support.simulation import ROOT
from tests.support.waiting import PATIENCE_SECONDS, wait_until

TESTS: Final = "tests/system/test_other_clients.py"


class OtherClient(NamedTuple):
    """`tool` is what makes it, by `make` in its folder, and `command` what runs it there."""

    name: str
    package: str
    tool: str
    make: Sequence[str]
    command: Sequence[str]

    @property
    def source(self) -> Path:
        return ROOT / "tests" / "clients" / self.name

    @property
    def folder(self) -> Path:
        return ROOT / ".clients" / self.name

    @property
    def made_of(self) -> str:
        """A digest of all that it is made of."""
        digest = hashlib.sha256()
        for path in sorted(filter(Path.is_file, self.source.iterdir())):
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()

    @property
    def is_made(self) -> bool:
        stamp = self.folder / "stamp"
        return stamp.exists() and stamp.read_text() == self.made_of


CLIENTS: Final = {
    client.name: client
    for client in (
        OtherClient(
            "javascript",
            "kiteconnect 5.3.0",
            "npm",
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"],
            ["node", "client.js"],
        ),
        OtherClient(
            "go",
            "gokiteconnect 4.4.0",
            "go",
            ["go", "build", "-mod=readonly", "-o", "client", "."],
            ["./client"],
        ),
    )
}


class Stream(NamedTuple):
    """What a client gave. A frame is with the ticks that the client made of it."""

    frames: list[tuple[bytes, list[dict[str, Any]]]]
    orders: list[dict[str, Any]]


class Running:
    """A client that runs, and the lines it has written."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            self._lines.extend(lines)

    def count(self, *kinds: str) -> int:
        """How many it has given of those kinds: `frame`, `tick`, `order`, `answer`, `refusal`."""
        return sum(line.startswith(tuple(f'{{"{kind}":' for kind in kinds)) for line in self._lines)

    def wait_for(self, kind: str, count: int) -> None:
        """Until it has given so many of that kind."""

        def has() -> bool:
            assert self.process.poll() is None, "the client has ended"
            return self.count(kind) >= count

        wait_until(has)

    def call(self, name: str, *given: object) -> dict[str, Any]:
        """A REST call: its name (see the programs), and its arguments. Returns `call` and `value`, or what it was
        refused with: `message` and `error_type`."""
        assert self.process.stdin is not None
        before = self.count("answer", "refusal")
        self.process.stdin.write(json.dumps([name, *map(str, given)]) + "\n")
        self.process.stdin.flush()

        def answered() -> bool:
            assert self.process.poll() is None, "the client has ended"
            return self.count("answer", "refusal") > before

        wait_until(answered)
        line = [line for line in self._lines if line.startswith(('{"answer":', '{"refusal":'))][-1]
        (values,) = json.loads(line).values()
        assert values.pop("call") == name
        found: dict[str, Any] = values
        return found

    def stop(self) -> Stream:
        """End its input, wait for its end, and return all that it gave."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        status = self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        assert status == 0, f"the client ended with status {status}"
        given = Stream([], [])
        for line in self._lines:
            ((kind, value),) = json.loads(line).items()
            match kind:
                case "frame":
                    given.frames.append((base64.b64decode(value), []))
                case "tick":
                    given.frames[-1][1].append(value)
                case "order":
                    given.orders.append(value)
                case "answer" | "refusal":
                    pass
                case _:
                    raise AssertionError(f"{kind}: {value}")
        return given


@contextlib.contextmanager
def other_client(name: str, server: Mapping[str, str], modes: Mapping[str, Sequence[int]]) -> Iterator[Running]:
    """Run it against a server: `ws`, `api`, `api_key` and `access_token`. It subscribes to the tokens of each mode.

    Its zone is India's: JavaScript takes the broker's times for those of the host's.
    """
    client = CLIENTS[name]
    environment = {**os.environ, "TZ": "Asia/Kolkata"}
    process = subprocess.Popen(
        client.command, cwd=client.folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({**server, "modes": modes}) + "\n")
    process.stdin.flush()
    running = Running(process)
    try:
        yield running
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def make(client: OtherClient) -> None:
    """Have it in .clients as it is in tests/clients. Raises CalledProcessError."""
    if client.is_made:
        return
    print(f"Making .clients/{client.name} with {client.package} …", flush=True)
    shutil.rmtree(client.folder, ignore_errors=True)
    shutil.copytree(client.source, client.folder)
    subprocess.run(client.make, cwd=client.folder, check=True)
    (client.folder / "stamp").write_text(client.made_of)


def run(client: OtherClient) -> tuple[bool, str]:
    """Whether it is well, and what to say of it."""
    if shutil.which(client.tool) is None:
        return True, f"skipped: {client.package} needs {client.tool}, and there is none on the path"
    try:
        make(client)
    except subprocess.CalledProcessError as error:
        return False, f"failed: it could not be made ({' '.join(error.cmd[:2])} …)"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", TESTS, "-k", client.name]
    print(f"\n{client.package}", flush=True)
    is_well = subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    return is_well, f"{'passed' if is_well else 'failed'}: {client.package}"


def main(names: Sequence[str]) -> int:
    """Run those, or all."""
    found = {name: run(client) for name, client in CLIENTS.items() if not names or name in names}
    print()
    for name, (_, said) in found.items():
        print(f"{name:16}{said}")
    return int(not all(well for well, _ in found.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
