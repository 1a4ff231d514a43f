"""Every error that ingest raises on purpose. Each says what was got and what was expected; none carries a secret."""

from storage.errors import KitelakeError


class IngestError(KitelakeError):
    """Something between the broker and the journal, or in the broker's bytes, is not as it must be."""


class WireError(IngestError):
    """Values do not fit into Kite packets, or bytes that were said to be packets are not.

    The batch decoder never raises this for what a frame holds: bytes that will not decode are quarantined.
    """


class AuthError(IngestError):
    """The broker refuses an account's credentials, or one of them is missing. Trying again with the same is useless."""


class SecretFileError(IngestError, ValueError):
    """A file that is to hold a secret cannot be read, can be read by others, or holds none.

    A ValueError too, as the checks of a configuration raise it.
    """


class NoSecretFileError(SecretFileError):
    """The file is not there."""


class RestError(IngestError):
    """A REST call failed. `status` is the HTTP status (0: no answer), `error_type` the broker's name for the error.

    `retryable` says whether the same call may succeed later: no answer, 429 and 5xx.
    """

    def __init__(self, message: str, *, status: int, error_type: str, retryable: bool) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.retryable = retryable


class CapacityError(IngestError):
    """More instruments are wanted than the connections can carry. Raised before anything is sent."""

    def __init__(self, message: str, *, wanted: int, capacity: int) -> None:
        super().__init__(message)
        self.wanted = wanted
        self.capacity = capacity


class InstrumentError(IngestError):
    """The broker's instrument list is not what it must be, or a name or token is not in it."""


class SessionError(IngestError):
    """A connection was told to do what its state does not allow."""


class ServerError(IngestError):
    """A server of the broker's protocol cannot start, or cannot do as it is told. It holds no value of what it got."""


class WireValueError(WireError):
    """One value of a table does not fit into a packet. `row` counts from 0 in the table."""

    def __init__(self, column: str, row: int, value: object, expected: str) -> None:
        super().__init__(f"{column}, row {row}: got {value!r}, expected {expected}")
        self.column = column
        self.row = row
        self.value = value
        self.expected = expected
