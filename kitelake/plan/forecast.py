"""What a day is expected to bring: ticks a second and bytes, from the last reported day, or by rules of thumb."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ingest.manager import LOAD
from ingest.wire import Mode
from kitelake.plan.plan import ListPlan
from kitelake.report import Report, read_record
from kitelake.schedule import ListHours
from storage.errors import KitelakeError
from storage.market import Span

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
