"""What a user may name instruments by: see `queries.history.symbols`, which says what they are on each day."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Near:
    """The nearest future of a name on each day, or the `n`th nearest; prices are not adjusted where it rolls.

    `name` is NIFTY, NSE:NIFTY 50, RELIANCE, MCX:CRUDEOIL: see `queries.history.underlyings`.
    """

    name: str
    n: int = 1

    def __str__(self) -> str:
        return f"near({self.name}, {self.n})"


Symbol = str | int | Near
Symbols = Symbol | Sequence[Symbol]
