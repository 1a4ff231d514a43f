"""Exported folders, read back by DuckDB, pandas and Polars: row for row what the lake has."""

from pathlib import Path

import duckdb
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kitelake
from queries.export import Choice, Export
from queries.history import Symbol, time_range
from queries.lake import SqlLake
from storage.schema import TABLES
from tests.support.lake import Feed, ToyDecoder
from tests.support.shared import made_once
from tests.support.two_days import DAYS, two_days

pytestmark = pytest.mark.slow

__all__ = ["two_days"]  # the fixture

SYMBOLS: list[Symbol] = ["INFY", "NSE:NIFTY 50", kitelake.near("NIFTY")]
CHOICE = Choice(time_range(f"{DAYS[0]} 15:00", f"{DAYS[1]} 09:30"), SYMBOLS, tables=[*TABLES])
"""Of a committed day and of one in the journal alone: shares, a future, and an index, which has no book."""
TIMES = ["received_at", "last_trade_time", "exchange_timestamp", "source_since"]
ENCODINGS = {"PLAIN", "RLE", "RLE_DICTIONARY", "PLAIN_DICTIONARY"}


@pytest.fixture(scope="module")
def expected(two_days: Path) -> pa.Table:
    """The rows in the order of an export, as one table."""
    with kitelake.open(two_days) as lake:
        rows = lake.ticks(SYMBOLS, f"{DAYS[0]} 15:00", f"{DAYS[1]} 09:30").arrow(tz="UTC")
    assert len(rows) == 450
    return in_order(rows)


@pytest.fixture(scope="module")
def parquet(two_days: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(two_days, tmp_path_factory, "parquet")


@pytest.fixture(scope="module")
def csv(two_days: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(two_days, tmp_path_factory, "csv")


def exported(data: Path, factory: pytest.TempPathFactory, form: str) -> Path:
    def write(folder: Path) -> None:
        with kitelake.open(data) as lake:
            assert form in ("parquet", "csv")
            Export(lake, folder, form, CHOICE).write()  # type: ignore[arg-type]

    return made_once(factory, f"exported {form}", write)


def in_order(rows: pa.Table) -> pa.Table:
    keys = ("date", "exchange", "symbol", "received_at", "seq")
    return rows.sort_by([(name, "ascending") for name in keys]).combine_chunks()


def of_pandas(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """It has floats where integers have nulls, and texts or categories for what folders are called."""
    frame["date"] = pd.to_datetime(frame["date"].astype(str)).dt.date
    return in_order(pa.Table.from_pandas(frame[schema.names], schema, preserve_index=False))


class TestParquet:
    def test_duckdb_reads_it(self, parquet: Path, expected: pa.Table) -> None:
        files = f"read_parquet('{parquet}/ticks/**/*.parquet', hive_partitioning = true)"
        with duckdb.connect() as con:
            rows = con.sql(f"SELECT {', '.join(expected.column_names)} FROM {files}").to_arrow_table()
        assert in_order(rows.cast(expected.schema)) == expected

    def test_pandas_reads_it(self, parquet: Path, expected: pa.Table) -> None:
        assert of_pandas(pd.read_parquet(parquet / "ticks"), expected.schema) == expected

    def test_polars_reads_it(self, parquet: Path, expected: pa.Table) -> None:
        frame = pl.read_parquet(parquet / "ticks" / "**" / "*.parquet", hive_partitioning=True)
        assert in_order(frame.select(expected.column_names).to_arrow().cast(expected.schema)) == expected

    def test_files_are_such_as_every_engine_reads_and_skips_in(self, parquet: Path) -> None:
        files = sorted((parquet / "ticks").rglob("*.parquet"))
        assert [str(path.relative_to(parquet)) for path in files] == [
            f"ticks/date={day}/exchange={exchange}/rows.parquet"
            for day in DAYS
            for exchange in ("INDICES", "NFO", "NSE")
        ]
        for path in files:
            columns = pq.ParquetFile(path).metadata.row_group(0)
            for at in range(columns.num_columns):
                assert set(columns.column(at).encodings) <= ENCODINGS
                assert columns.column(at).compression == "ZSTD"
            rows = pq.read_table(path, partitioning=None)
            assert not {"date", "exchange"} & set(rows.column_names)
            assert rows.column("received_at").type == pa.timestamp("us", "UTC")
            assert rows.equals(rows.sort_by([("symbol", "ascending"), ("received_at", "ascending")]))

    def test_other_tables_are_of_the_same_days(self, parquet: Path, two_days: Path) -> None:
        with kitelake.open(two_days) as lake:
            lists = lake.sql("from instruments").count()
            orders = lake.sql(
                f"select * from orders where tradingsymbol in ('INFY', 'NIFTY26NOVFUT') and received_at between "
                f"timestamptz '{DAYS[0]} 15:00:00+05:30' and timestamptz '{DAYS[1]} 09:29:59.999+05:30'"
            ).count()
            events = lake.sql("from events").count()
        found = {
            path.name: sum(pq.read_metadata(file).num_rows for file in path.rglob("*.parquet"))
            for path in parquet.iterdir()
            if path.is_dir()
        }
        assert found == {"ticks": 450, "instruments": lists, "orders": orders, "events": events}


class TestCsv:
    def test_duckdb_reads_it(self, csv: Path, expected: pa.Table) -> None:
        with duckdb.connect() as con:
            con.execute("CREATE TABLE rows AS FROM expected LIMIT 0")
            con.execute(f"INSERT INTO rows BY NAME FROM read_csv('{csv}/ticks/*.csv', all_varchar = true)")
            assert in_order(con.table("rows").to_arrow_table().cast(expected.schema)) == expected

    def test_pandas_reads_it(self, csv: Path, expected: pa.Table) -> None:
        frames = [pd.read_csv(path, parse_dates=TIMES) for path in sorted((csv / "ticks").iterdir())]
        for frame in frames:
            frame[TIMES] = frame[TIMES].apply(pd.to_datetime, utc=True)
        assert of_pandas(pd.concat(frames), expected.schema) == expected

    def test_polars_reads_it(self, csv: Path, expected: pa.Table) -> None:
        kinds = pl.from_arrow(expected.slice(0, 0))
        assert isinstance(kinds, pl.DataFrame)
        texts = {name: pl.String if name in TIMES else kind for name, kind in kinds.schema.items()}
        frame = pl.read_csv(csv / "ticks" / "*.csv", schema=texts)
        frame = frame.with_columns(pl.col(TIMES).str.to_datetime(time_unit="us", time_zone="UTC"))
        assert in_order(frame.to_arrow().cast(expected.schema)) == expected

    def test_times_are_ist_and_bytes_are_hex(self, csv: Path, tmp_path: Path) -> None:
        (first, *_) = (csv / "ticks").glob("*-NSE.csv")
        assert f",{DAYS[0]}T15:00:00.250000+05:30," in first.read_text().splitlines()[1]
        data = tmp_path / "data"
        with Feed(data, "one") as feed:
            feed.junk(b"\xabjunk")
            feed.flush()
            with SqlLake(data, ToyDecoder()) as lake:
                rows = Export(
                    lake, tmp_path / "out", "csv", Choice(time_range(None, None), tables=["quarantine"])
                ).write()
        assert rows == {"quarantine": 1}
        (path,) = (tmp_path / "out" / "quarantine").iterdir()
        header, row = path.read_text().splitlines()
        assert dict(zip(header.split(","), row.split(","), strict=True))["data"] == b"\xabjunk".hex()


def test_the_readme_says_what_it_is(parquet: Path, two_days: Path) -> None:
    text = (parquet / "README.md").read_text()
    assert text.startswith("# Exported from Kitelake\n\nMade at 20")
    assert f"IST of what was captured into `{two_days}` until then" in text
    assert f"- Range: from {DAYS[0]} 15:00:00 IST to before {DAYS[1]} 09:30:00 IST\n" in text
    assert "- Instruments: `INFY`, `NSE:NIFTY 50`, `near(NIFTY, 1)`\n- `ticks`: 450 rows\n" in text
    assert "| `oi` | units; packet @48; null:" in text
    assert "| `source_since` | since when" in text


def test_chosen_columns(two_days: Path, tmp_path: Path) -> None:
    choice = Choice(time_range(f"{DAYS[1]} 10:00", f"{DAYS[1]} 10:05"), ["INFY"], ["symbol", "last_price"], ["ticks"])
    with kitelake.open(two_days) as lake:
        Export(lake, tmp_path / "p", "parquet", choice).write()
        Export(lake, tmp_path / "c", "csv", choice).write()
        only_day = Choice(choice.when, ["INFY"], ["date"], ["ticks"])
        assert Export(lake, tmp_path / "d", "parquet", only_day).write() == {"ticks": 10}
    assert pd.read_parquet(tmp_path / "p" / "ticks").columns.to_list() == ["symbol", "last_price", "date", "exchange"]
    assert pd.read_csv(tmp_path / "c" / "ticks" / f"{DAYS[1]}-NSE.csv").columns.to_list() == ["symbol", "last_price"]
    assert set(pd.read_parquet(tmp_path / "d" / "ticks")["date"].astype(str)) == {str(DAYS[1])}
