"""The relations that every lake has beside its tables: what is in a tick, in the shape in which it is asked for."""

from typing import Final

from queries.lake.sources import TICKS
from queries.lake.state import Relation
from storage.schema import DEPTH_LEVELS

_QUOTES: Final = """
    SELECT date, exchange, received_at, instrument_token, symbol, last_price,
        bid_price_1 AS bid, bid_quantity_1 AS bid_quantity, ask_price_1 AS ask, ask_quantity_1 AS ask_quantity,
        (bid_price_1 + ask_price_1) / 2 AS mid,
        (bid_price_1 * ask_quantity_1 + ask_price_1 * bid_quantity_1) / (bid_quantity_1 + ask_quantity_1) AS microprice,
        ask_price_1 - bid_price_1 AS spread, exchange_timestamp, stream, seq
    FROM ticks WHERE bid_price_1 IS NOT NULL
"""


def _depth() -> str:
    """One row a side and level; a level that is empty, whose quantity the packet has as 0, is none."""
    levels = ", ".join(
        f"{{'side': '{side}', 'level': {level}, 'price': {side}_price_{level}, "
        f"'quantity': {side}_quantity_{level}, 'orders': {side}_orders_{level}}}"
        for side in ("bid", "ask")
        for level in range(1, DEPTH_LEVELS + 1)
    )
    return f"""
    SELECT date, exchange, received_at, instrument_token, symbol, entry.side, entry.level, entry.price, entry.quantity,
        entry.orders, exchange_timestamp, stream, seq
    FROM (
        SELECT date, exchange, received_at, instrument_token, symbol, exchange_timestamp, stream, seq,
            unnest([{levels}]) AS entry
        FROM ticks WHERE mode = 'full' AND bid_price_1 IS NOT NULL
    ) WHERE entry.quantity > 0
    """


RELATIONS: Final = (TICKS, Relation.view("quotes", _QUOTES), Relation.view("depth", _depth()))
