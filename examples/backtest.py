"""A moving average over one-minute bars as they close, traded at the best price of the next tick.

python examples/backtest.py data/simulated NSE:INFY

With `follow=True` the same loop goes on with what is captured from now on.
"""

import sys
from collections import deque

import kitelake

BARS = 10


def main(folder: str, symbol: str) -> None:
    """Print each trade, and what was earned."""
    closes: deque[float] = deque(maxlen=BARS)
    cash, held, wanted = 0.0, 0, 0
    price = 0.0
    with kitelake.open(folder) as lake, lake.feed(symbol, bars="1m", on_gap="mark") as feed:
        for item in feed:
            if isinstance(item, kitelake.Bar):  # it has closed, and nothing that came later is known
                closes.append(item.close)
                if len(closes) == BARS:
                    wanted = 1 if item.close > sum(closes) / BARS else 0
            elif isinstance(item, kitelake.Outage):  # what the average was made of is old
                closes.clear()
            elif not item.cached:
                price = item.last_price
                if wanted != held:
                    side = "buy" if wanted > held else "sell"
                    at = (item.ask_price_1 if side == "buy" else item.bid_price_1) or price
                    cash += (held - wanted) * at
                    held = wanted
                    print(f"{item.received_at:%Y-%m-%d %H:%M:%S} {side:4} {at:10.2f}")
    print(f"earned {cash + held * price:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
