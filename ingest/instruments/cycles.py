"""Which rows of an instrument list are of monthly contracts. Pure.

The contract says it (`storage.market.contracts`). Where the symbols of a chain are in no form that is known, a future
of its name that expires on the same day makes it the monthly one; that there is none means nothing, since options are
listed longer than futures, and those of commodities expire on days of their own. What is left is guessed: the last
expiry of a calendar month is taken for the monthly one.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.instruments.chains import NEVER, Ints, Mask, last_of_month
from ingest.instruments.columns import chains_of, days_of
from ingest.instruments.listing import Instruments
from storage.market import FUTURE, Cycle, cycle_of

_ASKED: Final = ("exchange", "name", "tradingsymbol", "instrument_type", "expiry", "strike")


@dataclass(frozen=True)
class Cycles:
    """One value a row; both are no for what does not expire. `guessed` are those whose `monthly` is by the calendar."""

    monthly: Mask
    guessed: Mask


def cycles_of(instruments: Instruments) -> Cycles:
    """Of each row, by what its chain says."""
    rows = np.flatnonzero(days_of(instruments) != NEVER)
    each, first, chain = np.unique(chains_of(instruments)[rows], return_index=True, return_inverse=True)
    # One contract of each chain is asked, and only where it says nothing are all the others.
    said = _said(instruments.table, rows[first], np.arange(len(each)))
    silent = np.setdiff1d(np.arange(len(each)), np.fromiter(said, np.int64))
    others = np.isin(chain, silent)
    said |= _said(instruments.table, rows[others], chain[others])
    monthly = last_of_month(each)
    guessed = np.zeros(len(each), np.bool_)
    heads = instruments.table.select(_ASKED).take(pa.array(rows[first[silent]])).to_pylist()
    futures = _monthly_futures(instruments.table) if heads else set()
    for place, head in zip(silent.tolist(), heads, strict=True):
        if place not in said and (head["exchange"], head["name"], head["expiry"]) in futures:
            said[place] = Cycle.MONTHLY
        guessed[place] = place not in said
    monthly[list(said)] = [cycle is Cycle.MONTHLY for cycle in said.values()]
    return Cycles(*(_of_rows(len(instruments), rows, values[chain]) for values in (monthly, guessed)))


def _of_rows(count: int, rows: Ints, values: Mask) -> Mask:
    of_rows = np.zeros(count, np.bool_)
    of_rows[rows] = values
    return of_rows


def _said(table: pa.Table, rows: Ints, chain: Ints) -> dict[int, Cycle]:
    """What these contracts say, by their chain; of several in one chain, the first that says anything."""
    said: dict[int, Cycle] = {}
    for place, row in zip(chain.tolist(), table.select(_ASKED).take(pa.array(rows)).to_pylist(), strict=True):
        if place not in said and (cycle := _says(row)) is not None:
            said[place] = cycle
    return said


def _says(row: dict[str, Any]) -> Cycle | None:
    return cycle_of(row["tradingsymbol"], row["instrument_type"], row["expiry"], row["strike"] or 0)


def _monthly_futures(table: pa.Table) -> set[tuple[str, str | None, dt.date]]:
    """Exchange, name and expiry of the futures, without those that say that they are weekly ones."""
    futures = table.select(_ASKED).filter(pc.equal(table["instrument_type"], FUTURE)).to_pylist()
    return {(row["exchange"], row["name"], row["expiry"]) for row in futures if _says(row) is not Cycle.WEEKLY}
