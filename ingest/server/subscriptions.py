"""What connections have subscribed to, open ones and lost ones: requests in, consequences out. No I/O, no clock.

Rules (Kite Connect v3 streaming docs, and the vendor's forum for the surplus): requests are JSON objects
`{"a": action, "v": value}`; a bare subscribe streams `quote`; a token subscribed twice is delivered once; of more than
3000 the first are kept and the surplus is answered with an error text; nothing is acknowledged. The cached packet
follows each new subscription and each change of mode. Tokens that the source does not list are taken and never tick.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from ingest.server.record import Sent
from ingest.server.source import Ints, Modes, PacketSource, StreamMode

MODE_NAMES: Final = {"ltp": StreamMode.LTP, "quote": StreamMode.QUOTE, "full": StreamMode.FULL}
NOTHING: Final[Ints] = np.zeros(0, np.int64)
UINT32_MAX: Final = 2**32 - 1


@dataclass(frozen=True)
class Answer:
    """What follows a request: instruments whose cached packet goes out, and an error text or none.

    `taken` are those that this connection has now asked for, streamed or not.
    """

    first: Ints = field(default_factory=lambda: NOTHING)
    taken: Ints = field(default_factory=lambda: NOTHING)
    error: str | None = None


class Subscriptions:
    """The modes in force. `modes` (instruments,) is what is streamed, `ignored` what was asked for and is not."""

    def __init__(self, source: PacketSource, limit: int) -> None:
        self._source = source
        self._limit = limit
        self._tokens: set[int] = set()
        self.modes: Modes = np.zeros(len(source), np.uint8)
        self.ignored: Modes = np.zeros(len(source), np.uint8)

    def __len__(self) -> int:
        return len(self._tokens)

    def request(self, message: str | bytes, ignore_every: Callable[[], int] = lambda: 0) -> Answer:
        """Act on one message. `ignore_every`, asked at a subscribe: each k-th new token is taken and not streamed."""
        if isinstance(message, bytes):
            return Answer(error="Invalid request: expected a text message, got a binary one")
        try:
            request = json.loads(message)
        except (ValueError, RecursionError):
            return Answer(error="Invalid request: expected JSON")
        if not isinstance(request, dict):
            return Answer(error='Invalid request: expected an object with "a" and "v"')
        action, value = request.get("a"), request.get("v")
        if action == "subscribe":
            return self._subscribe(value, ignore_every())
        if action == "unsubscribe":
            return self._unsubscribe(value)
        if action == "mode":
            return self._mode(value)
        return Answer(error='Invalid request: "a" must be one of subscribe, unsubscribe, mode')

    def _subscribe(self, value: Any, ignore_every: int) -> Answer:
        tokens = _tokens(value)
        if tokens is None:
            return Answer(error=_NOT_TOKENS)
        new = [token for token in dict.fromkeys(tokens) if token not in self._tokens]
        room = max(self._limit - len(self._tokens), 0)
        taken, surplus = new[:room], new[room:]
        self._tokens.update(taken)
        rows = self._source.rows(np.array(taken, np.int64))
        ignored = np.zeros(len(rows), np.bool_)
        if ignore_every:
            ignored[ignore_every - 1 :: ignore_every] = True
        self.ignored[rows[ignored & (rows >= 0)]] = StreamMode.QUOTE
        streamed = rows[~ignored & (rows >= 0)]
        self.modes[streamed] = StreamMode.QUOTE
        error = None
        if surplus:
            error = (
                f"Maximum of {self._limit} instruments a connection: {len(surplus)} instrument(s) were not subscribed"
            )
        return Answer(streamed, rows[rows >= 0], error)

    def _unsubscribe(self, value: Any) -> Answer:
        tokens = _tokens(value)
        if tokens is None:
            return Answer(error=_NOT_TOKENS)
        self._tokens.difference_update(tokens)
        rows = self._source.rows(np.array(tokens, np.int64))
        self.modes[rows[rows >= 0]] = StreamMode.OFF
        self.ignored[rows[rows >= 0]] = StreamMode.OFF
        return Answer()

    def _mode(self, value: Any) -> Answer:
        if not isinstance(value, list) or len(value) != 2:
            return Answer(error='Invalid request: "v" must be [mode, [instrument tokens]]')
        mode = MODE_NAMES.get(value[0]) if isinstance(value[0], str) else None
        if mode is None:
            return Answer(error="Invalid request: the mode must be one of ltp, quote, full")
        tokens = _tokens(value[1])
        if tokens is None:
            return Answer(error=_NOT_TOKENS)
        rows = self._source.rows(np.array(list(dict.fromkeys(tokens)), np.int64))
        rows = rows[rows >= 0]
        self.ignored[rows[self.ignored[rows] > 0]] = mode
        changed = rows[(self.modes[rows] > 0) & (self.modes[rows] != mode)]
        self.modes[changed] = mode
        return Answer(changed)


_NOT_TOKENS: Final = 'Invalid request: "v" must be a list of instrument tokens, which are numbers'


def _tokens(value: Any) -> list[int] | None:
    """The list as tokens, or None if it is not one."""
    if not isinstance(value, list):
        return None
    if not all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= UINT32_MAX for one in value):
        return None
    return value


def subscribed(modes: Modes, rows: Ints) -> Ints:
    """Those of `rows` that have a mode."""
    return rows[modes[rows] > 0]


@dataclass
class _Ghost:
    account: str
    sent: Sent
    modes: Modes


class Ghosts:
    """What was subscribed on connections that ended without the client's wish, until another connection of the account
    has taken over each instrument of it."""

    def __init__(self) -> None:
        self._ghosts: list[_Ghost] = []

    def leave(self, sent: Sent, ended: Subscriptions, newer: Iterable[Subscriptions]) -> None:
        """A connection has ended; `newer` are the account's open ones that may have taken over already."""
        modes = np.maximum(ended.modes, ended.ignored)
        for other in newer:
            modes[(other.modes > 0) | (other.ignored > 0)] = 0
        if modes.any():
            self._ghosts.append(_Ghost(sent.id.account, sent, modes))

    def take_over(self, account: str, rows: Ints) -> None:
        """Another connection of the account has asked for these."""
        for ghost in self._ghosts:
            if ghost.account == account:
                ghost.modes[rows] = 0
        self._ghosts = [ghost for ghost in self._ghosts if ghost.modes.any()]

    def missed(self, ticked: Ints) -> Iterator[tuple[Sent, Ints, Modes]]:
        """By lost connection: which of `ticked` it would have brought, and the modes (instruments,) in force on it."""
        for ghost in self._ghosts:
            rows = subscribed(ghost.modes, ticked)
            if len(rows):
                yield ghost.sent, rows, ghost.modes
