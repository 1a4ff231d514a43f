"""How much of an instrument is streamed: a word of the broker's protocol that settings use as well."""

from enum import StrEnum


class Mode(StrEnum):
    """How much of an instrument is streamed."""

    LTP = "ltp"
    QUOTE = "quote"
    FULL = "full"
