"""The plan of the day while config.yaml changes: what was asked of one that is no longer in force changes nothing."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from ingest.accounts.account import Account
from ingest.instruments.listing import Instruments, parse_instruments
from ingest.manager.manager import TickerManager
from kitelake.config.config import Config
from kitelake.plan.plan import ListPlan
from kitelake.plan.today import TodaysPlan
from kitelake.schedule.calendar import calendar_of
from storage.layout import DataLayout
from tests.support.broker import HEADER

TODAY = dt.date(2026, 11, 23)
CSV = HEADER + "408065,1594,INFY,INFOSYS,0,,0,0.05,1,EQ,NSE,NSE\n341249,1333,HDFCBANK,HDFC,0,,0,0.05,1,EQ,NSE,NSE\n"
KEPT = {"name": "kept", "instruments": ["NSE:INFY"]}
OTHER = {"name": "other", "instruments": ["NSE:INFY"]}


def config_of(data: Path, *lists: dict[str, Any]) -> Config:
    accounts = [{"name": "one", "api_key": "key", "access_token": "token"}]
    return Config.model_validate({"data": data, "accounts": accounts, "subscriptions": lists})


@pytest.mark.parametrize(
    ("after", "left"),
    [
        ([KEPT], {"kept"}),
        ([KEPT, OTHER | {"instruments": ["NSE:HDFCBANK"]}], {"kept"}),
        ([KEPT, OTHER], {"kept", "other"}),
    ],
    ids=["gone", "changed", "as it was"],
)
async def test_a_list_that_changes_while_it_is_resolved_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: list[dict[str, Any]], left: set[str]
) -> None:
    before, then = config_of(tmp_path, KEPT, OTHER), config_of(tmp_path, *after)
    today = TodaysPlan(before, DataLayout(tmp_path), "http://127.0.0.1:1", [])
    today.instruments = Instruments(parse_instruments(CSV.encode(), date=TODAY))
    resolve = today._resolver.resolve

    async def slowly(*arguments: Any, **options: Any) -> list[ListPlan]:
        plans = await resolve(*arguments, **options)
        today.configure(then, [], calendar_of(then))  # as a reload does meanwhile
        return plans

    monkeypatch.setattr(today._resolver, "resolve", slowly)
    changed = await today.resolve(TickerManager([Account("one", "key", "token")]))
    assert set(today.lists) == {plan.name for plan in changed} == left
    await today.phases(TODAY)
