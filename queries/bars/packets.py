"""Packets in columns, as `rows_sql` has rows, and the groups of them of which `assemble` makes bars.

The same definition as `rows_sql` and `grouped_sql`, at a small part of the cost; both are under the same tests. Where a
column has nulls it is of floats, with NaN for them: whole numbers of the wire and microseconds are exact in these.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from queries.bars.listening import Listening
from queries.history import PLACE_BITS, in_order
from storage.clock import US_PER_DAY

Array = NDArray[Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

COLUMNS: Final = {
    "stamped_us": "epoch_us(exchange_timestamp)",
    "traded_us": "epoch_us(last_trade_time)",
    **{name: name for name in ("last_price", "high", "low", "oi", "volume_traded", "average_traded_price")},
}
"""What is read of `dated_ticks`, by name and as SQL."""
ASKED: Final = {"asked_us": "asked_us"}
"""… and in a folder of a replay, too."""

_NULL: Final = np.nan
_SECOND_US: Final = 1_000_000


@dataclass(frozen=True)
class Asked:
    """What is asked of packets, as in `BarMethods.bars`; those of `upto_us` and later are left out."""

    width_us: int
    clock: str
    sessions: str
    upto_us: int | None


def groups_of(batches: Sequence[Mapping[str, Array]], listening: Listening, asked: Asked) -> dict[str, Array]:
    """The groups as `grouped_sql` gives them, with `run` in the place of date and token, by run and place.

    `batches` are of `history.batches_of`, of COLUMNS, perhaps with ASKED. `live_first` is whether the first row of a
    group is live. Empty without a group.
    """
    says, others = _parted(batches) if asked.clock == "exchange" else ([], batches)
    # Of packets that say their time each is judged by itself, so that a run may lie in pieces.
    found = _grouped(says, _say_their_time, listening, asked, in_pieces=True)
    if found and _are_torn(found):
        found = _grouped(says, _say_their_time, listening, asked, in_pieces=False)
    silent = _grouped(others, _do_not, listening, asked, in_pieces=False)
    if found and silent:
        return _ordered({name: np.concatenate([found[name], silent[name]]) for name in found})
    return found or silent


def _grouped(
    batches: Sequence[Mapping[str, Array]],
    judge: "Callable[[_Packets, Asked], None]",
    listening: Listening,
    asked: Asked,
    *,
    in_pieces: bool,
) -> dict[str, Array]:
    """Their groups."""
    groups = []
    for block in in_order(batches, in_pieces=in_pieces):
        packets = _Packets(block, listening)
        judge(packets, asked)
        if len(packets):
            groups.append(packets.grouped(asked))
    return _ordered({name: np.concatenate([each[name] for each in groups]) for name in groups[0]}) if groups else {}


def _ordered(groups: dict[str, Array]) -> dict[str, Array]:
    """By run and place."""
    order = order_of(groups["run"], groups["place"])
    return groups if order is None else {name: values[order] for name, values in groups.items()}


def _are_torn(groups: Mapping[str, Array]) -> bool:
    """Whether it matters that runs lay in pieces, so that one group is two: not where the second is live if the first
    is, and the volume falls neither from one to the other nor in them."""
    run, number = groups["run"], (groups["part"] << 40) + groups["bucket"]
    since = np.nan_to_num(groups["since_us"], nan=-1)
    beside = (run[1:] == run[:-1]) & (since[1:] == since[:-1])
    ticks, first, last = groups["ticks"], groups["first_volume"], groups["last_volume"]
    fell = last < groups["most_volume"] / 2
    fell = fell[1:] | fell[:-1] | (first[1:] < last[:-1] / 2) | (last[1:] < last[:-1] / 2)
    if (beside & (number[1:] == number[:-1]) & (fell | (ticks[1:] == 0) & (ticks[:-1] > 0))).any():
        return True
    # Where trades come out of order the two may not stand beside each other.
    back = np.isin(run, run[1:][beside & (number[1:] < number[:-1])])
    run, since, number = run[back], since[back], number[back]
    order = np.lexsort((number, since, run))
    return not begins_of(run[order], since[order], number[order]).all()


def _parted(batches: Sequence[Mapping[str, Array]]) -> tuple[list[Mapping[str, Array]], list[Mapping[str, Array]]]:
    """Packets that say their time, and the others."""
    says, others = [], []
    for batch in batches:
        silent = _missing(batch["stamped_us"])
        if not silent.any():
            says.append(batch)
        elif silent.all():
            others.append(batch)
        else:
            says.append({name: each[~silent] for name, each in batch.items()})
            others.append({name: each[silent] for name, each in batch.items()})
    return says, others


class _Packets:
    """Packets, in columns by name, that all say their time or do all not.

    `stretch` is the number of the stretch of listening in which each was received, and `of_stretch` what is said of
    those. `first` is whether it is the first of its run.
    """

    def __init__(self, rows: Mapping[str, Array], listening: Listening) -> None:
        self._columns = dict(rows)
        run, count = rows["run"], len(rows["run"])
        self["first"] = begins_of(run)
        starts = np.flatnonzero(self["first"])
        self.of_stretch = listening.stretches(run[starts], np.append(starts, count), rows["place"])
        begins = self.of_stretch["rows"]
        self["stretch"] = np.repeat(np.arange(len(begins)), np.diff(np.append(begins, count)))

    def __getitem__(self, name: str) -> Array:
        return self._columns[name]

    def __setitem__(self, name: str, values: Array) -> None:
        self._columns[name] = values

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def __len__(self) -> int:
        return len(self["run"])

    def received_us(self, which: Ints | slice = slice(None)) -> Ints:
        """When they were received; all or some of them."""
        received: Ints = self["place"][which] >> PLACE_BITS
        return received

    def each(self, name: str) -> Array:
        """What is said of stretches, for each row; one value where it is the same for all."""
        return self.of_each(self.of_stretch[name])

    def of_each(self, values: Array) -> Array:
        return values[:1] if (values == values[:1]).all() else values[self["stretch"]]

    def keep(self, which: Bools | Ints) -> None:
        """These rows alone, or in this order."""
        self._columns = {name: values[which] for name, values in self._columns.items()}

    def own(self) -> Bools:
        """Whether each is of the day on which it was received, and so is its trade; also if it does not say."""
        day, stamped, traded = self.each("day_us"), self["stamped_us"], self["traded_us"]
        # Comparisons with what is missing are false.
        if len(day) == 1 and len(stamped):
            last, first = np.fmax.reduce(stamped), np.fmin.reduce(stamped)
            if day <= first and last < day + US_PER_DAY and not _missing(stamped).any():
                return ~(traded < day)
        return ~((stamped < day) | (stamped >= day + US_PER_DAY) | ((traded < day) & ~_missing(stamped)))

    def tell(self, own: Bools) -> None:
        """What each tells of the day so far. Of another day's, that nothing was traded on this one."""
        self["value"] = self["average_traded_price"] * self["volume_traded"]
        for name in ("last_price", "high", "low"):
            self.without(name, self[name] == 0)
        self.forget(~own)
        self.without("oi", ~own)

    def forget(self, which: Bools) -> None:
        """Of these, that nothing was traded on this day."""
        if which.any():
            self["volume_traded"] = np.where(which, self["volume_traded"] * 0, self["volume_traded"])  # or null
            self["value"] = np.where(which, self["volume_traded"], self["value"])
            for name in ("high", "low"):
                self.without(name, which)

    def without(self, name: str, which: Bools) -> None:
        """Those of which it is not said."""
        if which.any():
            self[name] = np.where(which, _NULL, self[name])

    def only_before(self, upto_us: int | None) -> None:
        """Those dated before this."""
        if upto_us is not None and not (before := self["at_us"] < upto_us).all():
            self.keep(before)

    def intervals(self, asked: Asked) -> Ints:
        """The interval of each by its number; -1 before the session, and one more than all in it after it."""
        number: Ints = (self["at_us"] - self.each("opens_us")) // asked.width_us
        if asked.sessions == "all":
            return number * 0 if asked.width_us >= US_PER_DAY else number
        opens, closes = self.of_stretch["opens_us"], self.of_stretch["closes_us"]
        count = self.of_each(-((opens - closes) // asked.width_us))
        if ((closes - opens) % asked.width_us).any():
            number[self["at_us"] >= self.each("closes_us")] = count.max()
        return np.minimum(np.maximum(number, -1, out=number), count, out=number)

    def grouped(self, asked: Asked) -> dict[str, Array]:
        """Groups of the rows that were judged, which are those of one stretch, interval and `epoch`."""
        self["interval"] = self.intervals(asked)
        keys = [self[name] for name in ("stretch", "interval", "epoch")]
        if ((keys[1][1:] < keys[1][:-1]) & (keys[0][1:] == keys[0][:-1])).any():
            self.keep(np.lexsort(keys[::-1]))  # stable: in a group as they were received
            keys = [self[name] for name in ("stretch", "interval", "epoch")]
        begins = begins_of(*keys)
        starts = np.flatnonzero(begins)
        ends = np.append(starts[1:], len(self))
        stretch = self["stretch"][starts]
        of = {name: values[stretch] for name, values in self.of_stretch.items()}
        number = self["interval"][starts]
        part = np.zeros(len(starts), np.int64)
        if asked.sessions != "all":
            after = number >= -((of["opens_us"] - of["closes_us"]) // asked.width_us)
            part = after.astype(np.int64) - (number < 0)
        groups: dict[str, Array] = {name: of[name] for name in ("run", "since_us", "opens_us", "closes_us")}
        groups |= {"part": part, "bucket": np.where(part == 0, number, 0), "place": self["place"][starts]}
        groups |= {"last_us": self.received_us(ends - 1), "live_first": self["live"][starts]}
        groups |= {"high_at_first": self["high"][starts], "low_at_first": self["low"][starts]}
        volume, value, live = self["volume_traded"], self["value"], self["live"]
        for name, column in (("volume", volume), ("value", value)):
            groups[f"first_{name}"] = _edge(column, starts, ends, last=False)
            groups[f"last_{name}"] = _edge(column, starts, ends, last=True, zero=True)
        groups["first_high"] = _edge(self["high"], starts, ends, last=False)
        groups["first_low"] = _edge(self["low"], starts, ends, last=False)
        groups |= _prices(self["last_price"], live, starts, ends)
        groups["last_price"] = _edge(self["last_price"], starts, ends, last=True)
        groups["oi"] = _edge(self["oi"], starts, ends, last=True)
        groups["most_volume"] = _most(volume, begins, starts, ends)
        groups["most_high"] = _most(self["high"], begins, starts, ends)
        groups["least_low"] = _most(self["low"], begins, starts, ends, least=True)
        timed_by = self["timed_by"]
        alike = (timed_by == timed_by[0]).all()
        groups["timed_by"] = timed_by[starts] if alike else np.maximum.reduceat(timed_by, starts)
        # Asked for only where the volume fell in a group.
        fell = (groups["last_volume"] < groups["most_volume"] / 2).any()
        groups["most_value"] = np.fmax.reduceat(value, starts) if fell else groups["last_value"]
        return groups


def _say_their_time(packets: _Packets, asked: Asked) -> None:
    """Packets that do: the first of the two queries of `rows_sql`."""
    own = packets.own()
    untraded = _missing(packets["traded_us"])
    at = np.where(untraded, packets["stamped_us"], packets["traded_us"]) if untraded.any() else packets["traded_us"]
    at = at if own.all() else np.where(own, at, packets.received_us())
    packets["at_us"] = at.astype(np.int64, copy=False)
    packets.tell(own)
    since_us = packets["asked_us"] if "asked_us" in packets else packets.of_stretch["since_us"]
    from_us = np.where(np.isnan(since_us), _SECOND_US, (since_us // _SECOND_US + 1) * _SECOND_US)
    from_us = from_us if "asked_us" in packets else packets.of_each(from_us)
    live = (packets["at_us"] >= from_us) & (packets["last_price"] > 0) & own
    packets["live"] = live & (_missing(packets["volume_traded"]) | ~untraded) if untraded.any() else live
    packets["timed_by"] = (~untraded).astype(np.int8)
    packets["epoch"] = np.zeros(len(packets), np.int8)
    packets.only_before(asked.upto_us)


def _do_not(packets: _Packets, asked: Asked) -> None:
    """Packets that do not: the second."""
    own = packets.own()
    dated = ~_missing(packets["stamped_us"]) & own
    packets["at_us"] = received = packets.received_us()
    packets.tell(own)
    volume = packets["volume_traded"]
    before = _before(volume, packets["first"])
    anew = (volume < before / 2) & (volume > 0) if (volume < before).any() else np.zeros(len(volume), np.bool_)
    first = packets["first"].copy()  # of the day, or of a stretch which began since the row before
    starts = packets.of_stretch["rows"]
    first[starts] |= packets.of_stretch["since_us"] > received[starts - 1]
    grew = (volume > before) | _missing(volume) | anew
    packets["live"] = own & (packets["last_price"] > 0) & ~first & grew
    packets["timed_by"] = np.full(len(packets), 2, np.int8)
    packets["epoch"] = np.cumsum(anew) if anew.any() else np.zeros(len(anew), np.int8)
    packets["known"] = packets["live"] | dated
    packets.only_before(asked.upto_us)
    if not packets["known"].all():
        # What was there before the volume began anew, or is all there is, and does not say its day, is of another one.
        bounds = np.flatnonzero(begins_of(packets["run"], packets["epoch"]))
        known = np.logical_or.reduceat(packets["known"], bounds)
        packets.forget(~np.repeat(known, np.diff(np.append(bounds, len(packets)))))


def _before(values: Array, first: Bools) -> Array:
    """Of each row the last value above 0 before it in its run; 0 if there is none."""
    count, there = len(values), values > 0
    if (there[1:] | ~there[:-1] | first[1:]).all():  # from some row of a run on, all are
        before = np.where(there, values, 0)
        before[1:] = before[:-1]
        before[first] = 0
        return before
    last = np.append(-1, np.maximum.accumulate(np.where(there, np.arange(count), -1))[:-1])
    starts = np.flatnonzero(first)
    start = np.repeat(starts, np.diff(np.append(starts, count)))
    return np.where(last >= start, values[last], 0)


def _prices(prices: Array, live: Bools, starts: Ints, ends: Ints) -> dict[str, Array]:
    """Of the live rows of each group: open, high, low and close, NaN if there is none, and `ticks`, their number."""
    if live.all():
        first, last, ticks = starts, ends, ends - starts
    else:  # from here on these alone, group after group
        prices = prices[np.flatnonzero(live)]
        ticks = np.add.reduceat(live, starts, dtype=np.int64)
        last = np.cumsum(ticks)
        first = last - ticks
    there = slice(None) if (ticks > 0).all() else np.flatnonzero(ticks)
    first, last = first[there], last[there]
    found: dict[str, Array] = {"ticks": ticks}
    for name, values in (
        ("open", prices[first]),
        ("high", np.fmax.reduceat(prices, first) if len(first) else prices[:0]),
        ("low", np.fmin.reduceat(prices, first) if len(first) else prices[:0]),
        ("close", prices[last - 1]),
    ):
        found[name] = np.full(len(ticks), _NULL)
        found[name][there] = values
    return found


def _most(values: Array, begins: Bools, starts: Ints, ends: Ints, *, least: bool = False) -> Array:
    """The largest, or the least, of each group; NaN if there is none."""
    # What tells of the day so far rises, or falls: then it is the last, without looking at each.
    goes_on = (values[1:] <= values[:-1] if least else values[1:] >= values[:-1]) | begins[1:]
    if goes_on.all() or (goes_on | _missing(values[:-1])).all():
        return values[ends - 1]
    return (np.fmin if least else np.fmax).reduceat(values, starts)


def _edge(values: Array, starts: Ints, ends: Ints, *, last: bool, zero: bool = False) -> Floats:
    """The first or the last value of each group that is there, and with `zero` is not 0; NaN if there is none."""
    found = values[ends - 1 if last else starts].astype(np.float64)
    absent = np.flatnonzero(_missing(found) | (found == 0 if zero else False))
    if len(absent):  # few, so that these alone are looked through
        begins, counts = starts[absent], (ends - starts)[absent]
        ends_there = np.cumsum(counts)
        rows = np.arange(counts.sum()) + np.repeat(begins - ends_there + counts, counts)
        there = np.append(rows[~(_missing(values[rows]) | (values[rows] == 0 if zero else False))], -1)
        at = np.searchsorted(there[:-1], begins + counts) - 1 if last else np.searchsorted(there[:-1], begins)
        inside = (there[at] >= begins) & (there[at] < begins + counts)
        found[absent] = np.where(inside, values[there[at]], _NULL)
    return found


def begins_of(*keys: Array) -> Bools:
    """Where another key begins."""
    found = np.ones(len(keys[0]), np.bool_)
    for number, key in enumerate(keys):
        other = key[1:] != key[:-1]
        found[1:] = found[1:] | other if number else other
    return found


def order_of(major: Array, minor: Array) -> Ints | None:
    """The stable order by both; None if they are in it."""
    if _rises(major, minor):
        return None
    order = np.argsort(major, kind="stable")  # where the minor one is in order already, half as dear
    return order if _rises(major[order], minor[order]) else np.lexsort((minor, major))


def _rises(major: Array, minor: Array) -> bool:
    rising = (major[1:] > major[:-1]) | ((major[1:] == major[:-1]) & (minor[1:] >= minor[:-1]))
    return bool(rising.all())


def _missing(values: Array) -> Bools:
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), np.bool_)
