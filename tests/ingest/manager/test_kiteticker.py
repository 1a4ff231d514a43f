"""`KiteTicker` against the official client's parser, and against the simulator as a moved script would use it."""

import inspect
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest

from ingest.connection.hub import Gap
from ingest.errors import CapacityError, SessionError
from ingest.manager import kiteticker as compat
from ingest.manager.kiteticker import KiteTicker
from ingest.manager.tick_dicts import ticks_of
from ingest.settings import BufferSettings
from tests.support.packets import frame_of, random_frame
from tests.support.simulation import Simulation, simulation, tokens_of

SECONDS = 90.0


# ── the dictionaries ─────────────────────────────────────────────────────────────────────────────────────────────────


def as_official(tick: dict[str, Any]) -> dict[str, Any]:
    """Our dictionary with the differences undone: prices unsigned, a time of 0 in 1970, `change` of such prices."""
    segment = tick["instrument_token"] & 0xFF
    divisor = {3: 10_000_000.0, 6: 10_000.0, 12: 10_000.0}.get(segment, 100.0)

    def price(value: float) -> float:
        return round(value * divisor) % 2**32 / divisor

    whole = dict(tick)
    for name in {"last_price", "average_traded_price"} & set(tick):
        whole[name] = price(tick[name])
    for name in {"last_trade_time", "exchange_timestamp"} & set(tick):
        whole[name] = tick[name] or datetime.fromtimestamp(0)  # noqa: DTZ006 (as the client gives it)
    if "ohlc" in tick:
        whole["ohlc"] = {name: price(value) for name, value in tick["ohlc"].items()}
        close = whole["ohlc"]["close"]
        if close and min(tick["last_price"], tick["ohlc"]["close"]) < 0:
            whole["change"] = (whole["last_price"] - close) * 100 / close
    if "depth" in tick:
        whole["depth"] = {
            side: [level | {"price": price(level["price"])} for level in levels]
            for side, levels in tick["depth"].items()
        }
    return whole


def kinds(value: Any) -> Any:
    """The types in a dictionary, all the way down."""
    if isinstance(value, dict):
        return {name: kinds(one) for name, one in value.items()}
    return [kinds(one) for one in value] if isinstance(value, list) else type(value)


def test_the_dictionaries_are_those_of_the_official_client(official: Any, host_zone: str) -> None:
    random = Random(host_zone)
    for _ in range(60):
        frame = random_frame(random, random.randrange(1, 30))
        ticks = [as_official(tick) for tick in ticks_of(frame)]
        expected = official._parse_binary(frame)
        assert ticks == expected
        assert kinds(ticks) == kinds(expected)


def test_negative_prices_and_missing_times_are_what_they_are() -> None:
    (tick,) = ticks_of(frame_of([(0x0107).to_bytes(4, "big") + (-3700).to_bytes(4, "big", signed=True)]))
    assert tick == {"tradable": True, "mode": "ltp", "instrument_token": 0x0107, "last_price": -37.0}
    (index,) = ticks_of(frame_of([(0x0109).to_bytes(4, "big") + bytes(28)]))
    assert index["exchange_timestamp"] is None
    assert (index["change"], index["tradable"]) == (0, False)


# ── the interface ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_whatever_the_official_client_offers_is_there(official: Any) -> None:
    ours = KiteTicker("key", "token")
    absent = {"socket_url", "ws"}  # one would hold the token, the other is the socket of another library
    names = {name for name in dir(official) if not name.startswith("_")} - absent
    assert names <= set(dir(ours))
    for name in ("MODE_LTP", "MODE_QUOTE", "MODE_FULL", "EXCHANGE_MAP", "ROOT_URI", "CONNECT_TIMEOUT"):
        assert getattr(ours, name) == getattr(official, name)
    for name in ("__init__", "connect", "close", "stop", "subscribe", "unsubscribe", "set_mode", "resubscribe"):
        parameters = [
            [(one.name, one.default) for one in inspect.signature(getattr(ticker, name)).parameters.values()]
            for ticker in (ours, official)
        ]
        assert parameters[0] == parameters[1], name


def test_settings_are_held_within_the_official_bounds(caplog: pytest.LogCaptureFixture) -> None:
    ticker = KiteTicker("key", "token-of-today", reconnect_max_tries=1000, reconnect_max_delay=1)
    assert (ticker.reconnect_max_tries, ticker.reconnect_max_delay) == (300, 5)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "token-of-today" not in repr(vars(ticker)) + caplog.text


def test_what_is_not_supported_is_refused() -> None:
    ticker = KiteTicker("key", "token")
    with pytest.raises(ValueError, match="https_proxy"):
        ticker.connect(proxy={"host": "localhost", "port": 3128})
    with pytest.raises(ValueError, match="SSL_CERT_FILE"):
        ticker.connect(disable_ssl_verification=True)
    with pytest.raises(ValueError, match="wss://"):
        KiteTicker("key", "token", root="https://kite.trade")


def test_subscriptions_before_connecting() -> None:
    ticker = KiteTicker("key", "token")
    assert ticker.subscribe([1, 2, 3])
    assert ticker.set_mode(ticker.MODE_FULL, [2])
    assert ticker.unsubscribe([3, 99])
    assert ticker.subscribed_tokens == {1: "quote", 2: "full"}
    with pytest.raises(CapacityError, match=r"3,001"):
        ticker.subscribe(range(3001))
    with pytest.raises(ValueError, match="deep"):
        ticker.set_mode("deep", [1])
    assert ticker.subscribed_tokens == {1: "quote", 2: "full"}
    ticker.close()
    ticker.stop()
    assert not ticker.is_connected()


# ── against the simulator ────────────────────────────────────────────────────────────────────────────────────────────


class Script:
    """A script with every callback; `calls` is what was called, ticks and messages left out."""

    made: ClassVar[list["Script"]] = []

    def __init__(self, simulator: Simulation, **settings: Any) -> None:
        self.made.append(self)
        account = simulator.account()
        self.ticker = KiteTicker(account.api_key, account.access_token, root=simulator.ws, **settings)
        self.calls: list[tuple[Any, ...]] = []
        self.modes: dict[int, str] = {}
        self.ticks = 0
        self.texts: list[Any] = []
        for name in ("open", "connect", "close", "error", "reconnect", "noreconnect", "order_update", "gap"):
            setattr(self.ticker, f"on_{name}", self._noting(name))
        self.ticker.on_ticks = self.on_ticks
        self.ticker.on_message = lambda _ws, payload, is_binary: None if is_binary else self.texts.append(payload)

    def _noting(self, name: str) -> Callable[..., None]:
        return lambda _ws, *args: self.calls.append((name, *args))

    def on_ticks(self, _ws: KiteTicker, ticks: list[dict[str, Any]]) -> None:
        self.ticks += len(ticks)
        self.modes |= {tick["instrument_token"]: tick["mode"] for tick in ticks}

    def called(self, name: str) -> list[list[Any]]:
        return [args for called, *args in self.calls if called == name]


def wait_until(condition: Callable[[], object], what: str = "") -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS} s: {what}"
        time.sleep(0.01)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("kitelake")}


@pytest.fixture
def ended() -> Iterator[None]:
    """No thread outlives its connection."""
    yield
    while Script.made:
        Script.made.pop().ticker.close()
    wait_until(lambda: not threads(), "threads end")


@pytest.fixture(scope="module")
def running() -> Iterator[Simulation]:
    with simulation(instruments=200, rate=50, order_seconds=0) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: Simulation, ended: None) -> Iterator[Simulation]:
    yield running
    running.fault("clear")
    running.resume()


@pytest.fixture(scope="module")
def tokens(running: Simulation) -> list[int]:
    return tokens_of(running.api)


@pytest.mark.slow
def test_the_example_of_the_official_client(simulator: Simulation, tokens: list[int]) -> None:
    """Its documentation's example, blocking: subscribe in on_connect, stop in on_close."""
    script = Script(simulator)
    kws = script.ticker
    seen: list[str] = []

    def on_connect(ws: KiteTicker, response: compat.Response) -> None:
        seen.append(f"{response.peer} {response.headers} {threading.current_thread().name}")
        ws.subscribe(tokens[:2])
        ws.set_mode(ws.MODE_FULL, [tokens[0]])

    def on_ticks(ws: KiteTicker, ticks: list[dict[str, Any]]) -> None:
        script.on_ticks(ws, ticks)
        if script.modes == {tokens[0]: "full", tokens[1]: "quote"} and len(seen) == 1:
            seen.append("complete")
            assert ws.is_connected()
            simulator.fault("drop", how="close", code=1001)

    def on_close(ws: KiteTicker, code: int, reason: str) -> None:
        script.calls.append(("close", code, reason))
        ws.stop()
        ws.stop()

    kws.on_connect, kws.on_ticks, kws.on_close = on_connect, on_ticks, on_close
    kws.connect()
    assert seen == [f"{simulator.ws} {{}} {threading.current_thread().name}", "complete"]
    assert [code for code, _ in script.called("close")] == [1001]
    assert not script.called("error") + script.called("reconnect")
    assert not threads()


@pytest.mark.slow
def test_orders_errors_and_other_texts(simulator: Simulation, tokens: list[int]) -> None:
    script = Script(simulator)
    script.ticker.subscribe(tokens)
    script.ticker.connect(threaded=True)
    wait_until(lambda: script.ticks)
    with pytest.raises(SessionError):
        script.ticker.connect(threaded=True)
    simulator.fault("order", data={"tag": "mine"})
    simulator.fault("text", type="error", data="something is wrong")
    for raw in ("no JSON", "[1]", "[" * 100_000):
        simulator.fault("text", raw=raw)
    wait_until(lambda: script.texts[-1:] == [b"[" * 100_000], "the last text")
    assert [data["tag"] for (data,) in script.called("order_update")] == ["mine"]
    assert script.called("error") == [[0, "something is wrong"]]
    assert all(isinstance(text, bytes) for text in script.texts)
    script.ticker.close(3000, "enough")
    wait_until(lambda: script.called("close"))
    assert script.called("close") == [[3000, "enough"]]
    script.ticker.connect(threaded=True)  # the same script once more
    wait_until(lambda: len(script.called("open")) == 2, "connected again")
    script.ticker.close()


@pytest.mark.slow
def test_after_a_drop_everything_is_subscribed_again(simulator: Simulation, tokens: list[int]) -> None:
    script = Script(simulator)
    wanted = {token: ("ltp", "quote", "full")[number % 3] for number, token in enumerate(tokens)}
    script.ticker.connect(threaded=True)
    for mode in ("ltp", "quote", "full"):
        script.ticker.set_mode(mode, [token for token, its in wanted.items() if its == mode])
    wait_until(lambda: script.modes == wanted, "all modes")
    simulator.fault("drop", how="rst")
    wait_until(lambda: len(script.called("open")) == 2, "open again")
    script.modes.clear()
    wait_until(lambda: script.modes == wanted, "all modes again")
    script.ticker.close()
    wait_until(lambda: len(script.called("close")) == 2)
    names = [name for name, *_ in script.calls]
    assert names == ["connect", "open", "error", "close", "reconnect", "connect", "open", "close"]
    assert [code for code, _ in script.called("error")] == [1006]
    assert script.called("reconnect") == [[1]]
    assert script.ticker.subscribed_tokens == wanted


@pytest.mark.slow
def test_a_slow_callback_loses_neither_ticks_nor_the_connection(ended: None) -> None:
    with simulation(instruments=500, rate=100, steps_per_second=50, order_seconds=0) as simulator:
        tokens = tokens_of(simulator.api)
        script = Script(simulator)
        slow = 8

        def on_ticks(ws: KiteTicker, ticks: list[dict[str, Any]]) -> None:
            nonlocal slow
            if slow:
                slow -= 1
                time.sleep(0.5)
            script.on_ticks(ws, ticks)

        script.ticker.on_ticks = on_ticks
        script.ticker.set_mode("full", tokens)
        script.ticker.connect(threaded=True)
        wait_until(lambda: not slow, "the slow calls")
        simulator.pause()
        sent = simulator.stats()
        assert sent["frames"] > 100
        wait_until(lambda: script.ticks >= sent["packets"], "all ticks")
        assert script.ticks == sent["packets"]
        assert not sent["unsent"]
        assert len(sent["connections"]) == 1
        assert not script.called("close") + script.called("gap")
        script.ticker.close()
        wait_until(lambda: script.called("close"))


@pytest.mark.slow
def test_what_does_not_fit_in_the_buffer_is_told(
    simulator: Simulation, tokens: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compat, "BUFFER", BufferSettings(buffer_frames=5))
    script = Script(simulator)
    before = simulator.stats()["frames"]

    def slow(*_: object) -> None:
        simulator.wait_for(lambda stats: stats["frames"] > before + 20)

    script.ticker.on_ticks = slow
    script.ticker.subscribe(tokens)
    script.ticker.connect(threaded=True)
    wait_until(lambda: script.called("gap"), "a gap")
    slow()  # after the end there would be no more frames for the callback to wait for
    ((gap,), *_) = script.called("gap")
    assert isinstance(gap, Gap)
    assert f"{gap.frames} frames are missing" in caplog.text
    script.ticker.close()


@pytest.mark.slow
def test_an_exception_in_a_callback_is_logged(
    simulator: Simulation, tokens: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    script = Script(simulator)
    count = 0

    def on_ticks(ws: KiteTicker, ticks: list[dict[str, Any]]) -> None:
        nonlocal count
        count += 1
        if count == 3:
            ws.close()
        raise LookupError("a mistake in the script")

    script.ticker.on_ticks = on_ticks
    script.ticker.subscribe(tokens)
    script.ticker.connect()
    assert count == 3
    assert caplog.text.count("LookupError: a mistake in the script") == 3
    assert [args[0] for args in script.called("close")] == [1000]


@pytest.mark.slow
def test_a_refused_token(simulator: Simulation, caplog: pytest.LogCaptureFixture) -> None:
    simulator.fault("refuse", status=403)
    script = Script(simulator)
    script.ticker.on_reconnect = lambda ws, _attempts: ws.stop_retry()
    script.ticker.connect()
    assert [name for name, *_ in script.calls] == ["error", "close"]
    ((code, reason),) = script.called("error")
    assert code == 1006
    assert "403" in reason
    assert simulator.account().access_token not in caplog.text + repr(script.calls)


@pytest.mark.slow
def test_the_last_attempt(simulator: Simulation) -> None:
    simulator.fault("refuse", status=503, times=100)
    script = Script(simulator, reconnect_max_tries=2)
    script.ticker.connect()
    again = ["error", "close", "reconnect"]
    assert [name for name, *_ in script.calls] == [*again, *again, "error", "close", "noreconnect"]
    assert script.called("reconnect") == [[1], [2]]
    simulator.fault("clear")
    script.calls.clear()
    script.ticker.on_open = lambda ws: ws.close()
    script.ticker.connect()
    assert [name for name, *_ in script.calls] == ["connect", "close"]


@pytest.mark.slow
def test_without_reconnect_the_first_loss_is_the_end(simulator: Simulation) -> None:
    script = Script(simulator, reconnect=False)
    script.ticker.on_open = lambda _ws: simulator.fault("drop", how="eof")
    script.ticker.connect()
    assert [name for name, *_ in script.calls] == ["connect", "error", "close"]


@pytest.mark.slow
def test_a_token_from_a_file(simulator: Simulation, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text(simulator.account().access_token)
    ticker = KiteTicker(simulator.account().api_key, file, root=simulator.ws)
    closed: list[int] = []
    ticker.on_open = lambda ws: ws.close()
    ticker.on_close = lambda _ws, code, _reason: closed.append(code)
    ticker.connect()
    assert closed == [1000]
