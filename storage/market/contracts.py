"""What a contract says of itself: whether it is the monthly one of its name or a weekly one.

The symbol says it, on every exchange (broker's instrument lists of April 2024, October 2025 and July 2026):

    NIFTY25APR24000CE       name, year, month in letters, strike, type: monthly, also where it expires years ahead
    NIFTY2543024000CE       name, year, month as one of 1…9 O N D, day, strike, type: weekly
    NIFTY26AUGFUT           a future has no strike; currencies have weekly ones as well

The calendar does not say it: NIFTY's weekly of 1 May 2025 expired on 30 April, six days after April's monthly, and
BANKNIFTY's of 31 January 2024 after that month's, which expired on the 25th; on currencies a Friday often follows the
monthly. In the week in which a monthly contract expires there is no weekly one.

The text is read from its end, where the row's own strike and type say what stands there. Where the name ends need not
be guessed then, which may have digits (SENSEX50, 648GS2035), and which some lists leave empty on BFO.
"""

import datetime as dt
import re
from enum import StrEnum
from typing import Final

MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKLY_MONTHS: Final = "123456789OND"
"""The months as the symbols of weekly contracts have them."""
FUTURE: Final = "FUT"

_DATED: Final = re.compile(r"(\d\d)(?:([A-Z]{3})|([1-9OND])(\d\d))", re.ASCII)
_DATED_LETTERS: Final = 5
_MOVED_MONTHS: Final = 1
"""How far the month of a symbol may be from its expiry's: an option on a future may have the name of the latter's."""
_MOVED_DAYS: Final = 7
"""How far the day of a symbol may be from its expiry: a holiday moves that, and the symbol may stay."""


class Cycle(StrEnum):
    """How often contracts of the same kind expire."""

    WEEKLY = "weekly"
    MONTHLY = "monthly"


def cycle_of(tradingsymbol: str, instrument_type: str, expiry: dt.date, strike: float) -> Cycle | None:
    """What the symbol says. None where it is in neither form, or says another strike, type or time than the row has.

    `instrument_type` is FUT, CE or PE, `strike` in rupees; that of a future is not looked at.
    """
    ending = instrument_type if instrument_type == FUTURE else number_text(strike) + instrument_type
    if not tradingsymbol.endswith(ending):
        return None
    dated = _DATED.fullmatch(tradingsymbol.removesuffix(ending)[-_DATED_LETTERS:])
    if dated is None:
        return None
    year, letters, month, day = dated.groups()
    if letters is None:
        try:
            said = dt.date(2000 + int(year), WEEKLY_MONTHS.index(month) + 1, int(day))
        except ValueError:
            return None
        return Cycle.WEEKLY if abs((said - expiry).days) <= _MOVED_DAYS else None
    if letters not in MONTHS:
        return None
    months = (2000 + int(year) - expiry.year) * 12 + MONTHS.index(letters) + 1 - expiry.month
    return Cycle.MONTHLY if abs(months) <= _MOVED_MONTHS else None


def number_text(value: float) -> str:
    """A number as symbols and the broker's list have it: 24000, 97.25, 0.0025."""
    return f"{value:.4f}".rstrip("0").rstrip(".")
