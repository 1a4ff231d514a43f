"""Bars as tests ask for them, and the columns of them that they compare."""

from collections.abc import Callable, Sequence
from typing import Any

Ask = Callable[..., list[dict[str, Any]]]
PRICES = ("open", "high", "low", "close")


def shown(rows: Sequence[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    """The time of each row, and these of its columns."""
    return [(f"{row['time']:%H:%M:%S}", *(row[name] for name in names)) for row in rows]
