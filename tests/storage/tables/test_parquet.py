"""Files: the same rows give the same bytes, every engine reads the plain types, and the statistics are bounds."""

import datetime
import json
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import RowsError, TableError
from storage.schema import EVENTS, INSTRUMENTS, ORDERS, QUARANTINE, TABLES, TICKS, Table
from storage.tables.content import digester, read_contents
from storage.tables.digest import DIGEST_KEY, is_as_stamped
from storage.tables.parquet import (
    ASKED_FOR,
    BOUND_CHARACTERS,
    REPEATED,
    column_stats,
    move_file,
    stage_file,
    write_file,
    write_parquet,
)
from tests.support.tables import sample_rows

VALUES = {"date": "2026-11-22", "exchange": "NSE"}


def with_dictionaries(rows: pa.Table) -> pa.Table:
    columns = [c.dictionary_encode() if pa.types.is_string(c.type) else c for c in rows.columns]
    return pa.Table.from_arrays(columns, names=rows.schema.names)


def write(root: Path, spec: Table, rows: pa.Table, stem: str = "s-0000000001") -> Path:
    values = {name: VALUES[name] for name in spec.partition_by}
    file = write_file(spec, rows, values=values, stem=stem, table_folder=root / spec.name, staging=root / "staging")
    path = root / spec.name / file.relative
    assert file.size == path.stat().st_size
    assert file.rows == rows.num_rows
    assert dict(file.values) == values
    assert json.loads(file.stats)["numRecords"] == rows.num_rows
    assert list((root / "staging").iterdir()) == []
    return path


@pytest.mark.parametrize("spec", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("dictionaries", [False, True])
def test_plain_types_come_back(tmp_path: Path, spec: Table, dictionaries: bool) -> None:
    rows = sample_rows(spec, 500)
    path = write(tmp_path, spec, with_dictionaries(rows) if dictionaries else rows)
    back = pq.ParquetFile(path).read()
    assert back.schema.equals(spec.file_schema)
    assert back.equals(rows)


def test_a_column_of_nulls_and_no_rows(tmp_path: Path) -> None:
    nothing = TICKS.file_schema.empty_table()
    assert pq.ParquetFile(write(tmp_path, TICKS, nothing)).read().equals(nothing)
    nulls = pa.table({f.name: pa.nulls(3, f.type) for f in EVENTS.file_schema})
    assert pq.ParquetFile(write(tmp_path, EVENTS, nulls)).read().equals(nulls)


def test_where_it_lies(tmp_path: Path) -> None:
    path = write(tmp_path, TICKS, sample_rows(TICKS, 3))
    assert path == tmp_path / "ticks/date=2026-11-22/exchange=NSE/s-0000000001.parquet"


def test_duckdb_reads_the_same(tmp_path: Path) -> None:
    rows = sample_rows(TICKS, 300)
    path = write(tmp_path, TICKS, rows)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.sql(f"SELECT * FROM read_parquet('{path}', hive_partitioning = false)")
        table: pa.Table = found.to_arrow_table()
        assert table.cast(TICKS.file_schema).equals(rows)


@pytest.mark.parametrize("quick", [False, True])
def test_encodings_codecs_and_no_arrow_schema(tmp_path: Path, quick: bool) -> None:
    rows = sample_rows(TICKS, 5000)
    path = tmp_path / "file.parquet"
    if quick:
        path = write(tmp_path, TICKS, rows)
    else:
        write_parquet(rows, path)
    metadata = pq.ParquetFile(path).metadata
    assert set(metadata.metadata) == {DIGEST_KEY}
    group = metadata.row_group(0)
    for i in range(group.num_columns):
        chunk = group.column(i)
        name = chunk.path_in_schema
        kind = TICKS.file_schema.field(name).type
        plain_or_text = pa.types.is_floating(kind) or pa.types.is_string(kind)
        if quick:
            runs = name in ("instrument_token", "oi_day_high", "oi_day_low")
            seconds = name in ("last_trade_time", "exchange_timestamp")
            assert chunk.compression == ("SNAPPY" if plain_or_text or runs else "UNCOMPRESSED")
            found_by = ("received_at", "stream", "seq", "instrument_token", "last_trade_time", "exchange_timestamp")
            assert chunk.is_stats_set == (name in found_by)
        else:
            runs, seconds = False, name in REPEATED | ASKED_FOR
            small = plain_or_text or seconds or name in ("exchange_timestamp", "volume_traded")
            assert chunk.compression == ("ZSTD" if small else "SNAPPY")
            assert chunk.is_stats_set != name.startswith(("bid_", "ask_"))
        if pa.types.is_string(kind) or seconds:
            assert "RLE_DICTIONARY" in chunk.encodings
        elif pa.types.is_floating(kind) or runs:
            assert set(chunk.encodings) == {"PLAIN", "RLE"}
        else:
            assert "DELTA_BINARY_PACKED" in chunk.encodings
            assert "RLE_DICTIONARY" not in chunk.encodings


def test_columns_with_dictionaries_exist() -> None:
    assert set(TICKS.file_schema.names) >= REPEATED | ASKED_FOR


def test_a_flipped_byte_of_a_page_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, TICKS, sample_rows(TICKS, 5000))
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(TICKS.file_schema.get_field_index("last_price"))
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size - 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"(?i)checksum|crc"):
        pq.ParquetFile(path, page_checksum_verification=True).read()


@pytest.mark.parametrize("spec", [TICKS, ORDERS, QUARANTINE, INSTRUMENTS], ids=lambda spec: spec.name)
def test_the_same_rows_give_the_same_bytes(tmp_path: Path, spec: Table) -> None:
    rows = with_dictionaries(sample_rows(spec, 4000))
    first = write(tmp_path / "a", spec, rows).read_bytes()
    # However they lie in memory: other chunks, other column order, read twice.
    pieces = pa.concat_tables([rows.slice(0, 1), rows.slice(1, 2500), rows.slice(2501)])
    backwards = pieces.select(rows.schema.names[::-1])
    assert write(tmp_path / "b", spec, backwards).read_bytes() == first
    assert write(tmp_path / "b", spec, rows).read_bytes() == first


def test_rows_in_pieces_have_the_content_of_rows_at_once(tmp_path: Path) -> None:
    rows = with_dictionaries(sample_rows(TICKS, 500))
    pieces = [rows.slice(0, 200), with_dictionaries(sample_rows(TICKS, 500)).slice(200, 1), rows.slice(201)]
    staged = stage_file(TICKS, iter(pieces), values=VALUES, stem="pieces", staging=tmp_path / "staging")
    assert not (tmp_path / "ticks").exists()
    file = move_file(staged, tmp_path / "ticks")
    whole = write_file(
        TICKS, rows, values=VALUES, stem="whole", table_folder=tmp_path / "ticks", staging=tmp_path / "staging"
    )
    assert (file.rows, file.stats) == (whole.rows, whole.stats)
    paths = [tmp_path / "ticks" / each.relative for each in (file, whole)]
    with digester() as con:
        contents = read_contents(con, TICKS, [str(path) for path in paths])
    assert contents[0] == contents[1]
    assert contents[0].stats == file.stats
    assert pq.ParquetFile(paths[0]).read().equals(pq.ParquetFile(paths[1]).read())
    assert all(is_as_stamped(path) for path in paths)


def test_no_pieces_are_a_file_without_rows(tmp_path: Path) -> None:
    staged = stage_file(TICKS, [], values=VALUES, stem="s", staging=tmp_path)
    assert staged.file.rows == 0
    assert pq.ParquetFile(staged.path).read().equals(TICKS.file_schema.empty_table())


def without_null(rows: pa.Table, *names: str) -> pa.Table:
    """The same rows, whose schema says that these columns have none."""
    fields = [field.with_nullable(field.name not in names) for field in rows.schema]
    return pa.Table.from_arrays(rows.columns, schema=pa.schema(fields))


def test_what_the_rows_say_to_have_no_null_is_required_in_the_file(tmp_path: Path) -> None:
    rows = with_dictionaries(sample_rows(TICKS, 500))
    names = ("seq", "last_price", "symbol", "received_at")
    full = rows
    for name in names:
        full = full.filter(full[name].is_valid())
    path = write(tmp_path, TICKS, without_null(full, *names))
    file = pq.ParquetFile(path)
    assert {column.name for column in file.schema if not column.max_definition_level} == set(names)
    assert file.read().cast(TICKS.file_schema).equals(full.cast(TICKS.file_schema))


@pytest.mark.parametrize("dictionaries", [False, True])
@pytest.mark.parametrize("name", ["seq", "last_price", "symbol", "received_at"])
def test_a_null_where_the_rows_say_to_have_none_is_refused(tmp_path: Path, name: str, dictionaries: bool) -> None:
    rows = sample_rows(TICKS, 500)
    rows = with_dictionaries(rows) if dictionaries else rows
    full = rows.filter(rows[name].is_valid())
    for pieces in (
        [without_null(rows, name)],
        [without_null(full, name), without_null(rows, name)],
        [without_null(full, name), rows],
    ):
        with pytest.raises((pa.ArrowInvalid, ValueError), match="null"):
            stage_file(TICKS, pieces, values=VALUES, stem="s", staging=tmp_path)
    staged = stage_file(TICKS, [without_null(full, name), full], values=VALUES, stem="s", staging=tmp_path)
    expected = pa.concat_tables([full, full]).cast(TICKS.file_schema)
    assert pq.ParquetFile(staged.path).read().cast(TICKS.file_schema).equals(expected)


def test_a_file_of_the_same_name_is_replaced(tmp_path: Path) -> None:
    write(tmp_path, EVENTS, sample_rows(EVENTS, 5))
    path = write(tmp_path, EVENTS, sample_rows(EVENTS, 7))
    assert pq.ParquetFile(path).read().num_rows == 7
    assert len(list((tmp_path / "events").rglob("*.parquet"))) == 1


def test_rows_of_another_table(tmp_path: Path) -> None:
    rows = sample_rows(EVENTS, 3)
    with pytest.raises(RowsError, match="rows for events: got record as None, expected int64"):
        write(tmp_path, EVENTS, rows.drop_columns(["record"]))
    with pytest.raises(RowsError, match=r"got columns \['more'\] that the table does not have"):
        write(tmp_path, EVENTS, rows.append_column("more", pa.nulls(3)))
    with pytest.raises(RowsError, match="got record as double, expected int64"):
        write(tmp_path, EVENTS, rows.set_column(2, "record", pa.array([1.0, 2.0, 3.0])))
    assert not (tmp_path / "events").exists()


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "staging").write_text("")
    with pytest.raises(TableError, match=r"s-0000000001.parquet: cannot write: File exists"):
        write(tmp_path, EVENTS, sample_rows(EVENTS, 3))


class TestStatistics:
    def stats(self, values: Sequence[object], kind: pa.DataType) -> tuple[object, object, int]:
        found = column_stats(pa.table({"x": pa.array(values, kind)}), ["x"])
        text = json.loads(json.dumps(found, allow_nan=False))
        return text["minValues"].get("x"), text["maxValues"].get("x"), text["nullCount"]["x"]

    def test_integers_and_nulls(self) -> None:
        assert self.stats([3, None, -(2**40)], pa.int64()) == (-(2**40), 3, 1)
        assert self.stats([None, None], pa.int64()) == (None, None, 2)
        assert self.stats([], pa.int64()) == (None, None, 0)

    def test_dates(self) -> None:
        days = [datetime.date(2026, 11, 22), datetime.date(2026, 1, 2)]
        assert self.stats(days, pa.date32()) == ("2026-01-02", "2026-11-22", 0)

    def test_times_are_widened_to_milliseconds(self) -> None:
        times = [1_766_666_666_666_666, 1_766_666_666_666_001, 1_766_666_666_000_000]
        kind = pa.timestamp("us", "UTC")
        assert self.stats(times, kind) == ("2025-12-25T12:44:26.000Z", "2025-12-25T12:44:26.667Z", 0)
        assert self.stats(times[1:], kind)[1] == "2025-12-25T12:44:26.667Z"
        assert self.stats(times[2:], kind)[1] == "2025-12-25T12:44:26.000Z"
        assert self.stats([-1], kind) == ("1969-12-31T23:59:59.999Z", "1970-01-01T00:00:00.000Z", 0)

    def test_nan_and_infinity_are_no_bounds(self) -> None:
        assert self.stats([1.5, float("nan")], pa.float64()) == (None, None, 0)
        assert self.stats([1.5, float("inf")], pa.float64()) == (1.5, None, 0)
        assert self.stats([1.5, -2.5], pa.float64()) == (-2.5, 1.5, 0)

    def test_long_strings_are_cut(self) -> None:
        assert self.stats(["a" * 100, "b" * 100], pa.string()) == ("a" * 64, "b" * 63 + "c", 0)
        assert self.stats(["b" * 64], pa.string()) == ("b" * 64, "b" * 64, 0)
        assert self.stats(["\U0010ffff" * 65], pa.string()) == ("\U0010ffff" * 64, None, 0)
        assert self.stats(["a" * 63 + "\U0010ffff" + "x"], pa.string())[1] == "a" * 62 + "b"
        assert self.stats(["a" * 63 + "\ud7ffx"], pa.string())[1] == "a" * 63 + "\ue000"

    def test_only_the_values_that_occur_count(self) -> None:
        """A dictionary may hold more than the rows use."""
        column = pa.DictionaryArray.from_arrays(pa.array([1, None, 1], pa.int32()), pa.array(["a", "m", "z"]))
        found = column_stats(pa.table({"x": column}), ["x"])
        assert found["minValues"] == found["maxValues"] == {"x": "m"}
        assert found["nullCount"] == {"x": 1}

    @settings(deadline=None)
    @given(st.lists(st.one_of(st.none(), st.text(max_size=BOUND_CHARACTERS + 6)), max_size=6))
    def test_strings_lie_within(self, values: list[str | None]) -> None:
        low, high, nulls = self.stats(values, pa.string())
        assert nulls == values.count(None)
        for value in values:
            if value is not None:
                assert isinstance(low, str)
                assert low.encode() <= value.encode()
                assert high is None or value.encode() <= str(high).encode()

    @settings(deadline=None)
    @given(st.lists(st.integers(-(2**50), 2**52), min_size=1, max_size=6))
    def test_times_lie_within(self, values: list[int]) -> None:
        low, high, _ = self.stats(values, pa.timestamp("us", "UTC"))
        epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        microsecond = datetime.timedelta(microseconds=1)
        bounds = [(datetime.datetime.fromisoformat(str(bound)) - epoch) // microsecond for bound in (low, high)]
        assert bounds[0] <= min(values) < bounds[0] + 1000
        assert bounds[1] - 1000 < max(values) <= bounds[1]
