"""The futures and options of a name, as the instrument list in force on a day has them.

`queries.history.underlyings` says what names there are. A contract is weekly or monthly by its own symbol.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from queries.arguments import is_text
from queries.errors import ExpiryError, SymbolError
from queries.history import NAMES, Moment, day_of, listed_under, listings, lists_in_force, meant
from queries.lake import LakeState, Result, literal
from storage.clock import IST
from storage.market import (
    EQUITY_DERIVATIVES,
    FUTURE,
    Cycle,
    InstrumentKind,
    cycle_of,
    span_of,
    spot_of,
    usual_sessions,
)

OPTIONS: Final = ("CE", "PE")
_ROW: Final = (
    "instrument_token", "symbol", "tradingsymbol", "strike", "instrument_type", "lot_size", "tick_size",
)  # fmt: skip
_SHOWN: Final = 24


@dataclass(frozen=True)
class Expiry:
    """One day on which contracts of a name expire. `rows` are those, by strike, type and symbol, with the columns _ROW;
    there may be many. `futures` are those among them that are futures: one, or none."""

    date: dt.date
    cycle: Cycle | None
    strikes: int
    options: int
    rows: pa.StructArray
    futures: list[dict[str, Any]]

    @property
    def future(self) -> tuple[int, str] | None:
        """The token and the symbol of the future that expires then."""
        return next(((row["instrument_token"], row["symbol"]) for row in self.futures), None)

    def __str__(self) -> str:
        return f"{self.date} ({self.cycle})" if self.cycle else str(self.date)


@dataclass(frozen=True)
class Contracts:
    """What of a name has not expired on `day`, by expiry. `spot` is the token and the symbol of the index or share."""

    exchange: str
    name: str
    day: dt.date
    expiries: tuple[Expiry, ...]
    spot: tuple[int, str] | None

    def __str__(self) -> str:
        return f"{self.exchange}:{self.name}"

    def chosen(self, asked: Moment | None) -> Expiry:
        """The expiry of options that is meant: a date, `weekly` or `monthly` for the nearest such one, None for the
        nearest. Raises ExpiryError."""
        known = [each for each in self.expiries if each.options]
        if isinstance(asked, str) and asked.strip().lower() in tuple(Cycle):
            found = [each for each in known if each.cycle == asked.strip().lower()]
        elif asked is None:
            found = known
        else:
            day = day_of(asked, "expiry (a date, weekly, monthly, or None for the nearest)")
            found = [each for each in known if each.date == day]
        if not found:
            some = ", ".join(map(str, known[:_SHOWN])) or "none"
            raise ExpiryError(
                f"expiry: got {asked!s}, expected one that the list of {self.day} has options of {self} for: {some}"
            )
        return found[0]

    def future_under(self, expiry: dt.date) -> tuple[int, str] | None:
        """The token and the symbol of the future whose price is the forward of options with that expiry.

        Options on an index or a share are on that, so it is the future of the same expiry; those on commodities and
        currencies are on a future, on the first one that does not expire before they do.
        """
        same = self.exchange in EQUITY_DERIVATIVES
        there = (each for each in self.expiries if (each.date == expiry if same else each.date >= expiry))
        return next((each.future for each in there if each.future is not None), None)


def contracts(state: LakeState, name: str, day: dt.date, *, options: bool) -> Contracts:
    """What the name has on that day. Raises SymbolError if it has no options, or no futures unless `options`; and if
    several exchanges have it and none goes first."""
    found = [
        one for one in every(state, name, day) if any(each.options if options else each.future for each in one.expiries)
    ]
    if not found:
        raise SymbolError(_nothing(name, day, "options" if options else "futures"))
    return meant(name, found, lambda one: one.exchange, str)


def _nothing(name: str, day: dt.date, what: str) -> str:
    return f"{name}: the instrument list has no {what} of it on {day}; expected {NAMES}"


def every(state: LakeState, name: str, day: dt.date) -> list[Contracts]:
    """Those of each exchange that has the name. Raises SymbolError for what is none, or if no list is in force."""
    if not is_text(name):
        raise SymbolError(f"got {name!r}, expected {NAMES}")
    listed = lists_in_force(state, [day]).get(day)
    if listed is None:
        raise SymbolError(f"{name}: there is no instrument list of {day} or before, which would say what it is")
    return state.remembered("contracts", (name, day), ["instruments"], lambda: _looked_up(state, name, day, listed))


def _looked_up(state: LakeState, name: str, day: dt.date, listed: dt.date) -> list[Contracts]:
    spots = {symbol for exchange, of in listings(name) for symbol in _spots(exchange, of)}
    columns = ", ".join(f"'{column}': {column}" for column in _ROW)
    rows_in_order = f"list({{{columns}}} ORDER BY strike, instrument_type, symbol)"
    rows = state.sql(
        f"""
        SELECT exchange, name, expiry, {rows_in_order} AS rows,
            coalesce({rows_in_order} FILTER (instrument_type = '{FUTURE}'), []) AS futures,
            count(DISTINCT strike) FILTER (instrument_type IN {OPTIONS}) AS strikes,
            count(strike) FILTER (instrument_type IN {OPTIONS}) AS options
        FROM instruments WHERE date = DATE '{listed}' AND (
            (instrument_type IN {(FUTURE, *OPTIONS)} AND expiry >= DATE '{day}' AND ({listed_under(name)}))
            OR symbol IN ({", ".join(map(literal, sorted(spots)))})
        ) GROUP BY exchange, name, expiry ORDER BY exchange, name, expiry
        """
    ).arrow()
    found: dict[tuple[str, str], list[Expiry]] = {}
    there: dict[str, int] = {}
    inside = rows["rows"].combine_chunks()
    for number, row in enumerate(rows.drop_columns("rows").to_pylist()):
        of_row = inside[number].values
        if row["expiry"] is None:
            there |= {one["symbol"]: one["instrument_token"] for one in of_row.to_pylist()}
        else:
            cycle = _cycle(row["expiry"], of_row)
            expiry = Expiry(row["expiry"], cycle, row["strikes"], row["options"], of_row, row["futures"])
            found.setdefault((row["exchange"], row["name"]), []).append(expiry)
    return [
        Contracts(exchange, of, day, tuple(several), _spot(exchange, of, there))
        for (exchange, of), several in found.items()
    ]


def expiries(state: LakeState, name: str, day: dt.date | None) -> Result:
    """One row an exchange and expiry: what expires then. Raises SymbolError for a name without futures and options."""
    day = day or max([*state.dates("ticks"), *state.dates("instruments")], default=dt.datetime.now(IST).date())
    found = every(state, name, day)
    if not found:
        raise SymbolError(_nothing(name, day, "futures or options"))
    rows = [
        {
            "exchange": one.exchange,
            "name": one.name,
            "expiry": each.date,
            "cycle": each.cycle,
            "strikes": each.strikes,
            "options": each.options,
            "future": each.future and each.future[1],
        }
        for one in found
        for each in one.expiries
    ]
    return state.rows(pa.Table.from_pylist(rows, _EXPIRIES))


_EXPIRIES: Final = pa.schema(
    {
        "exchange": pa.string(),
        "name": pa.string(),
        "expiry": pa.date32(),
        "cycle": pa.string(),
        "strikes": pa.int64(),
        "options": pa.int64(),
        "future": pa.string(),
    }
)


def closes_at(exchange: str, kind: InstrumentKind, day: dt.date) -> dt.datetime:
    """The end of that day's last session, by the usual hours of that date."""
    return span_of(day, usual_sessions(exchange, day)[kind][-1].hours).stop


def _spots(exchange: str, name: str) -> list[str]:
    exchanges = (exchange,) if exchange else (*EQUITY_DERIVATIVES, "MCX")
    return [symbol for each in exchanges for symbol in spot_of(each, name)]


def _spot(exchange: str, name: str, there: dict[str, int]) -> tuple[int, str] | None:
    return next(((there[symbol], symbol) for symbol in spot_of(exchange, name) if symbol in there), None)


def _cycle(day: dt.date, rows: pa.StructArray) -> Cycle | None:
    """What the first of the contracts says, else the last."""
    for row in (rows[0].as_py(), rows[-1].as_py()):
        said = cycle_of(row["tradingsymbol"], row["instrument_type"], day, row["strike"] or 0.0)
        if said is not None:
            return said
    return None
