"""What a query can fail with."""

from storage.errors import DataFolderError, KitelakeError


class QueryError(KitelakeError):
    """A query cannot be answered. For a mistake in SQL the text is DuckDB's."""


class NoLakeError(QueryError, DataFolderError):
    """The path is no data folder, or one in which nothing was captured yet."""


class ClosedError(QueryError):
    """A lake, or what was asked of it before, was asked after it had been closed."""


class ForkedError(QueryError):
    """A lake, or what was asked of it before, was asked in a fork of the process that opened it."""


class MissingLibraryError(QueryError, ImportError):
    """A result was asked for in the form of a library that is not installed."""


class MomentError(QueryError, ValueError):
    """A time that was asked for is none, or a range stops before it starts."""


class SymbolError(QueryError, LookupError):
    """No instrument goes by what was asked for."""


class WidthError(QueryError, ValueError):
    """A width of bars that is none."""


class ExpiryError(QueryError, LookupError):
    """No contract expires when it was asked for."""


class CandlesError(QueryError, ValueError):
    """Candles that are to be compared are none, or not of that day."""


class QueryTimeoutError(QueryError):
    """A query took longer than its limit, and was ended."""


class RestrictedError(QueryError):
    """A restricted lake was asked for more than it gives."""


class ProtectedFolderError(QueryError):
    """A statement would write into the data folder, or open a database there."""


class TimeZoneError(QueryError, ValueError):
    """Times were asked for in a zone that there is not."""


class FeedError(QueryError):
    """A feed was asked for what it cannot give, or to go where it cannot."""


class OutageError(FeedError):
    """A feed that was to raise at outages has come to one."""


class AdapterError(QueryError, ValueError):
    """A backtest framework was to be given what it cannot take."""


class ExportError(QueryError):
    """An export cannot be written where or how it was asked for. What was there under its name still is."""


class PictureError(QueryError, ValueError):
    """Rows that cannot be drawn, or a picture of a form that there is not."""
