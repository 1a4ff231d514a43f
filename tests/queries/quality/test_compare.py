"""Bars beside candles: each class of difference."""

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import kitelake
from queries.errors import SymbolError
from queries.quality.candles import CANDLES
from queries.quality.compare import Differences, compare_bars
from storage.layout import DataLayout
from storage.schema import TIMESTAMP
from storage.tables import write_instruments
from tests.support.quotes import QuoteStream
from tests.support.reports import DAY, INFY, TCS, at, finish, instruments

MINUTE = 60_000_000
SESSION = tuple(int(at(clock).timestamp()) * 1_000_000 for clock in ("09:15:00", "15:30:00"))
OURS = pa.schema([*CANDLES, ("volume_missed", pa.int64())])
GAPS = pa.schema([("start", TIMESTAMP), ("stop", TIMESTAMP), ("state", pa.string()), ("missed", pa.bool_())])
BAR: dict[str, Any] = {"open": 100.0, "high": 102.0, "low": 98.0, "close": 101.0, "volume": 1000, "oi": 50}
CLOCKS = ("09:15", "09:16", "09:17", "09:18", "09:19", "09:20")

Change = dict[str, dict[str, Any] | None]


def bars(schema: pa.Schema, change: Change) -> pa.Table:
    """Six alike, but for these; None for one that is not there."""
    rows = {clock: dict(BAR) for clock in CLOCKS}
    for clock, values in change.items():
        if values is None:
            rows.pop(clock, None)
        else:
            rows[clock] = {**BAR, **values}
    return pa.Table.from_pylist([{"time": at(clock), **rows[clock]} for clock in sorted(rows)], schema=schema)


def compared(ours: Change, theirs: Change | None = None, *gaps: tuple[str, str, str, bool | None]) -> Differences:
    names = ("start", "stop", "state", "missed")
    rows = [dict(zip(names, (at(gap[0]), at(gap[1]), *gap[2:]), strict=True)) for gap in gaps]
    return compare_bars(
        bars(OURS, ours),
        bars(CANDLES, theirs or {}),
        pa.Table.from_pylist(rows, schema=GAPS),
        width_us=MINUTE,
        session=(SESSION[0], SESSION[1]),
    )


def found(differences: Differences) -> list[tuple[str, str, str]]:
    return [(f"{row['time']:%H:%M}", row["what"], row["reason"]) for row in in_ist(differences.rows)]


def in_ist(rows: pa.Table) -> list[dict[str, Any]]:
    times = rows.column("time").cast(pa.timestamp("us", "Asia/Kolkata"))
    return list(rows.set_column(0, "time", times).to_pylist())


def test_nothing_differs() -> None:
    assert compared({}).summary == "6 bars, 6 equal"
    assert compared({}).rows.num_rows == 0


def test_rounding_of_prices() -> None:
    assert found(compared({"09:17": {"close": 101.002}})) == [("09:17", "close", "rounding")]


def test_what_lies_at_the_edge_between_two_bars_is_rounding() -> None:
    later = compared({"09:17": {"volume": 950}, "09:18": {"volume": 1050}})
    assert found(later) == [("09:17", "volume", "rounding"), ("09:18", "volume", "rounding")]
    extreme = compared({"09:17": {"high": 103.0}}, {"09:18": {"high": 103.5}, "09:17": {}})
    assert found(extreme) == [("09:17", "high", "rounding"), ("09:18", "high", "conflated extreme")]
    assert found(compared({"09:17": {"oi": 60}}, {"09:18": {"oi": 60}})) == [
        ("09:17", "oi", "rounding"),
        ("09:18", "oi", "rounding"),
    ]


def test_conflated_extremes() -> None:
    theirs: Change = {"09:17": {"high": 104.0, "low": 97.0}}
    assert found(compared({}, theirs)) == [
        ("09:17", "high", "conflated extreme"),
        ("09:17", "low", "conflated extreme"),
    ]


def test_conflated_open_and_close() -> None:
    differences = compared({"09:17": {"open": 99.0, "close": 100.5}})
    assert found(differences) == [
        ("09:17", "open", "conflated open or close"),
        ("09:17", "close", "conflated open or close"),
    ]
    assert in_ist(differences.rows)[0]["difference"] == -1.0


@pytest.mark.parametrize(("state", "missed"), [("disconnected", None), ("not subscribed", True), ("silent", True)])
def test_gaps(state: str, missed: bool | None) -> None:
    ours: Change = {"09:17": None, "09:18": {"volume": 400, "high": 101.5}, "09:19": {"volume": 2300}}
    assert found(compared(ours, {}, ("09:17:00", "09:19:00", state, missed))) == [
        ("09:17", "bar", "gap"),
        ("09:18", "high", "gap"),
        ("09:18", "volume", "gap"),
        ("09:19", "volume", "gap"),  # it begins with the packet that ends the gap
    ]


def test_what_our_bars_say_was_missed_is_a_gap() -> None:
    assert found(compared({"09:18": {"volume": 1500, "volume_missed": 500}})) == [("09:18", "volume", "gap")]


def test_a_silence_in_which_nothing_was_missed_explains_nothing() -> None:
    differences = compared({"09:17": {"volume": 900}}, {}, ("09:17:00", "09:18:30", "silent", False))
    assert found(differences) == [("09:17", "volume", "unexplained")]


def test_other_sessions() -> None:
    theirs: Change = {"09:07": {}, "15:45": {}}
    assert found(compared({}, theirs)) == [("09:07", "bar", "other session"), ("15:45", "bar", "other session")]


def test_the_first_bar_has_the_pre_open_session() -> None:
    differences = compared({}, {"09:15": {"open": 97.0, "low": 97.0, "volume": 9000}})
    assert found(differences) == [(f"09:{15}", what, "pre-open") for what in ("open", "low", "volume")]
    beside = compared({"09:15": {"volume": 1030}, "09:16": {"volume": 970}}, {"09:15": {"volume": 9000}})
    assert found(beside) == [("09:15", "volume", "pre-open"), ("09:16", "volume", "rounding")]


def test_the_rest_is_unexplained() -> None:
    ours: Change = {"09:16": {"volume": 100}, "09:18": {"high": 110.0}, "09:19": {"close": 120.0}, "09:20": None}
    differences = compared(ours)
    assert found(differences) == [
        ("09:16", "volume", "unexplained"),
        ("09:18", "high", "unexplained"),
        ("09:19", "close", "unexplained"),
        ("09:20", "bar", "unexplained"),
    ]
    assert differences.summary == "6 bars, 2 equal; 4 differences: 4 unexplained"
    assert compared({"09:20": None}).summary == "6 bars, 5 equal; 1 difference: 1 unexplained"


def test_volumes_that_part_for_good_are_no_rounding() -> None:
    differences = compared({"09:17": {"volume": 1050}, "09:19": {"volume": 950}})
    assert found(differences) == [("09:17", "volume", "unexplained"), ("09:19", "volume", "unexplained")]


def test_a_candle_without_a_trade_is_no_bar() -> None:
    assert compared({"09:18": None}, {"09:18": {"volume": 0}}).summary == "5 bars, 5 equal"


def test_an_index_has_no_volume() -> None:
    quiet: Change = {clock: {"volume": None, "oi": None} for clock in CLOCKS}
    theirs: Change = {clock: {"volume": 0, "oi": 0} for clock in CLOCKS}
    differences = compared({**quiet, "09:18": None}, theirs)
    assert found(differences) == [("09:18", "bar", "unexplained")]
    assert in_ist(differences.rows)[0]["theirs"] == 101.0


class TestMethod:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        """INFY from 09:15:01 to 09:20:00, 10 more a second; between 09:17:30 and 09:18:10 nothing comes."""
        write_instruments(DataLayout(tmp_path), DAY, instruments((INFY, "INFY"), (TCS, "TCS")))
        with QuoteStream(tmp_path, at("09:00:00")) as stream:
            stream.event(at("09:00:01"), "connected", opening=1)
            stream.event(at("09:00:02"), "subscribed", tokens=[INFY])
            stream.full(at("09:00:03"), INFY, at("15:29:00", DAY - dt.timedelta(days=3)), volume_traded=77)
            for second in range(1, 301):
                time = at("09:15:00") + dt.timedelta(seconds=second)
                if second == 150:
                    stream.event(time, "closed", by="peer", reason="network")
                if second == 190:
                    stream.event(time, "connected", opening=2)
                    stream.event(time, "subscribed", tokens=[INFY])
                if not 150 <= second <= 190:
                    stream.full(time, INFY, time, volume_traded=10 * second)
            finish(stream, at("09:21:00"))
        return tmp_path

    def test_bars_beside_candles(self, data: Path) -> None:
        candles = [
            [f"2025-11-24T{clock}:00+0530", 1500.0, 1500.0, 1500.0, 1500.0, volume, 0]
            for clock, volume in (("09:15", 590), ("09:16", 600), ("09:17", 600), ("09:18", 600), ("09:19", 600))
        ]
        with kitelake.open(data) as lake:
            comparison = lake.compare("NSE:INFY", DAY, [*candles, ["2025-11-24T09:20:00+0530", *[1500.0] * 4, 10, 0]])
            assert comparison.reasons == {"gap": 2}
            assert comparison.summary == "6 bars, 4 equal; 2 differences: 2 gap"
            rows = comparison.rows.arrow().to_pylist()
            assert [(f"{row['time']:%H:%M}", row["what"], row["difference"]) for row in rows] == [
                ("09:17", "volume", -300.0),
                ("09:18", "volume", 300.0),
            ]
            assert repr(comparison).startswith("6 bars, 4 equal; 2 differences: 2 gap\n")

    def test_a_day_by_its_candle(self, data: Path) -> None:
        with kitelake.open(data) as lake:
            whole = [["2025-11-24T00:00:00+0530", 1500.0, 1500.0, 1500.0, 1500.0, 3000, 0]]
            for symbol in ("INFY", iter(["INFY"])):
                assert repr(lake.compare(symbol, DAY, whole)) == "1 bar, 1 equal"  # type: ignore[arg-type]

    def test_several_instruments_are_an_error(self, data: Path) -> None:
        candles = [["2025-11-24T09:15:00+0530", 1.0, 1.0, 1.0, 1.0, 1, 0]]
        with kitelake.open(data) as lake, pytest.raises(SymbolError, match="which is 2 instruments, expected one"):
            lake.compare("NSE:*", DAY, candles, width="1m")
