"""A day's record held against the lake: `make_report`.

The ticks of the day are read four times, and only the columns that count: they are grouped in two passes, by
instrument and by connection, each full packet is looked at in another for its latency, and each packet of what was
wanted in one more for what was missed. A day may have hundreds of millions.
"""

import datetime as dt
import itertools
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kitelake.report.model import (
    ConnectionReport,
    Gaps,
    Latency,
    ListReport,
    MissedReport,
    Report,
    StateReport,
)
from kitelake.report.problems import problems_of
from kitelake.report.record import DayRecord, ListRecord, PartRecord
from queries.connections import (
    OF_CONNECTIONS,
    ServiceRun,
    Stretch,
    latencies,
    merged,
    outages,
    runs_of_day,
    span_of_day,
    survey,
    within,
)
from queries.quality import LATENCY_BUCKET_SECONDS, SILENT_SECONDS, DayCoverage, Summary
from storage.clock import IST
from storage.errors import TableMissingError
from storage.events import Event
from storage.layout import DataLayout
from storage.schema import TABLES
from storage.tables import LakeTable, SymbolBook

if TYPE_CHECKING:
    import pyarrow as pa

    from queries.lake import SqlLake

_Part = tuple[PartRecord, tuple[Stretch, ...]]
"""What of a list is of one exchange, and when it was to be captured and traded."""

NAMED: Final = 10


def make_report(data: Path, record: DayRecord) -> Report:
    """The report of the record's day, up to now, from everything that was captured, committed or not.

    Takes up to 1 GB of memory and two threads in DuckDB. Raises KitelakeError if the folder cannot be read.
    """
    from ingest.wire import JournalDecoder
    from queries.lake import Limits, SqlLake

    now = dt.datetime.now(IST)
    # As a statement to the lake, a setting or a temporary table would have each query look for what is the user's own.
    spill = Path(tempfile.gettempdir()) / f"kitelake-report-{secrets.token_hex(8)}"
    with SqlLake(data, JournalDecoder(), limits=Limits("1GB", 2, spill=spill)) as lake:
        return _Day(lake, DataLayout(lake.root), record, now).report()


@dataclass(frozen=True)
class _TickCounts:
    """What is known of an instrument: its rows in each of the sets of hours."""

    rows: Mapping[int, Sequence[int]]

    def of(self, tokens: Iterable[int], hours: int) -> dict[int, int]:
        """Those of the tokens that ticked within these hours, with their rows."""
        found = {token: self.rows[token][hours] for token in tokens if token in self.rows}
        return {token: rows for token, rows in found.items() if rows}


class _Day:
    def __init__(self, lake: "SqlLake", layout: DataLayout, record: DayRecord, now: dt.datetime) -> None:
        self._lake = lake
        self._layout = layout
        self._record = record
        self._now = now
        self._span: Stretch = span_of_day(record.date, now)
        # By the sessions of the day: capture listens for longer than anything trades.
        self._parts = [
            [(part, tuple(within(record.trading(part), [self._span]))) for part in each.parts] for each in record.lists
        ]
        self._wanted = _hours_of_tokens(itertools.chain.from_iterable(self._parts))
        self._hours = sorted({*self._wanted.values(), *(hours for parts in self._parts for _, hours in parts)})

    def report(self) -> Report:
        day = self._grouped_ticks()
        ticks = self._ticks(day)
        lists = [self._list(each, parts, ticks) for each, parts in zip(self._record.lists, self._parts, strict=True)]
        by_connection = day.filter(day["stream"].is_valid())
        connections, gaps = self._connections(by_connection)
        begun = [(part, hours) for parts in self._parts for part, hours in parts if hours]
        wanted = {token for part, _ in begun for token in part.tokens}
        ticked = {token for part, hours in begun for token in ticks.of(part.tokens, self._hours.index(hours))}
        rows = sum(by_connection["rows"].to_pylist())
        latency, not_live = self._latency()
        covered = self._coverage()
        (quarantine,) = self._select(
            "SELECT count(*) AS ranges, coalesce(sum(length), 0)::BIGINT AS bytes FROM quarantine WHERE date = $date",
            date=self._record.date,
        )
        report = Report(
            date=self._record.date,
            made_at=self._now,
            wanted=len(wanted),
            ticked=len(ticked),
            lists=tuple(lists),
            connections=tuple(connections),
            gaps=Gaps.of(gaps),
            rows=rows,
            other_rows=rows - self._rows_of_lists(ticks),
            file_bytes=self._file_bytes(),
            quarantined_ranges=quarantine["ranges"],
            quarantined_bytes=quarantine["bytes"],
            latency=latency,
            not_live=not_live,
            coverage=tuple(
                StateReport(state=state, instruments=instruments, seconds=seconds)
                for state, instruments, seconds in covered.states
            ),
            missed_instruments=covered.missed,
            missed=tuple(MissedReport(**each._asdict()) for each in covered.worst),
            quiet=tuple(self._quiet()),
            problems=(),
        )
        return report.model_copy(update={"problems": tuple(problems_of(report, self._record))})

    def _select(self, query: str, **values: object) -> list[dict[str, Any]]:
        return list(self._lake.sql(query, values or None).arrow().to_pylist())

    def _grouped_ticks(self) -> "pa.Table":
        """The one pass: rows that have either a token or a connection."""
        counts = "".join(
            f", count(*) FILTER ({_is_within('received_at', hours)}) AS rows_{number}"
            for number, hours in enumerate(self._hours)
        )
        query = f"""
            SELECT instrument_token, stream, account, connection, count(*) AS rows, max(received_at) AS last
                {counts}
            FROM ticks_all WHERE date = $date
            GROUP BY GROUPING SETS ((instrument_token), (stream, account, connection))
        """  # noqa: S608 (our own names and times)
        return self._lake.sql(query, {"date": self._record.date}).arrow()

    @staticmethod
    def _ticks(day: "pa.Table") -> _TickCounts:
        found = day.filter(day["instrument_token"].is_valid())
        found = found.drop_columns(["stream", "account", "connection", "rows", "last"])
        tokens, *rows = (column.to_pylist() for column in found.columns)
        return _TickCounts({token: counts for token, *counts in zip(tokens, *rows, strict=True)})

    def _list(self, each: ListRecord, parts: Sequence[_Part], ticks: _TickCounts) -> ListReport:
        left_out = set(each.left_out)
        subscribed = [token for token in each.tokens if token not in left_out]
        ticked: dict[int, int] = {}
        silent: list[int] = []
        for part, hours in parts:
            there = ticks.of(part.tokens, self._hours.index(hours))
            ticked |= there
            silent += [token for token in part.tokens if hours and token not in there and token not in left_out]
        return ListReport(
            name=each.name,
            mode=each.mode,
            wanted=len(each.tokens) + len(each.problems),
            subscribed=len(subscribed),
            ticked=len(ticked),
            silent=len(silent),
            silent_symbols=self._symbols(silent[:NAMED]),
            rows=sum(ticked.values()),
        )

    def _quiet(self) -> Iterator[str]:
        """The exchanges that may have been closed, and of which nothing traded in the hours that have begun, with why.

        What was sent once and stayed as it was is the last value of a day before.
        """
        unsure = {name: each.why for name, each in self._record.exchanges.items() if not each.sure}
        parts = [(part, hours) for each in self._parts for part, hours in each if part.exchange in unsure and hours]
        if not parts:
            return
        traded = self._select(
            """
            SELECT instrument_token AS token FROM ticks_all WHERE date = $date
            GROUP BY instrument_token
            HAVING max(exchange_timestamp)::DATE = any_value(date) OR min(last_price) <> max(last_price)
                OR min(volume_traded) <> max(volume_traded)
            """,
            date=self._record.date,
        )
        alive = {row["token"] for row in traded}
        for name in dict.fromkeys(part.exchange for part, _ in parts):
            if alive.isdisjoint(token for part, _ in parts if part.exchange == name for token in part.tokens):
                yield f"{name}: {unsure[name]}"

    def _rows_of_lists(self, ticks: _TickCounts) -> int:
        """Rows of instruments within the hours of one of their lists, each once."""
        number = {hours: place for place, hours in enumerate(self._hours)}
        return sum(ticks.rows[token][number[hours]] for token, hours in self._wanted.items() if token in ticks.rows)

    def _symbols(self, tokens: Sequence[int]) -> tuple[str, ...]:
        index = SymbolBook(self._layout)(self._record.date) if tokens else None
        if index is None:
            return tuple(map(str, tokens))
        symbols = index.lookup(np.array(tokens, np.int64)).to_pylist()
        return tuple(symbol or str(token) for symbol, token in zip(symbols, tokens, strict=True))

    def _connections(self, ticks: "pa.Table") -> tuple[list[ConnectionReport], list[Stretch]]:
        """Each connection, and the gaps of all of them as one."""
        runs = self._runs(ticks)
        hours = merged(stretch for parts in self._parts for _, each in parts for stretch in each)
        found = {connection: within(out, hours) for connection, out in outages(runs, self._span).items()}
        reconnects = [each.connection for run in runs for each in run.happenings if each.event == Event.RESUMED]
        reports = [
            ConnectionReport(
                account=connection[0],
                connection=connection[1],
                gaps=Gaps.of(gaps),
                reconnects=reconnects.count(connection),
            )
            for connection, gaps in found.items()
        ]
        return reports, merged(gap for gaps in found.values() for gap in gaps)

    def _runs(self, ticks: "pa.Table") -> list[ServiceRun]:
        last_rows = [
            (row["stream"], (row["account"], row["connection"]), row["last"])
            for row in ticks.select(["stream", "account", "connection", "last"]).to_pylist()
        ]
        return runs_of_day(self._lake.look(), self._span, last_rows, OF_CONNECTIONS)

    def _latency(self) -> tuple[Latency | None, int]:
        """Of all live packets; and how many full packets were not live."""
        state = self._lake.look()
        found = latencies(state, survey(state, self._record.date), LATENCY_BUCKET_SECONDS)
        total = found.total()
        if total is None:
            return None, found.not_live
        latency = Latency(packets=total.packets, p50_seconds=total.p50, p99_seconds=total.p99, max_seconds=total.most)
        return latency, found.not_live

    def _coverage(self) -> Summary:
        """Of the instruments of all lists."""
        tokens = {token for each in self._record.lists for token in each.tokens}
        found = DayCoverage(self._lake.look(), self._record.date, tokens, SILENT_SECONDS, self._now)
        return found.summary(NAMED)

    def _file_bytes(self) -> int:
        total = 0
        for spec in TABLES.values():
            try:
                entries = LakeTable(self._layout.table(spec.name), spec).open().snapshot().entries
            except TableMissingError:
                continue
            total += sum(entry.size for entry in entries if entry.values["date"] == self._record.date.isoformat())
        return total


def _hours_of_tokens(parts: Iterable[_Part]) -> dict[int, tuple[Stretch, ...]]:
    """When each instrument is wanted, by any of its lists. Many share their hours, which are merged once."""
    found: dict[int, frozenset[tuple[Stretch, ...]]] = {}
    for each, hours in parts:
        for token in each.tokens:
            found[token] = found.get(token, frozenset()) | {hours}
    together = {sets: tuple(merged(itertools.chain.from_iterable(sets))) for sets in set(found.values())}
    return {token: together[sets] for token, sets in found.items()}


def _is_within(column: str, hours: Iterable[Stretch]) -> str:
    """An SQL condition."""
    parts = [
        f"({column} >= TIMESTAMPTZ '{begin.isoformat()}' AND {column} < TIMESTAMPTZ '{end.isoformat()}')"
        for begin, end in hours
    ]
    return " OR ".join(parts) or "false"
