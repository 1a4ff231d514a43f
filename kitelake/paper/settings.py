"""What the paper broker can be told before a day is replayed, and the file of limits, which no stream carries.

The file is CSV with a line of names: `symbol` (EXCHANGE:TRADINGSYMBOL) and any of `freeze_quantity` (the largest
order), `lower_circuit_limit` and `upper_circuit_limit` (rupees). An empty cell is no limit.
"""

import csv
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from kitelake.errors import PaperError
from kitelake.paper.market import Instrument

_COLUMNS: Final = ("freeze_quantity", "lower_circuit_limit", "upper_circuit_limit")


class PaperSettings(BaseModel):
    """How orders on paper are filled; docs/paper.md has the rules."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    capital: float = Field(default=1_000_000.0, ge=0, le=1e12, description="of each account, in rupees")
    latency_seconds: float = Field(
        default=0.0, ge=0, le=60, description="from a request to its arrival, by the market's clock"
    )
    fill: Literal["touch", "through"] = Field(
        default="touch", description="a resting order fills when its price is reached, or only when it is passed"
    )
    beyond: Literal["reject", "slippage"] = Field(
        default="reject", description="what a plain market order wants beyond the five levels: refused, or filled"
    )
    slippage_percent: float = Field(
        default=0.5, ge=0, le=100, description="beyond the levels: this much worse than the last of them"
    )
    margin_percent: float = Field(
        default=20.0, ge=0, le=100, description="blocked for futures, for options and shares that were sold"
    )
    stale_seconds: float = Field(
        default=60.0, gt=0, description="a snapshot older than this fills nothing: the order waits for the next"
    )
    price_protection: bool = Field(
        default=False, description="refuse limit prices of options that are far from what was just traded"
    )
    limits: Path | None = Field(default=None, description="a CSV file of freeze quantities and price bands")


class Limit(NamedTuple):
    """Of one instrument; prices are the wire's integers. None: not known, so not checked."""

    freeze_quantity: int | None = None
    lower: int | None = None
    upper: int | None = None


NO_LIMIT: Final = Limit()


def read_limits(path: Path, instruments: Iterable[Instrument]) -> Mapping[int, Limit]:
    """By token, for those of the file that the day's list has. Raises `PaperError`."""
    by_symbol = {one.symbol: one for one in instruments}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise PaperError(f"limits: {path}: cannot be read: {reason}") from None
    reader = csv.DictReader(lines)
    names = reader.fieldnames or []
    if "symbol" not in names or not set(names) <= {"symbol", *_COLUMNS}:
        raise PaperError(
            f"limits: {path}: got the columns {', '.join(names) or 'none'}, "
            f"expected symbol and any of {', '.join(_COLUMNS)}"
        )
    found = {}
    for row in reader:
        one = by_symbol.get(row["symbol"])
        if one is not None:
            scales = (1, one.divisor, one.divisor)
            values = (
                _number(row.get(name), scale, f"limits: {path}, {row['symbol']}, {name}")
                for name, scale in zip(_COLUMNS, scales, strict=True)
            )
            found[one.token] = Limit(*values)
    return found


def _number(text: str | None, scale: int, what: str) -> int | None:
    if not text:
        return None
    try:
        number = Decimal(text) * scale
        if not number.is_finite() or number != int(number) or number < 0:
            raise InvalidOperation
    except InvalidOperation:
        raise PaperError(f"{what}: got {text!r}, expected a number of 0 or more, or nothing") from None
    return int(number)
