"""A simulator of its own for any test: a process on free ports, with settings, faults and the truth at hand.

    with simulation(instruments=200, rate=20) as simulator:
        …connect to simulator.ws and simulator.api as simulator.account("one")…
        simulator.fault("drop", how="rst")
        simulator.pause()
        assert rows == simulator.stats()["packets"]

Nothing it starts outlives it: the process ends with its standard input.
"""

import contextlib
import json
import struct
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.support.forks import Forked
from tests.support.waiting import LOOK_SECONDS, PATIENCE_SECONDS

ROOT: Final = Path(__file__).parents[2]


class Account(NamedTuple):
    """The credentials of one simulated account."""

    name: str
    api_key: str
    access_token: str
    api_secret: str


ACCOUNTS: Final = (
    Account("one", "key-one", "token-one", "secret-one"),
    Account("two", "key-two", "token-two", "secret-two"),
)


class ControlError(AssertionError):
    """The simulator refused an order: the test has a mistake."""


class Simulation:
    """A running simulator process. `ws`, `api` and `control` are its URLs."""

    def __init__(self, process: Forked | subprocess.Popen[str], urls: dict[str, str], settings: dict[str, Any]) -> None:
        self.process = process
        self.settings = settings
        self.ws = urls["ws"]
        self.api = urls["api"]
        self.control = urls["control"]

    def account(self, name: str = "one") -> Account:
        return next(Account(**one) for one in self.settings["accounts"] if one["name"] == name)

    def url(self, name: str = "one") -> str:
        """The WebSocket address with the account's key and token."""
        account = self.account(name)
        return f"{self.ws}/?api_key={account.api_key}&access_token={account.access_token}"

    def stats(self, *, instruments: bool = False) -> dict[str, Any]:
        """What was sent up to now; with `instruments`, by connection and instrument token (text)."""
        return self._call(f"{self.control}/stats?instruments={int(instruments)}")

    def fault(self, kind: str, **fields: Any) -> int:
        """Order a fault (see `ingest.server.faults`); returns how many connections or frames it concerned."""
        applied = self._call(f"{self.control}/faults", {"kind": kind, **fields})["applied"]
        assert isinstance(applied, int)
        return applied

    def pause(self) -> None:
        """No new packets: what `stats` says from now on stays."""
        self.fault("pause")

    def resume(self) -> None:
        self.fault("resume")

    def wait_for(
        self, condition: Callable[[dict[str, Any]], object], seconds: float = PATIENCE_SECONDS
    ) -> dict[str, Any]:
        """The first stats that meet the condition."""
        deadline = time.monotonic() + seconds
        while not condition(stats := self.stats()):
            assert time.monotonic() < deadline, f"not within {seconds} s: {stats}"
            time.sleep(LOOK_SECONDS)
        return stats

    def stop(self) -> int:
        """End its standard input and wait; returns the exit status."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        return self.process.wait(PATIENCE_SECONDS)

    @staticmethod
    def _call(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data), timeout=PATIENCE_SECONDS) as answer:
                values: dict[str, Any] = json.load(answer)
                return values
        except urllib.error.HTTPError as error:
            with error:
                raise ControlError(f"{error.code}: {error.read().decode()}") from None


def settings_of(**settings: Any) -> dict[str, Any]:
    """Settings for a small, lively market with the accounts "one" and "two"; arguments replace or add."""
    return {
        "accounts": [account._asdict() for account in ACCOUNTS],
        "instruments": 500,
        "exit_on_stdin_eof": True,
        **{name: str(value) if isinstance(value, Path) else value for name, value in settings.items()},
    }


def start_simulation(**settings: Any) -> Simulation:
    """Start one and wait until it is ready; whoever calls this must `stop` it."""
    whole = settings_of(**settings)
    process = Forked("ingest.simulator", piped=True)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(whole) + "\n")
    process.stdin.flush()
    with process.stdout as answers:
        line = answers.readline()
    if not line:
        process.stdin.close()
        raise AssertionError(f"the simulator did not start: exit status {process.wait(PATIENCE_SECONDS)}")
    return Simulation(process, json.loads(line), whole)


@contextlib.contextmanager
def simulation(**settings: Any) -> Iterator[Simulation]:
    """A simulator process as long as the context lasts."""
    running = start_simulation(**settings)
    try:
        yield running
    finally:
        try:
            running.stop()
        except subprocess.TimeoutExpired:
            running.process.kill()
            running.process.wait()
            raise


def more_packets(simulator: Simulation, count: int) -> None:
    """Wait until it has sent so many more."""
    before = simulator.stats()["packets"]
    simulator.wait_for(lambda stats: stats["packets"] > before + count)


def sockets(simulator: Simulation) -> list[tuple[Any, ...]]:
    """Every connection that there ever was, and whether it is open."""
    return [(one["account"], one["connection"], one["open"]) for one in simulator.stats()["connections"]]


def resume_once_noticed(simulator: Simulation) -> None:
    """What is sent to a socket whose owner has died counts as sent, so first all of them are closed."""
    simulator.wait_for(lambda stats: all(one["closed_at_ns"] for one in stats["connections"]))
    simulator.resume()


# ── reading packets back, with nothing but struct ────────────────────────────────────────────────────────────────────

_PRICES: Final = ("open", "high", "low", "close")
_TOTALS: Final = ("volume_traded", "total_buy_quantity", "total_sell_quantity")
QUOTE_FIELDS: Final = (
    *("instrument_token", "last_price", "last_traded_quantity", "average_traded_price"),
    *(*_TOTALS, *_PRICES),
)
FULL_FIELDS: Final = ("last_trade_time", "oi", "oi_day_high", "oi_day_low", "exchange_timestamp")
INDEX_FIELDS: Final = (
    *("instrument_token", "last_price", "high", "low", "open", "close"),
    *("price_change", "exchange_timestamp"),
)


def split_frame(frame: bytes) -> list[bytes]:
    """The packets of a frame that must be whole."""
    (count,) = struct.unpack_from(">H", frame)
    packets, at = [], 2
    for _ in range(count):
        (length,) = struct.unpack_from(">H", frame, at)
        packets.append(frame[at + 2 : at + 2 + length])
        assert len(packets[-1]) == length
        at += 2 + length
    assert at == len(frame)
    return packets


def values_of(packet: bytes) -> dict[str, Any]:
    """A packet's numbers as the wire has them; `bids` and `asks` are lists of (quantity, price, orders)."""
    if len(packet) == 8:
        return dict(zip(QUOTE_FIELDS, struct.unpack(">Ii", packet), strict=False))
    if len(packet) in {28, 32}:
        numbers = struct.unpack(">I6i" + "I" * (len(packet) == 32), packet)
        return dict(zip(INDEX_FIELDS, numbers, strict=False))
    values = dict(zip(QUOTE_FIELDS, struct.unpack(">IiIiIII4i", packet[:44]), strict=True))
    if len(packet) == 184:
        values |= zip(FULL_FIELDS, struct.unpack(">5I", packet[44:64]), strict=True)
        book = list(struct.iter_unpack(">IiHxx", packet[64:]))
        values |= {"bids": book[:5], "asks": book[5:]}
    else:
        assert len(packet) == 44
    return values


def tokens_of(api: str) -> list[int]:
    """What the REST server lists, in its order."""
    with urllib.request.urlopen(f"{api}/instruments", timeout=PATIENCE_SECONDS) as answer:
        return [int(line.partition(",")[0]) for line in answer.read().decode().splitlines()[1:]]
