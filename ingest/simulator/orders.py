"""Order updates (postbacks) as the broker pushes them, made up from the market and seeded like it."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from ingest.server import AccountOrder, AccountSettings, StreamMode
from ingest.simulator.market import Market
from storage.clock import NS_PER_SECOND, ist_time

_STATUSES: Final = ("OPEN", "COMPLETE", "COMPLETE", "CANCELLED", "REJECTED")


class OrderBook:
    """Makes the order updates of all accounts, one after the other."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._random = np.random.Generator(np.random.PCG64([market.seed, 3]))
        self.made = 0

    def make(self, account: AccountSettings, fields: Mapping[str, Any]) -> AccountOrder:
        """The next one; `fields` replace what the model makes up.

        Keys as in the broker's postback documentation; times are IST, `YYYY-MM-DD HH:MM:SS`.
        """
        draw = self._random
        self.made += 1
        listed = self._market.universe.instruments
        tradable = np.flatnonzero(~self._market.index)
        row = int(tradable[draw.integers(0, len(tradable))])
        one = listed[row]
        status = _STATUSES[draw.integers(0, len(_STATUSES))]
        quantity = int(draw.integers(1, 20)) * one.lot_size
        filled = quantity if status == "COMPLETE" else 0
        pending = quantity if status == "OPEN" else 0
        cancelled = quantity if status == "CANCELLED" else 0
        price = int.from_bytes(self._market.images.packet(row, StreamMode.LTP)[4:8], "big") / one.divisor
        when = ist_time(self._market.seconds * NS_PER_SECOND)
        clock = f"{when:%Y-%m-%d %H:%M:%S}"
        order_id = f"{when:%y%m%d}{self.made:09d}"
        data: dict[str, Any] = {
            "account_id": account.user_id,
            "unfilled_quantity": 0,
            "checksum": hashlib.sha256(
                (order_id + clock + account.api_secret.get_secret_value()).encode()
            ).hexdigest(),  # as the broker defines it
            "placed_by": account.user_id,
            "order_id": order_id,
            "exchange_order_id": f"1{order_id}" if status != "REJECTED" else None,
            "parent_order_id": None,
            "status": status,
            "status_message": "RMS: margin exceeds, required margin is more" if status == "REJECTED" else None,
            "status_message_raw": None,
            "order_timestamp": clock,
            "exchange_update_timestamp": clock,
            "exchange_timestamp": clock,
            "variety": "regular",
            "exchange": one.exchange,
            "tradingsymbol": one.tradingsymbol,
            "instrument_token": one.instrument_token,
            "order_type": "LIMIT",
            "transaction_type": "BUY" if draw.random() < 0.5 else "SELL",
            "validity": "DAY",
            "product": "CNC" if one.expiry is None else "NRML",
            "quantity": quantity,
            "disclosed_quantity": 0,
            "price": price,
            "trigger_price": 0,
            "average_price": price if filled else 0,
            "filled_quantity": filled,
            "pending_quantity": pending,
            "cancelled_quantity": cancelled,
            "market_protection": 0,
            "meta": {},
            "tag": None,
            "guid": f"{self.made:06d}X{order_id}",
        }
        return AccountOrder(account.label, {**data, **fields})
