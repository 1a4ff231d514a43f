"""Bars of ours beside the broker's candles: what differs, and why. Pure.

The stream is conflated snapshots, and the broker's candles are made of all trades; so some things must differ:

- *rounding*: prices that are a part of a paisa apart; and what lies at the edge between two bars. A snapshot tells of
  the trades of the second before, which may belong to the bar before: volume that one has more and the next has less,
  an extreme that theirs has in the neighbour, open interest of a neighbour.
- *conflated extreme*: their high is higher, or their low lower: it was between two snapshots.
- *conflated open or close*: their first or last price is another, and ours lies in their bar.
- *gap*: something was missed in the bar, or it ends the gap and has the volume of all of it.
- *other session*: the bar lies outside the continuous session.
- *pre-open*: their first bar has what the pre-open session traded as well.
- *unexplained*: everything else, which is what to look into.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import pyarrow as pa

from queries.quality.intervals import AWAY, State
from storage.schema import TIMESTAMP

PAISA: Final = 0.01
_PRICES: Final = ("open", "high", "low", "close")
_AWAY: Final = frozenset(list(State)[: AWAY + 1])

Bar = Mapping[str, Any]


class Reason(StrEnum):
    """Why a value of ours is another than theirs."""

    ROUNDING = "rounding"
    CONFLATED_EXTREME = "conflated extreme"
    CONFLATED_END = "conflated open or close"
    GAP = "gap"
    OTHER_SESSION = "other session"
    PRE_OPEN = "pre-open"
    UNEXPLAINED = "unexplained"


DIFFERENCES: Final = pa.schema(
    [
        ("time", TIMESTAMP),
        ("what", pa.string()),
        ("ours", pa.float64()),
        ("theirs", pa.float64()),
        ("difference", pa.float64()),
        ("reason", pa.string()),
    ]
)


@dataclass(frozen=True)
class Differences:
    """`rows` have a row for each value that differs: time (of the bar), what (`bar` for one that only one side has),
    ours, theirs, difference (ours less theirs) and reason. `summary` says it in a line."""

    rows: pa.Table
    bars: int
    equal: int

    @property
    def reasons(self) -> Counter[str]:
        """How many rows there are of each reason."""
        return Counter(self.rows.column("reason").to_pylist())

    @property
    def summary(self) -> str:
        """As in "375 bars, 371 equal; 4 differences: 3 conflated extreme, 1 gap"."""
        head = f"{self.bars:,} {'bar' if self.bars == 1 else 'bars'}, {self.equal:,} equal"
        if not len(self.rows):
            return head
        found = self.reasons
        said = ", ".join(f"{found[reason]:,} {reason}" for reason in Reason if found[reason])
        return f"{head}; {len(self.rows):,} {'difference' if len(self.rows) == 1 else 'differences'}: {said}"


def compare_bars(
    ours: pa.Table, theirs: pa.Table, gaps: pa.Table, *, width_us: int, session: tuple[int, int] | None
) -> Differences:
    """Hold bars of one instrument and day, by `time` in both, beside each other.

    `gaps` has the instrument's intervals that were not served, as `QualityMethods.gaps` gives them. `session` is when
    its continuous session begins and ends, in µs since 1970; None if that is not known.
    """
    comparison = _Comparison(_by_time(ours), _by_time(theirs), _stretches(gaps), width_us, session)
    rows = list(comparison.differences())
    differing = {row["time"] for row in rows}
    return Differences(
        pa.Table.from_pylist(rows, schema=DIFFERENCES), len(comparison.times), len(comparison.times) - len(differing)
    )


def _by_time(table: pa.Table) -> dict[int, Bar]:
    times = table.column("time").cast(TIMESTAMP).cast(pa.int64()).to_pylist()
    return dict(zip(times, table.to_pylist(), strict=True))


def _stretches(gaps: pa.Table) -> list[tuple[int, int]]:
    """From when to when something was, or may have been, missed."""
    starts, stops = (gaps.column(name).cast(TIMESTAMP).cast(pa.int64()).to_pylist() for name in ("start", "stop"))
    said = zip(starts, stops, gaps.column("state").to_pylist(), gaps.column("missed").to_pylist(), strict=True)
    return [(start, stop) for start, stop, state, missed in said if missed or state in _AWAY]


class _Comparison:
    def __init__(
        self,
        ours: Mapping[int, Bar],
        theirs: Mapping[int, Bar],
        gaps: Sequence[tuple[int, int]],
        width_us: int,
        session: tuple[int, int] | None,
    ) -> None:
        self._ours, self._theirs = ours, theirs
        self._gaps = gaps
        self._width_us = width_us
        self._session = session
        self._trades = any(bar["volume"] for bar in (*ours.values(), *theirs.values()))
        # A candle of theirs without a trade is what we have no bar for.
        self.times = sorted(time for time in {*ours, *theirs} if time in ours or self._says_something(theirs[time]))
        self._at_edges = self._edges()

    def differences(self) -> Iterator[dict[str, Any]]:
        """In the order of time."""
        for place, time in enumerate(self.times):
            our, their = self._ours.get(time), self._theirs.get(time)
            if our is None or their is None:
                yield _difference(time, "bar", our, their, self._reason_of_bar(time))
                continue
            for what in (*_PRICES, "volume", "oi"):
                mine, other = our.get(what), their.get(what)
                if mine is not None and other is not None and mine != other:
                    yield _difference(time, what, our, their, self._reason(place, what, mine, other))

    def _says_something(self, bar: Bar) -> bool:
        return bool(bar["volume"]) or not self._trades

    def _edges(self) -> set[int]:
        """Bars whose volumes differ, but not together with those before or after them.

        What is left over may belong to a bar beside them whose volume differs for another reason.
        """
        found: set[int] = set()
        row: list[int] = []
        ahead, absorbed = 0, False
        for time in self.times:
            our, their = self._ours.get(time, {}), self._theirs.get(time, {})
            apart = (our.get("volume") or 0) - (their.get("volume") or 0)
            absorbs = apart != 0 and (self._is_first(time) or self._has_gap(time))
            if absorbs or apart == 0:
                if absorbs or absorbed:
                    found.update(row)
                row, ahead, absorbed = [], 0, absorbs
                continue
            ahead += apart
            if abs(apart) <= max(our.get("volume") or 0, their.get("volume") or 0) / 2:
                row.append(time)
            if ahead == 0:
                found.update(row)
                row, absorbed = [], False
        return found.union(row) if absorbed else found

    def _reason_of_bar(self, time: int) -> Reason:
        if self._is_outside(time):
            return Reason.OTHER_SESSION
        if self._has_gap(time):
            return Reason.GAP
        return Reason.ROUNDING if time in self._at_edges and self._trades else Reason.UNEXPLAINED

    def _reason(self, place: int, what: str, mine: float, other: float) -> Reason:
        time = self.times[place]
        if what in _PRICES and abs(mine - other) < PAISA / 2:
            return Reason.ROUNDING
        if self._is_outside(time):
            return Reason.OTHER_SESSION
        if self._has_gap(time):
            return Reason.GAP
        beyond = {"high": other > mine, "low": other < mine, "volume": other > mine, "open": True}.get(what, False)
        if beyond and self._is_first(time):
            return Reason.PRE_OPEN
        if beyond and what in ("high", "low"):
            return Reason.CONFLATED_EXTREME
        their = self._theirs[time]
        if what in ("open", "close") and their["low"] <= mine <= their["high"]:
            return Reason.CONFLATED_END
        if self._is_at_edge(place, what, mine):
            return Reason.ROUNDING
        return Reason.UNEXPLAINED

    def _is_at_edge(self, place: int, what: str, mine: float) -> bool:
        """Whether the value is that of a neighbour of theirs, or lies within it."""
        if what == "volume":
            return self.times[place] in self._at_edges
        beside = [self._theirs.get(self.times[at], {}) for at in (place - 1, place + 1) if 0 <= at < len(self.times)]
        if what == "oi":
            return any(bar.get("oi") == mine for bar in beside)
        return any(bar["low"] <= mine <= bar["high"] for bar in beside if bar)

    def _has_gap(self, time: int) -> bool:
        """Whether a gap has a part of the bar; its end counts, for the bar that begins with it."""
        our = self._ours.get(time)
        stop = time + self._width_us
        return bool(our and our.get("volume_missed")) or any(begin < stop and end >= time for begin, end in self._gaps)

    def _is_outside(self, time: int) -> bool:
        return self._session is not None and not self._session[0] <= time < self._session[1]

    def _is_first(self, time: int) -> bool:
        return time == (self.times[0] if self._session is None else self._session[0])


def _difference(time: int, what: str, our: Bar | None, their: Bar | None, reason: Reason) -> dict[str, Any]:
    """For a bar that one side does not have, its volume; of an index, its close."""
    name = what
    if what == "bar":
        name = "volume" if (our or their or {}).get("volume") else "close"
    mine, other = (None if bar is None else float(bar[name]) for bar in (our, their))
    apart = None if mine is None or other is None else mine - other
    return {"time": time, "what": what, "ours": mine, "theirs": other, "difference": apart, "reason": reason.value}
