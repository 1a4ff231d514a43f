"""All instruments of a list over two accounts, as Arrow batches, with the manager's own account of itself.

python examples/manager.py WS_URL INSTRUMENT_TOKEN...

The accounts' keys and tokens come from the environment: KITE_API_KEY_1, KITE_ACCESS_TOKEN_1, KITE_API_KEY_2, …
"""

import asyncio
import os
import sys

from kitelake import Account, Gap, Mode, TickerManager

ROWS = 500


async def main(ws_url: str, *tokens: str) -> None:
    """Subscribe in full mode, read so many rows, print who streams what and how it went."""
    accounts = [
        Account(name, os.environ[f"KITE_API_KEY_{number}"], os.environ[f"KITE_ACCESS_TOKEN_{number}"])
        for number, name in enumerate(("one", "two"), start=1)
    ]
    async with TickerManager(accounts, ws_url=ws_url) as manager:
        batches = manager.batches()
        await manager.subscribe(map(int, tokens), mode=Mode.FULL)
        for slot, instruments in manager.placement().items():
            print(f"{slot.account}/{slot.connection} streams {len(instruments)} instruments")
        rows = 0
        async for batch in batches:
            if isinstance(batch, Gap):
                print(f"this program was too slow, and missed {batch.packets} packets")
                continue
            rows += batch.num_rows
            if rows >= ROWS:
                break
        health = manager.health()
        print(f"{rows} rows; {health.status}, {health.percent:.0f} %", *health.reasons, sep="\n  ")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
