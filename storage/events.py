"""The names under which the lives of the service and its connections are journalled, where others read them."""

from enum import StrEnum


class Event(StrEnum):
    """What is reported of a connection. `data` has what is named here."""

    CONNECTED = "connected"  # the handshake is done. opening: its number, from 1
    RESUMED = "resumed"  # after a reconnect everything is subscribed again. down_seconds, instruments
    CLOSED = "closed"  # an open socket ended. by: us or peer; clean; if not as wanted: reason, code, retry_in_seconds
    REFUSED = "refused"  # an attempt failed. reason, code, retry_in_seconds
    FAILED = "failed"  # no further attempt is made. reason, code
    SILENT = "silent"  # nothing came for too long: the peer counts as dead. silent_seconds
    SUBSCRIBED = "subscribed"  # was sent. tokens
    UNSUBSCRIBED = "unsubscribed"  # was sent. tokens
    MODE = "mode"  # was sent. mode, tokens
    HELD = "held"  # a new day began, in IST: what the server was asked for. tokens; since_us: of each, since 1970
    ASKED_AGAIN = "asked again"  # the server does not stream what was asked for. silent, wrong_mode, unwanted: tokens


class ServiceEvent(StrEnum):
    """What is reported of the service, as far as it tells what was captured."""

    STARTED = "started"  # the first of a run. lists
    STOPPED = "stopped"  # the last, unless it was killed
    FRAMES_LOST = "frames lost"  # no room for them. account, connection, frames, packets, bytes, first_ns, last_ns
