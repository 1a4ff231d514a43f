"""Printing results: what is shown, what is cut, and that the other forms carry everything, value for value."""

import contextlib
import csv
import datetime as dt
import io
import json
import os
import pty
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from kitelake.errors import OutputError
from kitelake.views.output import render, write_result
from queries.errors import QueryError
from queries.lake.result import Result
from queries.lake.running import Turns

IST = dt.timezone(dt.timedelta(hours=5, minutes=30))
Query = Callable[[str], Result]
Terminal = Callable[[str, str], str]
FORMATS = ("table", "csv", "json", "arrow", "parquet")
WHEN = "timestamptz '2026-11-22 09:15:00.123+05:30'"


@pytest.fixture
def query() -> Iterator[Query]:
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'Asia/Kolkata'")
        yield lambda text: Result(con.sql(text), None, None, Turns(con))


def printed(capfdbinary: pytest.CaptureFixture[bytes]) -> str:
    return capfdbinary.readouterr().out.decode()


def on_terminal(result: Result, width: int, note: str = "") -> str:
    console = Console(width=width, force_terminal=True, file=io.StringIO(), color_system="standard")
    console.print(render(result, note=note))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class TestTable:
    def test_aligns_numbers_and_shows_times_in_ist(
        self, query: Query, capfdbinary: pytest.CaptureFixture[bytes]
    ) -> None:
        text = "values ({0}, 'NSE:INFY', 1500.5::double, 12345678), ({0} + interval 1 hour, 'é漢', null, 7)"
        write_result(query(f"from ({text.format(WHEN)}) t(received_at, symbol, price, volume)"), "table")
        assert printed(capfdbinary) == (
            "received_at              symbol     price    volume\n"
            "───────────────────────  ────────  ──────  ────────\n"
            "2026-11-22 09:15:00.123  NSE:INFY  1500.5  12345678\n"
            "2026-11-22 10:15:00.123  é漢         NULL         7\n"
            "(2 rows)\n"
        )

    @pytest.mark.parametrize(
        ("expression", "cells"),
        [
            ("unnest([1500.0, 1500.05, 2.125])::double", ["1500.000", "1500.050", "2.125"]),
            ("unnest([1, 2])::double / 3", ["0.333333", "0.666667"]),
            ("unnest(['nan', 'inf', '1e300', '1e-9', '5'])::double", ["nan", "inf", "1e+300", "1e-09", "5.0"]),
            ("9007199254740993", ["9007199254740993"]),
            ("sum(9007199254740993) over ()", ["9007199254740993"]),
            ("timestamptz '2026-11-22 03:45:00+00'", ["2026-11-22 09:15:00"]),
            ("timestamptz '2026-11-22 03:45:00.000001+00'", ["2026-11-22 09:15:00.000001"]),
            ("timestamp '2026-11-22 03:45:00'", ["2026-11-22 03:45:00"]),
            ("date '2026-11-22'", ["2026-11-22"]),
            ("true", ["true"]),
            ("'\\xAB\\x01'::blob", ["ab01"]),
            ("[1, 2]", ["[1, 2]"]),
            ("{'a': date '2026-11-22'}", ['{"a": "2026-11-22"}']),
            ("'a' || chr(27) || '[31m' || chr(10)", ["a\\x1b[31m\\n"]),
            ("''", [""]),
            ("null::double", ["NULL"]),
            ("12.50::decimal(9, 2)", ["12.50"]),
            (
                "unnest([date 'infinity', '-infinity', '2026-11-22', null])",
                ["infinity", "-infinity", "2026-11-22", "NULL"],
            ),
            ("unnest([timestamp 'infinity', '2026-11-22 09:15'])", ["infinity", "2026-11-22 09:15:00"]),
            ("timestamptz '-infinity'", ["-infinity"]),
            ("timestamp_ns '2026-01-01 00:00:00.123456789'", ["2026-01-01 00:00:00.123456789"]),
            ("timestamp_s '2026-01-01 00:00:07'", ["2026-01-01 00:00:07"]),
            ("[date 'infinity', null]", ['["infinity", null]']),
            ("{'a': timestamp 'infinity'}", ['{"a": "infinity"}']),
            ("map {'a': date 'infinity'}", ['[["a", "infinity"]]']),
            ("interval '1 year 2 days -3.5 seconds'", ["1 year 2 days -00:00:03.5"]),
            ("340282366920938463463374607431768211455::uhugeint", ["340282366920938463463374607431768211455"]),
            ("time '09:15:00.5'", ["09:15:00.500000"]),
            ("time '24:00:00'", ["24:00:00"]),
            ("timetz '09:15:00+05:30'", ["09:15:00+05:30"]),
            ("'10101'::bit", ["10101"]),
            ("{'price': 1.25::decimal(9, 2), 'sizes': [1, null]}", ['{"price": "1.25", "sizes": [1, null]}']),
            ("union_value(age := 5)", ["5"]),
        ],
    )
    def test_writes_every_kind_of_value_readably(
        self, query: Query, capfdbinary: pytest.CaptureFixture[bytes], expression: str, cells: list[str]
    ) -> None:
        write_result(query(f"select {expression} as x"), "table")
        assert [line.strip() for line in printed(capfdbinary).splitlines()[2:-1]] == cells

    @pytest.mark.slow
    def test_in_a_pipe_has_every_row_and_column(self, query: Query, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        names = ", ".join(f"range as column_{i}" for i in range(2))
        write_result(query(f"select {names}, repeat('x', 100) from range(66_000)"), "table")
        lines = printed(capfdbinary).splitlines()
        assert len(lines) == 66_003
        assert lines[-1] == "(66,000 rows)"
        assert lines[-2].split() == ["65999"] * 2 + ["x" * 100]
        assert "\x1b" not in lines[0]

    def test_is_aligned_over_batches_of_any_size(self, tmp_path: Path) -> None:
        class Small(Result):
            def reader(self, batch_rows: int = 0, *, tz: str | None = None) -> pa.RecordBatchReader:
                return super().reader(2, tz=tz)

        with duckdb.connect() as con:
            powers = Small(con.sql("select 10 ** range as x from range(6)"), None, None, Turns(con))
            write_result(powers, "table", tmp_path / "out")
        widths = {len(line) for line in (tmp_path / "out").read_text().splitlines()[:-1]}
        assert widths == {len("100000.0")}

    def test_shows_a_plan_as_lines(self, query: Query, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        write_result(query("explain select 1"), "table")
        text = printed(capfdbinary)
        assert text.startswith("╭─ ")
        assert "\n│ Projections: 1 │\n" in text
        assert "\\n" not in text

    def test_shows_a_plan_as_lines_on_a_terminal(self, terminal: Terminal) -> None:
        shown = terminal("explain select 1", "table")
        assert "\r\n│ Projections: 1 │\r\n" in shown

    def test_without_rows_has_its_header(self, query: Query, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        write_result(query("select 1 as one where false"), "table")
        assert printed(capfdbinary) == "one\n───\n(0 rows)\n"

    def test_on_a_terminal_shows_the_columns_that_fit(self, query: Query) -> None:
        result = query("select 'a' as first, 'b' as second, repeat('c', 100) as third, 4 as fourth")
        wide = on_terminal(result, 200)
        assert "c" * 39 + "…" in wide
        assert "fit" not in wide
        narrow = on_terminal(result, 30, note="1 row")
        assert "third" not in narrow
        assert "1 row; 2 of 4 columns fit" in narrow

    def test_dims_nulls_and_nothing_else(self, query: Query) -> None:
        text = on_terminal(query("select null as x, 'NULL' as y"), 80)
        assert "\x1b[2mNULL\x1b[0m  NULL" in text

    def test_on_a_terminal_says_how_much_it_leaves_out(self, terminal: Terminal) -> None:
        shown = terminal("select range as n from range(1234567)", "table")
        assert "40 of 1,234,567 rows; --format csv or --output FILE has them all" in shown
        assert "\r\n39\r\n\x1b[2m40 of" in shown
        assert "2 rows" in terminal("from range(2)", "table")
        with pytest.raises(OutputError, match=r"parquet is not for a terminal; .*--output FILE"):
            terminal("from range(2)", "parquet")


@pytest.fixture
def terminal(query: Query, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """What is shown of a query where the standard output is a terminal of its own."""

    def shown(sql: str, output_format: str) -> str:
        ours, theirs = pty.openpty()
        parts: list[bytes] = []
        reader = threading.Thread(target=read_all, args=(ours, parts.append))
        reader.start()
        with os.fdopen(theirs, "w") as output, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", output)
            patch.setenv("TERM", "xterm")
            write_result(query(sql), output_format)
        reader.join()
        os.close(ours)
        return b"".join(parts).decode()

    return shown


def read_all(descriptor: int, take: Callable[[bytes], None]) -> None:
    with contextlib.suppress(OSError):  # a terminal whose other side is closed
        while part := os.read(descriptor, 65536):
            take(part)


class TestForms:
    def test_csv(self, query: Query, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        columns = f"{WHEN} as t, date '2026-11-22' as d, 'a,\"b\"' as s, '' as e, null as n, 1.5::double as x"
        write_result(query(f"select {columns}, sum(range) over () as total, 2 as total from range(2)"), "csv")
        rows = list(csv.reader(io.StringIO(printed(capfdbinary))))
        assert rows[0] == ["t", "d", "s", "e", "n", "x", "total", "total_1"]
        assert rows[1:] == [["2026-11-22T09:15:00.123000+05:30", "2026-11-22", 'a,"b"', "", "", "1.5", "1", "2"]] * 2

    def test_csv_tells_null_from_empty(self, query: Query, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        write_result(query("select null::varchar as a, '' as b"), "csv")
        assert printed(capfdbinary) == 'a,b\n,""\n'

    def test_json(self, query: Query, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        columns = f"{WHEN} as t, date '2026-11-22' as d, 'नम' as s, null as n, 'nan'::double as x, true as b"
        more = (
            "'\\xAB'::blob as bytes, sum(3) over () as total, [1.5::double, null] as list, 1.25::decimal(9, 2) as price"
        )
        write_result(query(f"select {columns}, {more}"), "json")
        (line,) = printed(capfdbinary).splitlines()
        assert "नम" in line
        assert json.loads(line) == {
            "t": "2026-11-22T09:15:00.123000+05:30",
            "d": "2026-11-22",
            "s": "नम",
            "n": None,
            "x": None,
            "b": True,
            "bytes": "ab",
            "total": 3,
            "list": [1.5, None],
            "price": 1.25,
        }

    def test_json_has_decimals_as_they_are(self, query: Query, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        """No float lies between; zeros behind the point are left out."""
        numbers = "12.50, 12.00, -0.05, 9999999999999999999999999999.9999999999"
        write_result(query(f"select unnest([{numbers}]::decimal(38, 10)[]) as d, [1.50::decimal(9, 2)] as l"), "json")
        assert printed(capfdbinary).splitlines() == [
            f'{{"d":{number},"l":[1.5]}}'
            for number in ("12.5", "12", "-0.05", "9999999999999999999999999999.9999999999")
        ]

    @pytest.mark.parametrize("zone", ["America/New_York", "UTC"])
    def test_whatever_zone_the_session_is_in_times_are_in_ist(
        self, query: Query, capfdbinary: pytest.CaptureFixture[bytes], zone: str
    ) -> None:
        query(f"set timezone = '{zone}'")
        for output_format in ("csv", "json", "table"):
            write_result(query(f"select {WHEN} as t, [{WHEN}] as l"), output_format)
        assert printed(capfdbinary).count("2026-11-22T09:15:00.123000+05:30") == 5
        write_result(query(f"select {WHEN} as t"), "table")
        assert "\n2026-11-22 09:15:00.123\n" in printed(capfdbinary)

    def test_days_and_times_that_python_has_not(self, query: Query, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        expressions = (
            "date 'infinity' as d, timestamptz '-infinity' as t, timestamp_ns '2026-01-01 00:00:00.000000001' as n"
        )
        values = {"d": "infinity", "t": "-infinity", "n": "2026-01-01T00:00:00.000000001", "i": "1 day"}
        for output_format in ("csv", "json"):
            write_result(query(f"select {expressions}, interval 1 day as i"), output_format)
        header, row, line = printed(capfdbinary).splitlines()
        assert dict(zip(header.split(","), next(csv.reader([row])), strict=True)) == values
        assert json.loads(line) == values

    def test_parquet_names_the_columns_that_it_cannot_have(self, query: Query, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match=r"no type for: i \(month_day_nano_interval\)\. Cast .*::varchar"):
            write_result(query("select 1 as a, interval 1 day as i"), "parquet", tmp_path / "out")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("output_format", ["table", "csv", "json", "arrow"])
    def test_every_type_that_there_is(self, query: Query, tmp_path: Path, output_format: str) -> None:
        write_result(query("from test_all_types()"), output_format, tmp_path / "out")
        assert (tmp_path / "out").stat().st_size > 1000

    @pytest.mark.parametrize("output_format", FORMATS)
    def test_without_rows(self, query: Query, tmp_path: Path, output_format: str) -> None:
        path = tmp_path / "out"
        write_result(query(f"select 1 as a, {WHEN} as t where false"), output_format, path)
        data = path.read_bytes()
        assert data.startswith({"table": b"a", "csv": b"a,t\n", "json": b""}.get(output_format, b""))
        if output_format == "arrow":
            assert pa.ipc.open_stream(data).read_all().num_rows == 0
        if output_format == "parquet":
            assert pq.read_table(path).num_rows == 0

    @pytest.mark.slow
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.lists(
            st.tuples(
                st.none() | st.floats(allow_nan=False, allow_infinity=False),
                st.none() | st.integers(-(2**63), 2**63 - 1),
                st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
                st.none() | st.integers(0, 4_000_000_000_000_000),
            ),
            min_size=1,
        )
    )
    def test_every_value_survives(
        self, tmp_path: Path, rows: list[tuple[float | None, int | None, str | None, int | None]]
    ) -> None:
        arrays = [
            pa.array([row[0] for row in rows], pa.float64()),
            pa.array([row[1] for row in rows], pa.int64()),
            pa.array([row[2] for row in rows], pa.string()),
            pa.array([row[3] for row in rows], pa.timestamp("us", "UTC")),
        ]
        table = pa.table(arrays, names=["x", "i", "s", "t"])
        times = [
            None if t is None else dt.datetime.fromtimestamp(0, IST) + dt.timedelta(microseconds=t) for *_, t in rows
        ]
        with duckdb.connect() as con:
            con.execute("SET TimeZone = 'Asia/Kolkata'")
            result = Result(con.from_arrow(table), None, None, Turns(con))
            for output_format in ("csv", "json", "arrow", "parquet"):
                write_result(result, output_format, tmp_path / output_format)
        expected = [(*row[:3], t) for row, t in zip(rows, times, strict=True)]
        stream = pa.ipc.open_stream((tmp_path / "arrow").read_bytes()).read_all()
        for got in (stream, pq.read_table(tmp_path / "parquet")):
            assert got.schema.field("t").type == pa.timestamp("us", "Asia/Kolkata")
            assert [tuple(row.values()) for row in got.to_pylist()] == expected
        objects = [json.loads(line) for line in (tmp_path / "json").read_text(encoding="utf-8").split("\n")[:-1]]
        assert [(o["x"], o["i"], o["s"], _time(o["t"])) for o in objects] == expected
        with (tmp_path / "csv").open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))[1:]
        got_rows = [(_opt(float, x), _opt(int, i), s or None, _time(t)) for x, i, s, t in lines]
        assert got_rows == [(x, i, s or None, t) for x, i, s, t in expected]

    def test_are_written_batch_by_batch(self, query: Query, tmp_path: Path) -> None:
        write_result(query("select range as n from range(700_000)"), "parquet", tmp_path / "parquet")
        result = query("select range as n from range(200_000)")
        for output_format in ("csv", "json", "arrow"):
            write_result(result, output_format, tmp_path / output_format)
        assert pq.ParquetFile(tmp_path / "parquet").num_row_groups == 3
        assert pa.ipc.open_stream((tmp_path / "arrow").read_bytes()).read_all()["n"].to_pylist()[-1] == 199_999
        assert (tmp_path / "csv").read_text().splitlines()[-1] == "199999"
        assert (tmp_path / "json").read_text().splitlines()[-1] == '{"n":199999}'


def _opt(kind: Callable[[str], object], text: str) -> object:
    return kind(text) if text else None


def _time(text: str | None) -> dt.datetime | None:
    return dt.datetime.fromisoformat(text) if text else None


class TestWhereTo:
    def test_a_file_is_whole_or_not_there(self, query: Query, tmp_path: Path) -> None:
        path = tmp_path / "out.csv"
        path.write_text("before")
        failing = query("select if(range = 250_000, error('no more'), range) from range(300_000)")
        with pytest.raises(QueryError, match="no more"):
            write_result(failing, "csv", path)
        assert path.read_text() == "before"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_file_that_cannot_be_written(self, query: Query, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match=r"nothing/out.csv: cannot be written: No such file"):
            write_result(query("select 1"), "csv", tmp_path / "nothing" / "out.csv")
        with pytest.raises(OutputError, match="cannot be written: Is a directory"):
            write_result(query("select 1"), "csv", tmp_path)

    def test_a_device_is_written_to_as_it_is(self, query: Query) -> None:
        write_result(query("select 1"), "csv", Path("/dev/null"))
        assert Path("/dev/null").is_char_device()

    def test_an_unknown_format(self, query: Query) -> None:
        with pytest.raises(OutputError, match="'xml': expected one of table, book, csv, json, arrow, parquet"):
            write_result(query("select 1"), "xml")

    @pytest.mark.slow
    @pytest.mark.parametrize("output_format", FORMATS)
    def test_a_reader_that_goes_away_is_no_error(
        self, query: Query, monkeypatch: pytest.MonkeyPatch, output_format: str
    ) -> None:
        """Nor is there anything left in the stream that would fail later."""
        ours, theirs = os.pipe()
        reader = threading.Thread(target=lambda: os.close(ours) if os.read(ours, 100) else None)
        reader.start()
        with os.fdopen(theirs, "w") as output:
            monkeypatch.setattr(sys, "stdout", output)
            write_result(query("select hash(range)::varchar as x from range(100_000)"), output_format)
            assert Path(f"/proc/self/fd/{theirs}").readlink() == Path(os.devnull)
        reader.join()

    @pytest.mark.parametrize("output_format", FORMATS)
    def test_a_full_disk_is_said(self, query: Query, monkeypatch: pytest.MonkeyPatch, output_format: str) -> None:
        with Path("/dev/full").open("w") as output:
            monkeypatch.setattr(sys, "stdout", output)
            with pytest.raises(OutputError, match=r"^the standard output cannot be written: No space left on device$"):
                write_result(query("from range(2)"), output_format)
