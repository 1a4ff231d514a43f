"""A source of packets that does what a test says, so that nothing about a server depends on a market or on time.

Every instrument ticks in every step. All words of a packet but its token say how often its instrument had been
painted, beginning with 1.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ingest.server.admission import AccountSettings, SteppedSettings
from ingest.server.server import SteppedServer
from ingest.server.source import WORDS, AccountOrder, CallRefusedError, Images, Ints, RestCall, SteppedSource

INDEX_TOKENS = 3
"""So many of the instruments, the first ones, are indices."""


class ScriptedSource(SteppedSource):
    """Instruments with the tokens 1000, 1001, …; `batches` a step (0: nothing ticks); `backwards`: with falling tokens.
    `due` holds order updates to be given away; a `broken` one fails at its next step.

    `/echo` and below is a REST call of its own, which says what came; `/refused` refuses.
    """

    name = "scripted"
    etag = "scripted-1"

    def __init__(self, size: int = 500, *, batches: int = 1, backwards: bool = False) -> None:
        index = np.arange(size) < INDEX_TOKENS
        tokens = np.arange(1000, 1000 + size)
        super().__init__(tokens[::-1] if backwards else tokens, Images(index))
        self.index = index
        self.batches = batches
        self.steps = 0
        self.broken = False
        self.skipped = 0
        self.due: list[AccountOrder] = []
        self._everybody = np.random.default_rng(1).permutation(size)
        self._times = 0
        self._paint()

    def _paint(self) -> None:
        self._times += 1
        words = np.full((len(self), WORDS), self._times, np.int64)
        words[:, 0] = self.tokens
        self.images.paint(np.arange(len(self)), words)

    def instruments(self, exchange: str) -> str:
        return "instrument_token\n" + "".join(f"{token}\n" for token in self.tokens if exchange in {"", "NSE"})

    def profile(self, account: AccountSettings) -> dict[str, Any]:
        return {"user_id": account.user_id}

    def step(self) -> Iterable[Ints]:
        self.steps += 1
        if self.broken:
            raise EOFError("the script is torn")
        for _ in range(self.batches):
            self._paint()
            yield self._everybody

    def skip(self, steps: int) -> None:
        self.skipped += steps

    def stats(self) -> dict[str, Any]:
        return {"steps": self.steps, "skipped": self.skipped}

    def make_order(self, account: AccountSettings, fields: Mapping[str, Any]) -> AccountOrder:
        return AccountOrder(account.label, {"order_id": "made", **fields})

    def order_updates(self) -> Iterable[AccountOrder]:
        given, self.due = self.due, []
        return given

    def route(self, method: str, path: str) -> Callable[[RestCall], Any] | None:
        if path.startswith("/echo"):
            return self._echo
        return self._refuse if path == "/refused" else None

    def _echo(self, call: RestCall) -> dict[str, Any]:
        self.due.append(AccountOrder(call.account.label, {"order_id": "called"}))
        return {
            "of": call.account.label,
            "to": f"{call.method} {call.path}",
            "query": call.query,
            "form": call.form,
            "size": len(call.body),
        }

    @staticmethod
    def _refuse(call: RestCall) -> dict[str, Any]:
        raise CallRefusedError(400, "OrderException", f"no {call.method} here")


class ScriptedServer(SteppedServer):
    """A server of a script."""

    def __init__(self, settings: SteppedSettings, script: ScriptedSource) -> None:
        super().__init__(settings, script)
        self.script = script
