"""Errors of the composition root, and those of the library that its users catch."""

from ingest.errors import AuthError as AuthError
from ingest.errors import CapacityError as CapacityError
from ingest.errors import InstrumentError as InstrumentError
from queries.errors import AdapterError as AdapterError
from queries.errors import FeedError as FeedError
from queries.errors import NoLakeError as NoLakeError
from queries.errors import OutageError as OutageError
from queries.errors import QueryError as QueryError
from queries.errors import QueryTimeoutError as QueryTimeoutError
from queries.errors import SymbolError as SymbolError
from storage.errors import KitelakeError as KitelakeError


class ConfigError(KitelakeError):
    """config.yaml is missing or says something that it may not. Nothing was started."""


class NoLoginError(KitelakeError, ValueError):
    """An account has no stored login that can be used: there is none, it has lapsed, or its file holds something else.

    A ValueError too, as every source of a token raises it.
    """


class ListFileError(ConfigError):
    """A list of instrument names, in a file or on the web, cannot be fetched or is not one."""


class StartError(KitelakeError):
    """A process that the service needs did not start. Nothing else was started."""


class WriterError(KitelakeError):
    """The writer process cannot commit what the journal holds. Nothing is lost; the next start takes it up."""


class OutputError(KitelakeError):
    """A result cannot be written where or how it was asked for."""


class AskError(KitelakeError):
    """What a command was asked to look up is none: no such instrument, time, width, …"""


class UpkeepError(KitelakeError):
    """A day could not be sealed, or old data not be removed. Nothing is lost; the next run tries again."""


class ReportError(KitelakeError):
    """The report of a day cannot be made. What was captured is untouched; the next start tries again."""


class ReplayError(StartError):
    """A day cannot be replayed as it was asked for. Nothing was started."""


class PaperError(StartError):
    """The paper broker cannot be set up as it was asked to: its file of limits is missing or says something else."""


class NoReplayError(KitelakeError):
    """There is no replay to bind a client to: no address is known, it is not on this machine, or no replay answers."""


class GuardError(KitelakeError):
    """A strategy cannot be started so that it is kept from the broker. It was not started."""
