"""How long a paper order takes from its request to its postback, over the real server, beside a bare call of it.

    python -m benchmarks.bench_paper [--orders 200] [--quick] [--json FILE]

`kitelake replay` serves a day of 3,000 instruments at speed 1, as `benchmarks.bench_replay` captures it. The client,
this process, holds a socket, and posts limit orders over one kept connection. `request` is until the answer, `postback`
until the order's first postback has come on the socket; `profile` is the same server's cheapest call, without orders.
"""

import http.client
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

from websockets.sync.client import connect

import kitelake
from benchmarks.bench_replay import capture
from benchmarks.market_listing import LAST_DAY
from benchmarks.results import Claim, Findings, arguments, tell

PACKETS: Final = 1_000_000
HEADERS: Final = {"X-Kite-Version": "3", "Authorization": "token paper:paper"}
FORM: Final = {**HEADERS, "Content-Type": "application/x-www-form-urlencoded"}
PAUSE_SECONDS: Final = 0.12
"""Ten order requests a second of the market's are granted."""


def liquid(root: Path) -> tuple[int, str, float]:
    """An instrument with a book: token, symbol, and a price that buys whatever is there."""
    with kitelake.open(root) as lake:
        rows = lake.sql(
            "select instrument_token, symbol, round(max(ask_price_1) * 1.1) as price from ticks "
            "where exchange = 'NSE' and ask_quantity_1 > 0 group by all order by count(*) desc, symbol limit 1"
        )
        (row,) = rows.arrow().to_pylist()
    return row["instrument_token"], row["symbol"], row["price"]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--orders", type=int, default=200)
    options = parser.parse_args()
    orders, packets = (3, 20_000) if options.quick else (options.orders, PACKETS)
    with tempfile.TemporaryDirectory() as folder:
        capture(Path(folder), 5, packets)
        token, symbol, price = liquid(Path(folder))
        command = ["replay", "--data", folder, "--date", str(LAST_DAY), "--port", "0", "--api-port", "0"]
        server = subprocess.Popen(
            [sys.executable, "-m", "kitelake", *command, "--wait-for", "1", "--capital", "1e12"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        roots = {}
        for line in server.stdout:
            if " root  " in line:
                roots[line.split()[0]] = line.split()[-1]
            if "lets nothing through" in line:
                break
        try:
            found = measured(roots, token, symbol, price, orders)
        finally:
            server.terminate()
            server.communicate()  # it prints its tables
    ms = {name: sorted(1000 * each for each in seconds) for name, seconds in found.items()}
    bare = "a call without orders"
    claims = []
    for name in ("request", "postback"):
        for what, place in (("median", orders // 2), ("90 %", orders * 9 // 10)):
            figures = ms[name][place], ms["profile"][place]
            said = f"a paper order until its {'answer' if name == 'request' else name}: {what}"
            claims.append(Claim(said, figures[0], "ms", bare, figures[1]))
    tell(Findings(claims), options)


def measured(roots: dict[str, str], token: int, symbol: str, price: float, orders: int) -> dict[str, list[float]]:
    """Seconds of each, by what they are of."""
    exchange, _, name = symbol.partition(":")
    order = urlencode(
        {
            "exchange": exchange, "tradingsymbol": name, "transaction_type": "BUY", "quantity": 1, "product": "MIS",
            "order_type": "LIMIT", "price": price, "validity": "DAY",
        }
    )  # fmt: skip
    rest = http.client.HTTPConnection(urlsplit(roots["REST"]).netloc)
    found: dict[str, list[float]] = {"profile": [], "request": [], "postback": []}
    with connect(f"{roots['WebSocket']}/?api_key=paper&access_token=paper", compression=None) as socket:
        socket.send(json.dumps({"a": "subscribe", "v": [token]}))
        while not isinstance(message := socket.recv(), bytes) or len(message) < 2:
            pass
        for _ in range(orders):
            began = time.perf_counter()
            rest.request("GET", "/user/profile", headers=HEADERS)
            rest.getresponse().read()
            found["profile"].append(time.perf_counter() - began)
            began = time.perf_counter()
            rest.request("POST", "/orders/regular", order, FORM)
            answer = json.loads(rest.getresponse().read())
            found["request"].append(time.perf_counter() - began)
            wanted = answer["data"]["order_id"]
            while not is_told(socket.recv(), wanted):
                pass
            found["postback"].append(time.perf_counter() - began)
            time.sleep(PAUSE_SECONDS)
    return found


def is_told(message: str | bytes, order_id: str) -> bool:
    """Whether it is a postback of that order."""
    told = json.loads(message) if isinstance(message, str) else {}
    return told.get("type") == "order" and told["data"]["order_id"] == order_id


if __name__ == "__main__":
    main()
