"""The trading sessions of each day, exchange and kind of instrument: what bars are aligned to.

As the service noted them in the day's record, else by the built-in table of `storage.market`. In a folder of a
simulator or a replay, which run at any hour, the whole day counts, and so it does where nothing is known: an exchange
without sessions, an instrument without a row in the day's list.
"""

import datetime as dt
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from queries.history import FIRST_DAY, lists_in_force
from queries.lake import LakeState, among
from storage.clock import us_of
from storage.datafolder import source_of
from storage.market import (
    END_OF_DAY,
    EQUITY_DERIVATIVES,
    SCHEDULED,
    Hours,
    InstrumentKind,
    Phase,
    exchange_of_token,
    hours_of,
    span_of,
    usual_sessions,
)
from storage.memory import arrow_of, arrow_texts

log = logging.getLogger(__name__)

WHOLE_DAY: Final = Hours(dt.time(), END_OF_DAY)
SCHEMA: Final = pa.schema(
    [
        ("date", pa.date32()),
        ("listed", pa.date32()),
        ("exchange", pa.string()),
        ("kind", pa.string()),
        ("opens", pa.timestamp("us", "UTC")),
        ("closes", pa.timestamp("us", "UTC")),
    ]
)


def sessions_of(state: LakeState, days: Sequence[dt.date]) -> pa.Table:
    """The continuous session of each exchange and kind on these days: from its first to its last minute.

    `date`, `listed` (the day of the instrument list in force), `exchange` and `kind` of that list's instruments, and
    `opens` and `closes` as instants. Without a row: the exchange was closed for that kind, as the day's record says.
    """
    any_hour = source_of(state.root) in ("simulator", "replay")
    lists = lists_in_force(state, days)
    exchanges = _exchanges(state, set(lists.values()))
    rows: list[tuple[Any, ...]] = [
        (_number(day), _number(listed), exchange, kind.value, *map(us_of, span_of(day, hours)))
        for day, listed in sorted(lists.items())
        for exchange, kind, hours in _of_day(state.root, day, exchanges.get(listed, ()), any_hour=any_hour)
    ]
    return pa.Table.from_arrays(
        [
            arrow_texts([row[at] for row in rows])
            if field.type == pa.string()
            else arrow_of(np.array([row[at] for row in rows], f"i{field.type.bit_width // 8}"), None, field.type)
            for at, field in enumerate(SCHEMA)
        ],
        schema=SCHEMA,
    )


def _number(day: dt.date) -> int:
    """As a date32 has it."""
    return (day - FIRST_DAY).days


def exchanges_of(state: LakeState, day: dt.date, tokens: Iterable[int]) -> dict[int, str]:
    """The exchange under which `sessions_of` has each of these instruments: of an index that which lists it, as the
    instrument list in force says, and not INDICES."""
    found = {token: exchange_of_token(token) for token in tokens}
    unsaid = [token for token, exchange in found.items() if exchange not in SCHEDULED]
    lists = lists_in_force(state, [day])
    if unsaid and lists:
        which = f"date = DATE '{lists[day]}' AND instrument_token IN ({', '.join(map(str, unsaid))})"
        (rows,) = state.read([f"SELECT instrument_token, exchange FROM instruments WHERE {which}"])
        found |= zip(rows["instrument_token"].to_pylist(), rows["exchange"].to_pylist(), strict=True)
    return found


def are_noted(state: LakeState, day: dt.date) -> bool:
    """Whether the day's record says them."""
    return bool(_noted(state.root, day))


def hours_sql(sessions: str, listed: str = "true", which: str = "true") -> str:
    """The SELECT of date, instrument_token, symbol, opens_us and closes_us of instruments: their continuous session.

    `sessions` is the name of rows as `sessions_of` gives them; `listed` a condition on the `date` of instrument lists,
    and `which` one on their rows, which keep what is not asked for from being read.
    """
    derivatives = ", ".join(f"'{exchange}'" for exchange in EQUITY_DERIVATIVES)
    return f"""
    SELECT open_hours.date, listing.instrument_token, listing.symbol, epoch_us(open_hours.opens) AS opens_us,
        epoch_us(open_hours.closes) AS closes_us
    FROM (
        SELECT instruments.date, instrument_token, symbol, exchange, CASE
            WHEN segment = 'INDICES' THEN '{InstrumentKind.INDEX}'
            WHEN instrument_type = 'FUT' THEN '{InstrumentKind.FUTURE}'
            WHEN instrument_type IN ('CE', 'PE') THEN '{InstrumentKind.OPTION}'
            WHEN underlyings.name IS NOT NULL THEN '{InstrumentKind.UNDERLYING}'
            ELSE '{InstrumentKind.SHARE}'
        END AS kind
        FROM (FROM instruments WHERE {listed} AND {which}) AS instruments LEFT JOIN (
            SELECT DISTINCT date, name FROM instruments
            WHERE {listed} AND instrument_type = 'FUT' AND exchange IN ({derivatives})
        ) AS underlyings ON instruments.date = underlyings.date AND instruments.tradingsymbol = underlyings.name
    ) AS listing JOIN {sessions} AS open_hours
        ON listing.date = open_hours.listed AND listing.exchange = open_hours.exchange
        AND listing.kind = open_hours.kind
    """


def _exchanges(state: LakeState, lists: Iterable[dt.date]) -> dict[dt.date, list[str]]:
    """The exchanges of each of these instrument lists."""
    days = sorted(lists)

    def look() -> dict[dt.date, list[str]]:
        query = f"SELECT DISTINCT date, exchange FROM instruments WHERE {among(days)} ORDER BY ALL"
        rows = state.sql(query).arrow()
        found: dict[dt.date, list[str]] = {}
        for day, exchange in zip(rows["date"].to_pylist(), rows["exchange"].to_pylist(), strict=True):
            found.setdefault(day, []).append(exchange)
        return found

    return state.remembered("exchanges", tuple(days), ["instruments"], look)


def _of_day(
    root: Path, day: dt.date, exchanges: Iterable[str], *, any_hour: bool
) -> Iterator[tuple[str, InstrumentKind, Hours]]:
    noted = {} if any_hour else _noted(root, day)
    for exchange in exchanges:
        for kind in InstrumentKind:
            if any_hour:
                yield exchange, kind, WHOLE_DAY
            elif (hours := _continuous(noted.get(exchange), exchange, kind, day)) is not None:
                yield exchange, kind, hours


def _continuous(
    noted: Mapping[str, Sequence[Sequence[str]]] | None, exchange: str, kind: InstrumentKind, day: dt.date
) -> Hours | None:
    if noted is None:
        sessions = [(session.phase.value, session.hours) for session in usual_sessions(exchange, day)[kind]]
    else:
        sessions = [(phase, hours_of(text)) for phase, text in noted.get(kind.value, ())]
    continuous = [hours for phase, hours in sessions if phase == Phase.CONTINUOUS]
    if not continuous:
        return None
    return Hours(min(hours.start for hours in continuous), max(hours.stop for hours in continuous))


def _noted(root: Path, day: dt.date) -> Mapping[str, Mapping[str, Sequence[Sequence[str]]]]:
    """The sessions of each exchange in the day's record; empty if there is none. See `kitelake.report.DayRecord`."""
    path = root / "days" / f"{day.isoformat()}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        noted = {exchange: one["sessions"] for exchange, one in found.get("exchanges", {}).items()}
        for sessions in noted.values():
            for each in sessions.values():
                for _, hours in each:
                    hours_of(hours)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("%s: cannot be read (%s); the usual sessions of the day count", path, type(error).__name__)
        return {}
    return noted
