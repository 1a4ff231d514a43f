"""The ticks of the tail as DuckDB reads them: the same rows as from a plain table, whatever a query asks for."""

from collections.abc import Collection
from pathlib import Path
from random import Random

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ingest.wire import JournalDecoder
from ingest.wire.journal import TicksOfDay
from queries.tail.dataset import TicksDataset
from queries.tail.segment import Segment
from queries.tail.ticks import LIVE_SCHEMA, KeptColumns, LiveTicks
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout
from storage.schema import TICKS
from storage.tables import SymbolIndex, SymbolLookup
from tests.support.packets import frame_of, random_packet

STREAM = "20261123T034500-aaaaaa"
TOKENS = [(1000 + i) << 8 | segment for i, segment in enumerate((1, 1, 1, 2, 2, 3, 7, 9, 11, 12))]
MIDNIGHT_NS = 1795372200 * 10**9  # 2026-11-23 00:00 in India


class Watched:
    """Ticks that note what is decoded of them."""

    def __init__(self, ticks: TicksOfDay) -> None:
        self.ticks = ticks
        self.day, self.tokens, self.exchanges = ticks.day, ticks.tokens, ticks.exchanges
        self.rows_of = ticks.rows_of
        self.decoded: list[tuple[set[str], int]] = []

    def __len__(self) -> int:
        return len(self.ticks)

    def join(self, others: object) -> "Watched":
        raise NotImplementedError

    def decode(
        self, columns: Collection[str], symbols: SymbolLookup, rows: NDArray[np.int64] | None = None
    ) -> dict[str, pa.Array]:
        self.decoded.append((set(columns), len(self) if rows is None else len(rows)))
        return self.ticks.decode(columns, symbols, rows)


class Both:
    """One connection that has the ticks as `live`, read by us, and as `plain`, a table."""

    def __init__(self, folder: Path) -> None:
        layout = DataLayout(folder)
        random = Random(7)
        journal = JournalWriter(layout, STREAM)
        channels = [journal.channel("asha", 1), journal.channel("ravi", 2)]
        for number in range(200):
            packets = [random.choice(TOKENS).to_bytes(4, "big") + random_packet(random)[4:] for _ in range(6)]
            at_ns = MIDNIGHT_NS + (number - 100) * 7_000_000
            journal.append(Kind.BINARY, channels[number % 2], at_ns, frame_of(packets))
        journal.close()
        segment = Segment(STREAM, 0, 0, None)
        segment.advance(layout, JournalDecoder(), np.empty(1 << 20, np.uint8), complete=True)
        (piece,) = segment.rows().pieces
        assert len(piece.ticks) == 2  # two days
        self.watched = [Watched(ticks) for ticks in piece.ticks]  # type: ignore[arg-type]
        tokens = np.unique(np.concatenate([ticks.tokens for ticks in self.watched]))
        self.token = int(tokens[0])
        index = SymbolIndex(tokens[::2], pa.array([f"NSE:{token}" for token in tokens[::2].tolist()]))
        self.live = LiveTicks(self.watched, lambda _: index, 1, KeptColumns())
        rows = [pa.table(ticks.ticks.decode(TICKS.schema.names, lambda _: index)) for ticks in self.watched]
        self.plain = pa.concat_tables(rows).cast(TICKS.schema)
        self.con = duckdb.connect()
        self.con.execute("SET TimeZone = 'Asia/Kolkata'")
        live, plain = TicksDataset(self.live), self.plain
        self.con.sql("FROM live").create_view("live_ticks")
        self.con.sql("FROM plain").create_view("plain_ticks")
        del live, plain

    def ask(self, query: str) -> list[list[object]]:
        """The answer for `live` and for `plain`, if they are the same."""
        answers = [
            self.con.sql(query.replace("ticks", f"{name}_ticks")).to_arrow_table().to_pylist()
            for name in ("live", "plain")
        ]
        assert answers[0] == answers[1]
        return [list(row.values()) for row in answers[0]]

    def decoded(self, query: str) -> list[tuple[set[str], int]]:
        """What a query has decoded: columns, and of how many rows."""
        for ticks in self.watched:
            ticks.decoded.clear()
        self.live._kept.keep_only(())
        self.ask(query)
        return [each for ticks in self.watched for each in ticks.decoded]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(tmp_path_factory.mktemp("lake"))


def test_the_schema_is_that_of_the_table(both: Both) -> None:
    assert LIVE_SCHEMA.names == TICKS.schema.names
    assert both.ask("select column_name, column_type from (describe ticks)")
    both.ask("select * from ticks order by seq")


def test_a_count_decodes_no_packet(both: Both) -> None:
    assert both.decoded("select count(*) from ticks") == [({"date"}, len(ticks)) for ticks in both.watched]


def test_only_the_columns_that_are_asked_for_are_decoded(both: Both) -> None:
    for columns, _ in both.decoded("select max(last_price), max(received_at) from ticks"):
        assert columns == {"last_price", "received_at"}


def test_only_the_instruments_that_are_asked_for_are_decoded(both: Both) -> None:
    name = f"NSE:{both.token}"
    (count,) = both.ask(f"select count(*) from ticks where symbol = '{name}'")[0]
    for where in (f"symbol = '{name}'", f"instrument_token = {both.token}", f"symbol in ('{name}', 'NSE:none')"):
        found = both.decoded(f"select seq, last_price from ticks where {where} order by seq")
        assert sum(rows for _, rows in found) == count
        assert all(columns == {"seq", "last_price"} for columns, _ in found)
        found = both.decoded(f"select seq from ticks where {where} and open is not null")
        assert sum(rows for columns, rows in found if "open" in columns) == count
    found = both.decoded(f"select seq from ticks where instrument_token = {both.token} and volume_traded < 5")
    assert sum(rows for columns, rows in found if "volume_traded" in columns) == count
    assert both.decoded("select max(last_price) from ticks where date = '2026-11-24'") == []
    assert len(both.decoded("select max(last_price) from ticks where date = '2026-11-23'")) == 1


def test_what_was_decoded_is_kept(both: Both) -> None:
    query = "select max(last_price) from ticks"
    assert len(both.decoded(query)) == 2
    for ticks in both.watched:
        ticks.decoded.clear()
    both.ask("select max(last_price), max(volume_traded) from ticks")
    assert [columns for ticks in both.watched for columns, _ in ticks.decoded] == [{"volume_traded"}] * 2


def test_what_is_kept_is_bounded(both: Both) -> None:
    kept = KeptColumns(most_bytes=20_000)
    for name in TICKS.schema.names:
        for ticks in both.watched:
            kept.decode(ticks, [name], both.live.symbols, 1)
            assert kept._bytes <= 20_000
            assert kept._bytes == sum(array.nbytes for array in kept._columns.values())
    kept.keep_only([both.watched[1]])
    assert {key[0] for key in kept._columns} == {both.watched[1]}
    kept.keep_only(())
    assert kept._bytes == 0


COLUMNS = ["date", "exchange", "instrument_token", "symbol", "mode", "last_price", "open", "volume_traded", "seq"]
COLUMNS += ["received_at", "account", "connection", "exchange_timestamp", "bid_price_1", "price_change", "stream"]


@st.composite
def conditions(draw: st.DrawFn) -> str:
    """A condition on some of the columns, with values that some rows have: `{i}` stands for a row's."""
    name = draw(st.sampled_from(COLUMNS))
    one, two = f"{{{name}:{draw(st.integers(0, 30))}}}", f"{{{name}:{draw(st.integers(0, 30))}}}"
    forms = [f"{name} {op} {one}" for op in ("=", "!=", "<", "<=", ">", ">=")]
    forms += [f"{name} is null", f"{name} is not null", f"{name} in ({one}, {two})", f"{name} not in ({one}, {two})"]
    forms += [f"{name} between {one} and {two}", f"{name} is not distinct from {one}"]
    return draw(st.sampled_from(forms))


FILTERS = st.recursive(
    conditions(),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda two: f"({two[0]} and {two[1]})"),
        st.tuples(inner, inner).map(lambda two: f"({two[0]} or {two[1]})"),
        inner.map(lambda one: f"(not {one})"),
    ),
    max_leaves=5,
)


def filled(both: Both, condition: str) -> str:
    """The condition with values of rows."""
    for name in COLUMNS:
        values = [value for value in both.plain.column(name).unique().to_pylist() if value is not None]
        for i in range(31):
            value = values[i % len(values)]
            text = repr(value) if isinstance(value, int | float) else f"'{value}'"
            condition = condition.replace(f"{{{name}:{i}}}", text)
    return condition


@pytest.mark.slow
@given(condition=FILTERS)
@example("(bid_price_1 is not null and symbol = {symbol:1})")
@example("(bid_price_1 is not null and (bid_price_1 > {bid_price_1:1} and symbol = {symbol:1}))")
@example("(bid_price_1 is null and instrument_token = {instrument_token:1})")
@example("(mode in ({mode:0}, {mode:1}) and symbol = {symbol:1})")
@example("(not (open is null or symbol = {symbol:1}))")
@example("(symbol is null and (mode != {mode:1} or open is null))")
def test_any_filter_keeps_the_same_rows(both: Both, condition: str) -> None:
    where = filled(both, condition)
    both.ask(f"select seq, symbol, last_price, bid_price_1 from ticks where {where} order by seq")
    both.ask(f"select count(*) from ticks where {where}")
