"""What may be chosen of bars and trades by a word, checked in Python and in SQL. Pure."""

from typing import Final, Literal, get_args

from queries.errors import QueryError

Clock = Literal["exchange", "received"]
Sessions = Literal["continuous", "all"]
Fill = Literal["none", "null", "previous"]
Label = Literal["open", "close"]

_KINDS: Final = {"clock": Clock, "sessions": Sessions, "fill": Fill, "label": Label}


def check(name: str, value: object) -> None:
    """Raises QueryError unless the value is one of those that the parameter of this name has."""
    words = get_args(_KINDS[name])
    if value not in words:
        raise QueryError(f"{name}: got {value!r}, expected one of {', '.join(words)}")


def checked_sql(name: str) -> str:
    """The same for a macro's parameter: its expression, of which nothing but its value is left in a plan."""
    words = get_args(_KINDS[name])
    texts = ", ".join(f"'{word}'" for word in words)
    return (
        f"CASE WHEN {name} IN ({texts}) THEN {name}"
        f" ELSE error('{name}: got ' || coalesce('''' || {name} || '''', 'NULL') || ', expected one of "
        f"{', '.join(words)}') END"
    )
