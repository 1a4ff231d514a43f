"""Joining rows by time: each row with what was last known of its symbol then."""

import datetime as dt
from collections.abc import Sequence

from queries.asof.inputs import Rows, Source, microseconds, source_of
from queries.errors import QueryError
from queries.lake import LakeState, Result, quoted

_SUFFIX = "_right"


def asof(
    state: LakeState,
    left: Rows,
    right: Rows,
    tolerance: dt.timedelta | float | None,
    on: str | tuple[str, str],
    by: str | Sequence[str],
) -> Result:
    """What `AsofMethods.asof` says. Raises QueryError."""
    left_on, right_on = (on, on) if isinstance(on, str) else on
    keys = [by] if isinstance(by, str) else list(by)
    limit = None if tolerance is None else microseconds(tolerance, "tolerance")
    if limit is not None and limit < 0:
        raise QueryError(f"tolerance: got {tolerance!r}, expected what is not negative")
    one, other = source_of(state, left, "left"), source_of(state, right, "right")
    one.has(keys)
    other.has(keys)
    old = "false" if limit is None else f"epoch_us(one._at) - epoch_us(other._at) > {limit}"
    taken = {*(name.lower() for name in one.columns)}
    added = []
    for name in other.columns:
        if name not in keys:
            shown = name
            while shown.lower() in taken:
                shown += _SUFFIX
            taken.add(shown.lower())
            added.append(f"CASE WHEN NOT ({old}) THEN other.{quoted(name)} END AS {quoted(shown)}")
    same = [f"one.{quoted(key)} = other.{quoted(key)}" for key in keys]
    order = ", ".join([*(f"one.{quoted(key)}" for key in keys), "one._at"])
    return state.sql(
        f"""
        SELECT {", ".join([*(f"one.{quoted(name)}" for name in one.columns), *added])}
        FROM {_timed(one, left_on)} AS one ASOF LEFT JOIN {_timed(other, right_on)} AS other
            ON {" AND ".join([*same, "one._at >= other._at"])}
        ORDER BY {order}
        """
    )


def _timed(source: Source, on: str) -> str:
    return f"(SELECT *, {source.instant(on)} AS _at FROM (\n{source.text}\n))"
