"""Days on which the exchanges were, or will be, open or closed other than by the calendar, as they announced. Pure.

What a table cannot know, such as a holiday that is declared next week, is for config.yaml.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Final

from storage.market.exchanges import COMMODITIES, CURRENCIES, EQUITIES, EQUITY_DERIVATIVES
from storage.market.hours import Hours

_EQUITY: Final = (*EQUITIES, *EQUITY_DERIVATIVES)


@dataclass(frozen=True)
class Announced:
    """One day of some exchanges. `trading`: the hours of trading; None: the usual ones; (): said to be closed."""

    date: dt.date
    exchanges: tuple[str, ...]
    trading: tuple[Hours, ...] | None
    note: str
    source: str


def _hours(*texts: str) -> tuple[Hours, ...]:
    return tuple(Hours(*map(dt.time.fromisoformat, text.split("-"))) for text in texts)


ANNOUNCED: Final = (
    Announced(
        dt.date(2024, 1, 20),
        _EQUITY,
        None,
        "Saturday session in place of Monday",
        "NSE and BSE, circulars of 2024-01-19",
    ),
    Announced(
        dt.date(2024, 1, 22),
        (*_EQUITY, *CURRENCIES),
        (),
        "public holiday in Maharashtra",
        "NSE and BSE, circulars of 2024-01-19",
    ),
    Announced(
        dt.date(2024, 3, 2),
        _EQUITY,
        _hours("09:15-10:00", "11:30-12:30"),
        "session from the disaster recovery site",
        "NSE, circular of 2024-02-14",
    ),
    Announced(
        dt.date(2024, 5, 18),
        _EQUITY,
        _hours("09:15-10:00", "11:45-12:40"),
        "session from the disaster recovery site",
        "NSE, circular of 2024-05-07",
    ),
    Announced(
        dt.date(2024, 5, 20),
        (*_EQUITY, *CURRENCIES),
        (),
        "general election in Mumbai",
        "NSE, circular of 2024-04-08",
    ),
    Announced(
        dt.date(2024, 11, 1),
        (*_EQUITY, *CURRENCIES),
        _hours("18:00-19:00"),
        "Muhurat trading",
        "NSE, circular of 2024-10-18",
    ),
    Announced(
        dt.date(2024, 11, 20),
        (*_EQUITY, *CURRENCIES),
        (),
        "assembly election in Maharashtra",
        "NSE, circular of 2024-11-08",
    ),
    Announced(dt.date(2025, 2, 1), _EQUITY, None, "Union Budget", "NSE and BSE, announced 2024-12-23"),
    Announced(dt.date(2025, 2, 1), COMMODITIES, _hours("09:00-17:00"), "Union Budget", "MCX, release of 2025-01-29"),
    Announced(
        dt.date(2025, 10, 21),
        (*_EQUITY, *CURRENCIES),
        _hours("13:45-14:45"),
        "Muhurat trading",
        "NSE, circular of 2025-09-22",
    ),
    Announced(
        dt.date(2026, 1, 15),
        (*_EQUITY, *CURRENCIES),
        (),
        "municipal elections in Maharashtra",
        "NSE, circular of 2026-01-12",
    ),
    Announced(dt.date(2026, 2, 1), _EQUITY, None, "Union Budget", "NSE and BSE, circulars of 2026-01-16"),
    Announced(dt.date(2026, 2, 1), COMMODITIES, _hours("09:00-17:00"), "Union Budget", "MCX, reported 2026-02-01"),
)

BY_DAY: Final = {(one.date, exchange): one for one in ANNOUNCED for exchange in one.exchanges}
