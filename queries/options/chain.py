"""The option chain as of moments: one row a strike, quotes of both sides, implied volatility and greeks.

- **Forward.** The mid of the future of the same expiry (for commodities and currencies: of the future that the options
  are on); else by put-call parity, F = K + (call − put) / D, the median over the PARITY_STRIKES strikes nearest to the
  money whose call and put have good quotes; else the future's last price. `forward_from` says which: `future`,
  `parity`, `last`.
- **Price.** The mid of a two-sided quote that does not cross. A last price is no substitute: it may be hours older than
  the forward. So there is no volatility without a book.
- **Time** to the last session's close on the day of expiry, over 365 days.
- **Volatility** is null where the price is within half a rupee of intrinsic value (or within ten ticks, where those are
  less, as for currencies): there it says more about the tick than about the option. Greeks are null with it.
"""

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from queries.errors import QueryError
from queries.history import Moment
from queries.lake import LakeState, Result
from queries.options.contracts import OPTIONS, Contracts, Expiry, closes_at, contracts
from queries.options.quotes import Quotes, quotes
from queries.options.volatility import Floats, greeks, implied_volatility, over_intrinsic
from storage.clock import microseconds, nanoseconds
from storage.market import InstrumentKind
from storage.schema import TIMESTAMP

PARITY_STRIKES: Final = 5
LEAST_TIME_VALUE: Final = 0.5
LEAST_TICKS: Final = 10
_YEAR_SECONDS: Final = 365 * 86_400
_SIDES: Final = ("call", "put")
_PRICES: Final = ("bid", "ask", "last")
_COUNTS: Final = ("volume", "oi")
_GREEKS: Final = ("delta", "gamma", "vega", "theta")


def _side_fields(side: str) -> Iterator[tuple[str, pa.DataType]]:
    yield f"{side}_symbol", pa.string()
    yield from ((f"{side}_{name}", pa.float64()) for name in _PRICES)
    yield from ((f"{side}_{name}", pa.int64()) for name in _COUNTS)
    yield from ((f"{side}_{name}", pa.float64()) for name in ("iv", *_GREEKS))
    yield f"{side}_received_at", TIMESTAMP


SCHEMA: Final = pa.schema(
    [
        ("moment", TIMESTAMP),
        ("underlying", pa.string()),
        ("expiry", pa.date32()),
        ("years", pa.float64()),
        ("strike", pa.float64()),
        ("lot_size", pa.int64()),
        ("spot", pa.float64()),
        ("future", pa.string()),
        ("forward", pa.float64()),
        ("forward_from", pa.string()),
        ("moneyness", pa.float64()),
        *(field for side in _SIDES for field in _side_fields(side)),
    ]
)


def chain(
    state: LakeState, underlying: str, moments: Sequence[dt.datetime], expiry: Moment | None, rate: float
) -> Result:
    """By moment and strike. Raises SymbolError and ExpiryError, of the first day on which it is one; and QueryError for
    a rate that is none."""
    if not hasattr(rate, "__float__") or not math.isfinite(rate):
        raise QueryError(f"rate: got {rate!r}, expected interest a year as a fraction, such as 0.065")
    parts = []
    for day, of_day in groupby(sorted(set(moments)), dt.datetime.date):
        listed = contracts(state, underlying, day, options=True)
        parts.append(_of_day(state, listed, listed.chosen(expiry), list(of_day), rate))
    return state.rows(pa.concat_tables(parts))


@dataclass(frozen=True)
class _Strikes:
    """The strikes of an expiry, ascending; of each side the token (0: not listed) and the symbol, in that order."""

    strikes: Floats
    lots: list[int | None]
    ticks: Floats
    tokens: tuple[list[int], list[int]]
    symbols: tuple[list[str | None], list[str | None]]

    @classmethod
    def of(cls, rows: pa.StructArray) -> "_Strikes":
        by_strike: dict[float, dict[str, dict[str, Any]]] = {}
        for row in rows.to_pylist():
            if row["instrument_type"] in OPTIONS and row["strike"] is not None:
                by_strike.setdefault(row["strike"], {}).setdefault(row["instrument_type"], row)
        either = [next(iter(sides.values())) for sides in by_strike.values()]
        sides = [[sides.get(kind) for sides in by_strike.values()] for kind in OPTIONS]
        calls, puts = ([0 if one is None else one["instrument_token"] for one in side] for side in sides)
        names = [[None if one is None else one["symbol"] for one in side] for side in sides]
        ticks = np.array([one["tick_size"] or np.nan for one in either])
        lots = [one["lot_size"] for one in either]
        return cls(np.array(list(by_strike)), lots, ticks, (calls, puts), (names[0], names[1]))


def _of_day(
    state: LakeState, listed: Contracts, expiry: Expiry, moments: Sequence[dt.datetime], rate: float
) -> pa.Table:
    each = _Strikes.of(expiry.rows)
    future = listed.future_under(expiry.date)
    count = len(each.strikes)
    above = [0 if one is None else one[0] for one in (listed.spot, future)]
    found = quotes(state, listed.day, [above, [*each.tokens[0], *each.tokens[1]]], moments)
    sides = found[2 : 2 + count], found[2 + count :]
    close = closes_at(listed.exchange, InstrumentKind.OPTION, expiry.date)
    years = np.array([(close - moment).total_seconds() / _YEAR_SECONDS for moment in moments])[:, None]
    forward, forward_from = _forward(each.strikes, years, found[[1]], sides, rate)
    columns: dict[str, Sequence[object] | Floats] = {
        "moment": np.repeat(np.array([microseconds(nanoseconds(moment)) for moment in moments]), count),
        "underlying": [str(listed)] * (len(moments) * count),
        "expiry": [expiry.date] * (len(moments) * count),
        "years": np.repeat(years, count),
        "strike": np.tile(each.strikes, len(moments)),
        "lot_size": each.lots * len(moments),
        "spot": np.repeat(found.price[:, 0], count),
        "future": [future and future[1]] * (len(moments) * count),
        "forward": np.repeat(forward, count),
        "forward_from": [name for name in forward_from for _ in range(count)],
        "moneyness": (each.strikes / forward).ravel(),
    }
    for number, (side, quoted) in enumerate(zip(_SIDES, sides, strict=True)):
        columns[f"{side}_symbol"] = each.symbols[number] * len(moments)
        for name in (*_PRICES, *_COUNTS):
            columns[f"{side}_{name}"] = getattr(quoted, name).ravel()
        columns[f"{side}_received_at"] = quoted.received_us.ravel()
        volatility = _volatility(quoted.mid, forward, each, years, number, rate)
        columns[f"{side}_iv"] = volatility.ravel()
        of = greeks(forward, each.strikes, years, volatility, number, rate)
        columns |= {f"{side}_{name}": getattr(of, name).ravel() for name in _GREEKS}
    return pa.Table.from_arrays([_column(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def _volatility(mid: Floats, forward: Floats, each: _Strikes, years: Floats, is_put: int, rate: float) -> Floats:
    least = np.fmin(LEAST_TIME_VALUE, LEAST_TICKS * each.ticks)
    value = over_intrinsic(mid, forward, each.strikes, years, is_put, rate)
    # Exactly half a rupee is within it, however the differences round.
    far = np.where(value > least * (1 + 1e-9), mid, np.nan)
    return implied_volatility(far, forward, each.strikes, years, is_put, rate)


def _forward(
    strikes: Floats, years: Floats, future: Quotes, sides: tuple[Quotes, Quotes], rate: float
) -> tuple[Floats, list[str | None]]:
    """(moments, 1) forwards, NaN where there is none, and where each is from."""
    by_parity = _parity(strikes, years, sides, rate)
    known = {"future": future.mid, "parity": by_parity, "last": future.last}
    forward = np.full(by_parity.shape, np.nan)
    source: NDArray[np.object_] = np.full(len(forward), None, object)
    for name, values in known.items():
        take = np.isnan(forward) & (values > 0)
        forward = np.where(take, values, forward)
        source[take[:, 0]] = name
    return forward, source.tolist()


def _parity(strikes: Floats, years: Floats, sides: tuple[Quotes, Quotes], rate: float) -> Floats:
    """By put-call parity. A strike is as far from the money as its call and put differ; a wide quote counts as far, by
    what it leaves open."""
    call, put = sides
    grown = np.exp(rate * np.maximum(years, 0))
    said = strikes + (call.mid - put.mid) * grown
    unsure = np.abs(call.mid - put.mid) + (call.ask - call.bid + put.ask - put.bid) / 2
    unsure[np.isnan(said)] = np.inf
    nearest = np.argsort(unsure, axis=1, kind="stable")[:, :PARITY_STRIKES]
    values = np.take_along_axis(said, nearest, axis=1)
    result = np.full((len(values), 1), np.nan)
    some = ~np.isnan(values).all(axis=1)
    result[some, 0] = np.nanmedian(values[some], axis=1)
    return result


def _column(values: Sequence[object] | Floats, kind: pa.DataType) -> pa.Array:
    """An array of that type, null where there is NaN."""
    if not isinstance(values, np.ndarray):
        return pa.array(values, kind)
    mask = np.isnan(values)
    if pa.types.is_floating(kind):
        return pa.array(values, kind, mask=mask)
    return pa.array(np.where(mask, 0, values).astype(np.int64), pa.int64(), mask=mask).cast(kind)
