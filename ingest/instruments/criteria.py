"""The criteria of a selection as frozen models: what `select:` in config.yaml may hold.

What is left out does not restrict. Text is compared without regard to case, so it is kept in capitals. No error text
holds a value that was given.
"""

import datetime
import sys
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    model_validator,
)

OPTIONS: Final = ("CE", "PE")
DERIVATIVES: Final = ("FUT", *OPTIONS)


def _list_of_one(given: Any) -> Any:
    return (given,) if isinstance(given, str) else given


def _date(given: Any) -> datetime.date:
    if type(given) is datetime.date:  # a datetime is one, too
        return given
    try:
        return datetime.date.fromisoformat(given)
    except (TypeError, ValueError):
        raise ValueError("expected a date such as 2026-11-24") from None


def _around(given: Any) -> str | float:
    if given == "spot":
        return "spot"
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 < given <= sys.float_info.max:
        return float(given)
    raise ValueError("expected `spot` or a price in rupees")


def _checked_symbol(given: str) -> str:
    exchange, _, tradingsymbol = given.partition(":")
    if not exchange or not tradingsymbol:
        raise ValueError("expected EXCHANGE:TRADINGSYMBOL, such as NSE:NIFTY 50")
    return given


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, to_upper=True)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_list_of_one)]
Symbol = Annotated[Text, AfterValidator(_checked_symbol)]
Count = Annotated[int, Field(strict=True, le=2**31 - 1)]  # numpy counts with it
Rupees = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


class _Criterion(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class LotSize(_Criterion):
    """Bounds of the lot size, in units, both included. A bare number stands for that lot size alone."""

    min: Count | None = Field(default=None, ge=0)
    max: Count | None = Field(default=None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, given: Any) -> Any:
        if type(given) is int and given >= 0:
            return {"min": given, "max": given}
        if isinstance(given, dict | LotSize):
            return given
        raise ValueError("expected a number of units, or keys with values: min, max")

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        _check_range(self.min, self.max)
        return self


class Expiries(_Criterion):
    """Which expiry days from the day of the list on, for each segment and name by itself. A bare number is `nearest`.

    Whether an expiry is monthly or weekly the contract says, by its symbol (see `storage.market.contracts`): in the
    week in which a monthly contract expires there is no weekly one.
    """

    nearest: Count | None = Field(default=None, ge=1, description="so many, of those that `kind` and `before` leave")
    kind: Literal["weekly", "monthly"] | None = None
    before: Annotated[datetime.date, PlainValidator(_date)] | None = Field(
        default=None, description="only expiries earlier than this date"
    )

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, given: Any) -> Any:
        if type(given) is int and given >= 1:
            return {"nearest": given}
        if isinstance(given, dict | Expiries):
            return given
        raise ValueError("expected how many of the nearest, 1 or more, or keys with values: nearest, kind, before")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.nearest is None and self.kind is None and self.before is None:
            raise ValueError("expected at least one of nearest, kind, before")
        return self


class Strikes(_Criterion):
    """Which strikes, for each segment, name and expiry by itself; only options have one.

    The strike at the money is the listed one that is nearest to the price, the lower of two equally near ones.
    """

    around: Annotated[Literal["spot"] | float, PlainValidator(_around)] | None = Field(
        default=None, description="`spot`, the price of the underlying, or a price in rupees"
    )
    count: Count | None = Field(default=None, ge=0, description="the strike at the money and so many on each side")
    percent: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="the strikes that are at most so many percent away from the price"
    )
    min: Rupees | None = Field(default=None, description="the lowest strike, in rupees")
    max: Rupees | None = Field(default=None, description="the highest strike, in rupees")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.around is None and self.min is None and self.max is None:
            raise ValueError("expected at least one of around, min, max")
        widths = (self.count is not None) + (self.percent is not None)
        if self.around is not None and widths != 1:
            raise ValueError("expected either `count` or `percent` with `around`")
        if self.around is None and widths:
            raise ValueError("expected `around` with `count` or `percent`")
        _check_range(self.min, self.max)
        return self


class Select(_Criterion):
    """Instruments picked from the day's list; what is left out does not restrict. Text may stand for a list of one."""

    exchange: Texts = Field(default=(), description="as in NSE, NFO, MCX")
    segment: Texts = Field(default=(), description="as in INDICES, NFO-OPT")
    types: Annotated[tuple[Literal["EQ", "FUT", "CE", "PE"], ...], BeforeValidator(_list_of_one)] = ()
    names: Texts = Field(default=(), description="the `name` column: the underlying of a derivative")
    underlying: Annotated[tuple[Symbol, ...], BeforeValidator(_list_of_one)] = Field(
        default=(), description="derivatives of these, as in NSE:NIFTY 50, NSE:RELIANCE"
    )
    symbols: Texts = Field(
        default=(), description="patterns with `*` and `?` for TRADINGSYMBOL or EXCHANGE:TRADINGSYMBOL"
    )
    lot_size: LotSize | None = Field(default=None, description="a number of units, or `min` and `max`")
    expiries: Expiries | None = Field(
        default=None, description="of what expires: the nearest n, or `nearest`, `kind` and `before`"
    )
    strikes: Strikes | None = Field(default=None, description="only options, and of them these strikes")
    exclude: Texts = Field(default=(), description="none of these: names, or patterns as in `symbols`")

    @model_validator(mode="after")
    def _not_everything(self) -> Self:
        if not (self.exchange or self.segment or self.types or self.names or self.underlying or self.symbols):
            raise ValueError("expected at least one of exchange, segment, types, names, underlying, symbols")
        return self

    @model_validator(mode="after")
    def _types_that_have_them(self) -> Self:
        for name, given, types in (("expiries", self.expiries, DERIVATIVES), ("strikes", self.strikes, OPTIONS)):
            if self.types and given is not None and not set(self.types).intersection(types):
                raise ValueError(f"expected one of the types {', '.join(types)} where there are {name}")
        return self


def _check_range(low: float | None, high: float | None) -> None:
    if low is not None and high is not None and low > high:
        raise ValueError("expected a `min` that is not greater than `max`")
