"""The helpers of a lake that this package gives, as methods.

What each needs is loaded when it is asked for, here and in what is built on this: most queries need none of it.
"""

from collections.abc import Sequence
from typing import ClassVar

from queries.history.dated import DATED_TICKS
from queries.history.moments import Moment, time_range
from queries.history.naming import Symbols
from queries.lake import Macro, Overloads, Relation, Result, SqlLake


def _ticks() -> Overloads:
    from queries.history.macro import OVERLOADS

    return OVERLOADS


class HistoryMethods(SqlLake):
    """What was captured of instruments.

    `symbols` are a name (`NSE:INFY`), a token, `near(name)`, a pattern (`NFO:NIFTY26NOV*`) or a list of these, resolved
    by the instrument list of each day. A range has its `start` and not its `stop`; a bare date as the start alone is
    the whole day; times are IST unless they name a zone. Rows come by symbol, then time. Methods raise SymbolError for
    what resolves to nothing, MomentError for what is no time, and QueryError.
    """

    relations: ClassVar[Sequence[Relation]] = (*SqlLake.relations, DATED_TICKS)
    macros: ClassVar[Sequence[Macro]] = (Macro("ticks", _ticks),)

    def ticks(
        self,
        symbols: Symbols,
        start: Moment | None = None,
        stop: Moment | None = None,
        columns: Sequence[str] | None = None,
    ) -> Result:
        """The ticks as they came: all columns of the view `ticks`, or these."""
        from queries.history.ticks import ticks

        return ticks(self.look(), symbols, time_range(start, stop), columns)
