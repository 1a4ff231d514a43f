"""One connection, raw frames, and typed views over their bytes: nothing is copied, nothing is decoded.

python examples/raw_frames.py WS_URL INSTRUMENT_TOKEN...

Key and token come from the environment: KITE_API_KEY_1, KITE_ACCESS_TOKEN_1.
"""

import asyncio
import os
import sys

from kitelake import Account, Frame, KiteConnection, Mode, StreamSettings

FRAMES = 20


async def main(ws_url: str, *tokens: str) -> None:
    """Print the best bid and ask of the full packets in the next frames."""
    account = Account("one", os.environ["KITE_API_KEY_1"], os.environ["KITE_ACCESS_TOKEN_1"])
    async with KiteConnection(account, settings=StreamSettings(raw_only=True), ws_url=ws_url) as connection:
        frames = connection.frames()
        await connection.subscribe(map(int, tokens), Mode.FULL)
        for _ in range(FRAMES):
            frame = await anext(frames)
            if not isinstance(frame, Frame) or frame.is_heartbeat:
                continue
            for packets in frame.views():
                if "depth" in (packets.dtype.names or ()):
                    best = packets["depth"][:, :, 0]["price"]  # of each packet: bid, ask, in the wire's integers
                    for token, (bid, ask) in zip(packets["instrument_token"].tolist(), best.tolist(), strict=True):
                        print(f"{token}: bid {bid}, ask {ask}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
