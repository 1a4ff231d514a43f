"""The helpers of a lake that this package gives, as methods."""

import datetime as dt
from collections.abc import Sequence
from typing import ClassVar

from queries.asof import AsofMethods
from queries.history import Moment, Near, day_of, moments_of
from queries.lake import Macro, Overloads, Relation, Result
from queries.options.listed import INSTRUMENT_DAYS
from storage.clock import IST


def _futures() -> Overloads:
    from queries.options.futures import OVERLOADS

    return OVERLOADS


class OptionMethods(AsofMethods):
    """Futures and options by the name of what they are on.

    A name is NIFTY, NSE:NIFTY 50, RELIANCE, MCX:CRUDEOIL: as the instrument list of each day has its contracts. One
    without an exchange is NSE's if NSE lists derivatives of it, else BSE's, else that of the one other exchange that
    has it. A `moment` may be several; None is now. Values are as of the moment, by receipt, of that day only: those of
    each instrument's last row. Prices are in rupees. Methods raise SymbolError for a name that has no such contracts,
    and for one of several exchanges, of which none goes first; MomentError for what is no time; and QueryError.
    """

    relations: ClassVar[Sequence[Relation]] = (*AsofMethods.relations, INSTRUMENT_DAYS)
    macros: ClassVar[Sequence[Macro]] = (*AsofMethods.macros, Macro("futures", _futures))

    def near(self, name: str, n: int = 1) -> Near:
        """The `n`th nearest future of each day, unadjusted where it rolls: usable wherever a symbol is."""
        return Near(name, n)

    def expiries(self, name: str, day: Moment | None = None) -> Result:
        """What of a name expires when, of what has not expired on that day; by default on the newest in the lake.

        One row an exchange and expiry: exchange, name, expiry, cycle (`weekly` or `monthly`, as the contracts' own
        symbols say), strikes, options (contracts), future (the symbol of that which expires then, null if none does).
        """
        from queries.options.contracts import expiries

        return expiries(self.look(), name, None if day is None else day_of(day, "day"))

    def futures(self, underlying: str, moment: Moment | Sequence[Moment] | None = None) -> Result:
        """The futures of a name, one row each, by moment and expiry.

        `spot` is the price of the index or the share `spot_symbol`, `basis` the future's price less that; a price is
        the mid of a two-sided quote, else the last one. `basis_percent` = basis / spot × 365 / days_to_expiry × 100,
        null on the day of expiry. Commodities and currencies have no spot. In SQL: `futures(underlying, moment)`, where
        a name of several exchanges gives the futures of each, and an unknown one none.
        """
        from queries.options.futures import futures

        return futures(self.look(), underlying, _moments(moment))

    def chain(
        self,
        underlying: str,
        moment: Moment | Sequence[Moment] | None = None,
        expiry: Moment | None = None,
        *,
        rate: float = 0,
    ) -> Result:
        """The options of a name with one expiry, one row a strike, by moment and strike; `call_…` and `put_…`.

        `expiry`: a date, `weekly` or `monthly` for the nearest such one, None for the nearest. `rate`: interest a year,
        continuous, as a fraction. Raises also ExpiryError, whose text lists the expiries that there are.

        - `years` to the last session's close on the day of expiry, of 365 days.
        - `forward` and `forward_from`: `future`, its mid (on commodities and currencies of the future that the options
          are on); else `parity`, by put-call parity of the strikes nearest to the money with good quotes; else `last`,
          the future's last price.
        - `moneyness`: strike / forward. `spot`: the price of the index or the share.
        - `iv`: the volatility a year by Black-76, as a fraction, of the mid of a two-sided quote. Null without one, and
          within half a rupee (or ten ticks, if that is less) of intrinsic value; the greeks with it.
        - `delta`: rupees a rupee of the forward; `gamma`: delta a rupee; `vega`: rupees a point of volatility (0.01);
          `theta`: rupees a day of the calendar. All of one unit of the underlying, not of a lot.
        """
        from queries.options.chain import chain

        return chain(self.look(), underlying, _moments(moment), expiry, rate)


def _moments(moment: Moment | Sequence[Moment] | None) -> list[dt.datetime]:
    return [dt.datetime.now(IST)] if moment is None else moments_of(moment, "moment")
