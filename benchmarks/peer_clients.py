"""Other clients of the stream, as their users run them. Runs in a peer's environment, without anything of ours.

    python benchmarks/peer_clients.py KIND URL TOKENS PACKETS FOLDER

Reads so many packets, and prints what they took as JSON: seconds of CPU and of time from the first to the last, and
bytes that were stored.

    official          kiteconnect's KiteTicker, messages counted, not decoded
    official-ticks    the same with `on_ticks`, which makes dictionaries
    official-parquet  the ticks to files by pandas, 10,000 a file
    official-sqlite   the ticks to a table of SQLite, a column a field, 1,000 a transaction, WAL, synchronous=NORMAL
    picows            picows, messages counted
"""

import asyncio
import json
import os
import sqlite3
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any, Final

FILE_TICKS: Final = 10_000
TRANSACTION_TICKS: Final = 1_000


class Count:
    """How many packets are still to come."""

    def __init__(self, packets: int) -> None:
        self.left = packets
        self._began: tuple[float, float] | None = None

    def add(self, packets: int) -> bool:
        """Whether those were the last."""
        if self._began is None:
            self._began = time.process_time(), time.perf_counter()
        self.left -= packets
        return self.left <= 0

    def end(self, stored_bytes: int = 0) -> None:
        """Print what it took, and end at once, whatever threads do."""
        assert self._began is not None
        cpu, wall = time.process_time() - self._began[0], time.perf_counter() - self._began[1]
        print(json.dumps({"cpu": cpu, "wall": wall, "bytes": stored_bytes}), flush=True)
        os._exit(0)


class Parquet:
    """Ticks to files, by pandas."""

    def __init__(self, folder: Path) -> None:
        self._pandas = import_module("pandas")
        self._folder = folder
        self._ticks: list[dict[str, Any]] = []
        self._files = 0

    def store(self, ticks: list[dict[str, Any]]) -> None:
        self._ticks += ticks
        if len(self._ticks) >= FILE_TICKS:
            self.flush()

    def flush(self) -> None:
        if self._ticks:
            self._pandas.DataFrame(self._ticks).to_parquet(self._folder / f"{self._files:06}.parquet")
            self._files += 1
            self._ticks = []


class Sqlite:
    """Ticks to a table, a column a field."""

    def __init__(self, folder: Path) -> None:
        self._connection = sqlite3.connect(folder / "ticks.db", check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._rows: list[tuple[Any, ...]] = []
        self._insert = ""

    def store(self, ticks: list[dict[str, Any]]) -> None:
        self._rows += [tuple(_flat(tick).values()) for tick in ticks]
        if not self._insert:
            names = list(_flat(ticks[0]))
            self._connection.execute(f"CREATE TABLE ticks ({', '.join(names)})")
            self._insert = f"INSERT INTO ticks VALUES ({', '.join('?' * len(names))})"
        if len(self._rows) >= TRANSACTION_TICKS:
            self.flush()

    def flush(self) -> None:
        with self._connection:
            self._connection.executemany(self._insert, self._rows)
        self._rows = []
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _flat(tick: dict[str, Any]) -> dict[str, Any]:
    flat = {name: value for name, value in tick.items() if name not in ("ohlc", "depth")}
    for name in ("last_trade_time", "exchange_timestamp"):
        flat[name] = tick[name].timestamp() if tick[name] else None
    flat |= tick["ohlc"]
    for side, levels in tick["depth"].items():
        for number, level in enumerate(levels, 1):
            for name, value in level.items():
                flat[f"{side}_{name}_{number}"] = value
    return flat


def official(url: str, tokens: list[int], count: Count, folder: Path, kind: str) -> None:
    warnings.simplefilter("ignore")
    ticker = import_module("kiteconnect").KiteTicker("key", "token", root=url, reconnect=False)
    stores: dict[str, type[Parquet | Sqlite]] = {"official-parquet": Parquet, "official-sqlite": Sqlite}
    writer = stores[kind](folder) if kind in stores else None

    def on_connect(ws: Any, response: Any) -> None:
        ws.subscribe(tokens)
        ws.set_mode(ws.MODE_FULL, tokens)

    def on_message(ws: Any, payload: bytes, is_binary: bool) -> None:
        if is_binary and len(payload) > 1 and count.add(payload[0] << 8 | payload[1]):
            count.end()

    def on_ticks(ws: Any, ticks: list[dict[str, Any]]) -> None:
        last = count.add(len(ticks))
        if writer is not None:
            writer.store(ticks)
            if last:
                writer.flush()
        if last:
            count.end(sum(path.stat().st_size for path in folder.iterdir()))

    ticker.on_connect = on_connect
    if kind == "official":
        ticker.on_message = on_message
    else:
        ticker.on_ticks = on_ticks
    ticker.connect()


async def picows(url: str, tokens: list[int], count: Count) -> None:
    library: Any = import_module("picows")

    class Listener(library.WSListener):  # type: ignore[misc]
        def on_ws_connected(self, transport: Any) -> None:
            for request in ({"a": "subscribe", "v": tokens}, {"a": "mode", "v": ["full", tokens]}):
                transport.send(library.WSMsgType.TEXT, json.dumps(request).encode())

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type == library.WSMsgType.BINARY:
                payload = frame.get_payload_as_bytes()
                if len(payload) > 1 and count.add(payload[0] << 8 | payload[1]):
                    count.end()

    _, listener = await library.ws_connect(Listener, url)
    await asyncio.Event().wait()
    assert listener


def main() -> None:
    kind, url, tokens, packets, folder = sys.argv[1:]
    count = Count(int(packets))
    if kind == "picows":
        asyncio.run(picows(url, json.loads(tokens), count))
    else:
        official(url, json.loads(tokens), count, Path(folder), kind)


if __name__ == "__main__":
    main()
