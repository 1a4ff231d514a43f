"""A strategy that tries all the ways out to the broker: run by `kitelake replay --run`, it must find none.

It writes a JSON line for each way: its name, and what came of it. "refused" is what the guard said; anything else is
what the network said, or that the way was open. Its argument is a port of this machine where someone listens, which
the broker's name is made to be, and which serves as a proxy.
"""

import asyncio
import contextlib
import ctypes
import http.client
import importlib
import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import threading
import traceback
import urllib.request
import warnings
from collections.abc import Callable
from typing import Any

HOST = "api.kite.trade"
URL = f"https://{HOST}/orders/regular"
ADDRESS = "104.18.10.20"  # as good as any that is not of this machine or a private network
TWISTED = ("twisted.kite.trade", "104.18.10.21")
TRY = f"import socket\ntry: socket.create_connection(({HOST!r}, 443), 5)\nexcept OSError as error: print(error)\n"
SAID = "kitelake replay --run refused"

WAYS: dict[str, Callable[[], object]] = {}


def way(function: Callable[[], object]) -> Callable[[], object]:
    WAYS[function.__name__] = function
    return function


def every(name: str, **ways: Callable[[], object]) -> None:
    WAYS.update({f"{name} {how}": attempt for how, attempt in ways.items()})


def said_by(child: Any) -> None:
    """What a child printed is what came of it."""
    raise OSError(child if isinstance(child, str) else child.stdout)


def python(*arguments: str, **options: Any) -> None:
    said_by(subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, **options))


def local() -> tuple[str, int]:
    return "127.0.0.1", int(sys.argv[1])


@contextlib.contextmanager
def broker_is_local() -> Any:
    """The strategy's own resolver says that the broker is on this machine."""
    real = socket.getaddrinfo
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", local())]
    socket.getaddrinfo = lambda *_args, **_options: found  # type: ignore[assignment]
    try:
        yield
    finally:
        socket.getaddrinfo = real


# ── sockets ──────────────────────────────────────────────────────────────────────────────────────────────────────────

every(
    "name",
    plain=lambda: socket.create_connection((HOST, 443), 5),
    of_another_domain=lambda: socket.create_connection(("kite.zerodha.com", 443), 5),
    in_capitals=lambda: socket.getaddrinfo("WS.Kite.Trade.", 443),
    in_full_width=lambda: socket.getaddrinfo("ｋｉｔｅ.trade", 443),
    in_bytes=lambda: socket.getaddrinfo(b"ws.kite.trade", 443),
    by_gethostbyname=lambda: socket.gethostbyname(HOST),
    by_gethostbyname_ex=lambda: socket.gethostbyname_ex(HOST),
    by_gethostbyaddr=lambda: socket.gethostbyaddr(HOST),
    past_socket=lambda: importlib.import_module("_socket").getaddrinfo(HOST, 443),
)
every(
    "address",
    hard_coded=lambda: socket.create_connection((ADDRESS, 443), 5),
    by_connect_ex=lambda: socket.socket().connect_ex((ADDRESS, 443)),
    as_a_number=lambda: socket.socket().connect(("1746014740", 443)),
    past_socket=lambda: importlib.import_module("_socket").socket().connect((ADDRESS, 443)),
    of_version_6=lambda: socket.socket(socket.AF_INET6).connect(("2606:4700::6812:a14", 443)),
    mapped=lambda: socket.socket(socket.AF_INET6).connect((f"::ffff:{ADDRESS}", 443)),
    by_datagram=lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"hello", (ADDRESS, 443)),
    by_message=lambda: socket.socket(type=socket.SOCK_DGRAM).sendmsg([b"hello"], [], 0, (ADDRESS, 443)),
)


@way
def module_reloaded() -> object:
    return importlib.reload(socket).create_connection((HOST, 443), 5)


@way
def another_thread() -> None:
    found: list[str] = []

    def attempt() -> None:
        try:
            socket.create_connection((HOST, 443), 5)
        except OSError as error:
            found.append(str(error))

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    said_by(found[0])


every(
    "asyncio",
    plain=lambda: asyncio.run(asyncio.wait_for(asyncio.open_connection(HOST, 443), 10)),
    tls=lambda: asyncio.run(asyncio.wait_for(asyncio.open_connection(HOST, 443, ssl=True), 10)),
    address=lambda: asyncio.run(asyncio.wait_for(asyncio.open_connection(ADDRESS, 443), 10)),
    tls_elsewhere=lambda: asyncio.run(
        asyncio.wait_for(asyncio.open_connection(*local(), ssl=True, server_hostname=HOST), 10)
    ),
)


# ── HTTP and WebSocket ───────────────────────────────────────────────────────────────────────────────────────────────


@way
def http_client_own_resolver() -> None:
    with broker_is_local():
        http.client.HTTPConnection(HOST, 80, timeout=5).request("GET", "/orders")


@way
def http_client_tunnel() -> None:
    connection = http.client.HTTPSConnection(*local(), timeout=5)
    connection.set_tunnel(HOST, 443)
    connection.request("POST", "/orders/regular")


@way
def urllib_plain() -> object:
    return urllib.request.urlopen(URL, timeout=5)


@contextlib.contextmanager
def proxy_in_the_environment() -> Any:
    """It is for every name, whatever the environment said before."""
    os.environ |= {"https_proxy": "http://{}:{}".format(*local()), "no_proxy": ""}
    try:
        yield
    finally:
        del os.environ["https_proxy"]
        os.environ["no_proxy"] = "*"


@way
def urllib_proxy() -> object:
    handler = urllib.request.ProxyHandler({"http": "http://{}:{}".format(*local())})
    with proxy_in_the_environment():
        return urllib.request.build_opener(handler).open(f"http://{HOST}/orders", timeout=5)


@way
def urllib_proxy_of_the_environment() -> object:
    with proxy_in_the_environment():
        return urllib.request.urlopen(URL, timeout=5)


@way
def requests_plain() -> object:
    import requests

    return requests.get(URL, timeout=5)


@way
def requests_own_resolver() -> object:
    import requests

    with broker_is_local():
        return requests.get(f"http://{HOST}/orders", timeout=5)


@way
def requests_proxy() -> object:
    import requests

    return requests.get(URL, timeout=5, proxies={"https": "http://{}:{}".format(*local())})


@way
def httpx_plain() -> object:
    import httpx

    return httpx.get(URL, timeout=5)


@way
def httpx_proxy() -> object:
    """Its own code asks the proxy for a tunnel, which Python does not see; TLS is not begun in it."""
    import httpx

    return httpx.get(URL, timeout=5, proxy="http://{}:{}".format(*local()))


@way
def websockets_plain() -> object:
    from websockets.sync.client import connect

    return connect("wss://ws.kite.trade", open_timeout=5)


@way
def websockets_asyncio() -> object:
    from websockets.asyncio.client import connect

    async def attempt() -> None:
        async with connect("wss://ws.kite.trade", open_timeout=5):
            pass

    return asyncio.run(attempt())


# ── the official client ──────────────────────────────────────────────────────────────────────────────────────────────


@way
def kiteconnect_root() -> object:
    from kiteconnect import KiteConnect

    return KiteConnect("key", "token", root=f"https://{HOST}").profile()


@way
def kiteconnect_root_set_back() -> object:
    from kiteconnect import KiteConnect

    bound = KiteConnect._default_root_uri
    KiteConnect._default_root_uri = f"https://{HOST}"
    try:
        return KiteConnect("key", "token").profile()
    finally:
        KiteConnect._default_root_uri = bound


@way
def kiteconnect_without_the_finder() -> object:
    finders = sys.meta_path[:]
    sys.meta_path[:] = [finder for finder in finders if getattr(finder, "__name__", "") != "_Amender"]
    try:
        for name in [name for name in sys.modules if name.startswith("kiteconnect.connect")]:
            importlib.reload(sys.modules[name])
        connect = importlib.import_module("kiteconnect.connect").KiteConnect
        assert connect._default_root_uri == f"https://{HOST}"
        return connect("key", "token").profile()
    finally:
        sys.meta_path[:] = finders


def kiteticker_root() -> None:
    """By name and by address. It is the last of its process, whose reactor starts once.

    The client says nothing of a first try that fails, and Twisted has texts of its own for the errors.
    """
    from kiteconnect import KiteTicker, ticker
    from twisted.internet import reactor

    loop: Any = reactor
    found: list[str] = []

    def failed(_factory: Any, _connector: Any, reason: Any) -> None:
        found.append(str(reason.value))
        if len(found) == 1:
            KiteTicker("key", "token", root=f"wss://{TWISTED[1]}").connect()
        else:
            loop.stop()

    ticker.KiteTickerClientFactory.clientConnectionFailed = failed
    KiteTicker("key", "token", root=f"wss://{TWISTED[0]}").connect()
    raise OSError(*found)


# ── children ─────────────────────────────────────────────────────────────────────────────────────────────────────────

every(
    "child",
    python=lambda: python("-c", TRY),
    python_with_options=lambda: python("-u", "-X", "utf8", "-W", "ignore", "-c", TRY),
    of_a_child=lambda: python(
        "-c", f"import subprocess, sys; print(subprocess.run([sys.executable, '-c', {TRY!r}]), flush=True)"
    ),
    isolated=lambda: python("-I", "-c", TRY),
    without_site=lambda: python("-uS", "-c", TRY),
    without_environment=lambda: python("-E", "-c", TRY),
    other_environment=lambda: python("-c", TRY, env={"PATH": os.environ["PATH"]}),
    curl=lambda: subprocess.run(["curl", URL], check=False),
    other_python=lambda: subprocess.run([shutil.copy(os.path.realpath(sys.executable), "python")], check=False),
    shell=lambda: subprocess.run(f"curl {URL}", shell=True, check=False),
    system=lambda: os.system(f"curl {URL}"),
    popen=lambda: os.popen(f"curl {URL}"),
    posix_spawn=lambda: os.posix_spawn("/bin/sh", ["sh", "-c", f"curl {URL}"], os.environ),
    execv=lambda: os.execv("/bin/sh", ["sh", "-c", f"curl {URL}"]),
    execvp=lambda: os.execvp("sh", ["sh", "-c", f"curl {URL}"]),
    asyncio=lambda: asyncio.run(asyncio.create_subprocess_exec("curl", URL)),
)
every(
    "environment",
    without_path=lambda: os.environ.pop("PYTHONPATH"),
    other_path=lambda: os.environ.update(PYTHONPATH="/tmp"),
    cleared=lambda: os.unsetenv("PYTHONPATH"),
)


def attempt_in_child(answers: Any) -> None:
    try:
        socket.create_connection((HOST, 443), 5)
    except OSError as error:
        answers.put(str(error))
    else:
        answers.put("connected")


def multiprocessed(how: str) -> Callable[[], None]:
    def attempt() -> None:
        context: Any = multiprocessing.get_context(how)
        answers = context.Queue()
        process = context.Process(target=attempt_in_child, args=(answers,))
        process.start()
        answer = answers.get(timeout=120)
        process.join()
        said_by(answer)

    return attempt


every("multiprocessing", **{how: multiprocessed(how) for how in ("fork", "spawn", "forkserver")})


@way
def forked() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            socket.create_connection((HOST, 443), 5)
        except OSError as error:
            os.write(writing, str(error).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    said_by(os.read(reading, 4096).decode())


# ── past Python ──────────────────────────────────────────────────────────────────────────────────────────────────────

every(
    "past Python",
    ctypes=lambda: ctypes.CDLL(None).connect,
    uvloop=lambda: exec("import uvloop"),
    pycurl=lambda: exec("import pycurl"),
)


def main() -> None:
    warnings.simplefilter("ignore")
    for name, attempt in [*WAYS.items(), ("kiteticker_root", kiteticker_root)]:
        try:
            outcome = f"open: {attempt()!r}"
        except BaseException as error:
            outcome = "refused" if SAID in "".join(traceback.format_exception(error)) else repr(error)
        print(json.dumps({"way": name, "outcome": outcome}), flush=True)


if __name__ == "__main__":
    main()
