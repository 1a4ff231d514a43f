"""Expiries and strikes as arrays: which rows of an instrument list are the nearest, and which are at the money. Pure.

Arrays are parallel, one value a row. A series is a number that rows of the same segment and name have in common; a
chain is the contracts of one series that expire on the same day. Days count from 1970-01-01.
"""

import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ingest.instruments.criteria import Expiries, Strikes

NEVER: Final = -1
"""The day of what does not expire."""

_EPOCH: Final = datetime.date(1970, 1, 1)
_MORE_DAYS: Final = 1 << 22  # than there are up to the year 9999, the last that a date can have
_ROUNDING: Final = 1e-9  # of a price: distances that differ by less are equal

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def day_number(date: datetime.date) -> int:
    """Days since 1970-01-01."""
    return (date - _EPOCH).days


def chains(series: Ints, days: Ints) -> Ints:
    """A number for each row that rows of the same series and day have in common."""
    return series * _MORE_DAYS + days


def expiring(series: Ints, days: Ints, of_kind: Mask, today: int, wanted: Expiries) -> Mask:
    """Which rows expire on a day that is wanted, or never. `of_kind` are the rows whose chain is of the kind wanted."""
    fits: Mask = days == NEVER
    expires = ~fits
    if not expires.any():
        return fits
    each, first, row = np.unique(chains(series[expires], days[expires]), return_index=True, return_inverse=True)
    group, day = np.divmod(each, _MORE_DAYS)
    fitting = of_kind[expires][first] & (day >= today)
    if wanted.before is not None:
        fitting &= day < day_number(wanted.before)
    if wanted.nearest is not None:
        place = np.cumsum(fitting)
        starts, member = _runs(group)
        fitting &= place - (place - fitting)[starts][member] <= wanted.nearest
    fits[expires] = fitting[row]
    return fits


def last_of_month(each: Ints) -> Mask:
    """Of chains in ascending order: which expire as the last of their series in a calendar month."""
    group, day = np.divmod(each, _MORE_DAYS)
    month = day.astype("datetime64[D]").astype("datetime64[M]")
    last = np.ones(len(each), np.bool_)
    last[:-1] = _begins(group)[1:] | _begins(month)[1:]
    return last


def day_of(chain: int) -> datetime.date:
    """The day on which a chain expires."""
    return _EPOCH + datetime.timedelta(days=chain % _MORE_DAYS)


def around(chain: Ints, strikes: Floats, centres: Floats, wanted: Strikes) -> Mask:
    """Which strikes are as near as wanted to the centre of their chain, which is a price in rupees.

    The strikes must be all that are listed of each chain; one that stands twice counts once. `centres` has one value a
    row, the same for all of a chain.
    """
    order = np.lexsort((strikes, chain))
    chain, strikes, centres = chain[order], strikes[order], centres[order]
    distances = np.abs(strikes - centres)
    if wanted.percent is not None:
        near = distances <= (wanted.percent / 100 + _ROUNDING) * centres
    else:
        starts, member = _runs(chain)
        place = np.cumsum(_begins(chain) | _begins(strikes))
        nearest = np.minimum.reduceat(distances, starts)[member]
        # The first of equally near ones is the lowest.
        others = np.where(distances <= nearest + _ROUNDING * centres, place, len(place) + 1)
        at_the_money = np.minimum.reduceat(others, starts)[member]
        near = np.abs(place - at_the_money) <= wanted.count
    fits = np.zeros(len(order), np.bool_)
    fits[order] = near
    return fits


def _begins(values: npt.NDArray[Any]) -> Mask:
    """Where a value differs from the one before it; the first one does."""
    begins = np.ones(len(values), np.bool_)
    begins[1:] = values[1:] != values[:-1]
    return begins


def _runs(values: Ints) -> tuple[Ints, Ints]:
    """Of a sorted array: where each run of equal values starts, and the number of the run that each value is in."""
    begins = _begins(values)
    return np.flatnonzero(begins), np.cumsum(begins) - 1
