"""`kitelake check`: everything that config.yaml says and refers to, looked at before it matters."""

import asyncio
import datetime as dt
import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kitelake.accounts import Verdict, account_of, check_tokens, token_problem
from kitelake.config import Config
from kitelake.errors import ConfigError, ListFileError
from kitelake.plan import (
    CACHE,
    PRICED_LATER,
    fetch_list,
    hours_of_lists,
    instruments_of,
    lists_known,
    plan_of,
    read_list_file,
)
from kitelake.schedule import calendar_of
from kitelake.telemetry import Notifier
from kitelake.views import hours_in_words
from storage.clock import IST
from storage.errors import KitelakeError
from storage.market import SCHEDULED, place_of_exchange

LOOK_AHEAD_DAYS: Final = 40


@dataclass(frozen=True)
class Finding:
    """Something that was looked at. `good` is False for what has to be mended, None for what only should be known."""

    good: bool | None
    what: str
    text: str


def check_config(config: Config, *, online: bool, instruments: Path | None) -> Iterator[Finding]:
    """Look at everything in turn. `online` asks the broker about tokens and fetches URLs; else nothing is connected to.

    `instruments` is a file of the broker's instrument list, to be used instead of the newest stored one.
    """
    yield from _data_folder(config.data)
    yield from _accounts(config, online=online)
    calendar, lists = list(_calendar(config, instruments)), list(_lists(config, online=online))
    yield from (*calendar, *lists)
    if all(finding.good is not False for finding in calendar):  # without one there is no plan
        yield from _names(config, instruments, unread={finding.what for finding in lists if finding.good is False})
    yield from _notifications(config)


def _data_folder(data: Path) -> Iterator[Finding]:
    there = data
    try:
        there = next(path for path in (data, *data.parents) if path.exists() or path.is_symlink())
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
    except OSError as error:
        yield Finding(False, "data", f"{there} cannot be written to: {error.strerror}")
        return
    made = "" if there == data else ", will be made at the first start"
    yield Finding(True, "data", f"{data}{made}; {free / 2**30:,.1f} GiB free")


def _accounts(config: Config, *, online: bool) -> Iterator[Finding]:
    accounts = [account_of(account, config.login.logins()) for account in config.accounts]
    if online and config.simulator is None:
        for name, check in asyncio.run(check_tokens(accounts, config.kite.api)).items():
            good = {Verdict.GOOD: True, Verdict.BAD: False, Verdict.UNKNOWN: None}[check.verdict]
            text = "the broker takes its access token" if good else check.text.removeprefix(f"account {name}: ")
            yield Finding(good, f"account {name}", text)
        return

    for account in accounts:
        problem = asyncio.run(token_problem(account))
        text = "has an access token; --online asks the broker whether it is good"
        yield Finding(problem is None, f"account {account.name}", problem or text)


def _calendar(config: Config, file: Path | None) -> Iterator[Finding]:
    today = dt.datetime.now(IST).date()
    try:
        calendar = calendar_of(config)
    except ConfigError as error:
        yield Finding(False, "calendar", str(error))
        return
    for warning in calendar.warnings(today):
        yield Finding(None, "calendar", warning)
    plans = lists_known(config, today, file)
    named = {name for spec in config.subscriptions for name in spec.session or ()}
    meant = named.union(*(plan.exchanges for plan in plans.values()))
    for exchange in sorted(meant or SCHEDULED, key=place_of_exchange):
        day = calendar.day(exchange, today)
        yield Finding(True if day.sure else None, "calendar", f"{exchange} today: {hours_in_words(day)}; {day.why}")


def _lists(config: Config, *, online: bool) -> Iterator[Finding]:
    today = dt.datetime.now(IST).date()
    for spec in config.subscriptions:
        what = f"list {spec.name}"
        if isinstance(spec.days, tuple) and max(spec.days) < today:
            yield Finding(None, what, f"its days are over: the last was {max(spec.days)}, so it is never captured")
        try:
            if spec.file is not None:
                yield Finding(True, what, f"{len(read_list_file(spec.file)):,} names in {spec.file}")
            elif spec.url is not None and online:
                names, warning = asyncio.run(fetch_list(spec.url, config.data / CACHE))
                yield Finding(None if warning else True, what, warning or f"{len(names):,} names at its URL")
        except ListFileError as error:
            yield Finding(False, what, str(error))


def _names(config: Config, file: Path | None, *, unread: Collection[str]) -> Iterator[Finding]:
    """The lists by the instrument list, but for what is `unread`: that was said."""
    today = dt.datetime.now(IST).date()
    try:
        instruments = instruments_of(config, today, file)
        if instruments is None:
            text = "none is stored yet, so names were not looked up; --instruments FILE takes the broker's CSV"
            yield Finding(None, "instrument list", text)
            return
        plan = plan_of(config, _next_day(config, today, file), instruments)
    except KitelakeError as error:
        yield Finding(False, "instrument list", str(error))
        return
    yield Finding(True, "instrument list", f"{len(instruments):,} instruments of {instruments.date}")
    for note in instruments.notes:
        yield Finding(None, "instrument list", note)
    for one in plan.lists:
        if f"list {one.name}" in unread:
            continue
        for problem in one.problems:
            if problem in one.unpriced:
                yield Finding(None, f"list {one.name}", f"{problem}; {PRICED_LATER}")
            else:
                yield Finding(False, f"list {one.name}", problem)
        for note in one.notes:
            yield Finding(None, f"list {one.name}", note)
        if not one.problems:
            yield Finding(True, f"list {one.name}", f"{len(one.tokens):,} instruments")
    for phase in plan.phases:
        if phase.left_out:
            start = phase.span.start
            text = f"{len(phase.left_out):,} instruments have no room on {start:%a %d %b} from {start:%H:%M} on"
            text += f": kitelake plan --date {start:%Y-%m-%d}"
            yield Finding(False, "capacity", text)


def _next_day(config: Config, today: dt.date, file: Path | None) -> dt.date:
    """The first day, from today on, on which a list is captured; today if there is none soon."""
    calendar = calendar_of(config)
    plans = lists_known(config, today, file)
    for ahead in range(LOOK_AHEAD_DAYS):
        day = today + dt.timedelta(days=ahead)
        hours = hours_of_lists(config.subscriptions, plans, calendar, day)
        if any(each.spans for each in hours.values()):
            return day
    return today


def _notifications(config: Config) -> Iterator[Finding]:
    problems = Notifier(config.notifications).problems_with_targets()
    for problem in problems:
        yield Finding(False, "notifications", problem)
    if config.notifications and not problems:
        yield Finding(True, "notifications", f"{len(config.notifications)} targets")
