"""connect() hands out both halves of the official client for a replay, and nothing for what may be the real broker."""

import builtins
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from kitelake.errors import NoReplayError
from kitelake.replay import connect
from kitelake.strategy.guard import API_VARIABLE, WS_VARIABLE

WS = "ws://127.0.0.1:8765"


class Answers(BaseHTTPRequestHandler):
    """What a replay answers at its control address, as long as it is one."""

    server: "Replay"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        found = self.path == "/replay/status" and self.server.is_replay
        data = {"status": "success", "data": {"user_id": "paper"}} if self.path == "/user/profile" else {"clock": 1}
        body = json.dumps(data).encode() if self.server.other is None else self.server.other
        self.send_response(200 if found or self.path == "/user/profile" else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Replay(ThreadingHTTPServer):
    is_replay = True
    other: bytes | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked: list[tuple[str, str | None]] = []
        self.api = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture(autouse=True)
def _no_address_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (WS_VARIABLE, API_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def replay() -> Iterator[Replay]:
    with Replay() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.slow  # it imports Twisted
def test_both_halves_are_bound(replay: Replay, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "netrc").write_text("default login someone password something\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    kite, ticker = connect("key", "token", ws=WS + "/", api=replay.api + "/")
    assert (kite.root, ticker.root) == (replay.api, WS)
    assert ticker.socket_url == f"{WS}?api_key=key&access_token=token"
    assert kite.login_url() == f"{replay.api}/connect/login?api_key=key&v=3"
    assert kite.profile() == {"user_id": "paper"}
    assert replay.asked == [("/replay/status", None), ("/user/profile", "token key:token")]
    kite.reqsession.close()


@pytest.mark.slow
def test_the_roots_of_the_environment(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITELAKE_REPLAY_WS", WS)
    monkeypatch.setenv("KITELAKE_REPLAY_API", replay.api)
    kite, ticker = connect()
    assert (kite.api_key, kite.access_token, kite.root, ticker.root) == ("paper", "paper", replay.api, WS)


def test_no_address() -> None:
    with pytest.raises(NoReplayError, match="start one with `kitelake replay --date …` and pass the roots"):
        connect()
    with pytest.raises(NoReplayError, match="no address of a replay"):
        connect(ws=WS)


@pytest.mark.parametrize(
    ("ws", "api", "said"),
    [
        ("wss://ws.kite.trade", "http://127.0.0.1:1", "not the ws root of a replay"),
        ("ws://ws.kite.trade:80", "http://127.0.0.1:1", "got a root at ws.kite.trade, which may be the real broker's"),
        (WS, "https://api.kite.trade", "not the http root of a replay"),
        (WS, "http://api.kite.trade:80", "got a root at api.kite.trade, which may be the real broker's"),
        (WS, "http://10.0.0.1:80", "got a root at 10.0.0.1"),
        (WS, "http://127.0.0.1.kite.trade:80", "got a root at 127.0.0.1.kite.trade"),
        (WS, "http://127.0.0.1", "not the http root"),
        (WS, "http://127.0.0.1:x", "not the http root"),
        (WS, "http://127.0.0.1:1@kite.trade:80", "not the http root"),
        ("http://127.0.0.1:1", "ws://127.0.0.1:2", "expected ws://127.0.0.1:PORT"),
    ],
)
def test_what_is_no_root_of_a_replay(ws: str, api: str, said: str) -> None:
    with pytest.raises(NoReplayError) as refused:
        connect(ws=ws, api=api)
    assert said in str(refused.value)


def test_nobody_answers(replay: Replay) -> None:
    replay.socket.close()
    with pytest.raises(
        NoReplayError, match=r"no replay answers at http://127\.0\.0\.1:1/replay/status \(ConnectError\)"
    ):
        connect(ws=WS, api="http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("is_replay", "other"), [(False, None), *((True, other) for other in (b"<html>", b"{}", b"[1]", b"null"))]
)
def test_what_answers_is_no_replay(replay: Replay, is_replay: bool, other: bytes | None) -> None:
    replay.is_replay, replay.other = is_replay, other
    with pytest.raises(NoReplayError, match="is no replay: got status"):
        connect(ws=WS, api=replay.api)


def test_without_the_official_client(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any) -> Any:
        if name == "kiteconnect":
            raise ModuleNotFoundError("No module named 'kiteconnect'", name="kiteconnect")
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(NoReplayError, match="there is no kiteconnect here: pip install kiteconnect"):
        connect(ws=WS, api=replay.api)
