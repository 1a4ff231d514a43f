"""The simulator: a market behind a server of the broker's protocol, and what it can be told before it starts."""

import datetime as dt
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import AwareDatetime, Field

from ingest.server import EXCHANGES, AccountOrder, AccountSettings, SteppedServer, SteppedSettings, SteppedSource
from ingest.simulator.market import Market
from ingest.simulator.orders import OrderBook
from ingest.simulator.pricing import Ints
from ingest.simulator.universe import to_csv


class SimulatorSettings(SteppedSettings):
    """Everything that the simulator can be told before it starts: one JSON object, so that no secret is in a command
    line."""

    whose: ClassVar[str] = "simulator"

    instruments: int = Field(default=10_000, ge=100, le=100_000, description="size of the market")
    rate: float = Field(default=1.0, gt=0, le=1000, description="activity: 2.0 ticks twice as often")
    start: AwareDatetime | None = Field(default=None, description="the market's clock at the start; None: now")
    order_seconds: float = Field(default=10.0, ge=0, description="an order update of each account this often; 0: never")
    stats_file: Path | None = Field(
        default=None, description="what was sent, with every instrument, written at the end"
    )
    exit_on_stdin_eof: bool = Field(
        default=False, description="end when standard input does: never outlive the starter"
    )


class MarketSource(SteppedSource):
    """A market, and orders made up from it, as the server wants them."""

    name = "simulator"

    def __init__(self, market: Market, settings: SimulatorSettings) -> None:
        super().__init__(market.tokens, market.images)
        self._market = market
        self._orders = OrderBook(market)
        self._accounts = settings.accounts
        self._orders_every = settings.order_seconds * settings.steps_per_second or math.inf  # in steps
        self._orders_due = self._orders_every

    @property
    def etag(self) -> str:
        return f'W/"{self._market.seed:x}-{len(self):x}"'

    def instruments(self, exchange: str) -> str:
        return to_csv(one for one in self._market.universe.instruments if exchange in {"", one.exchange})

    def profile(self, account: AccountSettings) -> dict[str, Any]:
        return {
            "user_id": account.user_id,
            "user_type": "individual",
            "email": "simulated@example.invalid",
            "user_name": f"Simulated {account.label}",
            "user_shortname": account.label,
            "broker": "ZERODHA",
            "exchanges": list(EXCHANGES),
            "products": ["CNC", "NRML", "MIS", "BO", "CO"],
            "order_types": ["MARKET", "LIMIT", "SL", "SL-M"],
            "avatar_url": None,
            "meta": {"demat_consent": "physical"},
        }

    def step(self) -> Iterable[Ints]:
        yield self._market.step()

    def skip(self, steps: int) -> None:
        self._market.skip(steps)

    def stats(self) -> dict[str, Any]:
        return {"steps": self._market.steps, "market_seconds": self._market.seconds, "orders": self._orders.made}

    def make_order(self, account: AccountSettings, fields: Mapping[str, Any]) -> AccountOrder:
        return self._orders.make(account, fields)

    def order_updates(self) -> Iterable[AccountOrder]:
        if self._market.steps < self._orders_due:
            return []
        self._orders_due = self._market.steps + self._orders_every
        return [self._orders.make(account, {}) for account in self._accounts]


class Simulator(SteppedServer):
    """A running simulator: `async with Simulator(settings) as simulator: …`."""

    def __init__(self, settings: SimulatorSettings) -> None:
        """Lists the market; raises `ServerError` if the record's folder cannot be written."""
        self.market = Market(
            size=settings.instruments,
            seed=settings.seed,
            start=settings.start or dt.datetime.now(dt.UTC),
            rate=settings.rate,
            steps_per_second=settings.steps_per_second,
        )
        super().__init__(settings, MarketSource(self.market, settings))
