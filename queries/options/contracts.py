"""The futures and options of a name, as the instrument list in force on a day has them.

A name is said as people say it: NIFTY, RELIANCE, MCX:CRUDEOIL, or as the index or the share, NSE:NIFTY 50. One without
an exchange is NSE's if NSE lists derivatives of it, else BSE's, else that of the one other exchange that has it. With
NSE or BSE it is that of a share or an index, whose derivatives are on its own exchange if both have some. A contract is
weekly or monthly by its own symbol.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from queries.errors import ExpiryError, SymbolError
from queries.history import Moment, day_of, lists_in_force
from queries.lake import LakeState, Result, literal
from storage.market import (
    EQUITIES,
    EQUITY_DERIVATIVES,
    FUTURE,
    INDEX_DERIVATIVES,
    Cycle,
    InstrumentKind,
    cycle_of,
    derivatives_of,
    span_of,
    spot_of,
    usual_sessions,
)

OPTIONS: Final = ("CE", "PE")
_IS_OPTION: Final = pc.field("instrument_type").isin(list(OPTIONS))
_SHOWN: Final = 24


@dataclass(frozen=True)
class Expiry:
    """One day on which contracts of a name expire. `future` is the token and the symbol of that which does."""

    date: dt.date
    cycle: Cycle | None
    strikes: int
    options: int
    future: tuple[int, str] | None

    def __str__(self) -> str:
        return f"{self.date} ({self.cycle})" if self.cycle else str(self.date)


@dataclass(frozen=True)
class Contracts:
    """What of a name has not expired on `day`. `rows` are of the instrument list, by expiry, strike and type; `spot`
    is the token and the symbol of the index or the share."""

    exchange: str
    name: str
    day: dt.date
    rows: pa.Table
    spot: tuple[int, str] | None

    def __str__(self) -> str:
        return f"{self.exchange}:{self.name}"

    def expiries(self) -> list[Expiry]:
        """The days on which any of it expires, ascending."""
        found: dict[dt.date, list[dict[str, Any]]] = {}
        names = ["expiry", "tradingsymbol", "instrument_type", "strike", "instrument_token", "symbol"]
        for row in self.rows.select(names).to_pylist():
            found.setdefault(row["expiry"], []).append(row)
        return [_expiry(day, rows) for day, rows in found.items()]

    def options(self, expiry: dt.date) -> pa.Table:
        """The options that expire on that day."""
        return self.rows.filter(_IS_OPTION & pc.field("strike").is_valid() & (pc.field("expiry") == pa.scalar(expiry)))

    def chosen(self, asked: "Moment | None") -> dt.date:
        """The expiry that is meant: a date, `weekly` or `monthly` for the nearest such one, None for the nearest.

        Raises ExpiryError.
        """
        known = [each for each in self.expiries() if each.options]
        if isinstance(asked, str) and asked.strip().lower() in tuple(Cycle):
            found = [each.date for each in known if each.cycle == asked.strip().lower()]
        elif asked is None:
            found = [each.date for each in known]
        else:
            day = day_of(asked, "expiry (a date, weekly, monthly, or None for the nearest)")
            found = [each.date for each in known if each.date == day]
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
        there = [each for each in self.expiries() if each.future is not None and each.date >= expiry]
        if self.exchange in EQUITY_DERIVATIVES:
            there = [each for each in there if each.date == expiry]
        return there[0].future if there else None


def contracts(state: LakeState, name: str, day: dt.date, kinds: Sequence[str]) -> Contracts:
    """What the name has on that day. Raises SymbolError if it has none of these instrument types, or if several
    exchanges have it and none goes first."""
    found = [each for each in every(state, name, day) if set(each.rows["instrument_type"].to_pylist()) & set(kinds)]
    if not found:
        what = " or ".join(word for kind, word in ((FUTURE, "futures"), (OPTIONS[0], "options")) if kind in kinds)
        raise SymbolError(
            f"{name}: the instrument list has no {what} of it on {day}; "
            "expected a name such as NIFTY, NSE:NIFTY 50, RELIANCE or MCX:CRUDEOIL"
        )
    order = home_first(name)
    places = [order.index(each.exchange) if each.exchange in order else len(order) for each in found]
    first = [each for each, place in zip(found, places, strict=True) if place == min(places)]
    if len(first) > 1:
        choices = ", ".join(map(str, first))
        raise SymbolError(f"{name}: got a name of {len(first)} exchanges, expected one of {choices}")
    return first[0]


def home_first(name: str) -> tuple[str, ...]:
    """The exchanges that go before others, in order: NSE's derivatives before BSE's, but for a share of BSE."""
    return EQUITY_DERIVATIVES[::-1] if name.strip().upper().startswith("BSE:") else EQUITY_DERIVATIVES


def every(state: LakeState, name: str, day: dt.date) -> list[Contracts]:
    """Those of each exchange that has the name. Raises SymbolError if no list is in force on that day."""
    listed = lists_in_force(state, [day]).get(day)
    if listed is None:
        raise SymbolError(f"{name}: there is no instrument list of {day} or before, which would say what it is")
    pairs = _pairs(name)
    spots = {symbol for exchange, of in pairs for symbol in _spots(exchange, of)}
    which = " OR ".join(
        f"(name = {literal(of)}" + (f" AND exchange = {literal(exchange)})" if exchange else ")")
        for exchange, of in pairs
    )
    rows = state.sql(
        f"""
        SELECT exchange, name, instrument_token, symbol, tradingsymbol, expiry, strike, instrument_type, lot_size,
            tick_size
        FROM instruments WHERE date = DATE '{listed}' AND (
            (instrument_type IN ('{FUTURE}', 'CE', 'PE') AND expiry >= DATE '{day}' AND ({which}))
            OR symbol IN ({", ".join(map(literal, sorted(spots)))})
        ) ORDER BY exchange, name, expiry, strike, instrument_type, symbol
        """
    ).arrow()
    listed_spots = dict(zip(rows["symbol"].to_pylist(), rows["instrument_token"].to_pylist(), strict=True))
    rows = rows.filter(_IS_OPTION | (pc.field("instrument_type") == FUTURE))
    there = sorted(set(zip(rows["exchange"].to_pylist(), rows["name"].to_pylist(), strict=True)))
    return [_contracts(exchange, of, day, rows, listed_spots) for exchange, of in there]


def expiries(state: LakeState, name: str, day: dt.date | None) -> Result:
    """One row an exchange and expiry: what expires then. Raises SymbolError for a name without futures and options."""
    day = day or max([*state.dates("ticks"), *state.dates("instruments")], default=dt.date.min)
    found = every(state, name, day)
    if not found:
        contracts(state, name, day, (FUTURE, *OPTIONS))
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
        for each in one.expiries()
    ]
    return state.rows("expiries", pa.Table.from_pylist(rows, _EXPIRIES))


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


def _pairs(name: str) -> list[tuple[str, str]]:
    """Exchange (empty: any) and name under which derivatives of it may be listed."""
    text = name.strip().upper()
    if not text:
        raise SymbolError(f"got {name!r}, expected a name such as NIFTY, NSE:NIFTY 50, RELIANCE or MCX:CRUDEOIL")
    if ":" in text:
        found = [each.partition(":") for each in derivatives_of(text)]
        return [(exchange, of) for exchange, _, of in found]
    indices = [INDEX_DERIVATIVES.get(f"{home}:{text}", text) for home in EQUITIES]
    return [("", of) for of in dict.fromkeys([text, *indices])]


def _spots(exchange: str, name: str) -> list[str]:
    exchanges = (exchange,) if exchange else (*EQUITY_DERIVATIVES, "MCX")
    return [symbol for each in exchanges for symbol in spot_of(each, name)]


def _contracts(exchange: str, name: str, day: dt.date, rows: pa.Table, spots: dict[str, int]) -> Contracts:
    mine = rows.filter((pc.field("exchange") == exchange) & (pc.field("name") == name))
    spot = next(((spots[symbol], symbol) for symbol in spot_of(exchange, name) if symbol in spots), None)
    return Contracts(exchange, name, day, mine, spot)


def _expiry(day: dt.date, rows: list[dict[str, Any]]) -> Expiry:
    said = (cycle_of(row["tradingsymbol"], row["instrument_type"], day, row["strike"] or 0.0) for row in rows)
    options = [row["strike"] for row in rows if row["instrument_type"] in OPTIONS]
    futures = [(row["instrument_token"], row["symbol"]) for row in rows if row["instrument_type"] == FUTURE]
    cycle = next((each for each in said if each is not None), None)
    return Expiry(day, cycle, len(set(options)), len(options), futures[0] if futures else None)
