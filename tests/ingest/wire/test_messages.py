"""Text frames and journal events: what becomes of every kind of JSON, and of what is none."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import WireError
from ingest.wire.messages import MAX_DEPTH, ORDER_FIELDS, Message, Order, read_event, read_text
from storage.schema import ORDERS

UPDATE = {
    "order_id": "221122000000001",
    "status": "COMPLETE",
    "status_message": None,
    "order_timestamp": "2026-11-22 09:15:00",
    "exchange_timestamp": "2026-11-22 00:00:00",
    "exchange": "NSE",
    "instrument_token": 408065,
    "quantity": 10,
    "price": 1500,
    "average_price": 1500.05,
    "meta": {"a": [1, {}]},
}


def order(data: dict[str, Any]) -> Order:
    read = read_text(json.dumps({"type": "order", "data": data}).encode())
    assert isinstance(read, Order)
    return read


def micros(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp()) * 10**6  # type: ignore[misc, arg-type]


def test_an_order_update() -> None:
    read = order(UPDATE)
    assert set(read.fields) == set(ORDER_FIELDS)
    assert {name: value for name, value in read.fields.items() if value is not None} == {
        "order_id": "221122000000001",
        "status": "COMPLETE",
        "order_timestamp": micros(2026, 11, 22, 3, 45),
        "exchange_timestamp": micros(2026, 11, 21, 18, 30),
        "exchange": "NSE",
        "instrument_token": 408065,
        "quantity": 10,
        "price": 1500.0,
        "average_price": 1500.05,
    }
    assert json.loads(read.data) == UPDATE


def test_every_column_of_an_update_is_read() -> None:
    ours = {"date", "received_at", "stream", "record", "account", "connection", "update_id", "data"}
    assert set(ORDER_FIELDS) == set(ORDERS.schema.names) - ours


@pytest.mark.parametrize(
    ("field", "value", "stored"),
    [
        ("order_id", 221122, "221122"),
        ("order_id", ["1"], None),
        ("order_id", True, None),
        ("tag", "", ""),
        ("tag", "ₓ\ud800", "ₓ?"),
        ("quantity", "10", None),
        ("quantity", 10.0, 10),
        ("quantity", 10.5, None),
        ("quantity", True, None),
        ("quantity", 2**63, None),
        ("quantity", -(2**63) + 1, -(2**63) + 1),
        ("price", "1.5", None),
        ("price", False, None),
        ("price", 10**400, None),
        ("order_timestamp", "", None),
        ("order_timestamp", 1795327200, None),
        ("order_timestamp", "2026-11-22", None),
        ("order_timestamp", "2026-11-22T09:15:00", None),
        ("order_timestamp", "2026-02-30 09:15:00", None),
        ("order_timestamp", "0001-01-01 00:00:00", None),
        ("order_timestamp", "1970-01-01 05:30:00", 0),
    ],
)
def test_fields_of_another_kind_are_null_and_kept_in_the_data(field: str, value: object, stored: object) -> None:
    read = order({field: value})
    assert {name: got for name, got in read.fields.items() if got is not None} == (
        {} if stored is None else {field: stored}
    )
    assert list(json.loads(read.data)) == [field]
    read.data.encode()


def test_equal_updates_of_an_account_have_one_id() -> None:
    again = order(dict(reversed(UPDATE.items())))
    assert order(UPDATE).update_id("a") == again.update_id("a")
    ids = {order(UPDATE).update_id("a"), order(UPDATE).update_id("b"), order(UPDATE | {"quantity": 11}).update_id("a")}
    assert len(ids) == 3
    assert all(len(one) == 32 and int(one, 16) for one in ids)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"type": "error", "data": "Too many tokens"}, Message("error", "Too many tokens", None)),
        ({"type": "message", "data": {"a": [1]}}, Message("message", None, '{"a":[1]}')),
        (
            {"type": "instruments_meta", "data": {"count": 9, "etag": "W/x"}},
            Message("instruments_meta", None, '{"count":9,"etag":"W/x"}'),
        ),
        ({"type": "app_code", "timestamp": "t"}, Message("app_code", None, '{"timestamp":"t"}')),
        ({"type": "new", "data": "x", "code": 5}, Message("new", "x", '{"code":5}')),
        ({"type": "new"}, Message("new", None, None)),
        ({"type": "new", "data": None}, Message("new", None, None)),
        ({"type": "order", "data": "no object"}, Message("order", "no object", None)),
        ({"type": "order"}, Message("order", None, None)),
        ({"data": "x"}, Message("untyped", "x", None)),
        ({"type": 5, "data": "x"}, Message("untyped", "x", '{"type":5}')),
        ({"type": "e\ud800", "data": "\udc00"}, Message("e?", "?", None)),
    ],
    ids=str,
)
def test_other_text_frames_are_events(frame: dict[str, Any], message: Message) -> None:
    assert read_text(json.dumps(frame).encode()) == message


def test_events_of_the_service() -> None:
    assert read_event(b'{"event":"closed","message":"1006","data":{"code":1006}}') == Message(
        "closed", "1006", '{"code":1006}'
    )
    assert read_event(b'{"event":"started","message":"","data":{}}') == Message("started", None, None)


def deep(levels: int) -> bytes:
    return b'{"type":"x","data":' + b"[" * levels + b"]" * levels + b"}"


@pytest.mark.parametrize("read", [read_text, read_event])
@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b'{"type":"order"', "not JSON"),
        (b'{"a":NaN}', "not JSON"),
        (b'{"a":-Infinity}', "not JSON"),
        (b'{"a":1e999}', "not JSON"),
        (b'{"a":' + b"9" * 5000 + b"}", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'"order"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"\xff\xfe{\0}\0", "not UTF-8"),
        (deep(MAX_DEPTH), f"JSON nested deeper than {MAX_DEPTH}"),
        (deep(100_000), f"JSON nested deeper than {MAX_DEPTH}"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_is_no_json_object(read: Any, payload: bytes, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        read(payload)
    assert str(caught.value) == reason


def test_an_event_needs_a_name() -> None:
    with pytest.raises(WireError, match=r"^not an event: expected a string `event`$"):
        read_event(b'{"event":5}')


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(data=st.dictionaries(st.sampled_from(ORDER_FIELDS) | st.text(), json_values, max_size=6), kind=json_values)
def test_no_json_object_is_refused(data: dict[str, Any], kind: Any) -> None:
    read = order(data)
    assert json.loads(read.data) == data
    message = read_text(json.dumps({"type": kind, "data": data}).encode())
    assert isinstance(message, Order if kind == "order" else Message)


@given(payload=st.binary(max_size=40) | st.text(alphabet='{}[]":,0e.tfn', max_size=20).map(str.encode))
def test_noise_is_read_or_refused(payload: bytes) -> None:
    for read in (read_text, read_event):
        with suppress(WireError):
            read(payload)
