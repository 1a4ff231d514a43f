"""Rows in every form: round trips, nulls, zones, nothing at all, and a number of rows at a time."""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queries.errors import QueryError, TimeZoneError
from queries.lake.forms import in_zone, tables_of
from queries.lake.lake import SqlLake
from queries.lake.result import Result
from storage.layout import DataLayout
from tests.support.lake import ToyDecoder
from tests.support.scaled import scaled

IST = ZoneInfo("Asia/Kolkata")
INSTANT = dt.datetime(2026, 11, 23, 9, 15, 0, 250_000, IST)
OWN = dt.datetime.fromisoformat("2026-11-23T09:15")
VALUES = """
    SELECT * FROM (VALUES
        (1::BIGINT, 9007199254740993::BIGINT, 1.5::DOUBLE, true, 'a', TIMESTAMPTZ '2026-11-23 09:15:00.25+05:30',
            TIMESTAMP '2026-11-23 09:15:00', DATE '2026-11-23'),
        (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
    ) v(n, i, d, b, s, t, own, day) ORDER BY n
"""
FETCH: dict[str, Callable[..., Any]] = {
    "arrow": Result.arrow,
    "df": Result.df,
    "pl": Result.pl,
    "numpy": Result.numpy,
    "reader": lambda result, tz=None: result.reader(tz=tz).read_all(),
}
WRONG = ["Asia/Bombay", "IST+1", "", "../UTC", "America", "\0", 5]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlLake]:
    root: Path = tmp_path_factory.mktemp("lake")
    DataLayout(root).journal.mkdir()
    with SqlLake(root, ToyDecoder()) as lake:
        yield lake


def column(frame: Any, name: str) -> list[Any]:
    """A column as Python's values: None for whatever stands for null."""
    if isinstance(frame, pa.Table):
        values = frame[name].to_pylist()
    elif isinstance(frame, pl.DataFrame):
        values = frame[name].to_list()
    elif isinstance(frame, pd.DataFrame):
        values = [None if pd.isna(value) else value for value in frame[name]]
    else:
        assert isinstance(frame, Mapping)
        values = [None if pd.isna(value) else value for value in frame[name].tolist()]
    return [value.to_pydatetime() if isinstance(value, pd.Timestamp) else value for value in values]


@pytest.mark.parametrize("form", FETCH)
def test_values_and_nulls_come_through(empty: SqlLake, form: str) -> None:
    frame = FETCH[form](empty.sql(VALUES))
    assert column(frame, "n") == [1, 2]
    assert column(frame, "i") == [9007199254740993, None]
    assert column(frame, "d") == [1.5, None]
    assert column(frame, "b") == [True, None]
    assert column(frame, "s") == ["a", None]
    assert column(frame, "own") == [OWN, None]
    assert [str(value)[:10] for value in column(frame, "day")] == ["2026-11-23", "None"]
    shown = OWN.replace(microsecond=250_000) if form == "numpy" else INSTANT
    assert column(frame, "t") == [shown, None]


@pytest.mark.parametrize("form", FETCH)
@pytest.mark.parametrize("tz", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_times_are_shown_in_the_zone_and_the_users_own_are_left(empty: SqlLake, form: str, tz: str) -> None:
    frame = FETCH[form](empty.sql(VALUES), tz=tz)
    local = INSTANT.astimezone(ZoneInfo(tz))
    (shown, nothing) = column(frame, "t")
    assert nothing is None
    assert shown.replace(tzinfo=None) == local.replace(tzinfo=None)
    assert form == "numpy" or shown == INSTANT
    assert column(frame, "own") == [OWN, None]


def test_a_zone_says_nothing_about_what_the_query_means(empty: SqlLake) -> None:
    result = empty.sql("select t::varchar as s, hour(t) as h from (select timestamptz '2026-11-23 09:15:00' as t)")
    for form, fetch in FETCH.items():
        frame = fetch(result, tz="UTC")
        assert (column(frame, "s"), column(frame, "h")) == (["2026-11-23 09:15:00+05:30"], [9]), form


@pytest.mark.parametrize("form", FETCH)
@pytest.mark.parametrize("tz", WRONG)
def test_a_wrong_zone_is_a_typed_error(empty: SqlLake, form: str, tz: str) -> None:
    with pytest.raises(TimeZoneError, match="expected an IANA name"):
        FETCH[form](empty.sql("select 1"), tz=tz)


@pytest.mark.parametrize("tz", ["Asia/Kolkatta", "IST"])
def test_a_wrong_zone_has_a_hint(empty: SqlLake, tz: str) -> None:
    with pytest.raises(TimeZoneError, match="did you mean 'Asia/Kolkata'"):
        empty.sql("select 1").arrow(tz=tz)


@pytest.mark.parametrize("form", FETCH)
def test_no_rows_have_their_columns(empty: SqlLake, form: str) -> None:
    for query in (f"from ({VALUES}) where n > 5", "from ticks"):
        result = empty.sql(query)
        for tz in (None, "UTC"):
            frame = FETCH[form](result, tz=tz)
            names = frame.column_names if isinstance(frame, pa.Table) else list(frame)
            if isinstance(frame, pl.DataFrame):
                names = frame.columns
            assert names == result.columns
            assert column(frame, names[0]) == []


@pytest.mark.slow
@pytest.mark.parametrize("form", ["arrow", "df", "pl", "numpy"])
def test_comes_so_many_rows_at_a_time(empty: SqlLake, form: str) -> None:
    query = "select range as n, if(range % 3 = 0, null, range) as i, make_timestamptz(range) as t from range({})"
    many = scaled(20_000, 200_000)  # several batches of the engine
    for rows, count in ((10, 3), (9, 3), (0, 3), (2, 3), (many, many * 7 // 20)):
        result = empty.sql(query.format(rows))
        frames = list(FETCH[form](result, count=count, tz="UTC"))
        sizes = [len(column(frame, "n")) for frame in frames]
        assert sizes == [count] * (rows // count) + [rows % count] * bool(rows % count)
        assert [value for frame in frames for value in column(frame, "n")] == list(range(rows))
        whole = FETCH[form](result, tz="UTC")
        for name in ("i", "t"):
            assert [value for frame in frames for value in column(frame, name)] == column(whole, name)
    assert len(list(FETCH[form](empty.sql("from range(5)"), count=np.int64(2)))) == 3
    for wrong in (0, -1, 1.5, True, "3", 1 << 70):
        with pytest.raises(QueryError, match="count: got"):
            FETCH[form](result, count=wrong)


def test_other_queries_may_run_between_the_frames(empty: SqlLake) -> None:
    for frame in empty.sql("from range(5)").df(count=2):
        assert len(frame) == empty.sql("from range($n)", {"n": len(frame)}).count()


class TestNumpy:
    def test_types(self, empty: SqlLake) -> None:
        found = empty.sql(VALUES).numpy()
        assert {name: str(array.dtype) for name, array in found.items()} == {
            "n": "int64",
            "i": "int64",
            "d": "float64",
            "b": "bool",
            "s": "object",
            "t": "datetime64[us]",
            "own": "datetime64[us]",
            "day": "datetime64[us]",
        }
        assert not isinstance(found["n"], np.ma.MaskedArray)
        assert not isinstance(found["d"], np.ma.MaskedArray)

    def test_a_null_is_never_0(self, empty: SqlLake) -> None:
        found = empty.sql(VALUES).numpy()
        assert np.ma.getmaskarray(found["i"]).tolist() == [False, True]
        assert np.asarray(found["i"])[1] == np.iinfo(np.int64).min
        assert np.isnan(found["d"][1])
        assert np.isnat(found["t"][1])
        assert found["s"][1] is None

    def test_sums_are_numbers(self, empty: SqlLake) -> None:
        found = empty.sql("select sum(range) as total, avg(range) as mean, 1.25 as price from range(5)").numpy()
        assert [array.dtype.kind for array in found.values()] == ["f", "f", "f"]
        assert [array[0] for array in found.values()] == [10, 2, 1.25]

    def test_a_name_that_comes_twice(self, empty: SqlLake) -> None:
        assert list(empty.sql("select 1 as a, 2 as a, now() as t, now() as t").numpy()) == ["a", "a_1", "t", "t_1"]


def test_what_polars_cannot_hold_is_a_typed_error(empty: SqlLake) -> None:
    for query in ("select 1 as a, 2 as a", "select interval 1 day as i"):
        with pytest.raises(QueryError, match="Polars cannot hold"):
            empty.sql(query).pl()


def test_times_in_lists_and_structs_are_in_the_zone_too(empty: SqlLake) -> None:
    query = "select [t] as a, {'t': t, 'own': t::timestamp} as b, map {t: t} as c from (select now() as t)"
    schema = empty.sql(query).arrow(tz="UTC").schema
    assert schema.field("a").type.value_type == pa.timestamp("us", "UTC")
    assert [field.type for field in schema.field("b").type] == [pa.timestamp("us", "UTC"), pa.timestamp("us")]
    assert schema.field("c").type.item_type == pa.timestamp("us", "UTC")
    assert empty.sql(query).reader(tz="UTC").read_all().schema == schema


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(0, 20), max_size=8),
    count=st.integers(1, 15),
    tz=st.sampled_from(["UTC", "Asia/Kolkata", "Europe/London"]),
)
def test_any_batches_are_cut_alike(sizes: list[int], count: int, tz: str) -> None:
    schema = pa.schema([("n", pa.int64()), ("t", pa.timestamp("us", "Asia/Kolkata"))])
    numbers = iter(range(sum(sizes)))
    batches = []
    for size in sizes:
        some = [next(numbers) for _ in range(size)]
        batches.append(pa.record_batch([pa.array(some, pa.int64()), pa.array(some, schema.field("t").type)], schema))
    tables = list(tables_of(pa.RecordBatchReader.from_batches(schema, batches), count))
    assert all(len(table) == count for table in tables[:-1])
    assert all(0 < len(table) <= count for table in tables)
    whole = pa.concat_tables([schema.empty_table(), *tables])
    assert whole["n"].to_pylist() == list(range(sum(sizes)))
    assert in_zone(in_zone(whole, tz), "Asia/Kolkata").equals(whole)
