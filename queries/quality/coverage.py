"""What became of each instrument at each moment of a day, by the events of the connections and the packets.

The span of an instrument goes from the day's first start of the service to its last end, and over the hours of trading
of its exchange; not beyond the present. Several connections that bring it count together: it is served if one of them
serves it.
"""

import datetime as dt
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from queries.bars import exchanges_of, sessions_of
from queries.connections import (
    OF_INSTRUMENTS,
    SECOND_US,
    Asks,
    columns_of,
    happened_before,
    is_of_the_day,
    last_rows_of,
    packets_of,
    read_asks,
    runs_of_day,
    span_of_day,
    survey,
    wanted_of,
)
from queries.errors import QueryError
from queries.history import is_replayed, lists_in_force, shift_us
from queries.lake import LakeState
from queries.quality.intervals import BLOCK, Intervals, Ints, State, Stretches, silences, tiled
from queries.quality.missed import UNKNOWN, UNKNOWN_TIME, Floats, Missed, Packets, missed_in
from queries.quality.periods import Periods, Source, waits
from storage.clock import NS_PER_US, US_PER_DAY, day_bounds_ns, nanoseconds
from storage.memory import numpy_of
from storage.schema import TIMESTAMP

STATES: Final = tuple(State)
NEVER_US: Final = 1 << 60
_COLUMNS: Final = """
    instrument_token, epoch_us(received_at) AS received_us, epoch_us(exchange_timestamp) AS exchange_us,
    epoch_us(last_trade_time) AS traded_us, volume_traded, high, low, oi, last_price"""
_INTERVALS: Final = pa.schema(
    [
        ("symbol", pa.string()),
        ("instrument_token", pa.int64()),
        ("start", TIMESTAMP),
        ("stop", TIMESTAMP),
        ("seconds", pa.float64()),
        ("state", pa.string()),
        ("missed", pa.bool_()),
        ("volume_missed", pa.int64()),
        ("high_missed", pa.float64()),
        ("low_missed", pa.float64()),
        ("oi_missed", pa.int64()),
    ]
)


class StateTotal(NamedTuple):
    """How many instruments were in a state in the hours of trading, and for how long together."""

    state: State
    instruments: int
    seconds: float


class MissedTotal(NamedTuple):
    """What of an instrument was missed at least, in the gaps that show it: the sum of the volume, the day's highest
    high and lowest low that came in them; `value` in rupees is the volume at the last price of the day."""

    symbol: str
    gaps: int
    seconds: float
    volume: int
    value: float
    high: float | None
    low: float | None


class Summary(NamedTuple):
    """A day's coverage in short: each state that there was, how many instruments something is known to be missed of,
    and the worst of these by value, then time."""

    states: Sequence[StateTotal]
    missed: int
    worst: Sequence[MissedTotal]


class DayCoverage:
    """The coverage of the instruments of a day, or of some: `tokens`, ascending, with their `symbols`."""

    def __init__(
        self, state: LakeState, date: dt.date, tokens: Iterable[int] | None, silent_seconds: float, now: dt.datetime
    ) -> None:
        """Raises QueryError for a silence of no length."""
        if not hasattr(silent_seconds, "__float__") or not 0 < silent_seconds < math.inf:
            raise QueryError(f"silent: got {silent_seconds!r}, expected seconds, more than 0")
        self.date = date
        self._state = state
        self._silent_us = round(silent_seconds * SECOND_US)
        self._begin_us = day_bounds_ns(self.date)[0] // NS_PER_US
        self._replayed, self._shift_us = is_replayed(state), shift_us(state, date)
        tokens = None if tokens is None else list(tokens)
        self._survey = survey(state, self.date, tokens)
        span = span_of_day(self.date, now)
        self._now_us = self._of_day(span[1])
        runs = runs_of_day(state, span, last_rows_of(state, self.date), OF_INSTRUMENTS)
        self._ran_us = [(self._of_day(run.begin), self._of_day(run.end)) for run in runs]
        self._places: list[Source] = [(place.stream, place[1:]) for place in self._survey.places]
        first_packets: dict[Source, dict[int, int]] = {place: {} for place in self._places}
        for place, token, first in zip(self._survey.place, self._survey.token, self._survey.first, strict=True):
            first_packets[self._places[place]][int(token)] = int(first)
        self._wanted = wanted_of(runs, happened_before(state, self.date, runs), first_packets)
        self.tokens: Ints = np.array(sorted(tokens if tokens is not None else self._known()), np.int64)
        self._symbols = _symbols_of(state, self.date)
        self._opens, self._closes = self._hours_of_trading()

    def totals(self) -> pa.Table:
        """A row for each instrument: its packets, and the seconds in each state."""
        count = len(self.tokens)
        spent = np.zeros((count, len(STATES)), np.int64)
        for at, intervals, *_ in self._parts():
            number = intervals.starts // BLOCK + at
            np.add.at(spent, (number, intervals.states), intervals.stops - intervals.starts)
        which = np.searchsorted(self.tokens, self._survey.token)
        packets, first, last = np.zeros(count, np.int64), np.full(count, 1 << 62), np.full(count, -1)
        np.add.at(packets, which, self._survey.packets)
        np.minimum.at(first, which, self._survey.first)
        np.maximum.at(last, which, self._survey.last)
        none = packets == 0
        columns = {
            "symbol": self._names(np.arange(count)),
            "instrument_token": pa.array(self.tokens),
            "packets": pa.array(packets),
            "first_packet": pa.array(first, TIMESTAMP, mask=none),
            "last_packet": pa.array(last, TIMESTAMP, mask=none),
        }
        for place in reversed(range(len(STATES))):
            columns[f"{STATES[place].replace(' ', '_')}_seconds"] = pa.array(spent[:, place] / SECOND_US)
        return pa.table(columns).sort_by([("symbol", "ascending"), ("instrument_token", "ascending")])

    def intervals(self, *, served: bool) -> pa.Table:
        """A row for each interval, with what was missed in it; with those that are served, or without."""
        tables = [_INTERVALS.empty_table()]
        for at, intervals, missed, _ in self._parts():
            shown = np.flatnonzero(served | (intervals.states != STATES.index(State.SERVED)))
            tables.append(self._rows(at, intervals, missed, shown))
        order = [(name, "ascending") for name in ("symbol", "instrument_token", "start")]
        return pa.concat_tables(tables).sort_by(order)

    def summary(self, worst: int) -> Summary:
        """All instruments together, and of what was missed the `worst` so many instruments."""
        count = len(self.tokens)
        spent = np.zeros((count, len(STATES)), np.int64)
        missed = 0
        found: list[MissedTotal] = []
        for at, intervals, of_part, packets in self._parts():
            number = intervals.starts // BLOCK
            traded = self._trading_us(number + at, intervals)
            np.add.at(spent, (number + at, intervals.states), traded)
            shown = np.flatnonzero(of_part.missed > 0)
            numbers = np.unique(number[shown])
            missed += len(numbers)
            prices = _last_prices(packets, numbers)
            for each, price in zip(numbers.tolist(), prices.tolist(), strict=True):
                which = shown[number[shown] == each]
                found.append(self._missed_of(each + at, intervals, of_part, which, price))
            found = sorted(found, key=lambda one: (-one.value, -one.seconds, one.symbol))[:worst]
        states = [
            StateTotal(state, int(np.count_nonzero(spent[:, place])), int(spent[:, place].sum()) / SECOND_US)
            for place, state in enumerate(STATES)
        ]
        return Summary([each for each in reversed(states) if each.instruments], missed, found)

    def _missed_of(self, number: int, intervals: Intervals, missed: Missed, which: Ints, price: float) -> MissedTotal:
        volume = int(missed.volume[which].clip(min=0).sum())
        seconds = int((intervals.stops[which] - intervals.starts[which]).sum()) / SECOND_US
        high, low = missed.high[which], missed.low[which]
        token = int(self.tokens[number])
        return MissedTotal(
            self._symbols.get(token) or str(token),
            len(which),
            seconds,
            volume,
            0.0 if math.isnan(price) else volume * price,
            None if np.isnan(high).all() else float(np.nanmax(high)),
            None if np.isnan(low).all() else float(np.nanmin(low)),
        )

    def _trading_us(self, number: Ints, intervals: Intervals) -> Ints:
        """How much of each interval lies in the hours of trading; all of it where these are not known."""
        opens, closes = self._opens[number], self._closes[number]
        begin = intervals.starts % BLOCK
        end = begin + intervals.stops - intervals.starts
        within = (np.minimum(end, closes) - np.maximum(begin, opens)).clip(min=0)
        return np.where(opens < closes, within, end - begin)

    def _rows(self, at: int, intervals: Intervals, missed: Missed, shown: Ints) -> pa.Table:
        starts, stops = intervals.starts[shown], intervals.stops[shown]
        number = starts // BLOCK
        offset = self._begin_us - number * BLOCK
        said, volume = missed.missed[shown], missed.volume[shown]
        high, low = missed.high[shown], missed.low[shown]
        columns = [
            self._names(number + at),
            pa.array(self.tokens[number + at]),
            pa.array(starts + offset, TIMESTAMP),
            pa.array(stops + offset, TIMESTAMP),
            pa.array((stops - starts) / SECOND_US),
            pa.array([state.value for state in STATES]).take(pa.array(intervals.states[shown])),
            pa.array(said > 0, mask=said == UNKNOWN),
            pa.array(volume, mask=volume == UNKNOWN),
            pa.array(high, mask=np.isnan(high)),
            pa.array(low, mask=np.isnan(low)),
            pa.array(missed.oi[shown], mask=~missed.oi_known[shown]),
        ]
        return pa.Table.from_arrays(columns, schema=_INTERVALS)

    def _parts(self) -> Iterator[tuple[int, Intervals, Missed, Packets]]:
        """Of each part of the instruments where it begins among all, its intervals, what was missed in them, and its
        packets."""
        asked = read_asks(self._state, self._survey)
        at = 0
        for tokens in self._survey.parts(self.tokens):
            yield at, *self._part(at, tokens, Asks(tokens, *asked))
            at += len(tokens)

    def _part(self, at: int, tokens: Ints, asks: Asks) -> tuple[Intervals, Missed, Packets]:
        rows = packets_of(self._state, self._survey, tokens, _COLUMNS)
        rows = rows.filter(np.isin(numpy_of(rows.column("instrument_token")), tokens))
        names = ("place", "instrument_token", "received_us", "exchange_us", "traded_us", "volume_traded", "oi")
        place, token, received, exchange, traded, volume, oi = columns_of(rows, *names)
        exchange, traded = (np.where(each >= 0, each + self._shift_us, each) for each in (exchange, traded))
        number = np.searchsorted(tokens, token)
        us = received - self._begin_us
        line = number * BLOCK + us
        periods = Periods(self._wanted, self._places, tokens, self._begin_us)
        new = exchange // SECOND_US > asks.since(place, number, received // SECOND_US)
        new &= is_of_the_day(self.date, exchange // SECOND_US)
        which = periods.of(place, number, us)
        asked, cached, live, serves = periods.sets(which, us, timed=(exchange >= 0) & (not self._replayed), new=new)
        opens, closes = self._opens[at : at + len(tokens)], self._closes[at : at + len(tokens)]
        intervals = tiled(
            self._spans(opens, closes),
            waited=waits(self._wanted, tokens, self._begin_us),
            asked=asked,
            cached=cached,
            live=live,
            silent=silences(live, np.sort(line[serves], kind="stable"), self._silent_us),
        )
        order = np.argsort(line, kind="stable")
        floats = [numpy_of(rows.column(name))[order] for name in ("high", "low", "last_price")]
        times = [np.where(each >= 0, each - self._begin_us, UNKNOWN_TIME)[order] for each in (exchange, traded)]
        packets = Packets(line[order], times[0], times[1], volume[order], floats[0], floats[1], oi[order], floats[2])
        # How long ago a packet's last trade was is not known by the clock of a replay.
        late_us = NEVER_US if self._replayed else self._silent_us
        return intervals, missed_in(intervals, packets, opens, closes, late_us), packets

    def _known(self) -> set[int]:
        """The instruments that a connection was to bring, or brought."""
        known = set(self._survey.token.tolist()) | {wait.token for wait in self._wanted.waits}
        return known | {period.token for periods in self._wanted.periods.values() for period in periods}

    def _spans(self, opens: Ints, closes: Ints) -> Stretches:
        begin = min((begin for begin, _ in self._ran_us), default=US_PER_DAY)
        end = max((end for _, end in self._ran_us), default=0)
        starts = np.where(opens < closes, np.minimum(opens, begin), begin)
        stops = np.minimum(np.where(opens < closes, np.maximum(closes, end), end), self._now_us)
        block = np.arange(len(opens)) * BLOCK
        return Stretches(block + starts, block + np.maximum(starts, stops))

    def _hours_of_trading(self) -> tuple[Ints, Ints]:
        """When the exchange of each instrument opens and closes; both 0 where that is not known, or it never does."""
        hours: dict[str, tuple[int, int]] = {}
        for row in sessions_of(self._state, [self.date]).to_pylist():
            opens, closes = self._of_day(row["opens"]), self._of_day(row["closes"])
            if closes - opens < US_PER_DAY:
                others = hours.get(row["exchange"], (opens, closes))
                hours[row["exchange"]] = min(opens, others[0]), max(closes, others[1])
        tokens = self.tokens.tolist()
        exchanges = exchanges_of(self._state, self.date, tokens)
        found = np.array([hours.get(exchanges[token], (0, 0)) for token in tokens], np.int64).reshape(-1, 2)
        return found[:, 0], found[:, 1]

    def _of_day(self, moment: dt.datetime) -> int:
        return nanoseconds(moment) // NS_PER_US - self._begin_us

    def _names(self, numbers: Ints) -> pa.Array:
        every = pa.array([self._symbols.get(token) for token in self.tokens.tolist()], pa.string())
        return every.take(pa.array(numbers))


def _last_prices(packets: Packets, numbers: Ints) -> Floats:
    """Of instruments of a part; NaN without a packet."""
    last = np.searchsorted(packets.at, (numbers + 1) * BLOCK) - 1
    there = (last >= 0) & (packets.at[last] // BLOCK == numbers) if len(packets.at) else np.zeros(len(last), np.bool_)
    return np.where(there, packets.price[last] if len(packets.at) else np.nan, np.nan)


def _symbols_of(state: LakeState, date: dt.date) -> dict[int, str]:
    """Those of the instrument list in force, by token."""
    lists = lists_in_force(state, [date])
    if not lists:
        return {}
    rows = state.sql(
        "SELECT instrument_token, symbol FROM instruments WHERE date = $date", {"date": lists[date]}
    ).arrow()
    return dict(zip(rows.column(0).to_pylist(), rows.column(1).to_pylist(), strict=True))
