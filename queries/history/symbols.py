"""Instruments by name, list, pattern or token, as the instrument list of each day has them.

A name is `EXCHANGE:TRADINGSYMBOL`, as in `NSE:INFY`; one without an exchange is NSE's. `*` and `?` in a name make it a
pattern: `NFO:NIFTY26NOV*CE`. A number is an instrument token, which means something only together with a day. `near`
is the nearest future of each day. The list in force on a day is that day's, or the newest one before it.
"""

import datetime as dt
import difflib
import operator
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from queries.arguments import is_text, is_whole
from queries.errors import SymbolError
from queries.history.moments import TimeRange
from queries.history.naming import Near, Symbol, Symbols
from queries.history.underlyings import NAMES, listed_under, meant
from queries.lake import LakeState, among, literal
from storage.market import FUTURE, exchange_of_token

_NEAR_MATCHES: Final = 5
_DEFAULT_EXCHANGE: Final = "NSE"
_WILD: Final = re.compile(r"[*?]")
_EXPECTED: Final = "expected names such as NSE:INFY, tokens such as 408065, or near(name)"


@dataclass(frozen=True)
class Resolved:
    """What one thing that was asked for is: `instruments` are (token, symbol), of all days together.

    `days` has those of the range on which it is anything; for `near`, what it is on each.
    """

    asked: Symbol
    instruments: tuple[tuple[int, str | None], ...]
    days: frozenset[dt.date] = frozenset()
    of_day: dict[dt.date, tuple[int, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """What was asked for on these days."""

    days: tuple[dt.date, ...]
    resolved: tuple[Resolved, ...]
    lists: frozenset[dt.date]

    @property
    def missing(self) -> list[Symbol]:
        """What is nothing on any of the days."""
        return [each.asked for each in self.resolved if not each.instruments]

    @property
    def tokens(self) -> list[int]:
        """All tokens, ascending."""
        return sorted({token for each in self.resolved for token, _ in each.instruments})

    def where(self, tokens: Sequence[int] | None = None, *, dense: bool = False) -> str:
        """The SQL condition for rows of ticks, which also skips the files of other exchanges.

        `tokens` are some of `self.tokens`, ascending, if not all of them are meant. `dense`: their exchanges have no
        rows of others between them, so that they need not be looked for one by one.
        """
        tokens = self.tokens if tokens is None else tokens
        if not tokens:
            return "false"
        exchanges = sorted(set(map(exchange_of_token, tokens)))
        numbers = f"BETWEEN {tokens[0]} AND {tokens[-1]}" if dense else f"IN ({', '.join(map(str, tokens))})"
        which = f"exchange IN ({_texts(exchanges)}) AND instrument_token {numbers}"
        # One list gives a token one name: rows of another name are not of these days. `near` may be another each day.
        same = len(self.lists) < 2 and not any(each.of_day for each in self.resolved)
        return which if same else f"{which} AND ({self.which()})"

    def which(self) -> str:
        """The same for any rows of a date, an instrument_token and a symbol.

        Tokens are given out again: a name holds for rows that had it, a token for all of its rows.
        """
        parts = []
        names = {name for each in self.resolved if not each.of_day for _, name in each.instruments if name is not None}
        if names:
            parts.append(f"symbol IN ({_texts(sorted(names))})")
        if numbers := sorted({token for each in self.resolved for token, name in each.instruments if name is None}):
            parts.append(f"instrument_token IN ({', '.join(map(str, numbers))})")
        pairs = {(day, name) for each in self.resolved for day, (_, name) in each.of_day.items()}
        if pairs:
            values = ", ".join(f"(DATE '{day}', {literal(name)})" for day, name in sorted(pairs))
            parts.append(f"(date, symbol) IN (VALUES {values})")
        return " OR ".join(parts)


def symbol_list(symbols: Symbols) -> list[Symbol]:
    """What is asked for, each once: for who needs the symbols more than once, which an iterator gives but one time.

    Raises SymbolError for what is no symbol at all.
    """
    several = symbols if isinstance(symbols, Iterable) and not isinstance(symbols, str | bytes) else [symbols]
    found = [_symbol(one) for one in several]
    if not found:
        raise SymbolError(f"symbols: got an empty list, {_EXPECTED}")
    return list(dict.fromkeys(found))


def resolve(state: LakeState, symbols: Symbols, days: Sequence[dt.date]) -> Selection:
    """What the symbols are on these days. Raises SymbolError for what is no symbol at all."""
    asked = symbol_list(symbols)
    lists = lists_in_force(state, days)
    names = {each for one in asked if isinstance(one, str) and not _WILD.search(one) for each in _spellings(one)}
    patterns = {_full(one) for one in asked if isinstance(one, str) and _WILD.search(one)}
    rows = _look_up(state, sorted(set(lists.values())), names, patterns) if names or patterns else []
    resolved = tuple(_resolved(state, one, rows, lists) for one in asked)
    return Selection(tuple(days), resolved, frozenset(lists.values()))


def chosen(state: LakeState, symbols: Symbols, days: Sequence[dt.date]) -> Selection:
    """The same, for a query: raises SymbolError also for what resolves to nothing, and names what is near it."""
    selection = resolve(state, symbols, days)
    if missing := [*selection.missing, *_unknown_tokens(state, selection)]:
        lines = [_explained(state, one, days) for one in missing[:_NEAR_MATCHES]]
        more = "" if len(missing) <= len(lines) else f"; and {len(missing) - len(lines)} more"
        raise SymbolError("; ".join(lines) + more)
    return selection


def those_of(state: LakeState, symbols: Symbols, day: dt.date) -> list[Symbol]:
    """Those of the symbols for which `chosen` has something on that day."""
    selection = resolve(state, symbols, [day])
    unknown = {*selection.missing, *_unknown_tokens(state, selection)}
    return [each.asked for each in selection.resolved if each.asked not in unknown]


def _unknown_tokens(state: LakeState, selection: Selection) -> list[Symbol]:
    """The tokens asked for that no list of these days has, and of which they have no tick; none without a list."""
    asked = {each.asked for each in selection.resolved if isinstance(each.asked, int)}
    if not asked or not selection.lists:
        return []
    listed = f"SELECT DISTINCT instrument_token FROM instruments WHERE {among(selection.lists)}"
    key = (selection.lists, frozenset(asked))
    known = state.remembered("tokens", key, ["instruments"], lambda: _tokens_in(state, f"FROM ({listed})", asked))
    if asked <= known:
        return []
    rest = asked - known
    exchanges = _texts(sorted(set(map(exchange_of_token, rest))))
    ticks = f"FROM ticks_all WHERE {among(selection.days)} AND exchange IN ({exchanges})"
    return [*sorted(rest - _tokens_in(state, f"FROM ({ticks})", rest))]


def _tokens_in(state: LakeState, rows: str, tokens: Collection[int]) -> set[int]:
    found = state.sql(f"SELECT DISTINCT instrument_token {rows} WHERE instrument_token IN ({_numbers(tokens)})")
    return set(found.arrow().column(0).to_pylist())


def days_of(state: LakeState, when: TimeRange) -> list[dt.date]:
    """The days with ticks of a range; where it has none, a day of it, by whose list symbols are resolved."""
    last = when.last_day or when.first_day
    return when.days(state.dates("ticks")) or ([last] if last is not None else state.dates("instruments")[-1:])


def lists_in_force(state: LakeState, days: Sequence[dt.date]) -> dict[dt.date, dt.date]:
    """Of each day the day of the instrument list that is in force; without those before the first list."""
    there = state.dates("instruments")
    places = {day: bisect_right(there, day) for day in days}
    return {day: there[place - 1] for day, place in places.items() if place}


def near_matches(state: LakeState, name: str, day: dt.date | None) -> list[str]:
    """Symbols of the list in force on that day, or of the newest, that look like the name; the likest first."""
    listed = max(state.dates("instruments"), default=None) if day is None else lists_in_force(state, [day]).get(day)
    if listed is None:
        return []
    full = _full(name).upper()
    rows = state.sql("SELECT DISTINCT symbol FROM instruments WHERE date = $day", {"day": listed}).arrow()
    every = rows.column("symbol").to_pylist()
    exchange = full.partition(":")[0] + ":"
    first = [symbol for symbol in every if symbol.startswith(exchange)]
    begins = sorted((symbol for symbol in first if symbol.startswith(full)), key=len)[:_NEAR_MATCHES]
    found = begins or difflib.get_close_matches(full, first, _NEAR_MATCHES)
    return found or difflib.get_close_matches(full, every, _NEAR_MATCHES)


def _symbol(one: Any) -> Symbol:
    if isinstance(one, Near) or is_text(one):
        return one
    if not is_whole(one, 0):
        raise SymbolError(f"symbols: got {one!r}, {_EXPECTED}")
    return operator.index(one)  # numbers of numpy and pandas, too


def _full(name: str) -> str:
    name = name.strip()
    return name if ":" in name else f"{_DEFAULT_EXCHANGE}:{name}"


def _spellings(name: str) -> set[str]:
    return {_full(name), _full(name).upper()}


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(values)))


def _texts(values: Sequence[str]) -> str:
    return ", ".join(map(literal, values))


_Row = tuple[str, int, list[dt.date]]


def _look_up(state: LakeState, lists: Sequence[dt.date], names: set[str], patterns: set[str]) -> list[_Row]:
    """Symbol, token and the days of the lists that have it so, of what these names and patterns are."""
    key = (tuple(lists), frozenset(names), frozenset(patterns))
    return state.remembered("symbols", key, ["instruments"], lambda: _looked_up(state, lists, names, patterns))


def _looked_up(state: LakeState, lists: Sequence[dt.date], names: set[str], patterns: set[str]) -> list[_Row]:
    parts = [f"symbol IN ({_texts(sorted(names))})"] if names else []
    parts += [f"symbol GLOB {literal(_glob(pattern))}" for pattern in sorted(patterns)]
    if not lists:
        return []
    found = state.sql(
        "SELECT symbol, instrument_token, list(DISTINCT date ORDER BY date) AS days FROM instruments "
        f"WHERE {among(lists)} AND ({' OR '.join(parts)}) GROUP BY ALL ORDER BY symbol, instrument_token"
    ).arrow()
    columns = (found.column(name).to_pylist() for name in ("symbol", "instrument_token", "days"))
    return list(zip(*columns, strict=True))


def _glob(pattern: str) -> str:
    return pattern.replace("[", "[[]")


def _resolved(state: LakeState, asked: Symbol, rows: Sequence[_Row], lists: dict[dt.date, dt.date]) -> Resolved:
    if isinstance(asked, int):
        return Resolved(asked, ((asked, None),), frozenset(lists))
    if isinstance(asked, Near):
        of_day = _nearest(state, asked, lists)
        return Resolved(asked, tuple(sorted(set(of_day.values()))), frozenset(of_day), of_day)
    if _WILD.search(asked):
        wanted = re.compile(re.escape(_full(asked)).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)
        found = [row for row in rows if wanted.fullmatch(row[0])]
    else:
        found = [row for row in rows if row[0] == _full(asked)]
        found = found or [row for row in rows if row[0] in _spellings(asked)]
    there = {day for _, _, days in found for day in days}
    held = frozenset(day for day, of in lists.items() if of in there)
    return Resolved(asked, tuple((token, symbol) for symbol, token, _ in found), held)


def _nearest(state: LakeState, asked: Near, lists: dict[dt.date, dt.date]) -> dict[dt.date, tuple[int, str]]:
    """Of each day the token and the symbol of the nth future that has not expired before it."""
    if not is_text(asked.name):
        raise SymbolError(f"near({asked.name!r}, {asked.n!r}): expected {NAMES}")
    if not is_whole(asked.n, 1):
        raise SymbolError(
            f"near({asked.name!r}, {asked.n!r}): got {asked.n!r}, expected 1 for the nearest, 2 for the next"
        )
    if not lists:
        return {}
    rows = state.sql(
        f"""
        WITH pairs AS (SELECT unnest($days) AS day, unnest($lists) AS listed)
        SELECT exchange, name, day, instrument_token, symbol,
            dense_rank() OVER (PARTITION BY day, exchange, name ORDER BY expiry) AS place
        FROM pairs JOIN instruments ON date = listed
        WHERE date IN (SELECT unnest($lists)) AND instrument_type = $future AND expiry >= day
            AND ({listed_under(asked.name)})
        ORDER BY exchange, name, day, symbol
        """,
        {"days": list(lists), "lists": list(lists.values()), "future": FUTURE},
    ).arrow()
    found: dict[tuple[str, str], dict[dt.date, tuple[int, str]]] = {}
    for exchange, name, day, token, symbol, place in zip(*(each.to_pylist() for each in rows.columns), strict=True):
        of_name = found.setdefault((exchange, name), {})
        if place == asked.n:
            of_name[day] = token, symbol
    if not found:
        return {}
    return found[meant(asked.name, list(found), operator.itemgetter(0), ":".join)]


def _explained(state: LakeState, asked: Symbol, days: Sequence[dt.date]) -> str:
    span = "" if not days else f" on {days[0]}" if len(days) == 1 else f" from {days[0]} to {days[-1]}"
    if not lists_in_force(state, days):
        return f"{asked}: there is no instrument list{span} or before; instruments can be asked for by their tokens"
    if isinstance(asked, Near):
        return f"{asked}: the instrument list has no such future{span}; expected {NAMES}"
    if isinstance(asked, int):
        return f"{asked}: the instrument list has no such token{span}, nor was it captured; find has tokens by names"
    like = near_matches(state, str(asked), days[-1] if days else None)
    hint = f"; near it: {', '.join(like)}" if like else ""
    return f"{asked}: the instrument list has no such instrument{span}{hint}"
