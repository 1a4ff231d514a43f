"""Twenty lists of ticks, with the callbacks of the official client: only the import differs.

python examples/callbacks.py wss://ws.kite.trade 738561 5633

Key and token come from the environment: KITE_API_KEY_1, KITE_ACCESS_TOKEN_1.
"""

import os
import sys
from itertools import count
from typing import Any

from ingest.manager import KiteTicker

LISTS = 20


def main(url: str, *instruments: str) -> None:
    """Print the ticks, then close."""
    tokens = list(map(int, instruments))
    lists = count(1)

    def on_connect(ws: KiteTicker, _response: object) -> None:
        ws.subscribe(tokens)
        ws.set_mode(ws.MODE_FULL, tokens)

    def on_ticks(ws: KiteTicker, ticks: list[dict[str, Any]]) -> None:
        for tick in ticks:
            print(
                f"{tick['instrument_token']:>10} {tick['mode']:5} {tick['last_price']:>12.2f} {tick['change']:+.2f} %"
            )
        if next(lists) == LISTS:
            ws.close()

    ticker = KiteTicker(os.environ["KITE_API_KEY_1"], os.environ["KITE_ACCESS_TOKEN_1"], root=url)
    ticker.on_connect = on_connect
    ticker.on_ticks = on_ticks
    ticker.on_close = lambda _ws, code, reason: print(f"closed: {code} {reason}")
    ticker.connect()


if __name__ == "__main__":
    main(*sys.argv[1:])
