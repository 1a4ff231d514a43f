"""The plan of any day, made without connecting: for `kitelake plan` and `kitelake check`; and what it may bring."""

import asyncio
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ingest.errors import InstrumentError
from ingest.instruments import Instruments, parse_instruments
from ingest.manager import LOAD
from ingest.wire import Mode
from kitelake.config import Config
from kitelake.errors import ConfigError
from kitelake.plan.instrument_store import stored_instruments
from kitelake.plan.list_hours import hours_of_lists
from kitelake.plan.plan import ListPlan, PlanPhase, phases
from kitelake.plan.resolver import Resolver
from kitelake.report import Report, read_record
from kitelake.schedule import Calendar, ListHours, calendar_of
from storage.errors import KitelakeError
from storage.layout import DataLayout
from storage.market import Span

PRICED_LATER: Final = "the service streams what is named, and selects them when a price has come"
TICKS_A_SECOND: Final = 0.3
"""Of an instrument, on the average of a mixed list and of a day: the stream is conflated to one or two a second."""
TABLE_BYTES: Final[Mapping[Mode, float]] = {Mode.FULL: 70.0, Mode.QUOTE: 36.0, Mode.LTP: 16.0}
"""A row in the tables, with its share of whatever else lies in the files."""


@dataclass(frozen=True)
class Forecast:
    """Of one list, in its hours. `measured` says whether it is from a reported day or by rules of thumb."""

    ticks_a_second: float
    ticks: float
    table_bytes: float
    journal_bytes: float
    measured: bool


@dataclass(frozen=True)
class DayPlan:
    """Everything about one day that can be known without connecting."""

    date: dt.date
    instruments: Instruments
    lists: Sequence[ListPlan]
    hours: Mapping[str, ListHours]
    phases: Sequence[PlanPhase]
    forecasts: Mapping[str, Forecast]
    calendar: Calendar

    @property
    def is_whole(self) -> bool:
        """Whether everything that is wanted on that day is captured, once there are prices for its strikes."""
        on = [plan for plan in self.lists if self.hours[plan.name].spans]
        lasting = any(problem not in plan.unpriced for plan in on for problem in plan.problems)
        return not lasting and not any(phase.left_out for phase in self.phases)


def instruments_of(config: Config, date: dt.date, file: Path | None) -> Instruments | None:
    """The list in force on that day: from a file of the broker's CSV, or as it is stored; None if none is.

    Raises ConfigError for a file that is no such list, TableError if the stored one is damaged.
    """
    if file is None:
        return stored_instruments(DataLayout(config.data), date)
    notes: list[str] = []
    try:
        return Instruments(parse_instruments(file.read_bytes(), date=date, note=notes.append), notes=notes)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except InstrumentError as error:
        raise ConfigError(f"{file}: {error}") from None


def plan_of(config: Config, date: dt.date, instruments: Instruments) -> DayPlan:
    """What would be captured on that day. Prices are those that were captured last, or the list's."""
    calendar = calendar_of(config)
    lists = _resolved(config, instruments.as_of(config.market_day(date)))
    hours = hours_of_lists(config.subscriptions, {p.name: p for p in lists}, calendar, date)
    rates = last_rates(config.data)
    return DayPlan(
        date=date,
        instruments=instruments,
        lists=lists,
        hours=hours,
        phases=phases(lists, hours, [account.name for account in config.accounts], config.capture),
        forecasts={plan.name: forecast(plan, hours[plan.name], rates) for plan in lists},
        calendar=calendar,
    )


def lists_known(config: Config, date: dt.date, file: Path | None = None) -> dict[str, ListPlan]:
    """What the lists mean by the instrument list in force; nothing if there is none that serves."""
    try:
        instruments = instruments_of(config, date, file)
    except KitelakeError:
        instruments = None
    if instruments is None:
        return {}
    return {plan.name: plan for plan in _resolved(config, instruments.as_of(config.market_day(date)))}


def _resolved(config: Config, instruments: Instruments) -> list[ListPlan]:
    """By names that are known without a network, and by prices that were captured or are in the list."""
    resolver = Resolver(DataLayout(config.data), online=False)
    return asyncio.run(resolver.resolve(config.subscriptions, instruments, default_mode=config.capture.default_mode))


def forecast(plan: ListPlan, hours: ListHours, rates: Mapping[tuple[str, Mode], float]) -> Forecast:
    """What this list is expected to bring on a day with these hours. `rates` see `last_rates`."""
    rate = rates.get((plan.name, plan.mode))
    rate_of_each = TICKS_A_SECOND if rate is None else rate
    ticks_a_second = len(plan.tokens) * rate_of_each
    seconds = {exchange: _seconds(spans) for exchange, spans in hours.by_exchange.items()}
    ticks = rate_of_each * sum(len(tokens) * seconds[exchange] for exchange, tokens in plan.by_exchange().items())
    return Forecast(
        ticks_a_second, ticks, ticks * TABLE_BYTES[plan.mode], ticks * LOAD[plan.mode], measured=rate is not None
    )


def last_rates(data: Path) -> dict[tuple[str, Mode], float]:
    """Ticks a second of an instrument while it trades, by list and mode, on the last reported day."""
    import kitelake

    try:
        with kitelake.open(data) as lake:
            rows = lake.sql("select data from events where event = 'report' order by received_at desc limit 1").arrow()
        if not rows.num_rows:
            return {}
        report = Report.model_validate(json.loads(rows["data"][0].as_py()))
        record = read_record(data, report.date)
    except (KitelakeError, ValueError):
        return {}
    seconds = record.instrument_seconds() if record else {}
    return {
        (one.name, one.mode): one.rows / seconds[one.name]
        for one in report.lists
        if one.subscribed and one.rows and seconds.get(one.name)
    }


def _seconds(spans: Sequence[Span]) -> float:
    return sum((span.stop - span.start).total_seconds() for span in spans)
