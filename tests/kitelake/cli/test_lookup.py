"""The commands that look something up: what they print, every format read back, and arguments that cannot be."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kitelake
from kitelake import near
from queries.history import Symbol
from storage.clock import IST
from tests.support.command import Run, command
from tests.support.two_days import DAYS, two_days

__all__ = ["command", "two_days"]  # the fixtures

DAY = str(DAYS[1])
FUTURE = "NFO:NIFTY26NOVFUT"


@pytest.fixture(scope="module")
def lake(two_days: Path) -> Iterator[kitelake.Lake]:
    """What the answers of the commands are compared with."""
    with kitelake.open(two_days) as lake:
        yield lake


def rows_of(command: Run, data: Path, *arguments: str) -> list[dict[str, Any]]:
    ended = command(*arguments, "--data", data, "--format", "json")
    assert (ended.status, ended.err) == (0, "")
    return [json.loads(line) for line in ended.out.splitlines()]


def test_bars_are_those_of_the_method(command: Run, two_days: Path, lake: kitelake.Lake) -> None:
    arguments = ["bars", "infy", FUTURE, "-w", "15m", "--start", f"{DAY} 10:00", "--stop", f"{DAY} 12:00"]
    found = rows_of(command, two_days, *arguments, "--sessions", "all", "--label", "close", "--clock", "received")
    made = lake.bars(
        ["INFY", FUTURE], "15m", f"{DAY} 10:00", f"{DAY} 12:00", sessions="all", label="close", clock="received"
    ).arrow()
    assert len(found) == len(made) == 16
    for row, its in zip(found, made.to_pylist(), strict=True):
        assert row == {**its, "time": its["time"].astimezone(IST).isoformat(timespec="microseconds")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("said", "start", "stop"),
    [
        ([], DAY, None),
        (["--start", "14:00"], f"{DAY} 14:00", None),
        (["--start", "9:15", "--stop", "09:30:00"], f"{DAY} 09:15", f"{DAY} 09:30"),
        (["--start", str(DAYS[0])], str(DAYS[0]), None),
        (["--stop", f"{DAYS[0]} 09:30"], None, f"{DAYS[0]} 09:30"),
        (["--start", f"{DAY}T03:45:00Z", "--stop", f"{DAY}T10:00:00+06:00"], f"{DAY} 09:15", f"{DAY} 09:30"),
    ],
)
def test_times_as_people_type_them(
    command: Run, two_days: Path, lake: kitelake.Lake, said: list[str], start: str | None, stop: str | None
) -> None:
    found = rows_of(command, two_days, "bars", "NSE:INFY", *said)
    times = lake.bars("NSE:INFY", "1m", start, stop).arrow().column("time").to_pylist()
    assert [row["time"] for row in found] == [time.astimezone(IST).isoformat(timespec="microseconds") for time in times]
    assert found


@pytest.mark.slow
def test_symbols_as_people_type_them(command: Run, two_days: Path, lake: kitelake.Lake) -> None:
    asked = ["408065", "near:NIFTY", "near2:nifty", "NFO:NIFTY26NOV244*", "Reliance"]
    found = rows_of(command, two_days, "bars", *asked, "-w", "1d")
    its: list[Symbol] = [408065, near("NIFTY"), near("NIFTY", 2), "NFO:NIFTY26NOV244*", "RELIANCE"]
    expected = lake.bars(its, "1d", DAY).arrow().column("symbol").to_pylist()
    assert [row["symbol"] for row in found] == expected
    assert len(expected) == 6


@pytest.mark.slow
def test_every_format_has_the_same_rows(command: Run, two_days: Path, tmp_path: Path) -> None:
    arguments = ["chain", "NIFTY", "--expiry", "weekly", "--at", "12:00", "--data", two_days]
    for name in ("csv", "json", "arrow", "parquet"):
        assert command(*arguments, "-f", name, "-o", f"chain.{name}").status == 0
    table = pq.read_table(tmp_path / "chain.parquet")
    with pa.ipc.open_stream(tmp_path / "chain.arrow") as reader:
        assert reader.read_all() == table
    with (tmp_path / "chain.csv").open(newline="") as file:
        strikes = [float(row["strike"]) for row in csv.DictReader(file)]
    lines = [json.loads(line) for line in (tmp_path / "chain.json").read_text().splitlines()]
    assert strikes == [line["strike"] for line in lines] == table.column("strike").to_pylist()
    assert table.column_names == list(lines[0])
    assert strikes == [24300, 24400, 24500, 24600, 24700]


@pytest.mark.slow
def test_a_book_looks_like_one(command: Run, two_days: Path, lake: kitelake.Lake, tmp_path: Path) -> None:
    ended = command("book", "NSE:TCS", "NSE:INFY", "--at", f"{DAY} 12:00", "--data", two_days)
    first, second = ended.out.split("\n\n")
    title, head, *levels, total = second.splitlines()
    assert title.startswith(f"NSE:TCS   {DAY} 11:59:30.250   spread 0.")
    assert head.split() == ["orders", "quantity", "bid", "│", "ask", "quantity", "orders"]
    assert first.startswith("NSE:INFY")
    rows = lake.book("NSE:TCS", f"{DAY} 12:00").arrow().to_pylist()
    for line, row in zip(levels, rows, strict=True):
        shown = line.replace(",", "").split()
        values = [row[f"{side}_{what}"] for side, what in (("bid", "orders"), ("bid", "quantity"), ("bid", "price"))]
        assert [float(shown[place]) for place in (0, 1, 2)] == values
        values = [row[f"{side}_{what}"] for side, what in (("ask", "price"), ("ask", "quantity"), ("ask", "orders"))]
        assert [float(shown[place]) for place in (4, 5, 6)] == values
    totals = [f"{sum(row[f'{side}_quantity'] for row in rows):,}" for side in ("bid", "ask")]
    assert [word for word in total.split() if word != "│"] == totals
    assert {line.index("│") for line in (head, *levels, total)} == {head.index("│")}
    command("book", "NSE:TCS", "NSE:INFY", "--at", f"{DAY} 12:00", "--data", two_days, "-o", "book.txt")
    assert (tmp_path / "book.txt").read_text() == ended.out
    assert len(rows_of(command, two_days, "book", "NSE:TCS", "--at", f"{DAY} 12:00")) == 5


def test_an_index_has_no_book(command: Run, two_days: Path) -> None:
    ended = command("book", "NSE:NIFTY 50", "--data", two_days)
    assert (ended.status, ended.out) == (0, "no book was received on that day up to then\n")


@pytest.mark.slow
def test_the_last_ticks(command: Run, two_days: Path, lake: kitelake.Lake) -> None:
    found = rows_of(command, two_days, "latest", "--at", "10:15", "--columns", "symbol, last_price")
    made = lake.latest(None, f"{DAY} 10:15", ["symbol", "last_price"]).arrow()
    assert [(row["symbol"], row["last_price"]) for row in found] == list(
        zip(made["symbol"].to_pylist(), made["last_price"].to_pylist(), strict=True)
    )
    table = command("latest", "TCS", "--data", two_days).out.splitlines()
    assert table[0].split() == [
        *("symbol", "received_at", "last_price", "close", "volume_traded", "oi", "bid_price_1", "ask_price_1")
    ]
    assert len(rows_of(command, two_days, "latest", "TCS")[0]) > 50


@pytest.mark.slow
def test_a_chain_has_calls_on_the_left_and_puts_on_the_right(command: Run, two_days: Path) -> None:
    out = command("chain", "NIFTY", "--expiry", "2026-11-24", "--at", f"{DAY} 12:00", "--data", two_days).out
    names = out.splitlines()[0].split()
    middle = names.index("strike")
    assert all(name.startswith("call_") for name in names[:middle])
    assert names[middle + 1].startswith("put_")
    assert "2026-11-24" in out
    assert rows_of(command, two_days, "chain", "NIFTY", "--at", "12:00")[0]["expiry"] == "2026-11-17"


def test_find_says_what_is_found_and_what_is_near(command: Run, two_days: Path) -> None:
    ended = command("find", "infy", "NIFTY", "NFO:NIFTY26NOV*FUT", "--day", DAY, "--data", two_days, "-f", "csv")
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert ended.status == 1
    assert [(row["asked"], row["outcome"], row["symbol"]) for row in rows] == [
        ("infy", "found", "NSE:INFY"),
        ("NIFTY", "not found", ""),
        ("NFO:NIFTY26NOV*FUT", "found", FUTURE),
    ]
    assert "NSE:NIFTY 50" in rows[1]["near_matches"]
    assert command("find", "infy", "--data", two_days).status == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bars", "NSE:INFO"], "near it: NSE:INFY"),
        (["bars", "NSE:INFY", "--width", "5x"], "expected a width such as"),
        (["bars", "NSE:INFY", "--start", "yesterdays"], "start: got 'yesterdays'"),
        (["bars", "NSE:INFY", "--start", "12:00", "--stop", "11:00"], "a stop that is not before the start"),
        (["bars", "near:NIFTI"], "near(NIFTI, 1)"),
        (["bars", "near:"], "near('', 1): expected a name such as NIFTY"),
        (["latest", "12345"], "12345: the instrument list has no such token on 2026-11-13"),
        (["latest", "--columns", ""], "columns: got '', expected some of date"),
        (["book", "NSE:INFY", "--at", "99:99"], "got '2026-11-13 99:99'"),
        (["latest", "NSE:*X"], "NSE:*X"),
        (["chain", "NIFTY", "--expiry", "2026-11-18"], "2026-11-17 (weekly), 2026-11-24 (monthly)"),
        (["chain", "NIFTI"], "NIFTI"),
        (["latest", "--columns", "price"], "columns: got 'price'"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_2(
    command: Run, two_days: Path, arguments: list[str], message: str
) -> None:
    ended = command(*arguments, "--data", two_days)
    assert (ended.status, ended.out) == (2, "")
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["bars", "NSE:INFY", "--start", "2026-11-15"], "nothing was captured on 2026-11-15, but from 2026-11-12 to"),
        (["bars", "NSE:INFY", "--start", "8:00", "--stop", "8:30"], "came from 2026-11-13 09:00:00 to 2026-11-13 15:4"),
        (["bars", "NSE:INFY", "--start", "15:40"], "has nothing of what is asked for"),
        (["latest", "--at", "2026-11-15"], "nothing was captured on 2026-11-15"),
        (["book", "NSE:NIFTY 50"], "has nothing of what is asked for"),
        (["coverage", "--day", "2026-11-15"], "nothing was captured on 2026-11-15"),
        (["gaps", "--day", "2026-11-15"], "nothing was captured on 2026-11-15"),
    ],
)
def test_no_rows_are_explained_in_a_line(command: Run, two_days: Path, arguments: list[str], reason: str) -> None:
    ended = command(*arguments, "--data", two_days, "--format", "json")
    assert (ended.status, ended.out) == (0, "")
    assert ended.err.startswith("no rows: ")
    assert reason in ended.err
    assert len(ended.err.splitlines()) == 1


def test_a_lake_without_ticks(command: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "journal").mkdir(parents=True)
    for arguments in (["bars", "NSE:INFY"], ["book", "NSE:INFY"], ["chain", "NIFTY"]):
        ended = command(*arguments, "--data", tmp_path / "data")
        assert ended.status == 2, arguments
        assert "instrument list" in ended.err
    ended = command("latest", "--data", tmp_path / "data", "--format", "json")
    assert (ended.status, ended.out, ended.err) == (0, "", "no rows: nothing was captured yet\n")


@pytest.mark.parametrize("name", ["bars", "book", "latest", "chain", "find", "coverage", "gaps", "latency", "compare"])
def test_help_has_an_example_that_can_be_read(command: Run, name: str) -> None:
    ended = command(name, "--help")
    assert ended.status == 0
    assert f"For example: kitelake {name}" in ended.out
