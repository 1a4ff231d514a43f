"""A day's plan before the day, and what a replay changes in it: the market's day is the replayed one."""

import asyncio
import datetime as dt
from pathlib import Path
from typing import cast

import pytest
import time_machine

from ingest.instruments.listing import Instruments, parse_instruments
from ingest.manager import TickerManager
from ingest.simulator.universe import HEADER
from kitelake.config.config import Config
from kitelake.plan.day import plan_of
from kitelake.plan.today import TodaysPlan
from kitelake.schedule.calendar import calendar_of
from storage.clock import IST
from storage.layout import DataLayout
from tests.support.captured import LISTED

REPLAYED, SUNDAY = dt.date(2026, 11, 24), dt.date(2026, 11, 29)
NIFTY_26_NOV, NIFTY_26_DEC = 12345602, 12346370
DECEMBER = "12346370,48228,NIFTY26DECFUT,NIFTY,0,2026-12-29,0,0.05,75,FUT,NFO-FUT,NFO\n"


def config_of(folder: Path, replay: dt.date | None) -> Config:
    return Config.model_validate(
        {
            "data": folder,
            "accounts": [{"name": "one", "api_key": "any", "access_token": "any"}],
            "subscriptions": [{"name": "a", "select": {"names": "NIFTY", "types": "FUT", "expiries": 1}}],
            "kite": {"ws": "ws://127.0.0.1:1", "api": "http://127.0.0.1:1", "replay": replay},
        }
    )


@pytest.fixture
def instruments() -> Instruments:
    return Instruments(parse_instruments(f"{HEADER}\n{LISTED}{DECEMBER}".encode(), date=SUNDAY))


@pytest.mark.parametrize(("replay", "nearest"), [(None, NIFTY_26_DEC), (REPLAYED, NIFTY_26_NOV)])
def test_what_has_expired_is_told_by_the_markets_day(
    tmp_path: Path, instruments: Instruments, replay: dt.date | None, nearest: int
) -> None:
    config = config_of(tmp_path, replay)
    (planned,) = plan_of(config, SUNDAY, instruments).lists
    assert planned.tokens == (nearest,)

    today = TodaysPlan(config, DataLayout(tmp_path), config.kite.api, [])
    today.instruments = instruments
    manager = cast(TickerManager, None)  # which is asked for prices alone
    with time_machine.travel(dt.datetime.combine(SUNDAY, dt.time(12), IST), tick=False):
        (resolved,) = asyncio.run(today.resolve(manager))
    assert resolved.tokens == (nearest,)


def test_a_replay_is_captured_whenever_it_runs(tmp_path: Path) -> None:
    assert calendar_of(config_of(tmp_path, REPLAYED)).day("NSE", SUNDAY).why == "always open"
    assert calendar_of(config_of(tmp_path, None)).day("NSE", SUNDAY).why == "weekend"
