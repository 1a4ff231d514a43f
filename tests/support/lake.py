"""A small lake for tests: a decoder of a toy wire format, and a writer that can be stopped between any two commits.

The toy format: a binary frame is any number of packets of 8 bytes, instrument token and price in paise, as uint32; a
text frame is JSON `{"order": name}` or else goes to quarantine; an event is JSON `{"event": name}`.
"""

import datetime
import functools
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage import schema
from storage.commit.decoder import Decoded, Fetch, Part
from storage.journal import Block, JournalWriter, Kind, SegmentReader, segments, streams
from storage.layout import DataLayout, segment_stem
from storage.tables.log import Watermark
from storage.tables.parquet import write_file
from storage.tables.symbols import SymbolLookup
from storage.tables.table import LakeTable

IST = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
NINE_FIFTEEN_NS = int(datetime.datetime(2026, 11, 23, 9, 15, tzinfo=IST).timestamp()) * 1_000_000_000
DAY_NS = 86_400_000_000_000
EXCHANGES = {1: "NSE", 2: "NFO", 7: "MCX"}
INFY, NIFTY_FUT, CRUDE = 408065, 12345602, 100_000_007


def packet(token: int, paise: int) -> bytes:
    return np.array([token, paise], ">u4").tobytes()


class ToyDecoder:
    """Counts its calls and the blocks that it was given, to show what is decoded twice."""

    def __init__(self) -> None:
        self.blocks: Counter[tuple[str, int, int]] = Counter()

    def decode(
        self, stream: str, segment: int, blocks: Sequence[Block], *, first_seq: int, symbols: SymbolLookup
    ) -> Decoded:
        self.blocks.update((stream, segment, block.offset) for block in blocks)
        rows, packets = self._rows(stream, segment, blocks, first_seq, symbols)
        return Decoded({name: _parts(schema.TABLES[name], found) for name, found in rows.items()}, packets)

    def find(self, stream: str, segment: int, blocks: Sequence[Block], *, first_seq: int, fetch: Fetch) -> "ToyFound":
        self.blocks.update((stream, segment, block.offset) for block in blocks)
        rows, packets = self._rows(stream, segment, blocks, first_seq, lambda _day: None)
        by_day: dict[datetime.date, list[dict[str, Any]]] = {}
        for row in rows.pop("ticks", []):
            by_day.setdefault(row["date"], []).append(row)
        others = {name: _parts(schema.TABLES[name], found) for name, found in rows.items()}
        return ToyFound(packets, [ToyTicks(day, found) for day, found in by_day.items()], others)

    @staticmethod
    def _rows(
        stream: str, segment: int, blocks: Sequence[Block], first_seq: int, symbols: SymbolLookup
    ) -> tuple[dict[str, list[dict[str, Any]]], int]:
        """The rows of each table, and how many ticks there are."""
        rows: dict[str, list[dict[str, Any]]] = {}
        seq = first_seq
        for block in blocks:
            for kind in (Kind.BINARY, Kind.TEXT, Kind.EVENT):
                for at, payload in block.payloads(kind):
                    channel = block.channel_table[int(block.channels[at])]
                    origin = {
                        "date": datetime.datetime.fromtimestamp(int(block.received_at_ns[at]) // 10**9, IST).date(),
                        "received_at": int(block.received_at_ns[at]) // 1000,
                        "stream": stream,
                        "account": channel.account,
                        "connection": channel.connection,
                    }
                    if kind == Kind.BINARY:
                        for token, paise in np.frombuffer(payload, ">u4").reshape(-1, 2).tolist():
                            rows.setdefault("ticks", []).append(origin | _tick(seq, token, paise, symbols, origin))
                            seq += 1
                        continue
                    record = {"record": block.first_record + at}
                    table, values = _record(kind, payload, segment)
                    rows.setdefault(table, []).append(origin | record | values)
        return rows, seq - first_seq


@dataclass(frozen=True)
class ToyFound:
    packets: int
    ticks: Sequence["ToyTicks"]
    parts: Mapping[str, list[Part]]

    def others(self) -> Mapping[str, list[Part]]:
        return self.parts


class ToyTicks:
    def __init__(self, day: datetime.date, rows: list[dict[str, Any]]) -> None:
        self.day = day
        self.rows = rows
        self.tokens = np.array(sorted({row["instrument_token"] for row in rows}), np.int64)

    @property
    def exchanges(self) -> pa.DictionaryArray:
        return pa.array([EXCHANGES[token & 0xFF] for token in self.tokens.tolist()]).dictionary_encode()

    def __len__(self) -> int:
        return len(self.rows)

    def join(self, others: Sequence["ToyTicks"]) -> "ToyTicks":
        return ToyTicks(self.day, [row for ticks in (self, *others) for row in ticks.rows])

    def rows_of(self, wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
        tokens = set(self.tokens[wanted].tolist())
        return np.array([i for i, row in enumerate(self.rows) if row["instrument_token"] in tokens], np.int64)

    def decode(
        self, columns: Collection[str], symbols: SymbolLookup, rows: NDArray[np.int64] | None = None
    ) -> dict[str, pa.Array]:
        chosen = self.rows if rows is None else [self.rows[i] for i in rows.tolist()]
        index = symbols(self.day)
        found = {}
        for name in columns:
            kind = schema.TICKS.schema.field(name).type
            array = pa.array([row.get(name) for row in chosen], kind)
            if name == "symbol" and index is not None:
                array = index.lookup(np.array([row["instrument_token"] for row in chosen], np.int64))
            found[name] = array.cast(pa.dictionary(pa.int32(), kind)) if pa.types.is_string(kind) else array
        return found


def _tick(seq: int, token: int, paise: int, symbols: SymbolLookup, origin: Mapping[str, Any]) -> dict[str, Any]:
    index = symbols(origin["date"])
    symbol = None if index is None else index.lookup(np.array([token], np.int64))[0].as_py()
    return {
        "exchange": EXCHANGES[token & 0xFF],
        "seq": seq,
        "instrument_token": token,
        "symbol": symbol,
        "mode": "ltp",
        "last_price": paise / 100,
    }


def _record(kind: Kind, payload: bytes, segment: int) -> tuple[str, dict[str, Any]]:
    if kind == Kind.EVENT:
        return "events", {"event": json.loads(payload)["event"]}
    try:
        order = json.loads(payload)["order"]
    except ValueError:
        fields = {"segment": segment, "offset": 0, "length": len(payload), "reason": "not JSON", "data": payload}
        return "quarantine", fields
    digest = hashlib.sha256(str(order).encode()).hexdigest()
    return "orders", {"update_id": digest, "order_id": order, "data": payload.decode()}


@functools.cache
def _nothing(count: int, kind: pa.DataType) -> pa.Array:
    """So many nulls, as a column of a part."""
    array = pa.nulls(count, kind)
    return array.dictionary_encode() if pa.types.is_string(kind) else array


def _parts(spec: schema.Table, rows: list[dict[str, Any]]) -> list[Part]:
    """One part a partition; the strings are dictionary-encoded, as they may be."""
    by_partition: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        by_partition.setdefault(tuple(str(row[name]) for name in spec.partition_by), []).append(row)
    parts = []
    for values, found in by_partition.items():
        arrays = []
        filled = set().union(*found)
        for field in spec.file_schema:
            if field.name in filled:
                array = pa.array([row.get(field.name) for row in found], field.type)
                arrays.append(array.dictionary_encode() if pa.types.is_string(field.type) else array)
            else:  # most are
                arrays.append(_nothing(len(found), field.type))
        table = pa.Table.from_arrays(arrays, names=spec.file_schema.names)
        parts.append(Part(dict(zip(spec.partition_by, values, strict=True)), table))
    return parts


class Feed:
    """Journals toy frames into one stream and remembers what it journalled."""

    def __init__(self, root: Path, stream: str, *, segment_bytes: int = 1 << 20) -> None:
        self.stream = stream
        self.writer = JournalWriter(DataLayout(root), stream, segment_bytes=segment_bytes, segment_seconds=1e9)
        self.channel = self.writer.channel("asha", 1)
        self.now_ns = NINE_FIFTEEN_NS
        self.ticks: list[tuple[str, int, int, float]] = []
        self.events: list[tuple[str, str]] = []
        self.orders: list[str] = []
        self.bad: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()

    def _append(self, kind: Kind, payload: bytes) -> None:
        self.writer.append(kind, self.channel, self.now_ns, payload)
        self.now_ns += 1_000_000

    def tick(self, *packets: tuple[int, int]) -> None:
        self._append(Kind.BINARY, b"".join(packet(*each) for each in packets))
        for token, paise in packets:
            self.ticks.append((self.stream, len(self.ticks), token, paise / 100))

    def event(self, name: str) -> None:
        self._append(Kind.EVENT, json.dumps({"event": name}).encode())
        self.events.append((self.stream, name))

    def order(self, name: str) -> None:
        self._append(Kind.TEXT, json.dumps({"order": name}).encode())
        self.orders.append(name)

    def junk(self, text: bytes) -> None:
        self._append(Kind.TEXT, text)
        self.bad.append(text)

    def flush(self) -> None:
        self.writer.flush()

    def roll(self) -> None:
        """Begin a new segment."""
        self.flush()
        size, self.writer.segment_bytes = self.writer.segment_bytes, 0
        self.flush()
        self.writer.segment_bytes = size


class ToyWriter:
    """Commits segments in the order that `storage.tables.table` asks for. `steps` stops between any two commits."""

    def __init__(self, root: Path, *, symbols: SymbolLookup = lambda _: None) -> None:
        self.layout = DataLayout(root)
        self.symbols = symbols
        self.tables = {
            name: LakeTable(self.layout.table(name), spec).open(create=True)
            for name, spec in schema.TABLES.items()
            if name != "instruments"
        }

    def watermark(self, stream: str) -> Watermark:
        return self.tables["ticks"].snapshot().watermark(stream) or Watermark(-1, 0)

    def complete(self) -> list[tuple[str, int]]:
        """Segments that may be committed now: all but each stream's last, unless that is the stream's end."""
        found = []
        for stream in streams(self.layout):
            numbers = segments(self.layout, stream)
            for number in numbers:
                with SegmentReader(self.layout.segment(stream, number)) as reader:
                    reader.read()
                    if number > self.watermark(stream).segment and (number < numbers[-1] or reader.sealed):
                        found.append((stream, number))
        return found

    def steps(self, stream: str, segment: int) -> Iterator[str]:
        """Commit one segment, yielding before each table's commit."""
        next_seq = self.watermark(stream).next_seq
        with SegmentReader(self.layout.segment(stream, segment)) as reader:
            decoded = ToyDecoder().decode(stream, segment, reader.read(), first_seq=next_seq, symbols=self.symbols)
        for name in ("events", "orders", "quarantine", "ticks"):
            spec, table = schema.TABLES[name], self.tables[name]
            files = []
            for part in decoded.parts.get(name, []):
                rows = self._new_rows(spec, table, part)
                if len(rows):
                    files.append(
                        write_file(
                            spec,
                            rows,
                            values=part.values,
                            stem=segment_stem(stream, segment),
                            table_folder=table.path,
                            staging=self.layout.staging,
                        )
                    )
            transactions = {stream: segment}
            if name == "ticks":
                transactions[f"{stream}/seq"] = next_seq + decoded.packets
            if files or name == "ticks":
                yield name
                table.commit(files, transactions=transactions)

    def commit(self, stream: str, segment: int) -> None:
        for _ in self.steps(stream, segment):
            pass

    def commit_all(self) -> None:
        for stream, segment in self.complete():
            self.commit(stream, segment)

    def remove_committed(self) -> None:
        """Retention: unlink the segments that the watermark covers, but the stream's newest."""
        for stream in streams(self.layout):
            for number in segments(self.layout, stream)[:-1]:
                if number <= self.watermark(stream).segment:
                    self.layout.segment(stream, number).unlink()

    @staticmethod
    def _new_rows(spec: schema.Table, table: LakeTable, part: Part) -> pa.Table:
        if spec.unique is None:
            return part.rows
        day = datetime.date.fromisoformat(part.values["date"])
        known = set(table.read(date=day, columns=[spec.unique]).column(0).to_pylist())
        keep = []
        for value in part.rows.column(spec.unique).to_pylist():
            keep.append(value not in known)
            known.add(value)
        return part.rows.filter(pa.array(keep))
