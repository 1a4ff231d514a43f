"""The days that have an instrument list, as a relation: a macro finds the one in force by it."""

import datetime as dt
from collections.abc import Sequence
from typing import Final

from queries.lake import LakeState, Relation


def _listed_days(state: LakeState, _: Sequence[dt.date]) -> str:
    days = ", ".join(f"'{day}'" for day in state.dates("instruments"))
    return f"SELECT unnest([{days}]::DATE[]) AS listed_on"


INSTRUMENT_DAYS: Final = Relation(
    "instrument_days",
    _listed_days,
    frozenset({"instruments"}),
    first="SELECT DISTINCT date AS listed_on FROM instruments",
)
