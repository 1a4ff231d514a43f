"""The store of instrument lists against a real server: whatever it serves, the newest good list stays in force."""

import datetime as dt
import gzip
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import time_machine
from structlog.testing import capture_logs

from ingest.accounts.account import Account
from kitelake.plan.instrument_store import InstrumentStore
from storage.clock import IST
from storage.layout import DataLayout
from tests.support.broker import (
    HEADER,
    Answer,
    Broker,
    Handler,
    broker,
    csv,
    cut_off,
    dripping,
    failing,
    hanging,
    nothing,
    packed,
    plain,
)

__all__ = ["broker"]  # the fixture

MONDAY, TUESDAY, THURSDAY = (dt.date(2026, 11, day) for day in (23, 24, 26))
ACCOUNT = Account("one", "key1", "canaryToken")
SHORT_SECONDS = 0.2


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    return DataLayout(tmp_path)


def store_of(layout: DataLayout, broker: Broker, **options: float) -> InstrumentStore:
    return InstrumentStore(layout, broker.url, [ACCOUNT], **options)


def at(date: dt.date, hour: int = 9, minute: int = 0) -> time_machine.travel:
    return time_machine.travel(dt.datetime.combine(date, dt.time(hour, minute), IST))


async def store_monday(store: InstrumentStore, broker: Broker) -> None:
    broker.answer = plain(csv(100))
    with at(MONDAY):
        assert await store.fetch() is not None
    broker.calls = 0


@pytest.mark.parametrize("served", [plain, packed, lambda data: plain(gzip.compress(data))])
async def test_a_good_list_is_stored_as_that_day(
    layout: DataLayout, broker: Broker, served: Callable[[bytes], Answer]
) -> None:
    store = store_of(layout, broker)
    await store_monday(store, broker)
    broker.answer = served(csv(100, first=1))
    with at(THURSDAY):
        fetched = await store.fetch()
    assert fetched is not None
    for found in (fetched, store.newest(THURSDAY)):
        assert found is not None
        assert (found.date, len(found), found.symbol(257), found.symbol(101 << 8 | 1)) == (
            THURSDAY,
            100,
            None,
            "NSE:S101",
        )
    monday = store.newest(THURSDAY - dt.timedelta(days=1))
    assert monday is not None
    assert (monday.date, monday.symbol(257)) == (MONDAY, "NSE:S1")
    assert store.newest(MONDAY - dt.timedelta(days=1)) is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (plain(b"<html>Bad Gateway</html>"), "lacks instrument_token"),
        (plain(b"\x1f\x8bnot gzip at all"), "is not whole gzip"),
        (lambda handler: handler.send(b"not gzip", Content_Encoding="gzip"), "DecodingError"),
        (plain(gzip.compress(csv(100))[:-20]), "is not whole gzip"),
        (plain(csv(50)), r"has 50 rows, expected at least 70 % of the 100 of 2026-11-23"),
        (packed(csv(69)), r"has 69 rows, expected at least 70 %"),
        (cut_off, "failed: RemoteProtocolError"),
        (plain(csv(100).replace(b"tradingsymbol", b"symbol")), "lacks tradingsymbol"),
        (plain(csv(0)), "has no rows"),
        (plain(csv(100) + csv(100).replace(b"LTD", b"INC")), "have rows that contradict each other"),
        (plain(b""), "is empty"),
        (failing, "500 GeneralException down"),
        (nothing, "failed: RemoteProtocolError"),
        (hanging, r"did not come within 0\.2 seconds"),
        (dripping, r"did not come within 0\.2 seconds"),
    ],
)
async def test_whatever_else_comes_the_older_list_serves(
    layout: DataLayout, broker: Broker, answer: Answer, reason: str
) -> None:
    await store_monday(store_of(layout, broker), broker)
    store = store_of(layout, broker, fetch_seconds=SHORT_SECONDS if answer in (hanging, dripping) else 30)
    broker.answer = answer
    with at(THURSDAY), capture_logs() as logs:
        assert await store.fetch() is None
    failure, fallback = logs
    assert (failure["log_level"], failure["account"]) == ("warning", "one")
    assert re.search(reason, failure["error"]), failure["error"]
    assert "canaryToken" not in str(logs)
    assert fallback == {
        "event": "the newest stored instrument list serves; contracts listed since are not in it",
        "log_level": "warning",
        "date": "2026-11-23",
        "age_days": 3,
    }
    with at(THURSDAY):
        serving = await store.stored()
    assert serving is not None
    assert (serving.date, len(serving)) == (MONDAY, 100)


async def test_what_is_wrong_with_a_list_that_serves_is_logged_and_kept_with_it(
    layout: DataLayout, broker: Broker
) -> None:
    store = store_of(layout, broker)
    again, against = (csv(rows).removeprefix(HEADER.encode()) for rows in (2, 1))
    broker.answer = plain(csv(100) + again + against.replace(b"LTD", b"SOCI\xc9T\xc9"))
    with at(MONDAY), capture_logs() as logs:
        fetched = await store.fetch()
    assert fetched is not None
    assert len(fetched) == 99
    said = [log["flaw"] for log in logs if log["event"] == "the instrument list has a flaw; the rest serves"]
    assert [log["log_level"] for log in logs] == ["warning"] * 3 + ["info"]
    assert said == list(fetched.notes)
    assert [text[:60] for text in said] == [
        "1 of 104 lines of the instrument list are not UTF-8, and wer",
        "2 of 103 rows of the instrument list repeat others, and coun",
        "1 of 100 tokens of the instrument list have rows that contra",
    ]
    stored = store.newest(THURSDAY)
    assert stored is not None
    assert (stored.notes, stored.as_of(THURSDAY).notes) == (fetched.notes, fetched.notes)
    broker.answer = plain(csv(100))
    with at(MONDAY, 10):
        await store.fetch()
    stored = store.newest(THURSDAY)
    assert stored is not None
    assert stored.notes == (), "those of the list before are gone with it"


async def test_no_server_at_all_leaves_the_older_list(layout: DataLayout, broker: Broker) -> None:
    await store_monday(store_of(layout, broker), broker)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    store = InstrumentStore(layout, f"http://127.0.0.1:{port}", [ACCOUNT])
    with at(THURSDAY):
        assert await store.fetch() is None
        serving = await store.stored()
    assert serving is not None
    assert serving.date == MONDAY


@pytest.mark.parametrize(("share", "rows", "taken"), [(0.7, 70, True), (0, 1, True), (1, 99, False), (1, 100, True)])
async def test_how_much_shorter_a_list_may_be_is_an_option(
    layout: DataLayout, broker: Broker, share: float, rows: int, taken: bool
) -> None:
    store = store_of(layout, broker, least_share=share)
    await store_monday(store, broker)
    broker.answer = plain(csv(rows))
    with at(THURSDAY):
        assert (await store.fetch() is not None) is taken
        newest = store.newest()
    assert newest is not None
    assert (newest.date, len(newest)) == ((THURSDAY, rows) if taken else (MONDAY, 100))


async def test_a_list_of_the_same_day_is_compared_as_well(layout: DataLayout, broker: Broker) -> None:
    store = store_of(layout, broker)
    await store_monday(store, broker)
    broker.answer = plain(csv(10))
    with at(MONDAY, 10), capture_logs() as logs:
        assert await store.fetch() is None
        newest = store.newest()
    assert newest is not None
    assert len(newest) == 100
    assert logs[-1]["age_days"] == 0


async def test_a_list_of_a_later_day_is_not_compared(layout: DataLayout, broker: Broker) -> None:
    store = store_of(layout, broker)
    broker.answer = plain(csv(100))
    with at(THURSDAY):
        assert await store.fetch() is not None
    broker.answer = plain(csv(10))
    with at(MONDAY):
        fetched = await store.fetch()
        assert store.newest() is not None
    assert fetched is not None
    assert (fetched.date, len(fetched)) == (MONDAY, 10)


async def test_a_list_belongs_to_the_ist_day_of_its_fetch(layout: DataLayout, broker: Broker) -> None:
    await store_monday(store_of(layout, broker), broker)
    store = store_of(layout, broker)
    broker.answer = plain(csv(120))
    for moment, expected in ((at(MONDAY, 23, 59), MONDAY), (at(MONDAY + dt.timedelta(days=1), 0, 1), TUESDAY)):
        with moment:  # the same day in UTC
            fetched, stored = await store.fetch(), await store.stored()
        assert fetched is not None
        assert stored is not None
        assert (fetched.date, stored.date, len(stored)) == (expected, expected, 120)


async def test_without_any_list_there_is_none(layout: DataLayout, broker: Broker) -> None:
    store = store_of(layout, broker)
    broker.answer = failing
    assert await store.stored() is None
    assert await store.fetch() is None
    broker.answer = plain(csv(3))
    assert await store.fetch() is not None


async def test_another_account_gets_what_one_does_not(layout: DataLayout, broker: Broker) -> None:
    def for_two(handler: Handler) -> None:
        (plain(csv(3)) if "key2" in handler.headers.get("Authorization", "") else failing)(handler)

    broker.answer = for_two
    accounts = [Account("nobody", "key0"), ACCOUNT, Account("two", "key2", "token2")]
    with capture_logs() as logs:
        assert await InstrumentStore(layout, broker.url, accounts).fetch() is not None
    assert [log.get("account") for log in logs] == ["nobody", "one", None]


async def test_an_account_without_a_token_gets_it_as_well(layout: DataLayout, broker: Broker) -> None:
    broker.answer = plain(csv(3))
    assert await InstrumentStore(layout, broker.url, [Account("nobody", "key0")]).fetch() is not None


async def test_a_damaged_table_counts_as_no_list_and_todays_serves_all_the_same(
    layout: DataLayout, broker: Broker
) -> None:
    log_folder = layout.table("instruments") / "_delta_log"
    log_folder.mkdir(parents=True)
    (log_folder / f"{0:020d}.json").write_text("damaged")
    store = store_of(layout, broker)
    assert await store.stored() is None
    broker.answer = plain(csv(100))
    fetched = await store.fetch()
    assert fetched is not None
    assert len(fetched) == 100
