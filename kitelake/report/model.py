"""What the report of a day says, as values that go to JSON and back.

Durations are seconds, times have a zone.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ingest.wire import Mode
from queries.connections import Stretch


class _ReportModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Gaps(_ReportModel):
    """Stretches without a connection, inside of the hours in which one was wanted."""

    number: int = 0
    total_seconds: float = 0.0
    longest_seconds: float = 0.0
    longest_from: AwareDatetime | None = None

    @classmethod
    def of(cls, stretches: Sequence[Stretch]) -> Self:
        """Number, total and longest of stretches that do not overlap."""
        if not stretches:
            return cls()
        begin, end = max(stretches, key=lambda stretch: stretch[1] - stretch[0])
        total = sum((end - begin for begin, end in stretches), dt.timedelta())
        return cls(
            number=len(stretches),
            total_seconds=total.total_seconds(),
            longest_seconds=(end - begin).total_seconds(),
            longest_from=begin,
        )


class ListReport(_ReportModel):
    """One subscription list. Rows and ticks are counted within its hours."""

    name: str
    mode: Mode
    wanted: int = Field(description="instruments, with the names that mean none")
    subscribed: int = Field(description="instruments that were asked for: all that found room on a connection")
    ticked: int = Field(description="instruments with at least one row")
    silent: int = Field(description="subscribed ones without a row; 0 before the list's hours")
    silent_symbols: tuple[str, ...] = Field(default=(), description="the first ten; the token where no symbol is known")
    rows: int


class ConnectionReport(_ReportModel):
    """One connection of an account."""

    account: str
    connection: int
    gaps: Gaps
    reconnects: int = Field(description="sockets opened anew after one was lost, at any hour")


class Latency(_ReportModel):
    """From the exchange's time to the receipt of the packet, over live packets: see `queries.connections.latency`.

    Exchange times are whole seconds, rounded down, so each value is too high by up to a second. Values are rounded down
    to 0.01 s, and are negative where this machine's clock is behind.
    """

    packets: int
    p50_seconds: float
    p99_seconds: float
    max_seconds: float


class StateReport(_ReportModel):
    """What became of wanted instruments in the hours of trading: see `queries.quality`."""

    state: str
    instruments: int = Field(description="those that were in it at some time")
    seconds: float = Field(description="of all of them together")


class MissedReport(_ReportModel):
    """What of an instrument was missed at least, in the gaps whose next packet shows a change."""

    symbol: str
    gaps: int
    seconds: float
    volume: int
    value: float = Field(description="rupees: the volume at the last price of the day")
    high: float | None = Field(description="a new high of the day that came in one; null: none is known")
    low: float | None


class Report(_ReportModel):
    """An IST day of a data folder, up to `made_at`."""

    date: dt.date
    made_at: AwareDatetime
    wanted: int = Field(description="instruments of all lists whose hours have begun, each once")
    ticked: int = Field(description="those of them with a row within the hours of a list")
    lists: tuple[ListReport, ...]
    connections: tuple[ConnectionReport, ...]
    gaps: Gaps = Field(description="of all connections; what is missed by several at a time counts once")
    rows: int = Field(description="of ticks, at any hour")
    other_rows: int = Field(
        default=0,
        description="those of them that are of no list in its hours: instruments that are captured for their price "
        "only, and ticks from before or after",
    )
    file_bytes: int = Field(description="size of the day's files in all tables")
    quarantined_ranges: int
    quarantined_bytes: int
    latency: Latency | None = Field(description="null without a live packet")
    not_live: int = Field(default=0, description="full packets that brought nothing new, and are not in the latency")
    coverage: tuple[StateReport, ...] = Field(default=(), description="of the instruments of all lists, the best first")
    missed_instruments: int = Field(default=0, description="those of which something was missed, as packets show")
    missed: tuple[MissedReport, ...] = Field(default=(), description="the worst ten of these, by value")
    quiet: tuple[str, ...] = Field(
        default=(), description="exchanges on which nothing traded on a day that may have been a holiday, with why"
    )
    problems: tuple[str, ...] = Field(description="what a person should act on, in sentences")
