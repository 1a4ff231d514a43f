"""The helpers of a lake that this package gives, as methods."""

from collections.abc import Sequence
from typing import ClassVar

from queries.history.dated import DATED_TICKS
from queries.history.moments import Moment, time_range
from queries.history.symbols import Symbols
from queries.history.ticks import MACRO as TICKS
from queries.history.ticks import ticks
from queries.lake import Macro, Relation, Result, SqlLake


class HistoryMethods(SqlLake):
    """What was captured of instruments.

    `symbols` are a name (`NSE:INFY`), a token, `near(name)`, a pattern (`NFO:NIFTY26NOV*`) or a list of these, resolved
    by the instrument list of each day. A range has its `start` and not its `stop`; a bare date as the start alone is
    the whole day; times are IST unless they name a zone. Rows come by symbol, then time. Methods raise SymbolError for
    what resolves to nothing, MomentError for what is no time, and QueryError.
    """

    relations: ClassVar[Sequence[Relation]] = (*SqlLake.relations, DATED_TICKS)
    macros: ClassVar[Sequence[Macro]] = (TICKS,)

    def ticks(
        self,
        symbols: Symbols,
        start: Moment | None = None,
        stop: Moment | None = None,
        columns: Sequence[str] | None = None,
    ) -> Result:
        """The ticks as they came: all columns of the view `ticks`, or these."""
        return ticks(self.look(), symbols, time_range(start, stop), columns)
