"""A strategy that is started by the guard finds no way to the broker, and is otherwise as Python starts it."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kitelake.strategy import guard
from tests.support import ways_out
from tests.support.simulation import ROOT, simulation, tokens_of
from tests.support.waiting import PATIENCE_SECONDS

WS, API = "ws://127.0.0.1:1", "http://127.0.0.1:2"
START = """
import sys
from kitelake.strategy import exit_status, start_strategy
script, ws, api, *arguments = sys.argv[1:]
sys.exit(exit_status(start_strategy(script, arguments, ws=ws, api=api).wait()))
"""


def guarded(
    script: Path, *arguments: str, ws: str = WS, api: str = API, folder: Path = ROOT, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Start it as `kitelake replay --run` does, and wait for its end."""
    command = [sys.executable, "-c", START, str(script), ws, api, *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False, **options
    )


def strategy(folder: Path, code: str) -> Path:
    path = folder / "strategy.py"
    path.write_text(code)
    return path


class Listener:
    """Someone on this machine who takes every connection, agrees to all, and keeps what he was sent."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.got: list[bytes] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionResetError):
            while data := connection.recv(65536):
                self.got.append(data)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self._thread.join(PATIENCE_SECONDS)


@pytest.fixture
def listener() -> Iterator[Listener]:
    one = Listener()
    yield one
    one.close()


# ── the strategy ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_no_way_leads_to_the_broker(listener: Listener, tmp_path: Path) -> None:
    ended = guarded(ROOT / "tests" / "support" / "ways_out.py", str(listener.port), folder=tmp_path)
    outcomes = {line["way"]: line["outcome"] for line in map(json.loads, ended.stdout.splitlines())}
    name, address = ways_out.TWISTED
    twisted = outcomes.pop("kiteticker_root", ended.stderr)
    assert "DNS lookup failed" in twisted, twisted
    assert "13: Permission denied" in twisted, twisted
    assert outcomes == dict.fromkeys(ways_out.WAYS, "refused")
    assert ended.returncode == 0
    # The one proxy whose asking cannot be seen was asked; nothing was sent through it.
    assert [data.partition(b"\r\n")[0] for data in listener.got] == [b"CONNECT api.kite.trade:443 HTTP/1.1"]
    assert f"REFUSED: kitelake replay --run refused a connection to {name}: it is the broker's. " in ended.stderr
    assert f"REFUSED: kitelake replay --run refused a connection to {address}: an address that no" in ended.stderr
    assert f"The replay is at {API} (REST) and {WS} (WebSocket)" in ended.stderr


@pytest.mark.slow
def test_without_the_guard_the_ways_are_open(listener: Listener, tmp_path: Path) -> None:
    """The same strategy by itself is told something else, or the test above would show nothing."""
    code = "from tests.support import ways_out\nways_out.requests_proxy()\n"
    command = [sys.executable, "-c", code, str(listener.port)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert ways_out.SAID not in ended.stderr
    assert listener.got[0].startswith(b"CONNECT api.kite.trade:443")


@pytest.mark.slow
def test_a_strategy_is_started_as_python_starts_it(tmp_path: Path) -> None:
    code = """
import json, os, sys
print(json.dumps({
    "argv": sys.argv, "name": __name__, "file": __file__, "folder": os.getcwd(), "path": sys.path,
    "input": sys.stdin.read(), "main": sys.modules["__main__"].__file__, "flags": str(sys.flags),
}))
sys.exit(7)
"""
    script = strategy(tmp_path, code).relative_to(tmp_path)
    mine = guarded(script, "--speed", "10", folder=tmp_path, input="typed")
    command = [sys.executable, str(script), "--speed", "10"]
    plain = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, input="typed", check=False)
    assert json.loads(mine.stdout) == json.loads(plain.stdout)
    assert (mine.returncode, mine.stderr) == (plain.returncode, plain.stderr) == (7, "")


@pytest.mark.slow
def test_the_end_of_a_strategy_is_passed_on(tmp_path: Path) -> None:
    assert guarded(strategy(tmp_path, "import os\nos.kill(os.getpid(), 15)\n")).returncode == 128 + 15
    assert guarded(strategy(tmp_path, "raise RuntimeError('mine')\n")).returncode == 1


@pytest.mark.slow
def test_the_official_client_finds_the_replay_by_its_defaults(tmp_path: Path) -> None:
    code = """
import sys, warnings
warnings.simplefilter("ignore")
from kiteconnect import KiteConnect, KiteTicker
key, token, instrument = sys.argv[1], sys.argv[2], int(sys.argv[3])
kite = KiteConnect(api_key=key, access_token=token, proxies={"http": "http://127.0.0.1:9"})
print(kite.profile()["user_id"], kite.login_url())
ticker = KiteTicker(key, token)
def on_ticks(ws, ticks):
    print(ticks[0]["instrument_token"])
    ws.on_ticks = None  # what is read already comes even after `stop`, which can be called once
    ws.stop()
ticker.on_connect = lambda ws, _: ws.subscribe([instrument])
ticker.on_ticks = on_ticks
ticker.connect(proxy={"host": "127.0.0.1", "port": 9})
"""
    with simulation(instruments=100, rate=20) as running:
        account, token = running.account(), tokens_of(running.api)[0]
        given = (account.api_key, account.access_token, str(token))
        proxies = {"HTTP_PROXY": "http://127.0.0.1:9", "all_proxy": "http://127.0.0.1:9", "PYTHONPATH": str(ROOT)}
        ended = guarded(strategy(tmp_path, code), *given, ws=running.ws, api=running.api, env=proxies)
        assert ended.stdout.splitlines()[1:] == [str(token)], ended.stderr
        assert ended.stdout.split()[1] == f"{running.api}/connect/login?api_key={account.api_key}&v=3"


@pytest.mark.slow
def test_our_own_clients_find_the_replay_by_their_defaults(tmp_path: Path) -> None:
    code = """
from inspect import signature
from kitelake import TickerManager
from kitelake.compat import KiteTicker
print(KiteTicker("key", "token").root, signature(TickerManager).parameters["ws_url"].default)
"""
    ended = guarded(strategy(tmp_path, code), env={"PYTHONPATH": str(ROOT)})
    assert ended.stdout.split() == [WS, WS], ended.stderr


@pytest.mark.slow
def test_a_child_that_was_not_told_of_the_replay(tmp_path: Path) -> None:
    """Its client keeps the broker for its root, and is refused."""
    child = """
import warnings
warnings.simplefilter("ignore")
from kiteconnect import KiteConnect
try:
    KiteConnect("key").instruments()
except Exception as error:
    print("refused a connection to api.kite.trade: it is the broker's" in str(error))
"""
    code = f"""
import os, subprocess, sys
environment = {{"PYTHONPATH": os.environ["PYTHONPATH"]}}
sys.exit(subprocess.run([sys.executable, "-c", {child!r}], env=environment).returncode)
"""
    ended = guarded(strategy(tmp_path, code))
    assert (ended.stdout, ended.returncode) == ("True\n", 0), ended.stderr


@pytest.mark.slow
def test_a_sitecustomize_that_was_there_runs_too(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.of_the_user = __file__\n")
    script = strategy(tmp_path, "import sys, sitecustomize\nprint(sys.of_the_user, sitecustomize.__file__)\n")
    ended = guarded(script, env={"PYTHONPATH": f"{ROOT}:{tmp_path}"})
    assert ended.stdout.split() == [str(tmp_path / "sitecustomize.py")] * 2


@pytest.mark.slow
def test_a_guard_that_does_not_start_lets_nothing_start(tmp_path: Path) -> None:
    for name in ("sitecustomize.py", "guard.py"):
        (tmp_path / name).write_text((ROOT / "kitelake" / "strategy" / name).read_text())
    (tmp_path / "guard.py").write_text("raise RuntimeError('broken')\n")
    command = [sys.executable, "-c", "print('started')"]
    ended = subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (70, "")
    assert ended.stderr == ("kitelake replay --run: the guard did not start, so nothing does: RuntimeError('broken')\n")


@pytest.mark.slow
def test_other_names_and_this_machine_stay_reachable(listener: Listener, tmp_path: Path) -> None:
    code = """
import platform, socket, sys, urllib.request
port = int(sys.argv[1])
for host in ("127.0.0.1", "localhost", "0x7f.1"):
    socket.create_connection((host, port), 60).close()
print(urllib.request.urlopen(f"http://localhost:{port}/", timeout=60).status, platform.processor() is not None)
"""
    ended = guarded(strategy(tmp_path, code), str(listener.port))
    assert (ended.stdout, ended.stderr) == ("200 True\n", "")


# ── the rules ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_named", set())
    monkeypatch.setattr(guard, "_said", set())


@pytest.mark.parametrize(
    "host", ["kite.trade", "ws.kite.trade.", "API.ZERODHA.COM", b"kite.zerodha.com", "ｋite.trade"]
)
def test_names_of_the_broker(host: str | bytes) -> None:
    assert guard.is_brokers(host)


@pytest.mark.parametrize("host", ["", "trade", "notkite.trade", "kite.trade.example.org", "127.0.0.1", "::1", "a" * 70])
def test_other_names(host: str) -> None:
    assert not guard.is_brokers(host)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("::ffff:8.8.8.8", "8.8.8.8"),
        ("fe80::1%eth0", "fe80::1"),
        ("example.org", None),
    ],
)
def test_an_address_by_whatever_it_is_written(host: str, address: str | None) -> None:
    assert guard.address_of(host) == address


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "10.1.2.3", "192.168.0.1", "fe80::1%eth0", "example.org", ""])
def test_what_may_be_connected_to(host: str) -> None:
    guard.check_address(None, (host, 443))


@pytest.mark.parametrize("address", ["/run/some.socket", b"\0abstract", None, (1, 2)])
def test_what_is_no_address_of_the_internet(address: object) -> None:
    guard.check_address(None, address)


@pytest.mark.parametrize("host", ["8.8.8.8", "2606:4700::1", "64:ff9b::808:808", "134744072", "::8.8.8.8"])
def test_an_address_that_no_name_gave(host: str) -> None:
    with pytest.raises(guard.ReplayGuardError, match="an address that no name gave may be the broker's"):
        guard.check_address(None, (host, 443))


def test_an_address_that_another_name_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 443))]
    guard._remember(lambda *_: found)("8.8.8.8", 443)
    with pytest.raises(guard.ReplayGuardError):
        guard.check_address(None, ("8.8.8.8", 443))
    guard._remember(lambda *_: found)("example.org", 443)
    guard._remember(lambda *_: "9.9.9.9")("example.org")
    guard._remember(lambda *_: ("example.org", [], ["7.7.7.7"]))("example.org")
    for address in ("8.8.8.8", "::ffff:8.8.8.8", "9.9.9.9", "7.7.7.7"):
        guard.check_address(None, (address, 443))


def test_a_socket_that_connects_by_name_is_seen_with_the_name() -> None:
    """Python resolves it first, and asks the hook before it connects."""
    code = """
import socket, sys
sys.addaudithook(lambda event, args: print(args[1]) if event == "socket.connect" else None)
socket.socket().connect_ex(("localhost", 1))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"('localhost', 1)\n"
    with pytest.raises(guard.ReplayGuardError, match=r"refused a connection to ws\.kite\.trade: it is the broker's"):
        guard.check_address(None, ("ws.kite.trade", 443))


@pytest.mark.parametrize(
    ("head", "refused"),
    [
        (b"CONNECT api.kite.trade:443 HTTP/1.1\r\n\r\n", True),
        (b"GET http://api.kite.trade/ HTTP/1.1\r\n\r\n", True),
        (b"POST http://user:word@kite.zerodha.com/ HTTP/1.1\r\n\r\n", True),
        (b"GET /orders HTTP/1.1\r\nAccept: */*\r\nHost: api.kite.trade\r\n\r\n", True),
        (b"GET /orders HTTP/1.1\r\nHost: 127.0.0.1:2\r\nReferer: https://kite.trade/\r\n\r\nHost: kite.trade", False),
        (b"a body of HTTP/1.1\r\nHost: of nothing", False),
    ],
)
def test_the_head_of_a_request(head: bytes, refused: bool) -> None:
    try:
        guard._check_request(None, head)
    except guard.ReplayGuardError:
        assert refused
    else:
        assert not refused


@pytest.mark.parametrize(
    "arguments", [["-I"], ["-uE"], ["-X", "dev", "-S"], ["-Wignore", "-I"], ["--check-hash-based-pycs", "always", "-E"]]
)
def test_options_that_leave_the_guard_out(arguments: list[str]) -> None:
    assert guard.skips_site(arguments)


@pytest.mark.parametrize(
    "arguments",
    [[], ["script.py", "-I"], ["-c", "pass", "-S"], ["-m", "module", "-E"], ["-um", "module"], ["-X", "-I"], ["-"]],
)
def test_options_that_do_not(arguments: list[str]) -> None:
    assert not guard.skips_site(arguments)


def test_a_path_that_brings_the_guard(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "sitecustomize.py").touch()
    assert guard.brings_guard(guard.FOLDER)
    assert guard.brings_guard(f"{tmp_path}/one:{guard.FOLDER}:/other".encode())
    assert not guard.brings_guard(f"{tmp_path}/two:{guard.FOLDER}")
    assert not guard.brings_guard("/other")
    assert not guard.brings_guard(None)


def test_children(tmp_path: Path) -> None:
    brings = {"PYTHONPATH": guard.FOLDER}
    guard.check_child(sys.executable, [sys.executable, "-c", "pass"], brings)
    guard.check_child(sys.executable.encode(), [b"python", Path("script.py")], {b"PYTHONPATH": guard.FOLDER.encode()})
    guard.check_child(sys.executable, sys.executable, None)
    guard.check_child("uname", ["uname", "-p"], {})
    (tmp_path / "uname").touch()
    for program in ("curl", str(tmp_path / "uname"), 3):
        with pytest.raises(guard.ReplayGuardError, match="only children that are this same Python"):
            guard.check_child(program, [program, "https://secret"], None)


def test_the_text_says_what_to_do_and_keeps_arguments_to_itself() -> None:
    with pytest.raises(guard.ReplayGuardError) as refused:
        guard.check_child("/usr/bin/curl", ["curl", "https://api.kite.trade?access_token=secret"], None)
    assert isinstance(refused.value, PermissionError)
    assert refused.value.strerror == (
        "kitelake replay --run refused to start curl: only children that are this same Python can be kept from the "
        "broker; start them with sys.executable. This strategy runs on a captured day, and nothing that it does may "
        "reach the real market. The replay is at an unknown address (REST) and an unknown address (WebSocket)"
    )
