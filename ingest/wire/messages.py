"""Text frames and journal events: JSON objects, turned into rows of the orders and events tables.

The broker sends `{"type": "order", "data": {…}}` for an order update, the same to every socket of an access token, and
`{"type": "error" | "message", "data": …}`; `instruments_meta` and `app_code` have been seen too. Unknown types are kept
under their own name. (Kite Connect v3 docs: streaming, and postbacks for the fields of orders, whose times are IST.)

A field that is missing or of another kind than expected becomes null, since the whole update is kept as well.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from ingest.errors import WireError
from storage.clock import IST, microseconds, nanoseconds
from storage.schema import ORDERS

UNTYPED: Final = "untyped"
"""The event name of a text frame whose `type` is not a string."""
MAX_DEPTH: Final = 64
_TOO_DEEP: Final = f"JSON nested deeper than {MAX_DEPTH}"
_DIGEST_BYTES: Final = 16
_INT64_MAX: Final = 2**63 - 1


@dataclass(frozen=True)
class Order:
    """An order update: `fields` as in the orders table (times in µs since the epoch), `data` the update as JSON."""

    fields: Mapping[str, object]
    data: str
    canonical: str

    def update_id(self, account: str) -> str:
        """The same for equal updates of one account, on whichever socket they come and however they are spelt."""
        text = json.dumps([account, self.canonical])
        return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()


@dataclass(frozen=True)
class Message:
    """A row of the events table: what happened, in words, and the particulars as JSON."""

    event: str
    message: str | None
    data: str | None


def read_text(payload: bytes) -> Order | Message:
    """One text frame. Raises WireError saying why, if it is not a JSON object."""
    frame = _read_object(payload)
    kind, data = frame.get("type"), frame.get("data")
    if kind == "order" and isinstance(data, dict):
        return Order(_order_fields(data), _dump(data), json.dumps(data, sort_keys=True, separators=(",", ":")))
    rest: Any = {key: value for key, value in frame.items() if key != "type" or not isinstance(kind, str)}
    message = rest.pop("data") if isinstance(data, str) else None
    if list(rest) == ["data"]:
        rest = rest["data"]
    return Message(
        event=_clean(kind) if isinstance(kind, str) else UNTYPED,
        message=None if message is None else _clean(message),
        data=_dump(rest) if rest not in ({}, None) else None,
    )


def read_event(payload: bytes) -> Message:
    """One event of the service. Raises WireError saying why, if it is not a JSON object with a string `event`."""
    record = _read_object(payload)
    event, message, data = record.get("event"), record.get("message"), record.get("data")
    if not isinstance(event, str):
        raise WireError("not an event: expected a string `event`")
    return Message(
        event=_clean(event),
        message=_clean(message) if isinstance(message, str) and message else None,
        data=_dump(data) if data not in ({}, None) else None,
    )


def _read_object(payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload.decode(), parse_constant=_refuse, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise WireError("not UTF-8") from error
    except ValueError as error:
        raise WireError("not JSON") from error
    except RecursionError as error:
        raise WireError(_TOO_DEEP) from error
    if not isinstance(value, dict):
        raise WireError("not a JSON object")
    _check_depth(value)
    return value


def _check_depth(value: object) -> None:
    """How deep Python can go depends on the caller's stack; what becomes of a frame must not."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return
    raise WireError(_TOO_DEEP)


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity are Python's, not JSON's


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _clean(text: str) -> str:
    """JSON may escape half a surrogate pair, which is no text and which Arrow refuses."""
    return text.encode("utf-8", "replace").decode()


def _dump(value: object) -> str:
    return _clean(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _order_fields(data: Mapping[str, object]) -> dict[str, object]:
    return {name: convert(data.get(name)) for name, convert in _CONVERTERS.items()}


def _text(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _clean(value) if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if abs(value) <= _INT64_MAX else None


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _ist_micros(value: object) -> int | None:
    """Microseconds since the epoch of `2026-11-22 09:15:00`, which is IST. Years of no sense count as no time."""
    if not isinstance(value, str):
        return None
    try:
        local = datetime.strptime(value, "%Y-%m-%d %H:%M:%S").replace(tzinfo=IST)
    except ValueError:
        return None
    micros = microseconds(nanoseconds(local))
    return micros if micros >= 0 else None


def _converter(kind: pa.DataType) -> Callable[[object], object]:
    if pa.types.is_string(kind):
        return _text
    if pa.types.is_timestamp(kind):
        return _ist_micros
    return _whole if pa.types.is_integer(kind) else _number


_OURS: Final = {"date", "received_at", "stream", "record", "account", "connection", "update_id", "data"}
_CONVERTERS: Final[Mapping[str, Callable[[object], object]]] = {
    column.name: _converter(column.type) for column in ORDERS.columns if column.name not in _OURS
}
ORDER_FIELDS: Final = tuple(_CONVERTERS)
"""The columns of the orders table that come from the update."""
