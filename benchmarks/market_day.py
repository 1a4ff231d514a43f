"""A generated day of the market, for benchmarks: a data folder as a capture leaves it, made by the real table writer.

`benchmarks.market_listing` says which instruments there are and what they are worth, `benchmarks.market_ticks` what
their ticks look like: full packets from 09:00 to 15:40 IST, two a second of some instruments, of most one in several
seconds.

The journal is not written, and all ticks are of one stream a day. Events say what the connections did.
"""

import datetime as dt
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from benchmarks.market_listing import LAST_DAY, SECONDS, START, Ints, Listing
from benchmarks.market_ticks import ACCOUNT, CONNECTIONS, Ticks
from storage.clock import IST
from storage.layout import DataLayout, segment_stem
from storage.schema import EVENTS, TICKS
from storage.tables import LakeTable, write_file, write_instruments
from storage.upkeep import compact_day

CACHE: Final = Path(tempfile.gettempdir()) / "kitelake-market-day"
"""Where benchmarks keep what takes minutes to make."""
HOUR: Final = 60  # segments
FORM: Final = 3
"""How files are written: counted on when that changes, so that the older ones that are kept are not taken."""


@dataclass(frozen=True)
class MarketDays:
    """What is generated: `ticks` a day in so many segments, on `days` weekdays that end with LAST_DAY.

    `sealed`: each day is compacted. A day of one segment lies in that order by itself. `hourly`: what there is of it is
    compacted after every 60 segments, the last time so many before its end, as the service does while a day goes on.
    """

    instruments: int = 3000
    ticks: int = 20_500_000
    segments: int = 493
    days: int = 1
    sealed: bool = False
    hourly: bool = False
    seed: int = 1

    @property
    def dates(self) -> list[dt.date]:
        found: list[dt.date] = []
        day = LAST_DAY
        while len(found) < self.days:
            if day.weekday() < 5:
                found.append(day)
            day -= dt.timedelta(days=1)
        return found[::-1]

    def make(self, cache: Path) -> Path:
        """The data folder below `cache`, which is made unless it is there."""
        kind = "sealed" if self.sealed else "hourly" if self.hourly else "raw"
        root = cache / f"{self.days}x{self.ticks}-of-{self.instruments}-{kind}-{FORM}-{self.segments}-{self.seed}"
        if root.exists():
            return root
        cache.mkdir(parents=True, exist_ok=True)
        making = cache / f"{root.name}.making"
        shutil.rmtree(making, ignore_errors=True)
        if self.sealed:
            raw = replace(self, sealed=False).make(cache)
            shutil.copytree(raw, making, copy_function=_link_data)
            for day in self.dates:
                compact_day(DataLayout(making), day)
            _unlink_replaced(DataLayout(making))
        else:
            for number, day in enumerate(self.dates):
                listing = Listing(self.instruments, day, np.random.default_rng([self.seed, number]))
                _write_day(DataLayout(making), day, listing, self)
            if self.hourly:
                _unlink_replaced(DataLayout(making))
        making.rename(root)
        return root


def _link_data(source: str, target: str) -> None:
    if source.endswith(".parquet"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def _unlink_replaced(layout: DataLayout) -> None:
    """Files that no reader asks for any more: patterns of names would find them."""
    for spec in (TICKS, EVENTS):
        table = LakeTable(layout.table(spec.name), spec).open()
        kept = {entry.relative for entry in table.snapshot().entries}
        for path in table.path.glob("date=*/**/*.parquet"):
            if path.relative_to(table.path).as_posix() not in kept:
                path.unlink()


def _write_day(layout: DataLayout, day: dt.date, listing: Listing, wanted: MarketDays) -> None:
    stream = f"{day:%Y%m%d}T032900-000001"
    write_instruments(layout, day, listing.table)
    _write_events(layout, day, stream, listing.tokens)
    ticks = Ticks(day, stream, listing, wanted.ticks, np.random.default_rng([wanted.seed, day.toordinal()]))
    table = LakeTable(layout.table(TICKS.name), TICKS).open(create=True)
    bounds = np.linspace(0, SECONDS, wanted.segments + 1)
    for number in range(wanted.segments):
        rows = ticks.between(bounds[number], bounds[number + 1])
        files = [
            write_file(
                TICKS, part, values={"date": day.isoformat(), "exchange": exchange},
                stem=segment_stem(stream, number), table_folder=table.path, staging=layout.staging,
            )
            for exchange, part in rows
        ]  # fmt: skip
        transactions = {stream: number, f"{stream}/seq": ticks.seq, f"{stream}/record": ticks.seq}
        table.commit(files, transactions=transactions)
        if wanted.hourly and (wanted.segments - 1 - number) % HOUR == HOUR - 1:
            compact_day(layout, day, goes_on=True)


def _write_events(layout: DataLayout, day: dt.date, stream: str, tokens: Ints) -> None:
    """Each connection opens before the first tick, asks for its instruments, and is closed after the last."""
    opened = dt.datetime.combine(day, START, IST) - dt.timedelta(seconds=10)
    closed = opened + dt.timedelta(seconds=SECONDS + 20)
    rows: list[dict[str, Any]] = []
    for connection in range(1, CONNECTIONS + 1):
        mine = tokens[np.arange(len(tokens)) % CONNECTIONS == connection - 1].tolist()
        for at, event, message, data in (
            (opened, "connected", "opening 1", {"opening": 1}),
            (opened, "subscribed", f"{len(mine):,} instruments", {"tokens": mine}),
            (opened, "mode", f"{len(mine):,} instruments in mode full", {"mode": "full", "tokens": mine}),
            (closed, "closed", "closed by us", {"by": "us", "clean": True}),
        ):
            origin = {"received_at": at, "stream": stream, "account": ACCOUNT, "connection": connection}
            rows.append({**origin, "event": event, "message": message, "data": json.dumps(data)})
    rows.sort(key=lambda row: row["received_at"])
    numbered = [{**row, "record": number} for number, row in enumerate(rows)]
    table = LakeTable(layout.table(EVENTS.name), EVENTS).open(create=True)
    file = write_file(
        EVENTS, pa.Table.from_pylist(numbered, schema=EVENTS.file_schema), values={"date": day.isoformat()},
        stem=segment_stem(stream, 0), table_folder=table.path, staging=layout.staging,
    )  # fmt: skip
    table.commit([file], transactions={stream: 0, f"{stream}/record": len(rows)})
