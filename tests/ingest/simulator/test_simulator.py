"""The simulator's settings, and its market as a source of packets, orders and lists."""

import csv
import datetime as dt
import io
from typing import Any

import pytest

from ingest.errors import ServerError
from ingest.simulator.market import Market
from ingest.simulator.simulator import MarketSource, SimulatorSettings
from ingest.simulator.universe import HEADER
from tests.support.simulation import settings_of
from tests.support.simulator_client import address, client, running, until

START = dt.datetime(2026, 11, 23, 4, tzinfo=dt.UTC)


def source(**changes: Any) -> MarketSource:
    settings = SimulatorSettings.parse(settings_of(instruments=300, **changes))
    return MarketSource(Market(size=300, seed=5, start=START, steps_per_second=settings.steps_per_second), settings)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"speed": 3}, "speed: Extra inputs are not permitted"),
        ({"accounts": []}, "accounts: Tuple should have at least 1 item"),
        ({"instruments": 3}, "instruments: Input should be greater than or equal to 100"),
        ({"rate": 0}, "rate: Input should be greater than 0"),
        ({"port": 70_000}, "port: Input should be less than or equal to 65535"),
        ({"host": "0.0.0.0"}, "host: Value error, expected a loopback address"),
        ({"host": "example.com"}, "host: Value error, expected a loopback address"),
        ({"start": "2026-11-23T09:15:00"}, "start: Input should have timezone info"),
        ({"accounts": [{"api_key": "k", "access_token": ["hunter2"]}]}, "accounts.0.access_token"),
        ({"accounts": [{"api_key": "k", "access_token": "a"}] * 2}, "each needs an api_key of its own"),
    ],
)
def test_wrong_settings_are_named_without_their_values(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ServerError) as error:
        SimulatorSettings.parse({**settings_of(), **changes})
    assert complaint in str(error.value)
    assert "hunter2" not in str(error.value)


def test_settings_show_no_secret() -> None:
    text = repr(SimulatorSettings.parse(settings_of())) + str(SimulatorSettings.parse(settings_of()))
    assert "token-one" not in text
    assert "secret-one" not in text


def test_the_list_is_the_markets_as_the_broker_dumps_it() -> None:
    one = source()
    rows = list(csv.DictReader(io.StringIO(one.instruments(""))))
    assert list(rows[0]) == HEADER.split(",")
    assert [int(row["instrument_token"]) for row in rows] == one.tokens.tolist()
    for exchange in ("NSE", "BSE", "NFO", "BFO", "CDS", "BCD", "MCX"):
        listed = list(csv.DictReader(io.StringIO(one.instruments(exchange))))
        assert listed == [row for row in rows if row["exchange"] == exchange] != []


def test_a_step_is_one_of_the_market_and_paints_what_ticked() -> None:
    one, market = source(), Market(size=300, seed=5, start=START)
    for _ in range(20):
        (ticked,) = one.step()
        assert ticked.tolist() == market.step().tolist()
    assert all(one.images.packet(row, 3) == market.images.packet(row, 3) for row in range(300))  # type: ignore[arg-type]
    one.skip(8)
    assert one.stats() == {"steps": 20, "market_seconds": int(START.timestamp()) + 7, "orders": 0}
    assert one.etag == 'W/"5-12c"'


def test_order_updates_come_as_often_as_the_settings_say_for_each_account() -> None:
    one = source(order_seconds=2.5, steps_per_second=2)
    counts = []
    for _ in range(12):
        list(one.step())
        updates = list(one.order_updates())
        assert [update.account for update in updates] in ([], ["one", "two"])
        counts.append(len(updates))
    assert counts == [0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0]
    assert one.stats()["orders"] == 4


def test_no_order_updates_if_they_are_not_wanted() -> None:
    one = source(order_seconds=0)
    for _ in range(50):
        list(one.step())
        assert not list(one.order_updates())


def test_order_updates_are_such_as_the_broker_pushes() -> None:
    one = source()
    account = SimulatorSettings.parse(settings_of()).accounts[0]
    orders = [one.make_order(account, {"tag": "mine"}).data for _ in range(50)]
    assert len({order["order_id"] for order in orders}) == len(orders)
    assert {order["status"] for order in orders} == {"OPEN", "COMPLETE", "CANCELLED", "REJECTED"}
    for order in orders:
        filled, pending, cancelled = (order[f"{name}_quantity"] for name in ("filled", "pending", "cancelled"))
        assert order["status"] == "REJECTED" or filled + pending + cancelled == order["quantity"]
        assert order["order_timestamp"] == "2026-11-23 09:30:00"
        assert order["instrument_token"] in one.tokens
        assert order["tag"] == "mine"


async def test_all_of_it_over_a_socket() -> None:
    async with running(rate=1000, order_seconds=0.05) as simulator, client(address(simulator)) as one:
        await one.ask("subscribe", [408065])
        await until(lambda: len(one.packets()) > 2 and len(one.of_type("order")) >= 2)
        assert one.of_type("instruments_meta") == [{"count": 500, "etag": 'W/"1-1f4"'}]
        assert set(one.counts()) == {"408065"}
        assert simulator.urls["control"].endswith("/simulator")
