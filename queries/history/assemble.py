"""Bars of their groups, in columns: what `bars_sql` says in windows, several times as fast where there are many.

Both are under the same tests. Columns are float64, with NaN for null: whole numbers of the wire are exact in them.
"""

from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from queries.history.rows import CLOCKS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_VOLUMES: Final = 1 << 33
"""More than any volume, which the wire has in 32 bits."""
_SUMS: Final = ("volume", "volume_missed", "value", "value_missed", "ticks")


def assemble(groups: pa.Table) -> pa.Table:
    """The bars, in the columns of `bars_sql`.

    `groups` is as `grouped_sql` gives it, in any order.
    """
    keys = [_whole(groups, name) for name in ("place", "instrument_token")]
    order = np.lexsort((*keys, _whole(groups, "date", pa.int32())))
    found = _Groups(groups, order)
    return found.bars()


class _Groups:
    """Groups in the order of their receipt, those of a day and an instrument one after the other."""

    def __init__(self, groups: pa.Table, order: Ints) -> None:
        self._table = groups
        self._order = order
        day, token = _whole(groups, "date", pa.int32())[order], _whole(groups, "instrument_token")[order]
        self._first = np.ones(len(order), np.bool_)
        self._first[1:] = (day[1:] != day[:-1]) | (token[1:] != token[:-1])
        self._run = np.cumsum(self._first)
        self._at = np.arange(len(order))

    def __getitem__(self, name: str) -> Floats:
        values: Floats = self._table[name].to_numpy().astype(np.float64, copy=False)[self._order]
        return values

    def before(self, values: Floats) -> Floats:
        """The last value that is there, of the groups before; NaN if there is none."""
        last = np.maximum.accumulate(np.where(np.isnan(values), -1, self._at))
        place = np.concatenate(([-1], last[:-1]))
        known = (place >= 0) & (self._run[place] == self._run)
        return np.where(known, values[place], np.nan)

    def next(self, which: Bools) -> Ints:
        """Of each the place of the next group for which it holds, itself included; the number of groups if none is."""
        count = len(which)
        place = np.minimum.accumulate(np.where(which, self._at, count)[::-1])[::-1]
        same = np.append(self._run, 0)[place] == self._run
        return np.where(same, place, count)

    def most_before(self, values: Floats, epoch: Ints) -> Floats:
        """The largest value so far in the epoch, this group's left out; 0 if there is none."""
        numbers = np.nan_to_num(values).astype(np.int64) + epoch * _VOLUMES
        most = np.concatenate(([0], np.maximum.accumulate(numbers)[:-1])) - epoch * _VOLUMES
        return np.maximum(most, 0).astype(np.float64)

    def bars(self) -> pa.Table:
        """See `assemble`."""
        ticks, part, bucket = self["ticks"], self["part"], self["bucket"]
        live = ticks > 0
        first_volume, last_volume = self["first_volume"], self["last_volume"]
        anew = first_volume < self.before(last_volume) / 2
        then = self.most_before(last_volume, np.cumsum(self._first | anew))
        last_value, first_value = self["last_value"], self["first_value"]
        value_then = np.where(anew, 0, np.nan_to_num(self.before(last_value)))
        heard, since = self.before(self["last_us"]), self["since_us"]
        away = np.where(np.isnan(since), np.isnan(heard), since > np.where(np.isnan(heard), self["opens_us"], heard))
        first_high, last_high = self["first_high"], self["last_high"]
        first_low, last_low = self["first_low"], self["last_low"]
        rose = last_high > np.where(away, first_high, self.before(last_high))
        fell = last_low < np.where(away, first_low, self.before(last_low))
        into = np.append(bucket, np.nan)[self.next(live & (part == 0))]
        following = np.append(self.next(anew | live)[1:], len(live))
        same = np.append(self._run, 0)[following] == self._run
        of_another_day = ~live & same & np.append(anew, False)[following]
        columns = {
            "open": self["open"],
            "high": np.where(live, np.fmax(self["high"], np.where(rose, last_high, np.nan)), np.nan),
            "low": np.where(live, np.fmin(self["low"], np.where(fell, last_low, np.nan)), np.nan),
            "close": self["close"],
            "cached_price": self["cached_price"],
            "volume": np.maximum(last_volume - then, 0),
            "volume_missed": np.where(away, np.maximum(first_volume - then, 0), last_volume * 0),
            "value": last_value - value_then,
            "value_missed": np.where(away, first_value - value_then, 0),
            "oi": self["oi"],
            "ticks": ticks,
            "timed_by": np.where(live, self["timed_by"], self["timed_by"] + len(CLOCKS)),
        }
        keep = np.flatnonzero((part == 0) & ~of_another_day)
        into = np.where(np.isnan(into), bucket, into)[keep]
        return self._merged(keep, into, {name: values[keep] for name, values in columns.items()})

    def _merged(self, keep: Ints, into: Floats, columns: dict[str, Floats]) -> pa.Table:
        """Groups of one bar as one."""
        if not len(keep):
            starts = np.zeros(0, np.int64)
            order = keep
        else:
            run = self._run[keep]
            order = np.lexsort((into, run))  # stable: in a bar they stay in the order of receipt
            run, into = run[order], into[order]
            starts = np.flatnonzero(np.concatenate(([True], (run[1:] != run[:-1]) | (into[1:] != into[:-1]))))
        columns = {name: values[order] for name, values in columns.items()}
        cached = columns["cached_price"]
        made = {
            "open": _or(_edge(np.minimum, columns["open"], starts), _edge(np.minimum, cached, starts)),
            "high": _or(_reduced(np.fmax, columns["high"], starts), _reduced(np.fmax, cached, starts)),
            "low": _or(_reduced(np.fmin, columns["low"], starts), _reduced(np.fmin, cached, starts)),
            "close": _or(_edge(np.maximum, columns["close"], starts), _edge(np.maximum, cached, starts)),
            **{name: _sum(columns[name], starts) for name in _SUMS},
            "oi": _edge(np.maximum, columns["oi"], starts),
            "timed_by": _reduced(np.fmin, columns["timed_by"], starts) % len(CLOCKS),
        }
        there = np.flatnonzero((made["ticks"] > 0) | (made["volume"] > 0))
        rows = _array(self._order[keep[order[starts[there]]]], None)
        table = self._table.select(["date", "symbol", "instrument_token", "opens_us", "closes_us"]).take(rows)
        table = table.append_column("bucket", _array(into[starts[there]].astype(np.int64), None))
        for name, values in made.items():
            chosen = values[there]
            if name in ("volume", "volume_missed", "oi", "ticks", "timed_by"):
                empty = np.isnan(chosen)
                table = table.append_column(name, _array(np.where(empty, 0, chosen).astype(np.int64), empty))
            else:
                table = table.append_column(name, _array(chosen, np.isnan(chosen)))
        return table


def _whole(groups: pa.Table, name: str, kind: pa.DataType | None = None) -> Ints:
    column = groups[name] if kind is None else groups[name].cast(kind)
    values: Ints = column.to_numpy().astype(np.int64, copy=False)
    return values


def _reduced(how: np.ufunc, values: Floats, starts: Ints) -> Floats:
    result: Floats = how.reduceat(values, starts) if len(starts) else values[:0]
    return result


def _sum(values: Floats, starts: Ints) -> Floats:
    """Without nulls; null where there is nothing else."""
    there = _reduced(np.add, (~np.isnan(values)).astype(np.float64), starts)
    return np.where(there > 0, _reduced(np.add, np.nan_to_num(values), starts), np.nan)


def _edge(how: np.ufunc, values: Floats, starts: Ints) -> Floats:
    """The first value of each that is there, with `minimum`, or the last, with `maximum`."""
    count = len(values)
    missing = count if how is np.minimum else -1
    place = _reduced(how, np.where(np.isnan(values), missing, np.arange(count)).astype(np.float64), starts)
    return np.append(values, np.nan)[place.astype(np.int64)] if len(starts) else values[:0]


def _or(values: Floats, others: Floats) -> Floats:
    return np.where(np.isnan(values), others, values)


def _array(values: NDArray[np.float64] | Ints, missing: Bools | None) -> pa.Array:
    """The column. `pa.array` would import pandas where that is installed."""
    bits = None if missing is None else pa.py_buffer(np.packbits(~missing, bitorder="little"))
    kind = pa.int64() if values.dtype == np.int64 else pa.float64()
    return pa.Array.from_buffers(kind, len(values), [bits, pa.py_buffer(np.ascontiguousarray(values))])
