"""The plan of the day while config.yaml changes: what was asked of one that is no longer in force changes nothing."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import time_machine

from ingest.accounts.account import Account
from ingest.instruments.listing import Instruments, parse_instruments
from ingest.manager import Want
from ingest.manager.manager import TickerManager
from ingest.wire import Mode
from kitelake.config.config import Config
from kitelake.plan.plan import ListPlan, wanted
from kitelake.plan.today import TodaysPlan
from kitelake.schedule.calendar import calendar_of
from storage.clock import IST
from storage.layout import DataLayout
from tests.support.broker import HEADER

TODAY = dt.date(2026, 11, 23)
CSV = HEADER + "408065,1594,INFY,INFOSYS,0,,0,0.05,1,EQ,NSE,NSE\n341249,1333,HDFCBANK,HDFC,0,,0,0.05,1,EQ,NSE,NSE\n"
KEPT = {"name": "kept", "instruments": ["NSE:INFY"]}
OTHER = {"name": "other", "instruments": ["NSE:INFY"]}


INFY, HDFCBANK = 408065, 341249


def config_of(data: Path, *lists: dict[str, Any], accounts: Sequence[str] = ("one", "two")) -> Config:
    given = [{"name": name, "api_key": name, "access_token": "token"} for name in accounts]
    calendar = {"always_open": True}
    return Config.model_validate({"data": data, "accounts": given, "subscriptions": lists, "calendar": calendar})


def plan_of(config: Config) -> TodaysPlan:
    today = TodaysPlan(config, DataLayout(config.data), "http://127.0.0.1:1", [])
    today.instruments = Instruments(parse_instruments(CSV.encode(), date=TODAY))
    return today


def reconfigure(today: TodaysPlan, config: Config) -> None:
    today.configure(config, [], calendar_of(config))


async def resolve(today: TodaysPlan, *only: str) -> None:
    await today.resolve(TickerManager([Account("one", "key", "token")]), only or None)


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
    today = plan_of(before)
    resolve = today._resolver.resolve

    async def slowly(*arguments: Any, **options: Any) -> list[ListPlan]:
        plans = await resolve(*arguments, **options)
        reconfigure(today, then)  # as a reload does meanwhile
        return plans

    monkeypatch.setattr(today._resolver, "resolve", slowly)
    changed = await today.resolve(TickerManager([Account("one", "key", "token")]))
    assert set(today.lists) == {plan.name for plan in changed} == left
    await today.phases(TODAY)


MINE: dict[str, Any] = {"name": "mine", "mode": "full", "instruments": ["NSE:INFY"], "accounts": ["one", "two"]}
OTHERS = {"instruments": ["NSE:HDFCBANK"]}


@pytest.mark.parametrize(
    ("after", "until_resolved", "then"),
    [
        ([MINE | {"mode": "quote"}], {INFY: "quote"}, {INFY: "quote"}),
        ([MINE | {"name": "renamed"}], {INFY: "full"}, {INFY: "full"}),
        ([MINE | OTHERS | {"mode": "quote"}], {INFY: "full"}, {HDFCBANK: "quote"}),
        ([MINE | OTHERS | {"name": "renamed"}], {}, {HDFCBANK: "full"}),
        ([MINE | OTHERS, MINE | {"name": "moved"}], {INFY: "full"}, {HDFCBANK: "full", INFY: "full"}),
    ],
    ids=["another mode", "renamed", "others", "gone, and another is new", "its name is given to others"],
)
async def test_what_a_list_meant_goes_on_until_its_new_form_is_resolved(
    tmp_path: Path, after: list[dict[str, Any]], until_resolved: dict[int, str], then: dict[int, str]
) -> None:
    def modes() -> dict[int, str]:
        return {token: want.mode for token, want in wanted(today.on(dt.datetime.now(IST))).items()}

    today = plan_of(config_of(tmp_path, MINE))
    await resolve(today)
    reconfigure(today, config_of(tmp_path, *after))
    assert modes() == until_resolved
    await resolve(today)
    assert modes() == then


async def test_a_list_that_waits_for_its_new_form_asks_for_no_account_that_is_gone(tmp_path: Path) -> None:
    today = plan_of(config_of(tmp_path, MINE | {"copies": 2}))
    await resolve(today)
    reconfigure(today, config_of(tmp_path, MINE | OTHERS | {"accounts": ["two"], "priority": 7}, accounts=["two"]))
    assert wanted(today.lists.values()) == {INFY: Want(Mode.FULL, 7, None, ("two",))}


async def test_a_list_that_waits_for_its_new_form_keeps_its_hours(tmp_path: Path) -> None:
    def hours() -> str:
        (span,) = today.hours(TODAY)["mine"].spans
        return str(span.hours)

    today = plan_of(config_of(tmp_path, MINE | {"window": "09:00-12:00"}))
    await resolve(today)
    later = MINE | {"window": "10:00-14:00"}
    reconfigure(today, config_of(tmp_path, later))
    assert hours() == "10:00-14:00", "the window is all that has changed"
    reconfigure(today, config_of(tmp_path, later | OTHERS | {"window": "13:00-15:00"}))
    assert hours() == "10:00-14:00"
    await resolve(today)
    assert hours() == "13:00-15:00"


async def test_a_list_whose_new_form_cannot_be_read_goes_on_as_it_was_and_is_replaced_once_it_can(
    tmp_path: Path,
) -> None:
    today = plan_of(config_of(tmp_path, MINE))
    await resolve(today)
    names = tmp_path / "names.txt"
    of_file = {"name": "mine", "mode": "quote", "file": str(names)}
    reconfigure(today, config_of(tmp_path, of_file))
    for _ in range(2):
        await resolve(today)
        plan = today.lists["mine"]
        assert (plan.tokens, plan.mode) == ((INFY,), Mode.FULL)
        (problem,) = plan.problems
        assert problem.endswith("No such file or directory; what it meant before goes on")
    names.write_text("NSE:HDFCBANK\n")
    await resolve(today)
    plan = today.lists["mine"]
    assert (plan.tokens, plan.mode, plan.problems) == ((HDFCBANK,), Mode.QUOTE, ())


async def test_each_list_lets_go_what_it_meant_yesterday_when_it_is_resolved_first_on_a_day(tmp_path: Path) -> None:
    """Also beside a list that was resolved before it on that day; later on the day it keeps what it meant."""
    names = tmp_path / "names.txt"
    today = plan_of(config_of(tmp_path, KEPT, {"name": "of a file", "file": str(names)}))

    async def tokens() -> tuple[int, ...]:
        for name in ("kept", "of a file"):
            await resolve(today, name)
        return today.lists["of a file"].tokens

    with time_machine.travel(dt.datetime(2026, 11, 23, 10, tzinfo=IST)) as clock:
        names.write_text("NSE:INFY\nNSE:HDFCBANK\n")
        assert await tokens() == (INFY, HDFCBANK)
        names.write_text("NSE:HDFCBANK\n")
        assert await tokens() == (HDFCBANK, INFY)
        clock.shift(dt.timedelta(days=1))
        assert await tokens() == (HDFCBANK,)
        names.write_text("NSE:INFY\n")
        assert await tokens() == (INFY, HDFCBANK)
