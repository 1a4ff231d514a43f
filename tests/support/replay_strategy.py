"""A strategy as people write them, with the official client: `python replay_strategy.py OUTPUT TOKENS [WS API]`.

It decides by the last three prices of an instrument, and orders one lot at the last price. Each tick with what it
decided, and each order update, is a line of JSON. Ends with its socket.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from kiteconnect import KiteConnect, KiteTicker
from kiteconnect.exceptions import KiteException

output, tokens, *roots = sys.argv[1:]
wanted = [int(token) for token in tokens.split(",")]
kite = KiteConnect("key-two", access_token="token-two", **({"root": roots[1]} if roots else {}))
ticker = KiteTicker("key-two", "token-two", **({"root": roots[0]} if roots else {}))
listed = {int(each["instrument_token"]): each for each in kite.instruments()}
prices: dict[int, list[float]] = defaultdict(list)
lines = Path(output).open("w", encoding="utf-8", buffering=1)  # noqa: SIM115 (as long as the strategy runs)


def decide(seen: list[float]) -> str | None:
    if len(seen) < 3 or seen[-1] == seen[-2]:
        return None
    rises = [later > earlier for earlier, later in zip(seen[-3:], seen[-2:], strict=False)]
    return "BUY" if all(rises) else "SELL" if not any(rises) else None


def on_ticks(_socket: Any, ticks: list[dict[str, Any]]) -> None:
    for tick in ticks:
        token = tick["instrument_token"]
        prices[token].append(tick["last_price"])
        side = decide(prices[token])
        placed = None
        if side is not None:
            one = listed[token]
            try:
                placed = kite.place_order(
                    "regular", one["exchange"], one["tradingsymbol"], side, one["lot_size"], "MIS", "LIMIT",
                    price=tick["last_price"],
                )  # fmt: skip
            except KiteException as error:
                placed = type(error).__name__
        told = (token, tick["last_price"], tick.get("volume_traded"), str(tick.get("exchange_timestamp")), side)
        lines.write(json.dumps({"tick": told, "placed": placed}) + "\n")


def on_connect(socket: Any, _response: Any) -> None:
    socket.subscribe(wanted)
    socket.set_mode(socket.MODE_FULL, wanted)


def on_order_update(_socket: Any, order: dict[str, Any]) -> None:
    lines.write(json.dumps({"order": [order["order_id"], order["status"], order["filled_quantity"]]}) + "\n")


ticker.on_ticks = on_ticks
ticker.on_connect = on_connect
ticker.on_order_update = on_order_update
ticker.on_close = lambda socket, _code, _reason: socket.stop()
ticker.connect()
