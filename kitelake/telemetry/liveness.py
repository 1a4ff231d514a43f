"""The rule by which a service counts as alive for systemd's watchdog: its journal advances. Pure."""

from typing import Final

PATIENCE_SECONDS: Final = 30.0


class JournalPulse:
    """Whether the journal advances, by counts of its records. A rule alone: it asks nobody and reads no clock.

    It does not when, for `patience_seconds`, records wait and none is written; or when, for as long, a connection is
    open and nothing is appended, since an open connection brings a heartbeat every few seconds (Kite Connect v3 docs,
    WebSocket streaming). Without open connections and waiting records there is nothing to advance.
    """

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._appended = _Stillness()
        self._written = _Stillness()

    def look(self, appended: int, written: int, open_connections: int, now_monotonic: float) -> bool:
        """Take in the counts of this moment, and say whether the journal advances."""
        still_seconds = max(
            self._written.seconds(written, appended > written, now_monotonic),
            self._appended.seconds(appended, open_connections > 0, now_monotonic),
        )
        return still_seconds < self._patience_seconds


class _Stillness:
    """How long a count has stood still while it ought to move."""

    def __init__(self) -> None:
        self._count = 0
        self._since: float | None = None

    def seconds(self, count: int, ought_to_move: bool, now: float) -> float:
        if not ought_to_move:
            self._since = None
            return 0.0
        if self._since is None or count != self._count:
            self._count, self._since = count, now
        return now - self._since
