"""A paper broker over a market that is written by hand: its instruments, its book, its clock, and the official client.

`Desk` is the market and the broker together. Prices are in rupees here, and times in seconds since 09:15.
"""

import contextlib
import datetime as dt
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from kiteconnect import KiteConnect

from ingest.server import (
    AccountSettings,
    CallRefusedError,
    HttpRequest,
    HttpResponse,
    HttpServer,
    RestCall,
)
from ingest.server.http import HttpError
from kitelake.paper import Instrument, PaperBroker, PaperSettings, PriceLevel, Snapshot
from storage.clock import IST

DAY = dt.date(2026, 11, 13)
BEFORE_PROTECTION = dt.date(2026, 3, 31)
MORNING = dt.datetime(2026, 11, 13, 9, 15)  # noqa: DTZ001 (the client's times are naive)


def listed(token: int, exchange: str, name: str, segment: str = "", kind: str = "EQ", **changed: Any) -> Instrument:
    values: dict[str, Any] = {
        "token": token,
        "exchange_token": token // 256,
        "exchange": exchange,
        "tradingsymbol": name,
        "name": name,
        "segment": segment or exchange,
        "instrument_type": kind,
        "expiry": None,
        "strike": 0.0,
        "tick": 5,
        "lot_size": 1,
        "divisor": 100,
    }
    return Instrument(**{**values, **changed})


INFY = listed(408065, "NSE", "INFY", tick=10)
NIFTY = listed(256265, "NSE", "NIFTY 50", "INDICES")
FUT = listed(12345602, "NFO", "NIFTY26NOVFUT", "NFO-FUT", "FUT", lot_size=75, tick=10)
CALL = listed(12345858, "NFO", "NIFTY26NOV24000CE", "NFO-OPT", "CE", lot_size=75, strike=24000.0)
CRUDE = listed(100_000_007, "MCX", "CRUDEOIL26DECFUT", "MCX-FUT", "FUT", tick=100)
USDINR = listed(1_000_003, "CDS", "USDINR26NOVFUT", "CDS-FUT", "FUT", tick=25_000, divisor=10_000_000)
INSTRUMENTS = {one.token: one for one in (INFY, NIFTY, FUT, CALL, CRUDE, USDINR)}

Levels = Sequence[tuple[float, int]]
BIDS: Levels = ((99.9, 100), (99.8, 200), (99.7, 300), (99.6, 400), (99.5, 500))
ASKS: Levels = ((100.1, 100), (100.2, 200), (100.3, 300), (100.4, 400), (100.5, 500))


def account(api_key: str = "key") -> AccountSettings:
    return AccountSettings.model_validate({"name": f"paper-{api_key}", "api_key": api_key, "access_token": "token"})


def status(answer: Any) -> tuple[str, int]:
    """Of an order as the broker shows it: its status, and how much was filled."""
    return answer["status"], answer["filled_quantity"]


class Desk:
    """The market's clock stands at 09:15 until it is moved; `latency_seconds` is 0 unless said."""

    def __init__(self, day: dt.date = DAY, *, shift_us: int = 0, candles: Any = None, **settings: Any) -> None:
        self.start_us = int(dt.datetime.combine(day, dt.time(9, 15), IST).timestamp()) * 1_000_000
        self.now_us = self.start_us
        self.snapshots: dict[int, Snapshot] = {}
        self.pushed: list[Any] = []
        self.broker = PaperBroker(
            PaperSettings(**settings),
            INSTRUMENTS,
            snapshot=self.snapshots.get,
            clock=lambda: self.now_us,
            shift_us=shift_us,
            candles=candles,
        )

    # ── the market ───────────────────────────────────────────────────────────────────────────────────────────────

    def us(self, seconds: float) -> int:
        return self.start_us + round(seconds * 1_000_000)

    def snapshot(
        self,
        seconds: float,
        last: float = 100.0,
        *,
        of: Instrument = INFY,
        bids: Levels = BIDS,
        asks: Levels = ASKS,
        volume: int | None = 0,
        **changed: Any,
    ) -> Snapshot:
        """A full packet, unless `changed` says otherwise."""

        def side(levels: Levels) -> tuple[PriceLevel, ...]:
            return tuple(PriceLevel(round(price * of.divisor), quantity, 1) for price, quantity in levels)

        made = Snapshot(
            of.token,
            self.us(seconds),
            "full",
            round(last * of.divisor),
            volume_traded=volume,
            close=round(99 * of.divisor),
            bids=side(bids),
            asks=side(asks),
        )
        return replace(made, **changed)

    def tick(self, seconds: float, last: float = 100.0, **values: Any) -> None:
        """A packet is served, and the clock stands there."""
        self.serve(seconds, self.snapshot(seconds, last, **values))

    def serve(self, seconds: float, *snapshots: Snapshot) -> None:
        """These packets are served in one slice, and the clock stands at `seconds`."""
        self.now_us = self.us(seconds)
        self.snapshots.update({one.token: one for one in snapshots})
        self.broker.advance(self.now_us, [one for one in snapshots if one.token in self.broker.watched])

    def go(self, seconds: float) -> None:
        """The clock goes on, without packets."""
        self.serve(seconds)

    # ── calls ────────────────────────────────────────────────────────────────────────────────────────────────────

    def call(self, method: str, path: str, *, key: str = "key", query: Any = None, **form: Any) -> Any:
        """What the broker answers; raises `CallRefusedError`."""
        route = self.broker.route(method, path)
        assert route is not None, path
        texts = {name: [str(value)] for name, value in form.items()}
        return route(RestCall(account(key), method, path, query or {}, texts, b""))

    def place(
        self, side: str = "BUY", quantity: int = 10, kind: str = "LIMIT", *, of: Instrument = INFY, **values: Any
    ) -> str:
        """Place a regular order; returns its id."""
        form = {
            "exchange": of.exchange,
            "tradingsymbol": of.tradingsymbol,
            "transaction_type": side,
            "quantity": quantity,
            "product": "MIS",
            "order_type": kind,
            **values,
        }
        placed: str = self.call("POST", "/orders/regular", **form)["order_id"]
        return placed

    def modify(self, order_id: str, **form: Any) -> None:
        self.call("PUT", f"/orders/regular/{order_id}", **form)

    def cancel(self, order_id: str) -> None:
        self.call("DELETE", f"/orders/regular/{order_id}")

    def order(self, order_id: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.call("GET", f"/orders/{order_id}")[-1]
        return shown

    def steps(self, order_id: str) -> list[str]:
        return [one["status"] for one in self.call("GET", f"/orders/{order_id}")]

    def fills(self, order_id: str) -> list[tuple[float, int]]:
        found = self.call("GET", f"/orders/{order_id}/trades")
        return [(one["average_price"], one["quantity"]) for one in found]

    def updates(self) -> list[tuple[str, int]]:
        """Status and filled quantity of the postbacks since this was last asked."""
        return [status(one.data) for one in self.broker.updates()]

    # ── the official client ──────────────────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def client(self) -> Iterator[KiteConnect]:
        """The broker's own client, whose calls this broker answers over HTTP."""
        server = HttpServer(
            self._answer, name="paper", methods=("GET", "POST", "PUT", "DELETE"), show_error=_error, keep_alive=True
        )
        with server:
            yield KiteConnect("key", access_token="token", root=f"http://127.0.0.1:{server.port}")

    def _answer(self, request: HttpRequest) -> HttpResponse:
        route = self.broker.route(request.method, request.path)
        if route is None:
            raise HttpError(404, "Route not found")
        call = RestCall(account(), request.method, request.path, request.query, request.form, request.body)
        return _json(200, {"status": "success", "data": route(call)})


def _json(code: int, values: Any) -> HttpResponse:
    return HttpResponse(code, "application/json", json.dumps(values).encode())


def _error(error: HttpError) -> HttpResponse:
    kind = error.error_type if isinstance(error, CallRefusedError) else "GeneralException"
    return _json(error.status, {"status": "error", "message": str(error), "data": None, "error_type": kind})


def place(kite: KiteConnect, **changed: Any) -> str:
    """An order of 150 INFY at 100.1, but for what is changed; returns its number."""
    values = {
        "variety": kite.VARIETY_REGULAR,
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "transaction_type": "BUY",
        "quantity": 150,
        "product": "MIS",
        "order_type": "LIMIT",
        "price": 100.1,
    }
    order_id: str = kite.place_order(**{**values, **changed})
    return order_id
