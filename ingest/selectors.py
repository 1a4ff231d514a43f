"""What a subscription list selects: the instruments of a day's list that fit every criterion that is given. Pure.

Nothing here fails on what the list does not hold: a selection says in words what could not be resolved, and selects
the rest.

Strikes are chosen around a price, mostly that of the underlying. It is not in the list: the caller gives `select` a
function from token to price, and `references` says beforehand which tokens that function will be asked for. They are
the index or the share whose derivatives the options are, and the nearest future of the same name, which serves where
there is neither, as for commodities and currencies, or where it has no price.
"""

import difflib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.chains import NEVER, Floats, Ints, Mask, around, chains, day_number, expiring
from ingest.criteria import OPTIONS, Expiries, LotSize, Select, Strikes
from ingest.instruments import SHOWN, Instruments, with_near

__all__ = [
    "Expiries",
    "LotSize",
    "Price",
    "PriceOf",
    "Select",
    "Selection",
    "Strikes",
    "listed_price",
    "references",
    "select",
]

DERIVATIVE_NAMES: Final = {
    "NSE:NIFTY 50": "NIFTY",
    "NSE:NIFTY BANK": "BANKNIFTY",
    "NSE:NIFTY FIN SERVICE": "FINNIFTY",
    "NSE:NIFTY MID SELECT": "MIDCPNIFTY",
    "NSE:NIFTY NEXT 50": "NIFTYNXT50",
    "BSE:SENSEX": "SENSEX",
    "BSE:BANKEX": "BANKEX",
    "BSE:SNSX50": "SENSEX50",
    "BSE:SENSEX50": "SENSEX50",
}
"""What the derivatives of an index have as their name (broker's instrument list). Those of a share have its symbol."""
EQUITIES: Final = ("NSE", "BSE")
EQUITY_DERIVATIVES: Final = ("NFO", "BFO")

_WILD: Final = re.compile(r"[*?]")


@dataclass(frozen=True)
class Price:
    """A price in rupees, and in words where it is from: "the live stream", "the instrument list"."""

    value: float
    source: str


PriceOf = Callable[[int], Price | None]


@dataclass(frozen=True)
class Selection:
    """What fits. `tokens` has each once, in the order of the list.

    `references` has the instruments around whose prices strikes were chosen, token to symbol. `notes` say in words
    which prices these were, `problems` what could not be resolved. `unpriced` are those of the problems that a price
    would end, when one of `references` gets it.
    """

    tokens: tuple[int, ...]
    references: Mapping[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    unpriced: tuple[str, ...] = ()


def select(instruments: Instruments, what: Select, price_of: PriceOf) -> Selection:
    """The instruments that fit every criterion of `what`. Raises nothing for what the list does not hold.

    `price_of` is asked for the tokens that `references` gives, for each name until there is a price above 0. Without
    one no instrument of that name is selected.
    """
    fits, problems = _fitting(instruments, what)
    priced: list[_Spot] = []
    unpriced: list[str] = []
    if what.strikes is not None and what.strikes.around is not None:
        series, heads = _heads(instruments, fits)
        centres = np.full(len(heads), np.nan)
        if what.strikes.around == "spot":
            spots = [spot.priced(price_of) for spot in _spots(instruments, heads)]
            centres[:] = [spot.price.value if spot.price else np.nan for spot in spots]
            priced = [spot for spot in spots if spot.price]
            unpriced = _unpriced(instruments, [spot for spot in spots if not spot.price and spot.candidates])
            problems += unpriced + _unpriced(instruments, [spot for spot in spots if not spot.candidates])
        else:
            centres[:] = what.strikes.around
        fits &= _near(instruments, what.strikes, fits, series, centres)
    tokens = tuple(instruments.table["instrument_token"].to_numpy()[fits].tolist())
    if not tokens and not problems:
        problems.append("no instrument of the day's list fits the selection")
    used = {spot.token: _symbol(instruments, spot.token) for spot in priced}
    return Selection(tokens, used, tuple(_notes(instruments, priced)), tuple(problems), tuple(unpriced))


def references(instruments: Instruments, what: Select) -> dict[int, str]:
    """The tokens that `select` may ask a price of, with their symbols. None but for strikes around spot."""
    if what.strikes is None or what.strikes.around != "spot":
        return {}
    fits, _ = _fitting(instruments, what)
    _, heads = _heads(instruments, fits)
    tokens = [token for spot in _spots(instruments, heads) for token in spot.candidates]
    return {token: _symbol(instruments, token) for token in tokens}


def listed_price(instruments: Instruments) -> PriceOf:
    """The `last_price` of the instrument list; 0 and null are none."""
    table = instruments.table.select(["instrument_token", "last_price"])
    table = table.filter(pc.greater(table["last_price"], 0))
    prices = dict(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return lambda token: Price(prices[token], "the instrument list") if token in prices else None


def _fitting(instruments: Instruments, what: Select) -> tuple[Mask, list[str]]:
    """Which rows fit all but `strikes.around`, and in words what the list does not hold."""
    table = instruments.table
    fits = np.ones(len(instruments), np.bool_)
    problems: list[str] = []
    for column, values in (("exchange", what.exchange), ("segment", what.segment), ("name", what.names)):
        if values:
            texts = _upper(table, column)
            fits &= _is_in(texts, values)
            problems += _absent(instruments, column, values, texts)
    if what.types:
        fits &= _is_in(_column(table, "instrument_type"), what.types)
    if what.underlying:
        fits &= _derivatives(instruments, what.underlying, problems)
    if what.symbols:
        fits &= _matching(instruments, what.symbols, ("tradingsymbol", "symbol"), problems)
    if what.exclude:
        fits &= ~_matching(instruments, what.exclude, ("tradingsymbol", "symbol", "name"), problems)
    if what.lot_size is not None:
        fits &= _between(table, "lot_size", what.lot_size.min, what.lot_size.max)
    if what.expiries is not None and instruments.on is not None:
        today = day_number(instruments.on)
        fits &= expiring(_series(instruments), _days(instruments), today, what.expiries)
    if what.strikes is not None:
        fits &= _options(table) & _between(table, "strike", what.strikes.min, what.strikes.max)
    return fits, problems


def _column(table: pa.Table, name: str) -> pa.Array:
    return table[name].combine_chunks()


def _upper(table: pa.Table, name: str) -> pa.Array:
    return pc.utf8_upper(_column(table, name))


def _mask(values: pa.Array) -> Mask:
    mask: Mask = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return mask


def _is_in(column: pa.Array, values: Iterable[str]) -> Mask:
    return _mask(pc.is_in(column, pa.array(list(values), pa.string())))


def _between(table: pa.Table, name: str, low: float | None, high: float | None) -> Mask:
    """Both bounds included; null is nowhere."""
    values = _column(table, name).cast(pa.float64()).to_numpy(zero_copy_only=False)
    fits: Mask = (values >= (-math.inf if low is None else low)) & (values <= (math.inf if high is None else high))
    return fits


def _options(table: pa.Table) -> Mask:
    return _is_in(_column(table, "instrument_type"), OPTIONS)


def _absent(instruments: Instruments, what: str, values: Sequence[str], column: pa.Array) -> list[str]:
    """A problem that names those of the values that are not in the column, if there are any."""
    there = dict.fromkeys(pc.unique(column).to_pylist())
    unknown = [value for value in values if value not in there]
    return _problem(instruments, what, unknown, lambda value: _alike(value, there))


def _problem(
    instruments: Instruments, what: str, unknown: Sequence[str], near: Callable[[str], Sequence[str]]
) -> list[str]:
    if not unknown:
        return []
    return [f"not in the instrument list of {instruments.date}: {what} {with_near(unknown, near)}"]


def _alike(value: str, there: Iterable[str | None]) -> list[str]:
    # difflib is slow: show it only what begins alike.
    return difflib.get_close_matches(value, [text for text in there if text and text[0] == value[0]], 3, 0.6)


def _matching(instruments: Instruments, patterns: Sequence[str], columns: Sequence[str], problems: list[str]) -> Mask:
    """Rows that one of the patterns fits: one of the columns as it stands, or the symbol, if it has `*` or `?`."""
    table = instruments.table
    exact = dict.fromkeys(pattern for pattern in patterns if not _WILD.search(pattern))
    known: set[str] = set()
    fits = np.zeros(len(instruments), np.bool_)
    for column in columns:
        texts = _upper(table, column)
        found = _is_in(texts, exact)
        fits |= found
        known.update(texts.filter(pa.array(found)).to_pylist())
    unknown = [text for text in exact if text not in known]
    problems += _problem(instruments, "symbol or name" if "name" in columns else "symbol", unknown, instruments.near)
    for pattern in dict.fromkeys(patterns):
        if pattern not in exact:
            texts = _column(table, "symbol" if ":" in pattern else "tradingsymbol")
            found = _mask(pc.match_substring_regex(texts, _regex(pattern), ignore_case=True))
            fits |= found
            if not found.any():
                problems.append(f"no symbol in the instrument list of {instruments.date} fits the pattern {pattern}")
    return fits


def _regex(pattern: str) -> str:
    parts = {"*": ".*", "?": "."}
    return f"^{''.join(parts.get(letter) or re.escape(letter) for letter in pattern)}$"


def _derivatives(instruments: Instruments, underlying: Sequence[str], problems: list[str]) -> Mask:
    """Rows that expire, with the exchange and the name that derivatives of the underlying have."""
    expires: Mask = _days(instruments) != NEVER
    texts = pc.binary_join_element_wise(_upper(instruments.table, "exchange"), _upper(instruments.table, "name"), ":")
    there = set(pc.unique(texts.filter(pa.array(expires))).to_pylist())
    wanted: set[str] = set()
    unknown = []
    for symbol in underlying:
        exchange, _, tradingsymbol = symbol.partition(":")
        name = DERIVATIVE_NAMES.get(symbol, tradingsymbol)
        found = there & {f"{other}:{name}" for other in _derivative_exchanges(exchange)}
        wanted |= found
        if not found:
            unknown.append(symbol)

    def near(symbol: str) -> list[str]:
        exchange = symbol.partition(":")[0]
        listed = [each.split(":", 1) for each in there if each]
        names = {name for other, name in listed if other in _derivative_exchanges(exchange)}
        indices = [index for index, name in DERIVATIVE_NAMES.items() if name in names]
        shares = [f"{exchange}:{name}" for name in sorted(names - {*DERIVATIVE_NAMES.values()})]
        return _alike(symbol, [*indices, *shares])

    problems += _problem(instruments, "derivatives of", unknown, near)
    return _is_in(texts, wanted) & expires


def _derivative_exchanges(exchange: str) -> tuple[str, ...]:
    return EQUITY_DERIVATIVES if exchange in EQUITIES else (exchange,)


def _days(instruments: Instruments) -> Ints:
    """The expiry of each row, as `ingest.chains` counts it."""
    days: Ints = pc.fill_null(_column(instruments.table, "expiry").cast(pa.int32()), NEVER).to_numpy().astype(np.int64)
    return days


def _series(instruments: Instruments) -> Ints:
    """A number for each row that rows of the same segment and name have in common."""
    segment, name = (
        _column(instruments.table, column).dictionary_encode("encode").indices.to_numpy().astype(np.int64)
        for column in ("segment", "name")
    )
    series: Ints = segment * len(name) + name
    return series


def _heads(instruments: Instruments, fits: Mask) -> tuple[Ints, list[tuple[str, str]]]:
    """The series among these rows, in ascending order, and exchange and name of each."""
    rows = np.flatnonzero(fits)
    series, first = np.unique(_series(instruments)[rows], return_index=True)
    heads = instruments.table.select(["exchange", "name"]).take(rows[first]).to_pylist()
    return series, [(head["exchange"], head["name"] or "") for head in heads]


@dataclass(frozen=True)
class _Spot:
    """Around whose price strikes of a name are chosen: that of the first of the candidates that has one."""

    name: str
    candidates: tuple[int, ...]
    token: int = 0
    price: Price | None = None

    def priced(self, price_of: PriceOf) -> Self:
        for token in self.candidates:
            price = price_of(token)
            if price is not None and 0 < price.value < math.inf:
                return replace(self, token=token, price=price)
        return self


def _spots(instruments: Instruments, heads: Iterable[tuple[str, str]]) -> list[_Spot]:
    """Candidates for each exchange and name: the index or share, then the nearest future."""
    table, today = instruments.table, pa.scalar(instruments.on, pa.date32())
    futures = table.filter(pc.and_(pc.equal(table["instrument_type"], "FUT"), pc.greater_equal(table["expiry"], today)))
    columns = (futures.sort_by("expiry")[name].to_pylist() for name in ("exchange", "name", "instrument_token"))
    nearest: dict[tuple[str, str], int] = {}
    for exchange, name, token in zip(*columns, strict=True):
        nearest.setdefault((exchange, name), token)
    spots = []
    for exchange, name in heads:
        symbols = []
        if exchange in EQUITY_DERIVATIVES:
            symbols = [symbol for symbol, derivative in DERIVATIVE_NAMES.items() if derivative == name]
            symbols += [f"{equities}:{name}" for equities in EQUITIES]
        tokens = [instruments.token(symbol) for symbol in symbols]
        first = next((token for token in tokens if token is not None), None)
        candidates = (first, nearest.get((exchange, name)))
        spots.append(_Spot(name, tuple(token for token in candidates if token is not None)))
    return spots


def _near(instruments: Instruments, strikes: Strikes, fits: Mask, series: Ints, centres: Floats) -> Mask:
    """Which of all rows have a strike near the centre of their series; NaN is no centre."""
    of_row = _series(instruments)
    chain = chains(of_row, _days(instruments))
    strike = _column(instruments.table, "strike").to_numpy(zero_copy_only=False)
    # The strike at the money is one of all that are listed, also of those that do not fit.
    listed = _options(instruments.table) & ~np.isnan(strike) & np.isin(chain, np.unique(chain[fits]))
    rows = np.flatnonzero(listed)
    centre = centres[np.searchsorted(series, of_row[rows])]
    rows, centre = rows[~np.isnan(centre)], centre[~np.isnan(centre)]
    near = np.zeros(len(fits), np.bool_)
    near[rows] = around(chain[rows], strike[rows], centre, strikes)
    return near


def _symbol(instruments: Instruments, token: int) -> str:
    return instruments.symbol(token) or str(token)


def _notes(instruments: Instruments, spots: Sequence[_Spot]) -> Iterator[str]:
    """In words around which prices: each, or of many how many have theirs from where."""
    if len(spots) > SHOWN:
        sources = Counter(spot.price.source for spot in spots if spot.price).most_common(SHOWN)
        counts = [f"{count:,} ({source})" for source, count in sources]
        if others := len(spots) - sum(count for _, count in sources):
            counts.append(f"{others:,} (other sources)")
        futures = sum(spot.token != spot.candidates[0] for spot in spots)
        since = f"; {futures:,} of a future, since the index or share has no price" if futures else ""
        yield f"{len(spots):,} names, each around its own price: {', '.join(counts)}{since}"
        return
    for spot in spots:
        assert spot.price is not None
        first, *_ = spot.candidates
        since = "" if spot.token == first else f", since {_symbol(instruments, first)} has no price"
        price = f"{spot.price.value:,.4f}".removesuffix("00")
        yield f"{spot.name} around {price} of {_symbol(instruments, spot.token)} ({spot.price.source}){since}"


def _unpriced(instruments: Instruments, spots: Sequence[_Spot]) -> list[str]:
    """A problem that names those without a price, if there are any."""
    if not spots:
        return []
    texts = []
    for spot in spots[:SHOWN]:
        symbols = " or ".join(_symbol(instruments, token) for token in spot.candidates)
        texts.append(f"{spot.name} ({symbols or 'no index, share or future of it is listed'})")
    if len(spots) > SHOWN:
        texts.append(f"and {len(spots) - SHOWN:,} more")
    return [f"no price to choose strikes around, so none are selected: {', '.join(texts)}"]
