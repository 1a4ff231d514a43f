"""The futures of a name as of moments: the curve, with its basis over the index or the share.

Basis is the future's price less that of the spot, each the mid of a two-sided quote that does not cross, else the last
price. `basis_percent` is that of the spot's price, scaled to a year: basis / spot × 365 / days to expiry × 100, simple
interest, days of the calendar. It is null on the day of expiry, and both where the name has no spot: on commodities and
currencies.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Final

from queries.history import DATED_TICKS, SQL_MOMENT, sql_moment
from queries.lake import LakeState, Result, literal
from queries.options.contracts import Contracts, contracts
from queries.options.listed import INSTRUMENT_DAYS
from queries.options.quotes import LAST, of_today
from storage.market import EQUITIES, EQUITY_DERIVATIVES, FUTURE, INDEX_DERIVATIVES, exchange_of_token, spot_of

_CURVE: Final = "day, exchange, name, instrument_token, symbol, expiry, lot_size, spot_token, spot_symbol"
"""What is known of each future and day by the instrument lists."""


def futures(state: LakeState, underlying: str, moments: Sequence[dt.datetime]) -> Result:
    """By moment and expiry. Raises SymbolError, of the first day on which it is one."""
    moments = sorted(set(moments))
    found = [contracts(state, underlying, day, options=False) for day in sorted({moment.date() for moment in moments})]
    curve = [text for one in found for text in _curve_rows(one)]
    tokens = {token for one in found for token in _tokens(one)}
    days = ", ".join(f"DATE '{one.day}'" for one in found)
    where = (
        f"date IN ({days}) AND exchange IN ({_texts({exchange_of_token(token) for token in tokens})})"
        f" AND instrument_token IN ({', '.join(map(str, sorted(tokens)))}) AND received_at <= {sql_moment(moments[-1])}"
    )
    asked = ", ".join(f"({sql_moment(moment)}, DATE '{moment.date()}')" for moment in moments)
    return state.sql(
        f"""
        WITH asked (asked_at, day) AS (VALUES {asked}),
        curve ({_CURVE}) AS (VALUES {", ".join(curve)})
        {_select(where)}
        """
    )


def _curve_rows(one: Contracts) -> Iterable[str]:
    spot = "NULL::BIGINT, NULL" if one.spot is None else f"{one.spot[0]}, {literal(one.spot[1])}"
    for each in one.expiries:
        for row in each.futures:
            lot = "NULL::BIGINT" if row["lot_size"] is None else row["lot_size"]
            yield (
                f"(DATE '{one.day}', {literal(one.exchange)}, {literal(one.name)}, {row['instrument_token']},"
                f" {literal(row['symbol'])}, DATE '{each.date}', {lot}, {spot})"
            )


def _tokens(one: Contracts) -> Iterable[int]:
    yield from (row["instrument_token"] for each in one.expiries for row in each.futures)
    if one.spot is not None:
        yield one.spot[0]


def _select(where: str) -> str:
    """Over the CTEs `asked` (asked_at, day) and `curve`; `where` skips ticks. No column is named as a parameter is."""
    midnight = "timezone('Asia/Kolkata', date::TIMESTAMP)"
    return f"""
        , wanted AS (
            SELECT DISTINCT asked_at, day, unnest([instrument_token, spot_token]) AS token
            FROM asked JOIN curve USING (day)
        ),
        shown AS (
            SELECT wanted.asked_at, wanted.token, found.*, CASE
                WHEN found.bid <= found.ask THEN (found.bid + found.ask) / 2 ELSE found.last
            END AS price
            FROM wanted ASOF JOIN (
                SELECT date, instrument_token, received_at, {LAST} AS found FROM {DATED_TICKS.name}
                WHERE {where} AND {of_today(midnight)} AND instrument_token IN (SELECT token FROM wanted)
                GROUP BY ALL
            ) AS seen ON wanted.token = seen.instrument_token AND wanted.day = seen.date
                AND wanted.asked_at >= seen.received_at
        )
        SELECT asked.asked_at AS moment, curve.exchange, curve.name, curve.symbol, curve.expiry,
            curve.expiry - curve.day AS days_to_expiry, curve.lot_size,
            own.bid, own.ask, own.last, own.volume, own.oi,
            curve.spot_symbol, spot.price AS spot, own.price - spot.price AS basis,
            (own.price - spot.price) / spot.price * 365 / nullif(curve.expiry - curve.day, 0) * 100 AS basis_percent,
            make_timestamptz(own.received_us) AS received_at
        FROM asked JOIN curve USING (day)
        LEFT JOIN shown AS own ON own.asked_at = asked.asked_at AND own.token = curve.instrument_token
        LEFT JOIN shown AS spot ON spot.asked_at = asked.asked_at AND spot.token = curve.spot_token
        ORDER BY asked.asked_at, curve.exchange, curve.expiry, curve.symbol
    """


def _texts(values: Iterable[str]) -> str:
    return ", ".join(map(literal, sorted(values)))


def _map(pairs: Iterable[tuple[str, str]]) -> str:
    return "MAP {" + ", ".join(f"{literal(key)}: {value}" for key, value in pairs) + "}"


def _body() -> str:
    """As `contracts` finds them, in SQL."""
    moment = f"({SQL_MOMENT})"
    day = f"timezone('Asia/Kolkata', {moment})::DATE"
    text = "upper(trim(underlying))"
    derivative = _map((symbol, literal(name)) for symbol, name in INDEX_DERIVATIVES.items())
    homes = [f"{derivative}['{home}:' || {text}]" for home in EQUITIES]
    pairs = sorted(
        {(exchange, name) for name in INDEX_DERIVATIVES.values() for exchange in (*EQUITY_DERIVATIVES, "MCX")}
    )
    spots = _map((f"{exchange}:{name}", f"[{_in_order(spot_of(exchange, name))}]") for exchange, name in pairs)
    equities, derivatives = _texts(EQUITIES), _texts(EQUITY_DERIVATIVES)
    return f"""
        WITH asked AS (SELECT {moment} AS asked_at, {day} AS day),
        listed AS (
            SELECT asked.day, instruments.* FROM asked JOIN instruments
            ON date = (SELECT max(listed_on) FROM {INSTRUMENT_DAYS.name} WHERE listed_on <= {day})
        ),
        found AS (
            SELECT day, exchange, name, instrument_token, symbol, expiry, lot_size, coalesce(
                {spots}[exchange || ':' || name],
                CASE WHEN exchange IN ({derivatives}) THEN ['NSE:' || name, 'BSE:' || name] ELSE [] END
            ) AS spots
            FROM listed WHERE instrument_type = '{FUTURE}' AND expiry >= day AND CASE
                WHEN contains({text}, ':')
                THEN name = coalesce({derivative}[{text}], split_part({text}, ':', 2))
                    AND (exchange = split_part({text}, ':', 1)
                        OR split_part({text}, ':', 1) IN ({equities}) AND exchange IN ({derivatives}))
                ELSE name IN ({text}, {", ".join(homes)})
            END
            QUALIFY rank() OVER (ORDER BY CASE
                WHEN exchange = if(starts_with({text}, 'BSE:'), 'BFO', 'NFO') THEN 0
                WHEN exchange IN ({derivatives}) THEN 1 ELSE 2
            END) = 1
        ),
        spot AS (
            SELECT candidates.exchange, candidates.name, min_by(listed.instrument_token, place) AS spot_token,
                min_by(listed.symbol, place) AS spot_symbol
            FROM (
                SELECT DISTINCT exchange, name, unnest(spots) AS symbol, generate_subscripts(spots, 1) AS place
                FROM found
            ) AS candidates JOIN listed USING (symbol) GROUP BY ALL
        ),
        curve AS (SELECT {_CURVE} FROM found LEFT JOIN spot USING (exchange, name))
        {_select(f"date = {day} AND received_at <= {moment}")}
    """


def _in_order(values: Iterable[str]) -> str:
    return ", ".join(map(literal, values))


OVERLOADS: Final = (("underlying VARCHAR, moment := NULL", _body()),)
