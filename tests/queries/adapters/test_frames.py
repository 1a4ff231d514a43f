"""Bars as pandas frames: what they hold, and what they refuse."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kitelake
from kitelake import adapters
from kitelake.lake import Lake
from queries.errors import AdapterError
from tests.support.captured import INFY, NIFTY_50, TINY, Captured
from tests.support.crossover import SYMBOL, WIDTH

pd: Any = pytest.importorskip("pandas")


@pytest.mark.parametrize("clock", ["received", "exchange"])
def test_a_frame_is_the_bars_by_their_ends(lake: Lake, clock: Any) -> None:
    frame = adapters.backtesting_frame(lake, SYMBOL, WIDTH, clock=clock)
    bars = lake.bars(SYMBOL, WIDTH, clock=clock, label="close").arrow()
    assert list(frame.columns) == ["Open", "High", "Low", "Close", "Volume"]
    assert [time.to_pydatetime() for time in frame.index] == bars["time"].to_pylist()
    for name in frame.columns:
        assert frame[name].tolist() == bars[name.lower()].to_pylist()
    assert frame.index.is_monotonic_increasing
    assert frame.index.is_unique


def test_an_index_has_no_volume_and_near_is_one_instrument(lake: Lake) -> None:
    assert list(adapters.backtesting_frame(lake, "NSE:NIFTY 50", WIDTH).columns) == ["Open", "High", "Low", "Close"]
    near = adapters.backtesting_frame(lake, kitelake.near("NIFTY"), WIDTH)
    assert near.equals(adapters.backtesting_frame(lake, "NFO:NIFTY26NOVFUT", WIDTH))


def test_where_there_is_no_bar_wide_frames_have_nan_and_prices_the_one_before(tmp_path: Path) -> None:
    with Captured(tmp_path) as captured:
        captured.instruments()
        line = captured.run("08:55").line()
        line.begin("09:00", INFY, TINY, NIFTY_50)
        line.full("09:15:00.5", INFY, 100.0, volume=1)
        line.full("09:15:01", INFY, 101.0, volume=11)
        line.full("09:16:01", INFY, 102.0, volume=21)
        line.full("09:16:02", TINY, 9.0, volume=1)
        line.full("09:16:03", TINY, 10.0, volume=2)
        line.full("09:16:04", NIFTY_50, 24_000.0)
        line.full("09:16:05", NIFTY_50, 24_001.0)
        line.full("09:17:01", INFY, 103.0, volume=31)
        captured.commit()
    with kitelake.open(tmp_path) as lake:
        names = ["NSE:INFY", "NSE:NIFTY 50", "NSE:TINY"]
        frames = adapters.wide_frames(lake, names, "1m")
        prices = adapters.price_frame(lake, names, "1m")
    assert list(frames) == ["open", "high", "low", "close", "volume"]
    assert all(list(frame.columns) == names for frame in frames.values())
    assert [f"{time:%H:%M}" for time in prices.index] == ["09:16", "09:17", "09:18"]
    nan = "nan"
    assert frames["close"].map(str).to_numpy().tolist() == [
        ["101.0", nan, nan],
        ["102.0", "24001.0", "10.0"],
        ["103.0", nan, nan],
    ]
    assert frames["volume"]["NSE:NIFTY 50"].isna().all()
    assert frames["volume"]["NSE:INFY"].tolist() == [11.0, 10.0, 10.0]
    assert prices.map(str).to_numpy().tolist() == [
        ["101.0", nan, nan],
        ["102.0", "24001.0", "10.0"],
        ["103.0", "24001.0", "10.0"],
    ]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lambda lake: adapters.backtesting_frame(lake, [SYMBOL, "NSE:TCS"], "1m"), "expected one instrument"),
        (lambda lake: adapters.backtesting_frame(lake, SYMBOL, "1m", "2026-11-13 20:00"), "got no bar of 'NSE:INFY'"),
        (lambda lake: adapters.price_frame(lake, SYMBOL, "1m", "2026-11-13 20:00"), "got no bar of 'NSE:INFY'"),
    ],
)
def test_what_is_refused(lake: Lake, asked: Callable[[Lake], object], said: str) -> None:
    with pytest.raises(AdapterError, match=said):
        asked(lake)
