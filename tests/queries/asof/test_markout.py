"""The mid before and after events."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kitelake
from kitelake.lake import Lake
from queries.errors import QueryError, SymbolError
from tests.support.asof_days import columns
from tests.support.by_hand import Journal, book, commit, ist, list_instruments, quote
from tests.support.profile import scans

INFY, TCS = 408065, 2953217
DAY, NEXT_DAY = "2026-11-23", "2026-11-24"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("markout") / "data"
    list_instruments(
        root,
        DAY,
        "408065,1594,INFY,INFOSYS,0,,0,0.05,1,EQ,NSE,NSE",
        "2953217,11536,TCS,TATA CONSULTANCY SERV LT,0,,0,0.05,1,EQ,NSE,NSE",
    )
    with Journal(root, "20261123T034500-aaaaaa") as journal:
        for second in range(0, 30, 2):
            journal.tick(f"{DAY} 10:00:{second:02d}", INFY, **quote(100 + second, 102 + second))
        journal.tick(f"{DAY} 10:00:20", INFY, 7, "ltp")
        journal.tick(f"{DAY} 10:00:20", TCS, **quote(500, 510))
        journal.tick(f"{DAY} 10:00:20", TCS, **quote(510, 520))  # at the same instant, later
        journal.tick(f"{DAY} 10:00:25", TCS, **book((500, 1, 1)))
        journal.tick(f"{DAY} 23:59:59", INFY, **quote(200, 202))
    with Journal(root, "20261124T034500-bbbbbb") as journal:
        journal.tick(f"{NEXT_DAY} 00:00:01", INFY, **quote(300, 302))
    commit(root)
    return root


@pytest.fixture(scope="module")
def lake(root: Path) -> Iterator[Lake]:
    with kitelake.open(root) as lake:
        yield lake


def event(at: str, symbol: str | None = "NSE:INFY") -> dict[str, list[Any]]:
    return {"symbol": [symbol], "received_at": [ist(at)]}


def test_one_row_an_event_and_horizon_by_symbol_time_and_horizon(lake: Lake) -> None:
    times = [ist(f"{DAY} 10:00:10"), ist(f"{DAY} 10:00:09.999"), ist(f"{DAY} 10:00:21")]
    events = {"order": [1, 2, 3], "who": ["INFY", "NSE:INFY", "NSE:TCS"], "at": times}
    found = lake.markout(events, [3, -5, 0], symbol="who", time="at")
    assert found.columns == ["order", "who", "at", "horizon", "quoted_at", "mid", "change"]
    assert columns(found, "order", "horizon", "mid", "change") == [
        (2, -5, 105, -4),
        (2, 0, 109, 0),
        (2, 3, 113, 4),
        (1, -5, 105, -6),
        (1, 0, 111, 0),
        (1, 3, 113, 2),
        (3, -5, None, None),
        (3, 0, 515, 0),
        (3, 3, 515, 0),
    ]
    assert found.arrow()["quoted_at"].to_pylist()[3] == ist(f"{DAY} 10:00:04")


def test_the_change_is_from_the_event_whether_0_is_asked_for_or_not(lake: Lake) -> None:
    at = event(f"{DAY} 10:00:10")
    for horizons in (4, dt.timedelta(seconds=4), [4, 4.0]):
        assert columns(lake.markout(at, horizons), "horizon", "mid", "change") == [(4, 115, 4)]


def test_horizons_may_be_numbers_of_numpys(lake: Lake) -> None:
    for horizons, same in ((np.int64(5), 5), (np.array([1, 5]), [1, 5]), (np.float32(0.5), 0.5)):
        assert lake.markout(event(DAY), horizons).arrow() == lake.markout(event(DAY), same).arrow()  # type: ignore[arg-type]


def test_an_empty_side_gives_no_mid_nor_does_an_older_quote(lake: Lake) -> None:
    assert columns(lake.markout(event(f"{DAY} 10:00:24", "NSE:TCS"), [0, 1]), "quoted_at", "mid", "change") == [
        (ist(f"{DAY} 10:00:20"), 515, 0),
        (ist(f"{DAY} 10:00:25"), None, None),
    ]


def test_what_is_older_than_the_tolerance_does_not_count(lake: Lake) -> None:
    at = event(f"{DAY} 10:01:00")
    assert columns(lake.markout(at, [28, 28.000001]), "quoted_at", "mid", "change") == [
        (ist(f"{DAY} 10:00:28"), 129, 0),
        (None, None, None),
    ]
    assert columns(lake.markout(at, [28.5], tolerance=dt.timedelta(minutes=2)), "mid", "change") == [(129, 0)]


def test_no_mid_of_another_day(lake: Lake) -> None:
    at = event(f"{DAY} 23:59:59.5")
    assert columns(lake.markout(at, [0, 0.5, 1.5]), "mid", "change") == [(201, 0), (None, None), (301, 100)]


def test_equal_events_are_two_and_an_event_of_nothing_has_none(lake: Lake) -> None:
    twice = {name: values * 2 for name, values in event(f"{DAY} 10:00:10").items()}
    assert columns(lake.markout(twice, 0), "mid", "change") == [(111, 0), (111, 0)]
    nothing = {"symbol": [None, "INFY"], "received_at": [ist(f"{DAY} 10:00:10"), None]}
    assert columns(lake.markout(nothing, [0]), "mid", "change") == [(None, None), (None, None)]
    assert lake.markout({"symbol": [], "received_at": []}, [0]).count() == 0


def test_events_may_be_sql_and_read_no_other_days_nor_instruments(lake: Lake, root: Path, tmp_path: Path) -> None:
    events = f"select symbol, received_at from ticks where date = '{DAY}' and mode = 'ltp'"
    assert columns(lake.markout(events, [-20, 8]), "mid", "change") == [(101, -20), (129, 8)]
    table = {"symbol": ["NSE:INFY"], "received_at": [f"{NEXT_DAY} 00:00:02"]}
    (scan,) = scans(lake, lambda: lake.markout(table, [-1, 1]).arrow(), tmp_path)
    assert scan == {"files": "1/2", "scanned": 1, "row_groups": 1}


@pytest.mark.parametrize(
    ("events", "options", "message"),
    [
        ({"symbol": ["NSE:INFY"]}, {}, "events: got columns symbol, expected among them received_at"),
        (event(DAY) | {"mid": [1]}, {}, "events: got a column mid, which is what markout adds"),
        (event(DAY), {"horizons": []}, "horizons: got an empty list"),
        (event(DAY), {"horizons": ["1s"]}, "horizons: got '1s', expected seconds"),
        (event(DAY), {"horizons": None}, "horizons: got None, expected seconds"),
        (event(DAY), {"tolerance": None}, "tolerance: got None, expected seconds"),
        (event(DAY, "NSE:*"), {}, r"events: got 'NSE:\*' in column symbol, expected names such as NSE:INFY"),
        ({"symbol": [INFY], "received_at": [ist(DAY)]}, {}, "events: got 408065 in column symbol"),
    ],
)
def test_mistakes_are_named(lake: Lake, events: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        lake.markout(events, **options)


def test_an_unknown_symbol_is_an_error(lake: Lake) -> None:
    with pytest.raises(SymbolError, match=r"NSE:INFI: .*near it: NSE:INFY"):
        lake.markout(event(DAY, "NSE:INFI"))
