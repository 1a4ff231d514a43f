"""The prices around which strikes are chosen: from the live stream, from the captured ticks, from the instrument list.

The first that knows one says it. What is no price, such as the 0 that the stream has for what did not trade, is known
by nobody: the next one is asked. Asking the stream and the table costs something, so both are asked for many
instruments at once, and the table only for those of which the stream brought nothing.
"""

import asyncio
import contextlib
import datetime as dt
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from ingest.instruments import Instruments, Price, PriceOf, is_price, listed_price
from ingest.manager import TickerManager
from storage.clock import IST
from storage.errors import KitelakeError

LISTEN_SECONDS: Final = 3.0
"""How long the stream is listened to: what moves the market ticks every second."""
LOOK_BACK_DAYS: Final = 7
"""How old a captured price may be: over a weekend with a holiday at each end."""


async def live_prices(manager: TickerManager, tokens: Collection[int]) -> dict[int, Price]:
    """The last prices of these, as far as the stream brings any within a few seconds."""
    missing = np.array(sorted(tokens), np.int64)
    found: dict[int, Price] = {}
    if not tokens:
        return found
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LISTEN_SECONDS), contextlib.aclosing(manager.batches()) as batches:
            async for batch in batches:
                if not isinstance(batch, pa.RecordBatch):
                    continue
                came = batch.column("instrument_token").to_numpy()
                for row in np.flatnonzero(np.isin(came, missing)).tolist():
                    price = batch.column("last_price")[row].as_py()
                    if is_price(price):
                        found[int(came[row])] = Price(price, "the live stream")
                if len(found) == len(missing):
                    break
    return found


def captured_prices(data: Path, tokens: Collection[int]) -> dict[int, Price]:
    """The last captured prices of these, not older than a week. Empty where nothing was captured, or it cannot be read.

    Where the last value of a day is 0, the price is the last one before that. Reads files: to be called in a thread.
    """
    import kitelake

    found: dict[int, Price] = {}
    today = dt.datetime.now(IST).date()
    try:
        with kitelake.open(data) as lake:
            week = [day for day in lake.look().dates("ticks") if 0 <= (today - day).days <= LOOK_BACK_DAYS]
            for day in reversed(week):
                missing = [token for token in tokens if token not in found]
                if not missing:
                    break
                rows = lake.sql(_LAST, {"date": day, "tokens": missing}).arrow()
                found |= {
                    row["instrument_token"]: Price(row["price"], f"captured at {row['at']:%Y-%m-%d %H:%M}")
                    for row in rows.to_pylist()
                }
    except KitelakeError:
        return found
    return found


_LAST: Final = """
select instrument_token, arg_max(last_price, received_at) as price, max(received_at) as at
from ticks where date = $date and list_contains($tokens, instrument_token)
and last_price > 0 and isfinite(last_price) -- as ingest.instruments.is_price has it
group by instrument_token"""


def first_known(*known: Mapping[int, Price], instruments: Instruments) -> PriceOf:
    """The price that the first of these knows; at last that of the instrument list."""
    listed = listed_price(instruments)

    def price_of(token: int) -> Price | None:
        prices = (source[token] for source in known if token in source)
        return next((price for price in prices if is_price(price.value)), None) or listed(token)

    return price_of
