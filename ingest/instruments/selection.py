"""What a subscription list selects: the instruments of a day's list that fit every criterion that is given. Pure.

Nothing here fails on what the list does not hold: a selection says in words what could not be resolved, and selects
the rest.

Strikes are chosen around a price, mostly that of the underlying. It is not in the list: the caller gives `select` a
function from token to price, and `references` says beforehand which tokens that function will be asked for.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.instruments.chains import NEVER, Floats, Ints, Mask, around, day_number, day_of, expiring
from ingest.instruments.columns import between, chains_of, column, days_of, is_in, mask, options, series_of, upper
from ingest.instruments.criteria import Expiries, Select, Strikes
from ingest.instruments.cycles import cycles_of
from ingest.instruments.listing import SHOWN, Instruments, with_near
from ingest.instruments.underlyings import (
    Chain,
    ChainUnderlying,
    PriceOf,
    notes_on,
    underlyings,
    unpriced,
)
from storage.market import INDEX_DERIVATIVES, derivatives_of

_WILD: Final = re.compile(r"[*?]")


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

    `price_of` is asked for the tokens that `references` gives, for each expiry until there is a price above 0. Without
    one no instrument of that expiry is selected.
    """
    fits, problems, notes = _fitting(instruments, what)
    priced: list[ChainUnderlying] = []
    waiting: list[str] = []
    if what.strikes is not None and what.strikes.around is not None:
        chain, heads = _heads(instruments, fits)
        centres = np.full(len(heads), np.nan)
        if what.strikes.around == "spot":
            found = [one.priced(price_of) for one in underlyings(instruments, heads)]
            centres[:] = [one.price.value if one.price else np.nan for one in found]
            priced = [one for one in found if one.price]
            waiting = unpriced(instruments, [one for one in found if not one.price and one.candidates], priced)
            problems += waiting + unpriced(instruments, [one for one in found if not one.candidates], priced)
            notes += notes_on(instruments, priced)
        else:
            centres[:] = what.strikes.around
        fits &= _near(instruments, what.strikes, fits, chain, centres)
    tokens = tuple(instruments.table["instrument_token"].to_numpy()[fits].tolist())
    if not tokens and not problems:
        problems.append("no instrument of the day's list fits the selection")
    used = {one.token: instruments.symbol(one.token) or str(one.token) for one in priced}
    return Selection(tokens, used, tuple(notes), tuple(problems), tuple(waiting))


def references(instruments: Instruments, what: Select) -> dict[int, str]:
    """The tokens that `select` may ask a price of, with their symbols. None but for strikes around spot."""
    if what.strikes is None or what.strikes.around != "spot":
        return {}
    fits, _, _ = _fitting(instruments, what)
    _, heads = _heads(instruments, fits)
    tokens = (token for one in underlyings(instruments, heads) for token in one.candidates)
    return {token: instruments.symbol(token) or str(token) for token in tokens}


def _fitting(instruments: Instruments, what: Select) -> tuple[Mask, list[str], list[str]]:
    """Which rows fit all but `strikes.around`; in words what the list does not hold, and what was guessed."""
    table = instruments.table
    fits = np.ones(len(instruments), np.bool_)
    problems: list[str] = []
    notes: list[str] = []
    for name, values in (("exchange", what.exchange), ("segment", what.segment), ("name", what.names)):
        if values:
            texts = upper(table, name)
            fits &= is_in(texts, values)
            problems += _absent(instruments, name, values, texts)
    if what.types:
        fits &= is_in(column(table, "instrument_type"), what.types)
    if what.underlying:
        fits &= _derivatives(instruments, what.underlying, problems)
    if what.symbols:
        fits &= _matching(instruments, what.symbols, ("tradingsymbol", "symbol"), problems)
    if what.exclude:
        fits &= ~_matching(instruments, what.exclude, ("tradingsymbol", "symbol", "name"), problems)
    if what.lot_size is not None:
        fits &= between(table, "lot_size", what.lot_size.min, what.lot_size.max)
    if what.strikes is not None:
        fits &= options(table) & between(table, "strike", what.strikes.min, what.strikes.max)
    # Last, since what is guessed of an expiry is noted only if it decides over rows that fit all else.
    if what.expiries is not None and instruments.on is not None:
        fits &= _expiring(instruments, what.expiries, day_number(instruments.on), fits, notes)
    return fits, problems, notes


def _expiring(instruments: Instruments, wanted: Expiries, today: int, others: Mask, notes: list[str]) -> Mask:
    """Rows with an expiry that is wanted. `others` are the rows that fit all else: the notes are on these alone."""
    days = days_of(instruments)
    of_kind = np.ones(len(instruments), np.bool_)
    if wanted.kind is not None:
        cycles = cycles_of(instruments)
        of_kind = cycles.monthly == (wanted.kind == "monthly")
        notes += _guesses(instruments, others & cycles.guessed & (days >= today))
    return expiring(series_of(instruments), days, of_kind, today, wanted)


def _guesses(instruments: Instruments, guessed: Mask) -> Iterator[str]:
    """A note that names the expiries of these rows, if there are any."""
    expiries: dict[str, list[str]] = {}
    for head in sorted(_heads(instruments, guessed)[1], key=lambda head: (head.name, head.expiry)):
        expiries.setdefault(head.name, []).append(str(head.expiry))
    if not expiries:
        return
    texts = []
    for name, days in list(expiries.items())[:SHOWN]:
        more = f" and {len(days) - SHOWN:,} more" if len(days) > SHOWN else ""
        texts.append(f"{name} ({', '.join(days[:SHOWN])}{more})")
    if len(expiries) > SHOWN:
        texts.append(f"and {len(expiries) - SHOWN:,} more names")
    yield (
        "neither symbols nor futures say whether these expiries are weekly or monthly, so the last of a calendar month "
        f"is taken for the monthly one: {', '.join(texts)}"
    )


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
    for each in columns:
        texts = upper(table, each)
        found = is_in(texts, exact)
        fits |= found
        known.update(texts.filter(pa.array(found)).to_pylist())
    unknown = [text for text in exact if text not in known]
    problems += _problem(instruments, "symbol or name" if "name" in columns else "symbol", unknown, instruments.near)
    for pattern in dict.fromkeys(patterns):
        if pattern not in exact:
            texts = column(table, "symbol" if ":" in pattern else "tradingsymbol")
            found = mask(pc.match_substring_regex(texts, _regex(pattern), ignore_case=True))
            fits |= found
            if not found.any():
                problems.append(f"no symbol in the instrument list of {instruments.date} fits the pattern {pattern}")
    return fits


def _regex(pattern: str) -> str:
    parts = {"*": ".*", "?": "."}
    return f"^{''.join(parts.get(letter) or re.escape(letter) for letter in pattern)}$"


def _derivatives(instruments: Instruments, underlying: Sequence[str], problems: list[str]) -> Mask:
    """Rows that expire, with the exchange and the name that derivatives of the underlying have."""
    expires: Mask = days_of(instruments) != NEVER
    texts = pc.binary_join_element_wise(upper(instruments.table, "exchange"), upper(instruments.table, "name"), ":")
    there = set(pc.unique(texts.filter(pa.array(expires))).to_pylist())
    wanted: set[str] = set()
    unknown: list[str] = []
    without: list[str] = []
    for symbol in underlying:
        found = there.intersection(derivatives_of(symbol))
        wanted |= found
        if not found:
            (unknown if instruments.token(symbol) is None else without).append(symbol)

    def near(symbol: str) -> list[str]:
        exchange = symbol.partition(":")[0]
        names = {each.partition(":")[2] for each in there if each} - {*INDEX_DERIVATIVES.values()}
        known = (*INDEX_DERIVATIVES, *(f"{exchange}:{name}" for name in sorted(names)))
        return _alike(symbol, (each for each in known if there.intersection(derivatives_of(each))))

    problems += _problem(instruments, "derivatives of", unknown, near)
    if without:
        named = with_near(without, lambda _: ())
        problems.append(f"the instrument list of {instruments.date} has no derivatives of {named}")
    return is_in(texts, wanted) & expires


def _heads(instruments: Instruments, fits: Mask) -> tuple[Ints, list[Chain]]:
    """The chains among these rows, in ascending order, and what each is."""
    rows = np.flatnonzero(fits)
    chain, first = np.unique(chains_of(instruments)[rows], return_index=True)
    heads = instruments.table.select(["exchange", "name"]).take(pa.array(rows[first])).to_pylist()
    return chain, [
        Chain(head["exchange"], head["name"] or "", day_of(each))
        for each, head in zip(chain.tolist(), heads, strict=True)
    ]


def _near(instruments: Instruments, strikes: Strikes, fits: Mask, chain: Ints, centres: Floats) -> Mask:
    """Which of all rows have a strike near the centre of their chain; NaN is no centre."""
    of_row = chains_of(instruments)
    strike = column(instruments.table, "strike").to_numpy(zero_copy_only=False)
    # The strike at the money is one of all that are listed, also of those that do not fit.
    rows = np.flatnonzero(options(instruments.table) & ~np.isnan(strike) & np.isin(of_row, chain))
    centre = centres[np.searchsorted(chain, of_row[rows])]
    rows, centre = rows[~np.isnan(centre)], centre[~np.isnan(centre)]
    near = np.zeros(len(fits), np.bool_)
    near[rows] = around(of_row[rows], strike[rows], centre, strikes)
    return near
