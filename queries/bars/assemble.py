"""Bars of their groups, in columns: what `bars_sql` says in windows, several times as fast where there are many.

Both are under the same tests. Columns are float64, with NaN for null: whole numbers of the wire are exact in them.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from queries.bars.packets import Asked, begins_of, order_of
from queries.bars.rows import CLOCKS
from queries.history import TOKEN, midnights_of
from queries.lake import ZONE
from storage.clock import US_PER_DAY
from storage.memory import arrow_of, arrow_texts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_SUMS: Final = ("volume", "volume_missed", "value", "value_missed", "ticks")
_SHOWN: Final = ("open", "high", "low", "close", "volume", "volume_missed", "value", "vwap", "oi", "ticks")
_NUMBERS: Final = ("run", "begin_us", "end_us")
_WHOLE: Final = ("volume", "volume_missed", "oi", "ticks")
_NULL: Final = np.nan


def assemble(groups: Mapping[str, NDArray[Any]], asked: Asked) -> dict[str, NDArray[Any]]:
    """The bars of some groups, which `groups_of` gives of whole runs, by `run` and `begin_us`: columns by name.

    They are those of `timed_sql`, with `timed_by` as it is in groups.
    """
    found = _Groups(groups)
    return _timed(found.merged(found.told()), asked)


def as_table(
    bars: Sequence[Mapping[str, NDArray[Any]]], names_of: Callable[[Ints], Sequence[str | None]], label: str
) -> pa.Table:
    """Bars of several blocks as `shown_sql` gives them, and behind that its other columns.

    `names_of` gives the symbols of runs.
    """
    # Run by run, each as it lies in its block, so that nothing is put in order bar by bar.
    runs, block, first, last = _runs_of(bars)
    names = names_of(runs)
    known = sorted({name for name in names if name is not None})
    ranks = {name: rank for rank, name in enumerate(known)}
    of_run = np.array([ranks.get(name, len(known)) for name in names], np.int64)  # type: ignore[arg-type]
    order = np.lexsort((runs, of_run))
    pieces = [(bars[at], slice(begin, end)) for at, begin, end in np.stack([block, first, last])[:, order].T.tolist()]
    columns = {
        name: np.concatenate([np.empty(0, kind), *(of[name][piece] for of, piece in pieces)])
        for kind, several in ((np.int64, _NUMBERS), (np.float64, (*_SHOWN, "timed_by")))
        for name in several
    }
    rank = np.repeat(of_run[order], (last - first)[order])
    if (again := order_of(rank, columns["begin_us"])) is not None:  # several instruments without a name
        columns = {name: values[again] for name, values in columns.items()}
        rank = rank[again]
    made = {
        "symbol": _words(known, rank, rank == len(known)),
        "time": arrow_of(columns["end_us" if label == "close" else "begin_us"], None, pa.timestamp("us", ZONE)),
    }
    for name in _SHOWN:
        empty = np.isnan(columns[name])
        whole = np.where(empty, 0, columns[name]).astype(np.int64) if name in _WHOLE else columns[name]
        made[name] = arrow_of(whole, empty, pa.int64() if name in _WHOLE else pa.float64())
    made["clock"] = _words(CLOCKS, columns["timed_by"].astype(np.int64), None)
    made["date"] = arrow_of((columns["run"] >> 32).astype(np.int32), None, pa.date32())
    made["instrument_token"] = arrow_of(columns["run"] & TOKEN, None, pa.int64())
    for name in ("begin_us", "end_us"):
        made[name] = arrow_of(columns[name], None, pa.int64())
    return pa.table(made)


def _runs_of(bars: Sequence[Mapping[str, NDArray[Any]]]) -> tuple[Ints, Ints, Ints, Ints]:
    """The runs of blocks, each run whole and in one block, with the block, and where in it they begin and end."""
    found = [np.empty((4, 0), np.int64)]
    for at, block in enumerate(bars):
        run = block["run"]
        if not len(run):
            continue
        begins = np.flatnonzero(begins_of(run))
        found.append(np.stack([run[begins], np.full(len(begins), at), begins, np.append(begins[1:], len(run))]))
    runs, blocks, begins, ends = np.concatenate(found, axis=1)
    return runs, blocks, begins, ends


def _timed(bars: dict[str, NDArray[Any]], asked: Asked) -> dict[str, NDArray[Any]]:
    """With begin and end in the place of numbers, and with vwap; as `timed_sql`."""
    opens, closes = bars.pop("opens_us"), bars.pop("closes_us")
    whole = asked.width_us >= US_PER_DAY
    begins = opens if whole else opens + bars["bucket"].astype(np.int64) * asked.width_us
    ends = closes if whole else begins + asked.width_us
    if asked.sessions == "all":
        opens = midnights_of(bars["run"])
        closes = opens + US_PER_DAY
    volume, missed = bars["volume"], bars["volume_missed"]
    seen = np.where(volume > missed, volume - missed, _NULL)
    vwap = np.fmax(bars["low"], np.fmin(bars["high"], (bars["value"] - bars["value_missed"]) / seen))
    del bars["bucket"], bars["value_missed"]
    return bars | {
        "begin_us": np.maximum(begins, opens),
        "end_us": np.minimum(ends, closes),
        "vwap": np.where(np.isnan(seen), _NULL, vwap),
    }


class _Groups:
    """Groups in the order of their receipt, those of a day and an instrument one after the other: a run."""

    def __init__(self, groups: Mapping[str, NDArray[Any]]) -> None:
        self._columns = groups
        self._at = np.arange(len(groups["run"]))
        self._run = groups["run"]

    def __getitem__(self, name: str) -> Floats:
        return self._columns[name].astype(np.float64, copy=False)

    def told(self) -> dict[str, Floats]:
        """What each group adds to its bar: the second step. `bucket` is that of the bar, NaN where there is none."""
        run = self._run
        part, ticks, opens, since = map(self.__getitem__, ("part", "ticks", "opens_us", "since_us"))
        first_volume, last_volume, most_volume = map(self.__getitem__, ("first_volume", "last_volume", "most_volume"))
        first_value, last_value = self["first_value"], self["last_value"]
        heard = _before(np.fmax, self["last_us"], run)
        away = _away(heard, since, _lag(since, run), opens, self._columns["live_first"])
        fell = last_volume < most_volume / 2
        volume_before = self._last(last_volume, run)
        anew = np.where(first_volume > 0, first_volume, last_volume) < volume_before / 2
        fell_before = _lag(fell.astype(np.float64), run) == 1
        epoch: Ints = np.cumsum(begins_of(run) | anew | fell_before)
        then = _or(_before(np.fmax, most_volume, epoch), np.where(fell_before, volume_before, 0), 0)
        value_then = _or(self._last(last_value, epoch), np.where(fell_before, self._last(last_value, run), 0), 0)
        grown = np.maximum(most_volume - then, 0) + np.where(fell, last_volume, 0)
        value = _or(last_value, first_value) - np.where(np.isnan(last_value), 0, value_then)
        fallen = np.maximum(self["most_value"] - value_then, 0) + last_value
        most_high, least_low = self["most_high"], self["least_low"]
        high, low = _before(np.fmax, most_high, run), _before(np.fmin, least_low, run)
        live = ticks > 0
        ahead = self._next(live & (part == 0))
        kept = live | (ahead == len(live))
        bucket = np.where(part == 0, _or(np.append(self["bucket"], _NULL)[ahead], self["bucket"]), _NULL)
        # A high or low of the day above or below all before: there was such a trade between two snapshots.
        # What the packet that ends a gap carries is no such, nor is the first that is known of the day.
        at_first = np.where(away, self["high_at_first"], _NULL), np.where(away, self["low_at_first"], _NULL)
        high = np.fmax(high, np.where(np.isnan(high), self["first_high"], at_first[0]))
        low = np.fmin(low, np.where(np.isnan(low), self["first_low"], at_first[1]))
        shown = {name: np.where(kept, self[name], _NULL) for name in ("last_price", "oi", "timed_by")}
        return shown | {
            "bucket": bucket,
            "open": self["open"],
            "high": np.fmax(self["high"], np.where((most_high > high) & (live | ~kept), most_high, _NULL)),
            "low": np.fmin(self["low"], np.where((least_low < low) & (live | ~kept), least_low, _NULL)),
            "close": self["close"],
            "volume": grown,
            "volume_missed": np.where(away, np.maximum(first_volume - then, 0), most_volume * 0),
            "value": np.where(fell, fallen, value),
            "value_missed": np.where(away & (first_value > 0), first_value - value_then, 0),
            "ticks": ticks,
        }

    def merged(self, told: dict[str, Floats]) -> dict[str, NDArray[Any]]:
        """Groups of one bar as one: the third step."""
        mine = np.flatnonzero(~np.isnan(told["bucket"]))
        order = order_of(self._run[mine], told["bucket"][mine])  # stable: in a bar as they were received
        order = mine if order is None else mine[order]
        columns = {name: values[order] for name, values in told.items()}
        merge = _Merge(self._run[order], columns["bucket"])
        other = columns["last_price"]
        made = {
            "open": _or(merge(_first, columns["open"]), merge(_first, other)),
            "high": merge(np.fmax.reduceat, columns["high"]),
            "low": merge(np.fmin.reduceat, columns["low"]),
            "close": _or(merge(_last, columns["close"]), merge(_last, other)),
            **{name: merge(_sum, columns[name]) for name in _SUMS},
            "oi": merge(_last, columns["oi"]),
            "timed_by": merge(np.fmax.reduceat, columns["timed_by"]),
        }
        untraded = made["ticks"] == 0
        made["high"] = np.where(untraded, merge(np.fmax.reduceat, other), made["high"])
        made["low"] = np.where(untraded, merge(np.fmin.reduceat, other), made["low"])
        there = np.flatnonzero(np.where(np.isnan(made["volume"]), made["ticks"] > 0, made["volume"] > 0))
        firsts = order[merge.starts[there]]
        bars = {name: self._columns[name][firsts] for name in ("run", "opens_us", "closes_us")}
        return bars | {"bucket": told["bucket"][firsts]} | {name: values[there] for name, values in made.items()}

    def _last(self, values: Floats, run: Ints) -> Floats:
        """The last value that is there, of the groups before in the run; NaN if there is none."""
        last = np.maximum.accumulate(np.where(np.isnan(values), -1, self._at))
        place = np.append(-1, last[:-1]) if len(last) else last
        return np.where((place >= 0) & (run[place] == run), values[place], _NULL)

    def _next(self, which: Bools) -> Ints:
        """Of each the place of the next group for which it holds, itself included; the number of groups if none is."""
        count = len(which)
        place = np.minimum.accumulate(np.where(which, self._at, count)[::-1])[::-1]
        return np.where(np.append(self._run, 0)[place] == self._run, place, count)


def _away(heard: Floats, since: Floats, since_before: Floats, opens: Floats, live: Bools) -> Bools:
    """`rows.AWAY` in columns."""
    return np.where(np.isnan(heard), ~((since <= opens) & live), (since > heard) & (since != since_before))


def _lag(values: Floats, run: Ints) -> Floats:
    return np.where(begins_of(run), _NULL, np.append(_NULL, values[:-1])) if len(values) else values


def _before(how: np.ufunc, values: Floats, run: Ints) -> Floats:
    """The largest value, with `fmax`, or the least of the groups before in the run; NaN if there is none."""
    most = np.empty_like(values)
    for begin, end in pairwise([*np.flatnonzero(begins_of(run)).tolist(), len(run)]):
        how.accumulate(values[begin:end], out=most[begin:end])
    return _lag(most, run)


def _or(*several: Floats | float) -> Floats:
    found = np.asarray(several[0])
    for other in several[1:]:
        found = np.where(np.isnan(found), other, found)
    return found


class _Merge:
    """Makes one value of each bar out of those of its groups, of which most bars have one: those stay as they are."""

    def __init__(self, *keys: NDArray[Any]) -> None:
        self.starts = np.flatnonzero(begins_of(*keys))
        sizes = np.diff(np.append(self.starts, len(keys[0])))
        self._several = np.flatnonzero(sizes > 1)
        sizes = sizes[self._several]
        self._firsts = np.cumsum(sizes) - sizes
        self._rows = np.arange(sizes.sum()) + np.repeat(self.starts[self._several] - self._firsts, sizes)

    def __call__(self, how: Callable[[Floats, Ints], Floats], values: Floats) -> Floats:
        """`how` makes one value of several: those from each start to the next."""
        found = values[self.starts]
        if len(self._several):
            found[self._several] = how(values[self._rows], self._firsts)
        return found


def _sum(values: Floats, starts: Ints) -> Floats:
    """Without nulls; null where there is nothing else."""
    empty = np.isnan(values)
    found: Floats = np.add.reduceat(np.where(empty, 0, values), starts)
    return np.where(np.logical_and.reduceat(empty, starts), _NULL, found)


def _first(values: Floats, starts: Ints) -> Floats:
    """The first value that is there."""
    place = np.minimum.reduceat(np.where(np.isnan(values), len(values), np.arange(len(values))), starts)
    return np.append(values, _NULL)[place]


def _last(values: Floats, starts: Ints) -> Floats:
    """The last."""
    place = np.maximum.reduceat(np.where(np.isnan(values), -1, np.arange(len(values))), starts)
    return np.append(values, _NULL)[place]


def _words(words: Sequence[str], which: Ints, missing: Bools | None) -> pa.Array:
    """The words of these numbers."""
    return arrow_texts(words).take(arrow_of(which, missing, pa.int64()))
