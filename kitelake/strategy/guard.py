"""Inside a strategy's process: the official client bound to the replay, and no way to the broker.

A child Python loads this by `sitecustomize.py` before anything of its own, wherever it is installed, so nothing but the
standard library is imported, kiteconnect least of all: what is to be changed in it is changed when it is imported.

Theory. What refuses is an audit hook (PEP 578): Python calls it before it resolves a name, connects or starts a
program, whoever asks (`socket`, `_socket`, asyncio, Twisted), and it cannot be taken away again. The rules:

1. A name of the broker's domains is refused wherever it shows: resolved, connected to, in a request through a proxy, as
   the server that TLS is to prove.
2. An address may be connected to if it is of this machine or of a private network, or if another name gave it to this
   process. A hard-coded address could be the broker's, and nothing tells.
3. A child is a fork, which keeps the hook, or this same Python with an environment by which it loads this file. Other
   programs are refused, but for a few that only say what machine this is.
4. Libraries that connect past Python's sockets are, where they are known, as if they were not installed.
"""

import _socket
import contextlib
import errno
import ipaddress
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, Final

WS_VARIABLE: Final = "KITELAKE_REPLAY_WS"
"""The replay's WebSocket root, such as ws://127.0.0.1:8765."""
API_VARIABLE: Final = "KITELAKE_REPLAY_API"
"""The replay's REST root, such as http://127.0.0.1:8766."""
LOGIN_PATH: Final = "/connect/login"
NAME: Final = "kitelake_replay_guard"
"""What this module is called in a guarded process: its being in `sys.modules` says that the guard is there."""
FOLDER: Final = str(Path(__file__).resolve().parent)
"""First in PYTHONPATH, it brings the guard into every Python that starts."""

BROKER_DOMAINS: Final = ("kite.trade", "zerodha.com", "zerodha.net", "zerodha.tech")
_NEAR: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/32", "127.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.168.0.0/16", "::/128", "::1/128", "fc00::/7", "fe80::/10"),
    )
)
# What a request line, the request for a tunnel, and the header of a host say of where a request is to go.
_HOSTS: Final = re.compile(
    rb"^(?:[A-Z]+ (?:[a-z]+://)?|host: *)(?:[^\s/@]*@)?\[?([^\s/:\]]+)", re.IGNORECASE | re.MULTILINE
)
_OWN_SOCKETS: Final = frozenset({"uvloop", "winloop", "rloop", "pycurl", "curl_cffi"})
_C_FUNCTIONS: Final = frozenset(
    {
        *("connect", "sendto", "sendmsg", "getaddrinfo", "gethostbyname", "system", "popen"),
        *("execv", "execve", "execvp", "execvpe", "posix_spawn", "posix_spawnp"),
    }
)
_HARMLESS: Final = frozenset({"uname", "ldconfig", "lscpu", "nproc", "stty", "tput", "locale", "hostname", "fc-list"})
_SYSTEM_FOLDERS: Final = frozenset({"/bin", "/sbin", "/usr/bin", "/usr/sbin"})

_named: set[str] = set()  # addresses that names other than the broker's gave
_said: set[str] = set()
_python = os.path.realpath(sys.executable)
_roots = {name: os.environ.get(name, "") for name in (API_VARIABLE, WS_VARIABLE)}


class ReplayGuardError(PermissionError):
    """A strategy on a replay tried to reach the broker, or to start what could. Nothing was sent or started.

    An OSError, so that networking libraries take it for a connection that failed, as they do one of the network's.
    """


class ReplayGuardNameError(ReplayGuardError, _socket.gaierror):
    """The same where a name is resolved: of other errors than gaierror Twisted says nothing, and waits."""


def refusal(what: str, why: str, error: type[ReplayGuardError] = ReplayGuardError) -> ReplayGuardError:
    """The error to raise. It is written to standard error too, once: a strategy may catch whatever it likes."""
    text = (
        f"kitelake replay --run refused {what}: {why}. This strategy runs on a captured day, and nothing that it does "
        f"may reach the real market. The replay is at {_roots[API_VARIABLE] or 'an unknown address'} (REST) and "
        f"{_roots[WS_VARIABLE] or 'an unknown address'} (WebSocket)"
    )
    if text not in _said:
        _said.add(text)
        os.write(2, f"\nREFUSED: {text}\n\n".encode(errors="replace"))
    return error(errno.EACCES, text)


# ── names and addresses ──────────────────────────────────────────────────────────────────────────────────────────────


def host_text(host: object) -> str:
    """A host's name as DNS has it: what Python makes of full-width letters, capitals and a dot at the end as well."""
    text = host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else str(host)
    with contextlib.suppress(UnicodeError):  # what has no such form cannot be resolved either
        text = text.encode("idna").decode()
    return text.rstrip(".").lower()


def is_brokers(host: object) -> bool:
    """Whether it is one of the broker's domains, or a name in one."""
    name = host_text(host)
    return any(name == domain or name.endswith("." + domain) for domain in BROKER_DOMAINS)


def address_of(host: object) -> str | None:
    """The address that a host is if it is no name: `0x7f.1` and `2130706433` are 127.0.0.1 too."""
    name = host_text(host).partition("%")[0]
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        try:
            return str(ipaddress.ip_address(_socket.inet_aton(name)))
        except OSError:
            return None
    return str(getattr(address, "ipv4_mapped", None) or address)


def check_name(host: object, *_: object) -> None:
    if isinstance(host, str | bytes | bytearray) and is_brokers(host):
        raise refusal(f"a connection to {host_text(host)}", "it is the broker's", ReplayGuardNameError)


def check_address(_connecting: object, address: object) -> None:
    """Of a socket that connects, or sends. What is neither IPv4 nor IPv6 stays on this machine."""
    host = address[0] if isinstance(address, tuple) and len(address) >= 2 else None
    if not isinstance(host, str | bytes | bytearray):
        return
    check_name(host)
    number = address_of(host)
    if number is None or number in _named or any(ipaddress.ip_address(number) in near for near in _NEAR):
        return
    why = "an address that no name gave may be the broker's. Connect by name, and have Python resolve it"
    raise refusal(f"a connection to {number}", why)


def _check_request(_connection: object, data: object) -> None:
    """Of `http.client`: the head of a request names the broker if it is to reach it through a proxy."""
    if isinstance(data, bytes):
        for host in _HOSTS.findall(data.partition(b"\r\n\r\n")[0]) if b" HTTP/1." in data else ():
            check_name(host)


def _remember(resolve: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of `_socket`, which notes the addresses that a name has. (The hook has seen the name.)"""

    def resolved(host: Any = None, *args: Any, **options: Any) -> Any:
        answer = resolve(host, *args, **options)
        if host is not None and address_of(host) is None:
            if isinstance(answer, str):
                _named.add(answer)
            elif isinstance(answer, tuple):
                _named.update(answer[2])
            else:
                _named.update(filter(None, (address_of(one[4][0]) for one in answer)))
        return answer

    return resolved


# ── children ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def brings_guard(python_path: object) -> bool:
    """Whether a Python with this PYTHONPATH loads the guard before any other sitecustomize."""
    if not isinstance(python_path, str | bytes):
        return False
    for entry in os.fsdecode(python_path).split(os.pathsep):
        if entry == FOLDER:
            return True
        if any(Path(entry or ".").glob("sitecustomize*")):
            return False
    return False


def skips_site(arguments: Sequence[str]) -> bool:
    """Whether a Python with these arguments would not load it: `-I`, `-E` or `-S`, alone or among others."""
    given = iter(arguments)
    for argument in given:
        if argument == "--check-hash-based-pycs":
            next(given, None)
        elif not argument.startswith("-") or argument == "-":
            return False
        elif not argument.startswith("--"):
            for at, letter in enumerate(argument[1:], start=2):
                if letter in "IES":
                    return True
                if letter in "cm":
                    return False
                if letter in "XW":
                    if at == len(argument):
                        next(given, None)
                    break
    return False


def check_child(program: Any, arguments: Any, environment: Mapping[Any, Any] | None) -> None:
    """Of a program to be started. `environment` None: this process's, whose PYTHONPATH `check_variable` watches."""
    name = program if isinstance(program, int) else os.fsdecode(program)
    found = "" if isinstance(name, int) else (name if os.sep in name else shutil.which(name) or name)
    folder, base = os.path.split(found)
    if base in _HARMLESS and folder in _SYSTEM_FOLDERS:
        return
    if os.path.realpath(found) != _python:
        why = "only children that are this same Python can be kept from the broker; start them with sys.executable"
        raise refusal(f"to start {base or 'a program by its file descriptor'}", why)
    listed = [arguments] if isinstance(arguments, str | bytes | os.PathLike) else list(arguments)
    if skips_site([os.fsdecode(one) for one in listed[1:]]):
        raise refusal("to start Python with -I, -E or -S", "it would not load what keeps it from the broker")
    if environment is not None:
        path = environment.get("PYTHONPATH", environment.get(b"PYTHONPATH"))
        if not brings_guard(path):
            why = f"it needs {FOLDER} in its PYTHONPATH, as os.environ has it, to be kept from the broker"
            raise refusal("to start Python with another environment", why)


def _check_exec(program: Any, arguments: Any, environment: Any) -> None:
    if isinstance(program, int) or Path(os.fsdecode(program)).exists():  # `execvp` tries every folder of PATH
        check_child(program, arguments, environment)


def _check_command(*_: object) -> None:
    raise refusal("to run a command of the shell", "programs other than this Python cannot be kept from the broker")


def check_variable(name: bytes | str, value: bytes | str = "") -> None:
    if os.fsdecode(name) == "PYTHONPATH" and not brings_guard(value):
        raise refusal("a change of PYTHONPATH", f"it must keep {FOLDER}, which keeps children from the broker")


# ── past Python's sockets ────────────────────────────────────────────────────────────────────────────────────────────


def _check_import(name: str, *_: object) -> None:
    library = name.partition(".")[0]
    if library in _OWN_SOCKETS:
        text = str(refusal(f"to import {library}", "it connects past Python's sockets, where nothing can be refused"))
        raise ImportError(text, name=name)


def _check_c_function(_library: object, name: object) -> None:
    if name in _C_FUNCTIONS:
        raise refusal(f"to call {name}() by ctypes", "it goes past Python's sockets, where nothing can be refused")


CHECKS: Final[dict[str, Callable[..., None]]] = {
    "socket.getaddrinfo": check_name,
    "socket.gethostbyname": check_name,
    "socket.gethostbyaddr": check_name,
    "socket.connect": check_address,
    "socket.sendto": check_address,
    "socket.sendmsg": check_address,
    "http.client.connect": lambda _connection, host, _port: check_name(host),
    "http.client.send": _check_request,
    "subprocess.Popen": lambda program, arguments, _cwd, environment: check_child(program, arguments, environment),
    "os.posix_spawn": check_child,
    "os.exec": _check_exec,
    "os.system": _check_command,
    "os.putenv": check_variable,
    "os.unsetenv": check_variable,
    "import": _check_import,
    "ctypes.dlsym": _check_c_function,
}


# ── what is imported is amended ──────────────────────────────────────────────────────────────────────────────────────


def _bind_connect(module: Any) -> None:
    """The REST client's defaults are the replay's, and it goes there straight whatever proxies it is given."""
    module.KiteConnect._default_root_uri = _roots[API_VARIABLE]
    module.KiteConnect._default_login_uri = _roots[API_VARIABLE] + LOGIN_PATH
    module.KiteConnect.proxies = property(lambda _: {}, lambda _, _value: None)


def _bind_ticker(module: Any) -> None:
    """The same of the WebSocket client."""
    connect = module.KiteTicker.connect

    def straight(self: Any, threaded: bool = False, disable_ssl_verification: bool = False, proxy: Any = None) -> Any:
        return connect(self, threaded, disable_ssl_verification)

    module.KiteTicker.ROOT_URI = _roots[WS_VARIABLE]
    module.KiteTicker.connect = straight


def _check_tls(module: Any) -> None:
    """TLS is not begun with the broker, by whatever way the bytes would go."""

    def checked(wrap: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            for value in (*args, *options.values()):
                check_name(value)
            return wrap(*args, **options)

        return wrapped

    module.SSLContext.wrap_socket = checked(module.SSLContext.wrap_socket)
    module.SSLContext.wrap_bio = checked(module.SSLContext.wrap_bio)


def _bind_ours(module: Any) -> None:
    """The default of our own manager, and of `kitelake.compat`."""
    module.WS_URL = _roots[WS_VARIABLE]


BOUND: Final[dict[str, Callable[[Any], None]]] = {
    "kiteconnect.connect": _bind_connect,
    "kiteconnect.ticker": _bind_ticker,
    "ingest.connection.handshake": _bind_ours,
}
AMENDED: Final[dict[str, Callable[[Any], None]]] = {**BOUND, "ssl": _check_tls}


def _amend(name: str, module: ModuleType) -> None:
    if name not in BOUND or all(_roots.values()):  # in a child without the roots the broker's stay, and are refused
        AMENDED[name](module)


class _Amender:
    """A finder of modules, first of `sys.meta_path`, that amends those few once they are loaded."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in AMENDED else None
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_and_amend(module: ModuleType) -> None:
            load(module)
            _amend(name, module)

        spec.loader.exec_module = load_and_amend  # type: ignore[method-assign]
        return spec


def install() -> None:
    """From here on this process, its forks and the Pythons that it starts are kept from the broker."""
    for module in (_socket, sys.modules.get("socket")):
        for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
            if module is not None and getattr(module, name).__module__ != "socket":  # that one calls `_socket`'s
                setattr(module, name, _remember(getattr(module, name)))
    for name in AMENDED.keys() & sys.modules.keys():
        _amend(name, sys.modules[name])
    sys.meta_path.insert(0, _Amender)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        check = CHECKS.get(event)
        if check is not None:
            check(*args)

    sys.addaudithook(hook)
