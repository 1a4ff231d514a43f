"""The subscription lists of config.yaml: which instruments, in which mode, when and where.

A list names its instruments in one of four ways: by name, by a file, by a URL, or by a selection from the day's
instrument list. What it leaves open follows from what these turn out to be: each instrument is captured in the hours
of its exchange.
"""

import contextlib
import datetime as dt
import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    field_validator,
    model_validator,
)

from ingest.instruments import Select
from kitelake.config.calendar import EXCHANGES, date_of
from kitelake.config.values import Section, address_of, one_line, path_of, stretch_of_time
from storage.market import Hours, hours_of
from storage.memory import Mode

SHORTEST_STEP: Final = dt.timedelta(seconds=10)
LONGEST_STEP: Final = dt.timedelta(hours=6)
_WAYS: Final = ("instruments", "file", "url", "select")
_EXCHANGE: Final = re.compile("[A-Z][A-Z0-9]{1,11}")  # one that we do not know counts as always open


def _instrument(given: Any) -> str | int:
    if (isinstance(given, str) and given.strip()) or (type(given) is int and given > 0):
        return given
    raise ValueError("expected a name such as NSE:INFY, or a token")


def _one_or_more(given: Any) -> Any:
    return (given,) if isinstance(given, str) else given


def _days(given: Any) -> Any:
    """A word, the name of an exchange, or a list of dates."""
    words = ("trading", "weekdays", "all")
    if isinstance(given, str) and (given in words or _EXCHANGE.fullmatch(given)):
        return given
    if isinstance(given, list | tuple) and given:
        with contextlib.suppress(ValueError):
            return tuple(sorted(set(map(date_of, given))))
    raise ValueError(
        f"expected {', '.join(words)}, an exchange (its trading days: {', '.join(EXCHANGES)}), "
        "or a list of dates such as [2026-11-27]"
    )


def _exchanges(given: Any) -> tuple[str, ...]:
    names = _one_or_more(given)
    if isinstance(names, list | tuple) and names and all(isinstance(n, str) and _EXCHANGE.fullmatch(n) for n in names):
        return tuple(names)
    raise ValueError(f"expected one or more exchanges as the instrument list has them: {', '.join(EXCHANGES)}")


ListFile = Annotated[Path, BeforeValidator(lambda given: path_of(given, "a file"))]
Instrument = Annotated[str | int, PlainValidator(_instrument)]
Days = Annotated[
    Literal["trading", "weekdays", "all"] | str | tuple[dt.date, ...],
    PlainValidator(_days),
    # By itself pydantic takes dates for a value of the wrong kind, and warns.
    PlainSerializer(
        lambda days: days if isinstance(days, str) else [str(date) for date in days],
        return_type=str | list[str],
        when_used="json",
    ),
]


class SubscriptionList(Section):
    """A list of instruments, the mode to stream them in, and when, where and how surely."""

    name: Annotated[str, AfterValidator(one_line)] = Field(min_length=1, max_length=100)
    mode: Mode | None = Field(default=None, description="None: `capture.default_mode`")
    instruments: tuple[Instrument, ...] = Field(default=(), description="`EXCHANGE:TRADINGSYMBOL`, or bare tokens")
    file: ListFile | None = Field(
        default=None, description="names in a file: one a line, or a CSV with a column `symbol`"
    )
    url: str | None = Field(default=None, description="the same, fetched; a copy is kept for when that fails")
    select: Select | None = Field(default=None, description="picked from the day's instrument list")
    every: Annotated[dt.timedelta, BeforeValidator(stretch_of_time)] | None = Field(
        default=None, description="resolve it anew so often during its hours, as around a spot that moves"
    )
    drop: bool = Field(default=False, description="with `every`: also stop what it does not mean any more")
    days: Days = Field(default="trading", description="trading, weekdays, all, an exchange, or dates")
    window: Annotated[Hours, BeforeValidator(hours_of)] | None = Field(
        default=None, description="hours of capture on a usual day; None: those of the exchanges"
    )
    session: Annotated[tuple[str, ...], PlainValidator(_exchanges)] | None = Field(
        default=None, description="exchanges whose days and hours the whole list follows; None: each instrument its own"
    )
    accounts: Annotated[tuple[str, ...], BeforeValidator(_one_or_more)] = Field(
        default=(), description="placed on these; empty: on any"
    )
    copies: int | None = Field(default=None, ge=1, description="on how many accounts each is streamed")
    priority: int = Field(default=0, ge=0, le=1000, description="0 is the most important: the last one is left out")

    @field_validator("url")
    @classmethod
    def _fetched(cls, given: str | None) -> str | None:
        try:
            return None if given is None else address_of(given.partition("?")[0], ("https", "http")) and given
        except ValueError:  # its own text has no path
            raise ValueError("expected https://HOST/PATH or http://HOST/PATH, without user and fragment") from None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [way for way in _WAYS if getattr(self, way)]
        if len(ways) != 1:
            *rest, last = (f"`{way}`" for way in _WAYS)
            raise ValueError(f"expected either {', '.join(rest)} or {last}, one of them")
        if self.every is not None and self.instruments:
            raise ValueError("every: names stay what they are; expected it with file, url or select only")
        if self.every is not None and not SHORTEST_STEP <= self.every <= LONGEST_STEP:
            raise ValueError(f"every: expected {SHORTEST_STEP.seconds}s to {LONGEST_STEP.seconds // 3600}h")
        if self.drop and self.every is None:
            raise ValueError("drop: expected it together with `every`")
        if self.copies is not None and self.accounts and self.copies > len(set(self.accounts)):
            raise ValueError("copies: expected no more than the accounts that are named, since each goes to another")
        return self

    @property
    def naming(self) -> tuple[object, ...]:
        """Equal for lists that name their instruments alike, whatever else they say."""
        return tuple(getattr(self, way) for way in _WAYS)

    @property
    def digest(self) -> str:
        """Equal for lists that say the same."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]
