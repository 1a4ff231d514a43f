"""The official client's `KiteTicker`, on this engine: `from kitelake.compat import KiteTicker`; a script's rest stays.

The socket is read in a thread of its own, and callbacks run in another: that of `connect()`, or, with `threaded=True`,
"kitelake callbacks". A slow callback neither stops the reading nor loses the connection; what waits for it is bounded
by `BUFFER`, and whatever is shed there is logged and given to `on_gap(ws, gap)`, which the official client lacks.

Other differences:

- Prices are signed, a time of 0 is None, and of a damaged frame the good packets arrive.
- Subscriptions may be made at any time, connected or not. `set_mode` also subscribes. More than 3000 raise
  CapacityError. `resubscribe` is hardly needed: the connection tells a new socket everything.
- An exception in a callback is logged, and everything goes on.
- `reconnect=False` is heeded. `on_reconnect` is called before each new attempt, the first one included.
- A refused access token is sent again after five minutes, not at once. `access_token` may also be a `Path` or a
  function that is asked for another one then, see `ingest.accounts.Account`.
- After `close` or `stop` no more ticks are delivered, only `on_close`. Both end `connect()`, which may be called again.
- Ctrl-C in a blocking `connect()` closes the connection and is raised on, without `on_close`.
- `disable_ssl_verification` and `proxy` are refused, and there is no `socket_url`, since it would hold the token.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import index
from typing import Any, Final

from ingest.accounts import Account, Token, TokenSource
from ingest.connection import (
    WS_URL,
    ConnectionEvent,
    Gap,
    State,
    check_room,
    check_ws_url,
    read_events,
)
from ingest.errors import SessionError
from ingest.manager.connection_run import ConnectionRun
from ingest.manager.tick_dicts import ticks_of
from ingest.settings import BufferSettings, StreamSettings
from ingest.wire import Mode
from storage.events import Event
from storage.journal import Kind

BUFFER: Final = BufferSettings(buffer_frames=1_000_000, buffer_bytes=256 << 20, buffer_seconds=3600)
"""How far the callbacks may fall behind."""
NORMAL_CLOSURE: Final = 1000
ABNORMAL_CLOSURE: Final = 1006  # RFC 6455: no close frame came

Callback = Callable[..., object]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Response:
    """What `on_connect` gets: the server's address. Its headers are not kept, so there are none."""

    peer: str
    headers: dict[str, str] = field(default_factory=dict)


class KiteTicker:
    """One connection with the official client's interface; may be used from any thread.

    Raises ValueError for an empty api_key and a `root` that is no ws:// or wss:// address.
    """

    EXCHANGE_MAP: Final = {
        "nse": 1,
        "nfo": 2,
        "cds": 3,
        "bse": 4,
        "bfo": 5,
        "bcd": 6,
        "mcx": 7,
        "mcxsx": 8,
        "indices": 9,
        "nco": 12,
        "bsecds": 6,
    }
    CONNECT_TIMEOUT: Final = 30
    RECONNECT_MAX_DELAY: Final = 60
    RECONNECT_MAX_TRIES: Final = 50
    ROOT_URI: Final = WS_URL
    MODE_FULL: Final = "full"
    MODE_QUOTE: Final = "quote"
    MODE_LTP: Final = "ltp"

    _minimum_reconnect_max_delay = 5
    _maximum_reconnect_max_tries = 300

    def __init__(
        self,
        api_key: str,
        access_token: Token | TokenSource | None,
        debug: bool = False,
        root: str | None = None,
        reconnect: bool = True,
        reconnect_max_tries: int = RECONNECT_MAX_TRIES,
        reconnect_max_delay: float = RECONNECT_MAX_DELAY,
        connect_timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        if reconnect_max_tries > self._maximum_reconnect_max_tries:
            reconnect_max_tries = self._maximum_reconnect_max_tries
            log.warning("reconnect_max_tries can not be more than %d: taken as that", reconnect_max_tries)
        if reconnect_max_delay < self._minimum_reconnect_max_delay:
            reconnect_max_delay = self._minimum_reconnect_max_delay
            log.warning("reconnect_max_delay can not be less than %d s: taken as that", reconnect_max_delay)
        self.root = check_ws_url(root or self.ROOT_URI)
        self.debug = debug
        self.reconnect = reconnect
        self.reconnect_max_tries = reconnect_max_tries
        self.reconnect_max_delay = reconnect_max_delay
        self.connect_timeout = connect_timeout
        self.subscribed_tokens: dict[int, str] = {}
        self.on_ticks: Callback | None = None
        self.on_open: Callback | None = None
        self.on_connect: Callback | None = None
        self.on_close: Callback | None = None
        self.on_error: Callback | None = None
        self.on_message: Callback | None = None
        self.on_reconnect: Callback | None = None
        self.on_noreconnect: Callback | None = None
        self.on_order_update: Callback | None = None
        self.on_gap: Callback | None = None
        self._account = Account("KiteTicker", api_key, "" if access_token is None else access_token)
        self._settings = StreamSettings(
            open_timeout_seconds=connect_timeout,
            backoff_cap_seconds=reconnect_max_delay,
            **BUFFER.model_dump(),
        )
        self._lock = threading.RLock()
        self._run: ConnectionRun | None = None

    def connect(
        self, threaded: bool = False, disable_ssl_verification: bool = False, proxy: Mapping[str, Any] | None = None
    ) -> None:
        """Connect, and stay connected until `close`, `stop` or the last attempt: in this thread, or in another.

        Raises SessionError if it is running already.
        """
        if disable_ssl_verification:
            raise ValueError(
                "disable_ssl_verification is not supported: let the system trust the server's certificate, "
                "or name it in the environment variable SSL_CERT_FILE"
            )
        if proxy is not None:
            raise ValueError("proxy is not supported: set the environment variable https_proxy (or http_proxy) instead")
        if self.debug:
            logging.getLogger("ingest.connection.lifecycle").setLevel(logging.DEBUG)
        before = self._run
        if before is not None and before.over and before.reader is not threading.current_thread():
            before.done.wait()
        with self._lock:
            if self._run is not None:
                raise SessionError("got connect() while connected, expected close() before it")
            tries = self.reconnect_max_tries if self.reconnect else None
            run = self._run = ConnectionRun(
                self._account, self._settings, self.root, _modes(self.subscribed_tokens), tries
            )
            if threaded:
                run.reader = threading.Thread(
                    target=self._call_back, args=(run,), name="kitelake callbacks", daemon=True
                )
        if threaded:
            run.reader.start()
        else:
            self._call_back(run)

    def is_connected(self) -> bool:
        """Whether the socket is open at this moment."""
        run = self._run
        return run is not None and run.connection.session.state is State.OPEN

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        """Close, and do not connect again; does not wait for it. `code` and `reason` are what `on_close` gets."""
        run = self._run
        if run is not None and not run.closed:
            run.close_code, run.close_reason = code, reason
            run.closed = run.over = True
            run.end()

    def stop(self) -> None:
        """The same as `close`."""
        self.close()

    def stop_retry(self) -> None:
        """Do not connect again: the open socket is the last one."""
        run = self._run
        if run is not None:
            run.stop_retry()

    def subscribe(self, instrument_tokens: Iterable[int]) -> bool:
        """Stream these in mode quote. Raises CapacityError, with nothing changed, for more than 3000 in all."""
        return self.set_mode(self.MODE_QUOTE, instrument_tokens)

    def unsubscribe(self, instrument_tokens: Iterable[int]) -> bool:
        """Stream these no more; unknown ones are ignored."""
        with self._lock:
            for token in instrument_tokens:
                self.subscribed_tokens.pop(token, None)
            self.resubscribe()
        return True

    def set_mode(self, mode: str, instrument_tokens: Iterable[int]) -> bool:
        """Stream these in this mode, those that are not subscribed included.

        Raises CapacityError, with nothing changed, for more than 3000 in all, and ValueError for an unknown mode.
        """
        with self._lock:
            wanted = self.subscribed_tokens | dict.fromkeys(map(index, instrument_tokens), Mode(mode).value)
            check_room(len(wanted))
            self.subscribed_tokens.update(wanted)
            self.resubscribe()
        return True

    def resubscribe(self) -> None:
        """Stream what `subscribed_tokens` says. Only what differs from what the server was told is sent."""
        with self._lock:
            if self._run is not None:
                self._run.want(_modes(self.subscribed_tokens))

    def _call_back(self, run: ConnectionRun) -> None:
        """Call for everything that comes, until the connection has ended."""
        try:
            while (taken := run.take()) is not None:
                if isinstance(taken, Gap):
                    log.warning("callbacks were too slow: %d frames are missing", taken.frames)
                    self._call("on_gap", taken)
                    continue
                for record in taken:
                    if record.kind is Kind.EVENT:
                        self._happened(run, *read_events([record]))
                        continue
                    for payload in record.payloads:
                        if not run.closed:
                            self._message(payload, record.kind is Kind.BINARY)
        finally:
            run.finish()
            with self._lock:
                self._run = None
            run.done.set()

    def _call(self, name: str, *args: object) -> None:
        callback: Callback | None = getattr(self, name)
        if callback is not None:
            try:
                callback(self, *args)
            except Exception:  # the script's: the stream outlives it
                log.exception("%s raised", name)

    def _message(self, payload: bytes, is_binary: bool) -> None:
        self._call("on_message", payload, is_binary)
        if not is_binary:
            self._text(payload)
        elif self.on_ticks is not None and (ticks := ticks_of(payload)):
            self._call("on_ticks", ticks)

    def _text(self, payload: bytes) -> None:
        try:
            message = json.loads(payload)
        except (ValueError, RecursionError):  # the official client passes over it as well
            return
        if not isinstance(message, dict):
            return
        data = message.get("data")
        if message.get("type") == "order" and data:
            self._call("on_order_update", data)
        elif message.get("type") == "error":
            log.error("the server says: %s", self._account.redactor()(str(data)))
            self._call("on_error", 0, data)

    def _happened(self, run: ConnectionRun, event: ConnectionEvent) -> None:
        match event.event:
            case Event.CONNECTED:
                run.told_open, run.told_losses = True, 0
                self._call("on_connect", Response(self.root))
                self._call("on_open")
            case Event.CLOSED if run.told_open:  # by us between two sockets, it says so as well
                run.told_open = False
                if not event.data["clean"]:
                    self._lost(run, event.data.get("code") or ABNORMAL_CLOSURE, event.message)
                elif run.closed:
                    self._call("on_close", run.close_code or NORMAL_CLOSURE, run.close_reason or event.message)
                else:
                    self._call("on_close", event.data.get("code") or NORMAL_CLOSURE, event.message)
                    self._next(run)
            case Event.REFUSED:
                self._lost(run, ABNORMAL_CLOSURE, event.message)
            case Event.FAILED:
                run.told_losses = run.most_tries
                self._lost(run, ABNORMAL_CLOSURE, event.message)

    def _lost(self, run: ConnectionRun, code: int, reason: str) -> None:
        self._call("on_error", code, reason)
        self._call("on_close", code, reason)
        self._next(run)

    def _next(self, run: ConnectionRun) -> None:
        """Tell whether another attempt follows."""
        run.told_losses += 1
        if run.closed or not run.retrying:
            return
        if run.told_losses > run.most_tries:
            self._call("on_noreconnect")
        else:
            self._call("on_reconnect", run.told_losses)


def _modes(tokens: Mapping[int, str]) -> dict[int, Mode]:
    return {token: Mode(mode) for token, mode in tokens.items()}
