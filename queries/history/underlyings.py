"""The names by which people say what futures and options are on, and which exchange's are meant.

A name is said as people say it: NIFTY, RELIANCE, MCX:CRUDEOIL, or as the index or the share, NSE:NIFTY 50. One without
an exchange is NSE's if NSE lists derivatives of it, else BSE's, else that of the one other exchange that has it. With
NSE or BSE it is that of a share or an index, whose derivatives are on its own exchange if both have some. Pure.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from queries.errors import SymbolError
from queries.lake import literal
from storage.market import EQUITIES, EQUITY_DERIVATIVES, INDEX_DERIVATIVES, derivatives_of

NAMES: Final = "a name such as NIFTY, NSE:NIFTY 50, RELIANCE or MCX:CRUDEOIL"
"""What is expected, for errors."""
Listing = TypeVar("Listing")


def listings(name: str) -> list[tuple[str, str]]:
    """Exchange (empty: any) and name under which derivatives of it may be listed."""
    text = name.strip().upper()
    if ":" in text:
        found = [each.partition(":") for each in derivatives_of(text)]
        return [(exchange, of) for exchange, _, of in found]
    indices = [INDEX_DERIVATIVES.get(f"{home}:{text}", text) for home in EQUITIES]
    return [("", of) for of in dict.fromkeys([text, *indices])]


def listed_under(name: str) -> str:
    """The SQL condition for rows of `instruments` that are derivatives of it."""
    return " OR ".join(
        f"(name = {literal(of)}" + (f" AND exchange = {literal(exchange)})" if exchange else ")")
        for exchange, of in listings(name)
    )


def meant(
    name: str, found: Sequence[Listing], exchange: Callable[[Listing], str], said: Callable[[Listing], str]
) -> Listing:
    """The one of those found (at least one) whose exchange goes first: NSE's derivatives before BSE's, but for a share
    of BSE, and both before others. Raises SymbolError if none does; `said` is how to ask for one.
    """
    order = EQUITY_DERIVATIVES[::-1] if name.strip().upper().startswith("BSE:") else EQUITY_DERIVATIVES
    places = [order.index(exchange(each)) if exchange(each) in order else len(order) for each in found]
    first = [each for each, place in zip(found, places, strict=True) if place == min(places)]
    if len(first) > 1:
        choices = ", ".join(map(said, first))
        raise SymbolError(f"{name}: got a name of {len(first)} exchanges, expected one of {choices}")
    return first[0]
