"""The life of one connection, without sockets, clocks or chance: states, messages, liveness, backoff, failures.

Rules of the game
-----------------
- What is wanted (token -> mode) outlives every socket. What was sent to the server ends with its socket, because the
  server remembers nothing (Kite Connect v3 streaming docs). The messages to send are always the difference of the
  two: a duplicate costs nothing, and a reconnect replays everything, modes included.
- A bare subscribe streams `quote` (Kite Connect v3 streaming docs), so a mode message follows only for other modes.
- The server is alive as long as bytes come: it sends a heartbeat about every 3 s when there is nothing else. Silence
  for `liveness_seconds` means a dead peer, whatever TCP says.
- Every failure is sorted by `classify`, and `RETRY` alone says what follows: backoff, a slow retry, waiting for a new
  access token, or none.
- Backoff doubles, is capped and fully jittered, and never ends. A connection that lived `settled_seconds` starts the
  series again; one that is accepted and dropped again at once does not, so that nobody is hammered.

The state machine is the table `TRANSITIONS`; what it does not list is an error of the caller.
"""

import json
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from operator import index
from types import MappingProxyType
from typing import Final

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from ingest.errors import AuthError, SessionError
from ingest.settings import ConnectionSettings
from ingest.wire import Mode

SLOW_JITTER: Final = 0.25  # a slow retry takes up to this share longer, so that connections do not return in step
MAX_DOUBLINGS: Final = 30


class State(StrEnum):
    """Where a connection stands. `unauthorized` waits for another access token, `failed` for its owner."""

    IDLE = "idle"
    CONNECTING = "connecting"
    OPEN = "open"
    WAITING = "waiting"
    UNAUTHORIZED = "unauthorized"
    CLOSING = "closing"
    CLOSED = "closed"
    FAILED = "failed"


class Input(StrEnum):
    """What may happen to it."""

    START = "start"
    OPENED = "opened"
    LOST = "lost"  # the attempt failed or the socket is gone, and trying again makes sense
    DENIED = "denied"  # the attempt failed for want of a good access token
    GIVEN_UP = "given_up"  # it failed, and trying again makes no sense
    DUE = "due"  # the wait is over, or there is another token
    CLOSE = "close"  # the owner wants to end it


TRANSITIONS: Final[Mapping[tuple[State, Input], State]] = MappingProxyType(
    {
        (State.IDLE, Input.START): State.CONNECTING,
        (State.IDLE, Input.CLOSE): State.CLOSED,
        (State.CONNECTING, Input.OPENED): State.OPEN,
        (State.CONNECTING, Input.LOST): State.WAITING,
        (State.CONNECTING, Input.DENIED): State.UNAUTHORIZED,
        (State.CONNECTING, Input.GIVEN_UP): State.FAILED,
        (State.CONNECTING, Input.CLOSE): State.CLOSED,
        (State.OPEN, Input.LOST): State.WAITING,
        (State.OPEN, Input.DENIED): State.UNAUTHORIZED,
        (State.OPEN, Input.GIVEN_UP): State.FAILED,
        (State.OPEN, Input.CLOSE): State.CLOSING,
        (State.CLOSING, Input.LOST): State.CLOSED,
        (State.CLOSING, Input.CLOSE): State.CLOSING,
        (State.WAITING, Input.DUE): State.CONNECTING,
        (State.WAITING, Input.CLOSE): State.CLOSED,
        (State.UNAUTHORIZED, Input.DUE): State.CONNECTING,
        (State.UNAUTHORIZED, Input.CLOSE): State.CLOSED,
        (State.FAILED, Input.START): State.CONNECTING,
        (State.FAILED, Input.CLOSE): State.CLOSED,
        (State.CLOSED, Input.START): State.CONNECTING,
        (State.CLOSED, Input.CLOSE): State.CLOSED,
    }
)


class Reason(StrEnum):
    """Why a connection failed, as far as it matters for what to do next."""

    CREDENTIALS = "credentials"  # 401, 403: the token is expired, wrong or replaced by another login; or there is none
    BUSY = "busy"  # 429: too many connections or requests
    REFUSED = "refused"  # any other answer that is not an upgrade
    SERVER = "server"  # 5xx
    NETWORK = "network"  # name lookup, refused, reset, timed out
    CERTIFICATE = "certificate"  # whoever answers cannot prove that it is the server
    ADDRESS = "address"  # the URL cannot be connected to
    SILENT = "silent"  # nothing came for too long, heartbeats included
    BARREN = "barren"  # heartbeats came, and none of the instruments that were asked for
    DROPPED = "dropped"  # the socket ended
    INTERNAL = "internal"  # a fault of ours


class Retry(StrEnum):
    """What follows a failure."""

    BACKOFF = "backoff"
    SLOW = "slow"
    TOKEN = "token"  # noqa: S105 (when there is another one)
    NEVER = "never"


RETRY: Final[Mapping[Reason, Retry]] = MappingProxyType(
    {
        Reason.CREDENTIALS: Retry.TOKEN,
        Reason.BUSY: Retry.SLOW,
        Reason.REFUSED: Retry.SLOW,
        Reason.SERVER: Retry.BACKOFF,
        Reason.NETWORK: Retry.BACKOFF,
        Reason.CERTIFICATE: Retry.NEVER,
        Reason.ADDRESS: Retry.NEVER,
        Reason.SILENT: Retry.BACKOFF,
        Reason.BARREN: Retry.BACKOFF,
        Reason.DROPPED: Retry.BACKOFF,
        Reason.INTERNAL: Retry.BACKOFF,
    }
)


_OUTCOME: Final[Mapping[Retry, Input]] = MappingProxyType(
    {
        Retry.BACKOFF: Input.LOST,
        Retry.SLOW: Input.LOST,
        Retry.TOKEN: Input.DENIED,
        Retry.NEVER: Input.GIVEN_UP,
    }
)


@dataclass(frozen=True)
class Failure:
    """What went wrong. `code` is the HTTP status, or the code of the close frame.

    `message` may quote the server or a library at length: it is to be redacted, and then cut, before it leaves.
    """

    reason: Reason
    message: str
    code: int | None = None

    @property
    def retry(self) -> Retry:
        """What follows of it, by the table `RETRY`."""
        return RETRY[self.reason]


def classify(error: BaseException) -> Failure:
    """Sort what connecting, receiving or closing raised. The one place that knows what each error means.

    An answer of the server says more than any exception around it, so it comes first; a certificate that is not valid
    is an OSError as well, so it comes before what a network does.
    """
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        message = f"the server answered {status} {error.response.reason_phrase}"
        if body := bytes(error.response.body or b"").decode("utf-8", "replace").strip():
            message += f": {body}"
        if status in (401, 403):
            return Failure(Reason.CREDENTIALS, f"{message} (is the access token of today?)", status)
        if status == 429:
            return Failure(Reason.BUSY, message, status)
        return Failure(Reason.SERVER if status >= 500 else Reason.REFUSED, message, status)
    if isinstance(error, AuthError):
        return Failure(Reason.CREDENTIALS, str(error))
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failure(Reason.CERTIFICATE, f"the server's certificate is not valid: {error}")
    if isinstance(error, InvalidURI):
        return Failure(Reason.ADDRESS, "the address cannot be used")  # the library's text quotes the URL
    if isinstance(error, ConnectionClosed):
        code = error.rcvd.code if error.rcvd is not None else None
        cause = f" ({type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ is not None else ""
        return Failure(Reason.DROPPED, f"{error}{cause}", code)
    # The library raises InvalidMessage for an answer that is none, and says by its cause alone that the socket ended.
    if isinstance(error, OSError | EOFError) or isinstance(error.__cause__, OSError | EOFError):
        return Failure(Reason.NETWORK, text)  # TimeoutError, name lookup and TLS errors among them
    if isinstance(error, InvalidHandshake):
        return Failure(Reason.REFUSED, text)
    return Failure(Reason.INTERNAL, text)


@dataclass
class Backoff:
    """How long to wait before the next attempt. `random` gives numbers in [0, 1)."""

    settings: ConnectionSettings
    random: Callable[[], float]
    attempts: int = 0

    def after(self, failure: Failure) -> float | None:
        """Seconds to wait, or None when there is no moment at which trying again makes sense."""
        if failure.retry in (Retry.NEVER, Retry.TOKEN):
            return None
        if failure.retry is Retry.SLOW:
            return self.settings.slow_retry_seconds * (1 + SLOW_JITTER * self.random())
        doubled = self.settings.backoff_initial_seconds * 2.0 ** min(self.attempts, MAX_DOUBLINGS)
        self.attempts += 1
        return self.random() * min(self.settings.backoff_cap_seconds, doubled)

    def settle(self, lived_seconds: float) -> None:
        """A connection ended that had lived so long."""
        if lived_seconds >= self.settings.settled_seconds:
            self.attempts = 0


class Action(StrEnum):
    """What a message to the server asks for, as the Kite Connect v3 streaming docs name it."""

    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    MODE = "mode"


@dataclass(frozen=True)
class SubscriptionMessage:
    """One text message to the server. `mode` is set for `Action.MODE` only."""

    action: Action
    tokens: tuple[int, ...]
    mode: Mode | None = None

    @property
    def text(self) -> str:
        """The JSON of the Kite Connect v3 streaming docs."""
        value = [self.mode, self.tokens] if self.action is Action.MODE else self.tokens
        return json.dumps({"a": self.action, "v": value}, separators=(",", ":"))


@dataclass
class StreamSession:
    """The state of one connection. Times are monotonic seconds, given in by the caller."""

    settings: ConnectionSettings
    random: Callable[[], float]
    state: State = State.IDLE
    openings: int = 0
    opened_at: float = 0.0
    backoff: Backoff = field(init=False)
    _wanted: dict[int, Mode] = field(default_factory=dict)
    _sent: dict[int, Mode] = field(default_factory=dict)
    _outbox: deque[SubscriptionMessage] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.backoff = Backoff(self.settings, self.random)

    @property
    def wanted(self) -> Mapping[int, Mode]:
        """What this connection shall stream: token -> mode."""
        return MappingProxyType(self._wanted)

    def step(self, event: Input) -> None:
        """Move to the next state. Raises SessionError when the table does not list the pair."""
        after = TRANSITIONS.get((self.state, event))
        if after is None:
            allowed = ", ".join(known for state, known in TRANSITIONS if state is self.state)
            raise SessionError(f"got {event} in state {self.state}, expected one of: {allowed}")
        self.state = after

    def opened(self, now: float) -> None:
        """The handshake is done: everything wanted is to be sent."""
        self.step(Input.OPENED)
        self.openings += 1
        self.opened_at = now
        self._sent.clear()
        self._outbox.clear()
        self._plan()

    def lost(self, failure: Failure, now: float) -> float | None:
        """The attempt failed or the socket is gone. Returns the seconds to wait, None when the state says what follows
        (closed by the owner, given up, or waiting for a token)."""
        if self.state in (State.OPEN, State.CLOSING):
            self.backoff.settle(now - self.opened_at)
        self._sent.clear()
        self._outbox.clear()
        if self.state is State.CLOSING:
            self.step(Input.LOST)
            return None
        delay = self.backoff.after(failure)
        self.step(_OUTCOME[failure.retry])
        return delay

    def silent_for(self, now: float, last_bytes_at: float) -> float | None:
        """Seconds of silence if they are too many, else None."""
        silence = now - last_bytes_at
        return silence if silence >= self.settings.liveness_seconds else None

    def subscribe(self, tokens: Iterable[int], mode: Mode) -> None:
        """Want these instruments in this mode. Those that are wanted already change their mode."""
        self._wanted.update(dict.fromkeys(map(index, tokens), mode))
        self._plan()

    def unsubscribe(self, tokens: Iterable[int]) -> None:
        """Do not want these any more. Unknown ones are ignored."""
        for token in tokens:
            self._wanted.pop(token, None)
        self._plan()

    def want(self, instruments: Mapping[int, Mode]) -> None:
        """Want these and no others."""
        self._wanted = dict(instruments)
        self._plan()

    def ask_again(self, tokens: Iterable[int]) -> None:
        """Unsubscribe wanted instruments and subscribe them again, which brings their last packets.

        (The first packet after a subscription is the cached last value: Kite Connect v3 streaming docs.)
        """
        wanted = {token: self._wanted[token] for token in tokens if token in self._sent and token in self._wanted}
        self._queue(Action.UNSUBSCRIBE, list(wanted))
        self._queue(Action.SUBSCRIBE, list(wanted))
        self._queue_modes({token: mode for token, mode in wanted.items() if mode is not Mode.QUOTE})

    def ask_mode(self, tokens: Iterable[int]) -> None:
        """Say once more in which mode these are wanted."""
        self._queue_modes({token: self._wanted[token] for token in tokens if token in self._sent})

    def ask_to_stop(self, tokens: Iterable[int]) -> None:
        """Say once more that these are not wanted."""
        if self.state is State.OPEN:
            self._queue(Action.UNSUBSCRIBE, [token for token in tokens if token not in self._sent])

    def messages_to_send(self) -> list[SubscriptionMessage]:
        """What is to be sent now, in this order; each message is handed out once. Empty unless open."""
        messages = list(self._outbox)
        self._outbox.clear()
        return messages

    def _plan(self) -> None:
        """Queue what brings the server from what was sent to what is wanted."""
        if self.state is not State.OPEN:
            return
        gone = [token for token in self._sent if token not in self._wanted]
        new = [token for token in self._wanted if token not in self._sent]
        self._queue(Action.UNSUBSCRIBE, gone)
        self._queue(Action.SUBSCRIBE, new)
        self._queue_modes(
            {token: mode for token, mode in self._wanted.items() if self._sent.get(token, Mode.QUOTE) is not mode}
        )
        self._sent = dict(self._wanted)

    def _queue_modes(self, modes: Mapping[int, Mode]) -> None:
        by_mode: dict[Mode, list[int]] = {}
        for token, mode in modes.items():
            by_mode.setdefault(mode, []).append(token)
        for mode in sorted(by_mode):
            self._queue(Action.MODE, by_mode[mode], mode)

    def _queue(self, action: Action, tokens: list[int], mode: Mode | None = None) -> None:
        size = self.settings.tokens_per_message
        for at in range(0, len(tokens), size):
            self._outbox.append(SubscriptionMessage(action, tuple(tokens[at : at + size]), mode))
