"""When a subscription list is captured on a day: the windows of each of its exchanges, and moments inside them."""

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from kitelake.schedule.calendar import Calendar
from storage.market import Hours, Span, merged, span_of


@dataclass(frozen=True)
class ListHours:
    """When a list is captured on a day: each exchange's instruments in hours of their own.

    `by_exchange` has "" for what is of no exchange that is known yet.
    """

    by_exchange: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """When any part of it is; sorted and merged."""
        return merged(span for spans in self.by_exchange.values() for span in spans)

    def at(self, now: dt.datetime) -> frozenset[str]:
        """The exchanges that are in their hours."""
        return frozenset(name for name, spans in self.by_exchange.items() if active(spans, now))

    def edges(self, side: int) -> list[dt.datetime]:
        """The moments at which one of its parts starts (0) or stops (1)."""
        return sorted({span[side] for spans in self.by_exchange.values() for span in spans})

    def until(self, stop: dt.datetime) -> "ListHours":
        """The same, but nothing from `stop` on."""
        return ListHours(
            {
                name: tuple(Span(span.start, min(span.stop, stop)) for span in spans if span.start < stop)
                for name, spans in self.by_exchange.items()
            }
        )


def windows_of(
    days: str | tuple[dt.date, ...],
    window: Hours | None,
    exchanges: Iterable[str],
    calendar: Calendar,
    date: dt.date,
    *,
    together: bool = False,
) -> dict[str, tuple[Span, ...]]:
    """When on that day the instruments of a list are captured, by their exchange; sorted and merged.

    `days` are "trading" (days on which the exchange is open), "weekdays", "all", the name of an exchange (its trading
    days), or dates; but for "trading" they hold for the whole list. On a day of `days` on which an exchange is closed,
    its usual hours hold. `window` replaces the usual hours, but not the hours of a special day. With a window, or if
    `together`, all exchanges have the hours in which one of them is captured.
    """
    exchanges = tuple(exchanges)
    own = {name: calendar.day(name, date) for name in exchanges}
    if days != "trading" and not _is_day(days, calendar, date):
        return dict.fromkeys(exchanges, ())

    def hours(name: str) -> tuple[Span, ...]:
        day = own[name]
        if not day.spans:
            closed = calendar.usual(name, date) if window is None else span_of(date, window)
            return () if days == "trading" else (closed,)
        return (span_of(date, window),) if window is not None and not day.special else day.spans

    if not together and window is None:
        return {name: hours(name) for name in exchanges}
    open_ones = [name for name in exchanges if own[name].spans] or exchanges
    return dict.fromkeys(exchanges, merged(span for name in open_ones for span in hours(name)))


def _is_day(days: str | tuple[dt.date, ...], calendar: Calendar, date: dt.date) -> bool:
    if isinstance(days, tuple):
        return date in days
    if days == "weekdays":
        return date.weekday() < 5
    return days == "all" or calendar.trading_day(days, date)


def every(spans: Iterable[Span], step: dt.timedelta) -> Iterator[dt.datetime]:
    """The moments inside each span, one `step` after the other, without its start and its stop."""
    if step <= dt.timedelta():
        raise ValueError(f"expected a step longer than zero, got {step}")
    for start, stop in spans:
        moment = start + step
        while moment < stop:
            yield moment
            moment += step


def active(spans: Iterable[Span], now: dt.datetime) -> bool:
    """Whether now is inside one of the spans. A stop is outside."""
    return any(start <= now < stop for start, stop in spans)
