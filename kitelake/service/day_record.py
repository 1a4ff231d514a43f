"""Keeps the record of each day, from which its report is made, while the day goes on."""

import datetime as dt
import threading
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

import structlog

from kitelake.plan import ListPlan
from kitelake.report import DayRecord, ExchangeRecord, ListRecord, PartRecord, read_record, write_record
from kitelake.schedule import Calendar, ListHours
from storage.errors import DataFolderError

log = structlog.get_logger()

LOOK_BACK_DAYS: Final = 7
"""A day that was not reported for so long is not reported any more."""


class DayRecorder:
    """The records of a data folder. A service that starts again in mid-day goes on with what is there."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._today: DayRecord | None = None
        self._kept: DayRecord | None = None
        self._unwritten: dict[dt.date, DayRecord] = {}
        self._writing = threading.Lock()  # a report and what is noted meanwhile are kept by threads of their own

    def note_lists(
        self,
        now: dt.datetime,
        plans: Mapping[str, ListPlan],
        on: Iterable[ListPlan],
        hours: Mapping[str, ListHours],
        left_out: Collection[int],
    ) -> None:
        """How the lists stand: `on` are streamed now, `plans` are all there are, with their `hours` of today.

        A list's record has all that was wanted of it at some time of the day. One that is gone, or has no hours any
        more, had them until now.
        """
        record = self._open(now.date())
        lists = {one.name: one for one in record.lists}
        streamed = {plan.name: plan for plan in on}
        without_room = set(left_out)
        for name in [*lists, *(name for name in streamed if name not in lists)]:
            before = lists.get(name)
            own_hours = hours[name] if name in plans and name in hours else ListHours()
            parts = _parts(now, before, streamed.get(name), own_hours)
            if (plan := streamed.get(name)) is not None:
                whole = plans[name]
                # What has closed found no room until then, whatever is free now.
                now_on = set(plan.tokens)
                closed = () if before is None else (token for token in before.left_out if token not in now_on)
                lists[name] = ListRecord(
                    name=name,
                    mode=plan.mode,
                    meaning=plan.spec.digest,
                    parts=parts,
                    left_out=(*closed, *(token for token in plan.tokens if token in without_room)),
                    problems=tuple(f"{name} is not in the instrument list" for name in whole.missing) or whole.problems,
                )
            else:
                lists[name] = lists[name].model_copy(update={"parts": parts})
        goes_on = bool(streamed) and record.reported_at is not None
        if tuple(lists.values()) != record.lists or goes_on:  # what was reported is reported again
            self._today = record.model_copy(update={"lists": tuple(lists.values()), "reported_at": None})

    def note_sessions(self, date: dt.date, calendar: Calendar) -> None:
        """By which sessions the exchanges of the day's lists are captured."""
        record = self._open(date)
        exchanges = {}
        for name in sorted({part.exchange for one in record.lists for part in one.parts} - {""}):
            day = calendar.day(name, date)
            exchanges[name] = ExchangeRecord(why=day.why, sure=day.sure, sessions=dict(day.sessions))
        if exchanges != record.exchanges:
            self._today = record.model_copy(update={"exchanges": exchanges})

    def today(self, date: dt.date) -> DayRecord:
        """The record of today so far, also if an earlier run began it. Does I/O when the day is new."""
        return self._open(date)

    def note_tokens(self, date: dt.date, problems: Mapping[str, str | None]) -> None:
        """What is wrong with each account's access token; None: nothing."""
        record = self._open(date)
        self._today = record.model_copy(update={"accounts": {**record.accounts, **problems}})

    def keep(self) -> None:
        """Write what was noted, if it is new. Does I/O. What cannot be written now is tried with the next."""
        with self._writing:
            today = self._today
            if today is not None and today != self._kept and today.lists:
                self._unwritten[today.date] = self._kept = today
            for date, record in list(self._unwritten.items()):
                try:
                    write_record(self.data, record)
                    del self._unwritten[date]
                except DataFolderError as error:
                    log.error("the day's record cannot be kept", error=str(error))

    def due(self, now: dt.datetime, after: dt.timedelta) -> list[DayRecord]:
        """The records of days whose last list stopped `after` ago or earlier, and that are not reported. Does I/O."""
        found = []
        for ago in range(LOOK_BACK_DAYS, -1, -1):
            record = self._read(now.date() - dt.timedelta(days=ago))
            if record is None or record.reported_at is not None or not record.lists:
                continue
            if max((stop for one in record.lists for _, stop in one.hours), default=now) + after <= now:
                found.append(record)
        return found

    def mark_reported(self, record: DayRecord, now: dt.datetime) -> None:
        """The record's report is made; what was noted since is reported again. Does I/O, as `keep`."""
        if self._today is None or self._today.date != record.date:
            self._unwritten[record.date] = record.model_copy(update={"reported_at": now})
        elif self._today.lists == record.lists:
            self._today = self._today.model_copy(update={"reported_at": now})
        self.keep()

    def _open(self, date: dt.date) -> DayRecord:
        if self._today is None or self._today.date != date:
            self.keep()
            self._today = self._read(date) or DayRecord(date=date)
        return self._today

    def _read(self, date: dt.date) -> DayRecord | None:
        if self._today is not None and self._today.date == date:
            return self._today
        if (unwritten := self._unwritten.get(date)) is not None:
            return unwritten
        try:
            return read_record(self.data, date)
        except DataFolderError as error:
            log.warning("a day's record cannot be read; it is begun anew", error=str(error))
            return None


def _parts(
    now: dt.datetime, before: ListRecord | None, on: ListPlan | None, hours: ListHours
) -> tuple[PartRecord, ...]:
    """Each exchange's instruments that were or are wanted today, and when; `on` is what is streamed of them now.

    A list of which no instrument is known has its hours all the same, as a part without any.
    """
    there = {part.exchange: part for part in before.parts} if before is not None else {}
    wanted = on.by_exchange() if on is not None else {}
    exchange_of = {token: exchange for exchange, tokens in wanted.items() for token in tokens}
    parts = []
    for exchange in dict.fromkeys((*there, *wanted)) or ("",):
        part = there.get(exchange)
        own = hours.spans if not exchange and not wanted else hours.by_exchange.get(exchange, ())
        spans = tuple((span.start, span.stop) for span in own)
        if not spans and part is not None:  # it had them until now
            spans = tuple((start, min(stop, now)) for start, stop in part.hours if start < now)
        # A record from before exchanges had hours of their own does not say of which exchange its instruments are.
        known = () if part is None else (token for token in part.tokens if exchange_of.get(token, exchange) == exchange)
        tokens = tuple(dict.fromkeys((*known, *wanted.get(exchange, ()))))
        parts.append(PartRecord(exchange=exchange, hours=spans, tokens=tokens))
    return tuple(part for part in parts if part.tokens) or tuple(parts)
