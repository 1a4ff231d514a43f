"""Ticks of a feed as objects: views of a row of a batch, whose columns are converted when they are asked for."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from queries.feed.reading import numbers_of
from storage.clock import EPOCH, IST
from storage.memory import Level, Mode, Tick, arrow_of, levels_of, missing_of, numpy_of, tick_dict
from storage.schema import DEPTH_LEVELS, TICKS

CACHED: Final = "cached"
ALL: Final = (*TICKS.schema.names, CACHED)
"""What rows of a feed may have."""
_PLACES: Final = {name: at for at, name in enumerate(ALL)}
_TIMES: Final = frozenset(field.name for field in TICKS.schema if pa.types.is_timestamp(field.type))
_EPOCH: Final = EPOCH.astimezone(IST)
_US: Final = dt.timedelta(microseconds=1)
_BOOK: Final = tuple(
    f"{side}_{what}_{level}"
    for side in ("bid", "ask")
    for level in range(1, DEPTH_LEVELS + 1)
    for what in ("price", "quantity", "orders")
)


class Values(list[Sequence[Any]]):
    """The columns of a block by their places in ALL, each empty until a tick is first asked for it; times are µs since
    the epoch. A list, since a place in one is found in a fraction of the time that a name takes."""

    def __init__(self, columns: Mapping[str, pa.Array]) -> None:
        """`columns` are those that were asked for."""
        super().__init__([()] * len(ALL))
        self.columns = columns

    def value(self, name: str, row: int) -> Any:
        """Of that row. Raises AttributeError if the column was not asked for."""
        if name not in self.columns:
            there = ", ".join(self.columns)
            raise AttributeError(
                f"{name}: this feed has the columns {there}; columns=[…] or columns='all' asks for others"
            )
        at = _PLACES[name]
        if not self[at]:
            self[at] = _listed(self.columns[name])
        return self[at][row]

    def __reduce__(self) -> tuple[Any, ...]:
        return Values, (self.columns,)


def _listed(column: pa.Array) -> list[Any]:
    if pa.types.is_dictionary(column.type) or pa.types.is_boolean(column.type) or pa.types.is_date32(column.type):
        found: list[Any] = column.to_pylist()
        return found
    if pa.types.is_floating(column.type) and not column.null_count:
        return numpy_of(column).tolist()  # type: ignore[no-any-return]
    if pa.types.is_floating(column.type):
        return column.to_pylist()  # type: ignore[no-any-return]
    numbers: list[Any] = numbers_of(column).tolist()
    if column.null_count:
        for row in missing_of(column).nonzero()[0].tolist():
            numbers[row] = None
    return numbers


def _time(us: int | None) -> dt.datetime | None:
    return None if us is None else _EPOCH + us * _US


class FeedTick:
    """One packet, as a view of the feed's columns: the names and units of `kitelake.Tick`, and of the ticks table.

    A column that the feed was not made with raises AttributeError. What the packet does not carry is None.
    """

    __slots__ = ("_row", "_values")

    def __init__(self, values: Values, row: int) -> None:
        self._values = values
        self._row = row

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """A property for each column, made below. In earnest it would make each of them several times as slow."""

    @property
    def received_at(self) -> dt.datetime:
        """When it was received, in IST."""
        return _EPOCH + self._values.value("received_at", self._row) * _US  # type: ignore[no-any-return]

    @property
    def last_trade_time(self) -> dt.datetime | None:
        """The exchange's time of the last trade, in IST."""
        return _time(self._values.value("last_trade_time", self._row))

    @property
    def exchange_timestamp(self) -> dt.datetime | None:
        """The exchange's time of the packet, in IST."""
        return _time(self._values.value("exchange_timestamp", self._row))

    @property
    def mode(self) -> Mode:
        """How much it carries."""
        return Mode(self._values.value("mode", self._row))

    @property
    def bids(self) -> tuple[Level, ...]:
        """The five levels of the bid side, best first; empty if it carries none."""
        return levels_of(self._book("bids"), "bid")

    @property
    def asks(self) -> tuple[Level, ...]:
        """The same of the ask side."""
        return levels_of(self._book("asks"), "ask")

    def tick(self) -> Tick:
        """The same as `kitelake.Tick`, which holds its values itself. For a feed of all columns."""
        return Tick(**{name: getattr(self, name) for name in Tick.__dataclass_fields__})

    def _book(self, side: str) -> dict[str, Any]:
        try:
            return {name: self._values.value(name, self._row) for name in _BOOK}
        except AttributeError:
            there = ", ".join(self._values.columns)
            text = f"{side}: this feed has the columns {there}; columns='all' asks for the whole book"
            raise AttributeError(text) from None

    def __dir__(self) -> list[str]:
        """What it has, of which Python names the nearest where a name is misspelled."""
        missing = set(ALL) - set(self._values.columns)
        return [name for name in super().__dir__() if name not in missing]

    def __reduce__(self) -> tuple[Any, ...]:
        """Its own row alone."""
        place = arrow_of(np.array([self._row]), None, pa.int64())
        return FeedTick, (Values({name: column.take(place) for name, column in self._values.columns.items()}), 0)

    def __repr__(self) -> str:
        names = self._values.columns
        return f"FeedTick({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


def _of_column(name: str) -> property:
    at = _PLACES[name]

    def value(tick: FeedTick) -> Any:
        try:
            return tick._values[at][tick._row]
        except IndexError:  # it is empty
            return tick._values.value(name, tick._row)

    return property(value)


for _name in ALL:
    if not hasattr(FeedTick, _name):
        setattr(FeedTick, _name, _of_column(_name))


def dicts_of(columns: dict[str, pa.Array]) -> Iterator[dict[str, Any]]:
    """Rows as the official client's dictionaries; `columns` are all there are."""
    names = [name for name in columns if name not in ("date", CACHED)]
    lists = [
        [_time(us) for us in _listed(columns[name])] if name in _TIMES else _listed(columns[name]) for name in names
    ]
    for values in zip(*lists, strict=True):
        yield tick_dict(dict(zip(names, values, strict=True)))
