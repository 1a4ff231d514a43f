"""What the tables are: columns, types, units, where each value comes from and when it is null.

The data dictionary in docs/ is generated from this file. Types are the few that every engine reads alike: int64,
float64, string, date, `timestamp[us, UTC]`. Partition columns are in the folder names and not inside the files.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

TIMESTAMP = pa.timestamp("us", "UTC")
DEPTH_LEVELS = 5


@dataclass(frozen=True)
class Column:
    """One column. `source` says where the value comes from, `null` when there is none ("never" if always there)."""

    name: str
    type: pa.DataType
    unit: str
    source: str
    null: str


@dataclass(frozen=True)
class Table:
    """One Delta table of the data folder.

    `key` identifies a row. `unique` names a column of which equal values are stored once. `stats` are the columns
    whose bounds go into each commit, so that readers can skip files.
    """

    name: str
    summary: str
    columns: tuple[Column, ...]
    partition_by: tuple[str, ...]
    key: tuple[str, ...]
    stats: tuple[str, ...]
    unique: str | None = None

    @cached_property
    def schema(self) -> pa.Schema:
        """All columns, partition columns first: what a query sees."""
        return pa.schema([(column.name, column.type) for column in self.columns])

    @cached_property
    def file_schema(self) -> pa.Schema:
        """The columns inside the Parquet files: all but the partition columns."""
        return pa.schema([(c.name, c.type) for c in self.columns if c.name not in self.partition_by])


DATE = Column("date", pa.date32(), "IST day", "the day of `received_at` in Asia/Kolkata", "never")


def _origin(ordinal: str, what: str) -> tuple[Column, ...]:
    return (
        Column("received_at", TIMESTAMP, "UTC", "this machine's clock when the frame arrived", "never"),
        Column("stream", pa.string(), "", "the journal stream: one run of the service", "never"),
        Column(ordinal, pa.int64(), "ordinal", what, "never"),
        Column("account", pa.string(), "", "the account's name in config.yaml", "the service itself"),
        Column("connection", pa.int64(), "", "the account's connection, from 1", "the service itself"),
    )


def _tick_origin() -> Iterator[Column]:
    null = "only where `decode_frames` is not told"
    for column in _origin("seq", "the packet's place in its stream, from 0; with `stream` the row's identity"):
        yield Column(column.name, column.type, column.unit, column.source, null)


def _quote(name: str, kind: pa.DataType, unit: str, source: str) -> Column:
    return Column(name, kind, unit, source, "ltp packets, index packets")


def _depth() -> Iterator[Column]:
    null = "all but full packets of tradable instruments"
    for side, entry in (("bid", 0), ("ask", DEPTH_LEVELS)):
        for level in range(1, DEPTH_LEVELS + 1):
            at = 64 + 12 * (entry + level - 1)
            where = f"{side} side, level {level}, best first"
            yield Column(f"{side}_price_{level}", pa.float64(), "rupees", f"{where}: packet @{at + 4}", null)
            yield Column(f"{side}_quantity_{level}", pa.int64(), "units", f"{where}: packet @{at}", null)
            yield Column(f"{side}_orders_{level}", pa.int64(), "orders", f"{where}: packet @{at + 8}", null)


_INDEX_OR_QUOTE = "ltp packets"
_FULL_ONLY = "all but full packets of tradable instruments"

TICKS = Table(
    name="ticks",
    summary="One row a packet, as it came: conflated snapshots, typically one or two a second an instrument.",
    columns=(
        Column("date", pa.date32(), "IST day", DATE.source, "only where `decode_frames` is not told"),
        Column("exchange", pa.string(), "", "the token's last byte, as in `NSE`; `UNKNOWN` if it names none", "never"),
        *_tick_origin(),
        Column("instrument_token", pa.int64(), "", "packet @0", "never"),
        Column("symbol", pa.string(), "", "the day's instrument list, as in `NSE:INFY`", "the list does not name it"),
        Column("mode", pa.string(), "ltp, quote, full", "the packet's length", "never"),
        Column("last_price", pa.float64(), "rupees", "packet @4", "never"),
        _quote("last_traded_quantity", pa.int64(), "units", "packet @8"),
        _quote("average_traded_price", pa.float64(), "rupees", "packet @12"),
        _quote("volume_traded", pa.int64(), "units, since the day began", "packet @16"),
        _quote("total_buy_quantity", pa.int64(), "units", "packet @20"),
        _quote("total_sell_quantity", pa.int64(), "units", "packet @24"),
        Column("open", pa.float64(), "rupees", "packet @28, index @16", _INDEX_OR_QUOTE),
        Column("high", pa.float64(), "rupees", "packet @32, index @8", _INDEX_OR_QUOTE),
        Column("low", pa.float64(), "rupees", "packet @36, index @12", _INDEX_OR_QUOTE),
        Column("close", pa.float64(), "rupees, the previous day's", "packet @40, index @20", _INDEX_OR_QUOTE),
        Column("price_change", pa.float64(), "rupees", "index @24", "all but index quote and index full packets"),
        Column("last_trade_time", TIMESTAMP, "UTC, whole seconds", "packet @44", f"{_FULL_ONLY}; no trade yet"),
        Column("oi", pa.int64(), "units", "packet @48", _FULL_ONLY),
        Column("oi_day_high", pa.int64(), "units", "packet @52", _FULL_ONLY),
        Column("oi_day_low", pa.int64(), "units", "packet @56", _FULL_ONLY),
        Column(
            "exchange_timestamp", TIMESTAMP, "UTC, whole seconds", "packet @60, index @28", "all but full; none sent"
        ),
        *_depth(),
    ),
    partition_by=("date", "exchange"),
    key=("stream", "seq"),
    stats=("received_at", "stream", "seq", "instrument_token", "symbol", "exchange_timestamp"),
)


def _dump(name: str, kind: pa.DataType, unit: str = "", null: str = "never") -> Column:
    return Column(name, kind, unit, f"`{name}` of the broker's instrument list", null)


INSTRUMENTS = Table(
    name="instruments",
    summary="The broker's instrument list of each day: what a token meant on that day.",
    columns=(
        Column("date", pa.date32(), "IST day", "the day the list was fetched for", "never"),
        _dump("instrument_token", pa.int64()),
        _dump("exchange_token", pa.int64(), null="not a number in the list"),
        _dump("tradingsymbol", pa.string()),
        _dump("name", pa.string(), null="the list leaves it empty"),
        _dump("last_price", pa.float64(), "rupees", "the list leaves it empty"),
        _dump("expiry", pa.date32(), "day", "the instrument does not expire"),
        _dump("strike", pa.float64(), "rupees", "the list leaves it empty"),
        _dump("tick_size", pa.float64(), "rupees", "the list leaves it empty"),
        _dump("lot_size", pa.int64(), "units", "the list leaves it empty"),
        _dump("instrument_type", pa.string(), "EQ, FUT, CE, PE"),
        _dump("segment", pa.string(), "as in NSE, NFO-FUT, INDICES"),
        _dump("exchange", pa.string()),
        Column("symbol", pa.string(), "", "`exchange:tradingsymbol`", "never"),
    ),
    partition_by=("date",),
    key=("date", "instrument_token"),
    stats=("instrument_token", "symbol"),
)


def _order(name: str, kind: pa.DataType, unit: str = "") -> Column:
    return Column(name, kind, unit, f"`{name}` of the update", "the update does not carry it")


_ORDER_TEXTS_1 = ("order_id", "exchange_order_id", "parent_order_id", "placed_by", "status", "status_message")
_ORDER_TIMES = ("order_timestamp", "exchange_update_timestamp", "exchange_timestamp")
_ORDER_TEXTS_2 = (
    "variety",
    "exchange",
    "tradingsymbol",
    "order_type",
    "transaction_type",
    "validity",
    "product",
    "tag",
    "guid",
)
_ORDER_COUNTS = (
    "instrument_token",
    "quantity",
    "disclosed_quantity",
    "filled_quantity",
    "pending_quantity",
    "cancelled_quantity",
    "unfilled_quantity",
)
_ORDER_PRICES = ("price", "trigger_price", "average_price", "market_protection")
_RECORD = "the journal record's place in its stream, from 0; with `stream` the row's identity"

ORDERS = Table(
    name="orders",
    summary="Order updates (postbacks), each once, though every socket of an account brings it.",
    columns=(
        DATE,
        *_origin("record", _RECORD),
        Column(
            "update_id",
            pa.string(),
            "hex",
            "a digest of the account and the update: equal updates are stored once",
            "never",
        ),
        *(_order(name, pa.string()) for name in _ORDER_TEXTS_1),
        *(
            Column(n, TIMESTAMP, "UTC", f"`{n}` of the update, which is IST", "the update does not carry it")
            for n in _ORDER_TIMES
        ),
        *(_order(name, pa.string()) for name in _ORDER_TEXTS_2),
        *(_order(name, pa.int64()) for name in _ORDER_COUNTS),
        *(_order(name, pa.float64(), "rupees") for name in _ORDER_PRICES),
        Column("data", pa.string(), "JSON", "the whole update as it came", "never"),
    ),
    partition_by=("date",),
    key=("stream", "record"),
    stats=("received_at", "stream", "record"),
    unique="update_id",
)

EVENTS = Table(
    name="events",
    summary="The life of the service and its connections, and the broker's messages: it shows what was missed.",
    columns=(
        DATE,
        *_origin("record", _RECORD),
        Column(
            "event",
            pa.string(),
            "",
            "as in `connected`, `closed`, `subscribed`; the broker's messages by their type",
            "never",
        ),
        Column("message", pa.string(), "", "what happened, in words", "there is nothing to add"),
        Column("data", pa.string(), "JSON", "the particulars", "there are none"),
    ),
    partition_by=("date",),
    key=("stream", "record"),
    stats=("received_at", "stream", "record"),
)

QUARANTINE = Table(
    name="quarantine",
    summary="Bytes that would not decode, with where they came from. They are kept, never guessed at.",
    columns=(
        DATE,
        *_origin("record", _RECORD + "; null for damage of the journal itself"),
        Column("segment", pa.int64(), "", "the journal segment that holds the bytes", "never"),
        Column(
            "offset", pa.int64(), "bytes", "where the bytes begin: in the frame, or in the segment for damage", "never"
        ),
        Column("length", pa.int64(), "bytes", "how many bytes", "never"),
        Column("reason", pa.string(), "", "why they would not decode", "never"),
        Column("data", pa.binary(), "", "the bytes", "damage of the journal, which keeps them"),
    ),
    partition_by=("date",),
    key=("stream", "segment", "record", "offset"),
    stats=("received_at", "stream"),
)

TABLES: dict[str, Table] = {table.name: table for table in (TICKS, INSTRUMENTS, ORDERS, EVENTS, QUARANTINE)}
