"""The record of a day: what the service meant to capture on it. One JSON file a day, `<data>/days/2026-11-24.json`."""

import datetime as dt
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    model_validator,
)

from ingest.wire import Mode
from queries.connections import within
from storage.errors import DataFolderError
from storage.files import write_whole
from storage.market import Hours, InstrumentKind, Phase, hours_of, span_of

Stretch = tuple[AwareDatetime, AwareDatetime]
HoursOfDay = Annotated[Hours, PlainValidator(hours_of), PlainSerializer(str)]


class _RecordModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class PartRecord(_RecordModel):
    """The instruments of one exchange in a list, and when they were to be captured."""

    exchange: str = Field(description='as the instrument list names it; "" of what is of none that is known')
    hours: tuple[Stretch, ...] = Field(description="from … up to, one after the other")
    tokens: tuple[int, ...] = Field(description="all that were wanted at some time of the day")


class ListRecord(_RecordModel):
    """One subscription list on one day."""

    name: str
    mode: Mode
    meaning: str = Field(default="", description="a digest of what config.yaml says of it")
    parts: tuple[PartRecord, ...]
    left_out: tuple[int, ...] = Field(default=(), description="those of them that found no room on a connection")
    problems: tuple[str, ...] = Field(default=(), description="one for each name that means no instrument, in words")

    @model_validator(mode="before")
    @classmethod
    def _in_one_part(cls, given: Any) -> Any:
        """A record from before exchanges had hours of their own has `hours` and `tokens` of the whole list."""
        if isinstance(given, dict) and "parts" not in given and "hours" in given and "tokens" in given:
            rest = {name: value for name, value in given.items() if name not in ("hours", "tokens")}
            return {**rest, "parts": [{"exchange": "", "hours": given["hours"], "tokens": given["tokens"]}]}
        return given

    @property
    def tokens(self) -> tuple[int, ...]:
        """Of all its parts."""
        return tuple(token for part in self.parts for token in part.tokens)

    @property
    def hours(self) -> tuple[Stretch, ...]:
        """Of all its parts, as they stand: they may overlap."""
        return tuple(stretch for part in self.parts for stretch in part.hours)


class ExchangeRecord(_RecordModel):
    """What the calendar said of an exchange on that day: the sessions by which it was captured.

    `sessions` has those of each kind of instrument, as a phase and hours in IST: `["continuous", "09:15-15:30"]`; none
    on a day on which it was closed.
    """

    why: str
    sure: bool = Field(description="false where it counted as open because it was not certain that it is closed")
    sessions: dict[InstrumentKind, tuple[tuple[Phase, HoursOfDay], ...]]

    def stretches(self, date: dt.date) -> tuple[Stretch, ...]:
        """When any kind of instrument trades, in whatever phase."""
        hours = {each for sessions in self.sessions.values() for _, each in sessions}
        return tuple(span_of(date, each) for each in sorted(hours))


class DayRecord(_RecordModel):
    """What the service meant to capture on one IST day."""

    date: dt.date
    lists: tuple[ListRecord, ...] = ()
    exchanges: dict[str, ExchangeRecord] = Field(default_factory=dict, description="those of the lists, by their names")
    accounts: dict[str, str | None] = Field(
        default_factory=dict, description="what is wrong with the account's token of the day, in words; null: nothing"
    )
    reported_at: AwareDatetime | None = Field(default=None, description="when the report was made; null: not yet")

    def trading(self, part: PartRecord) -> tuple[Stretch, ...]:
        """When a list's part was to be captured and its exchange traded.

        Where it did not trade then, as on a weekend that the list names by its `days`, all of its hours count.
        """
        exchange = self.exchanges.get(part.exchange)
        sessions = () if exchange is None else exchange.stretches(self.date)
        return tuple(within(part.hours, sessions)) or part.hours

    def instrument_seconds(self) -> dict[str, float]:
        """How long each list's instruments that were subscribed traded, all of them together, by its name."""
        found = {}
        for one in self.lists:
            left_out = set(one.left_out)
            found[one.name] = sum(
                len(set(part.tokens) - left_out) * (stop - start).total_seconds()
                for part in one.parts
                for start, stop in self.trading(part)
            )
        return found


def record_path(data: Path, date: dt.date) -> Path:
    """Where a data folder keeps the record of a day."""
    return data / "days" / f"{date.isoformat()}.json"


def write_record(data: Path, record: DayRecord) -> None:
    """Write the record in the place of the one before, whole or not at all. Raises DataFolderError."""
    path = record_path(data, record.date)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, record.model_dump_json(), durable=False)  # the service's loop does not wait for the disk
    except OSError as error:
        raise DataFolderError(f"{path}: the record of the day cannot be written: {error.strerror}") from None


def read_record(data: Path, date: dt.date) -> DayRecord | None:
    """The record of a day; None if there is none. Raises DataFolderError if it cannot be read as one."""
    path = record_path(data, date)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataFolderError(f"{path}: the record of the day cannot be read: {error.strerror}") from None
    try:
        record = DayRecord.model_validate_json(text)
    except ValidationError as error:
        raise DataFolderError(
            f"{path}: got a file with {error.error_count()} mistakes, expected a day's record"
        ) from None
    if record.date != date:
        raise DataFolderError(f"{path}: got the record of {record.date}, expected that of {date}")
    return record
