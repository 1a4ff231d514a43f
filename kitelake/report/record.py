"""The record of a day: what the service meant to capture on it. One JSON file a day, `<data>/days/2026-11-24.json`."""

import datetime as dt
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from ingest.wire import Mode
from storage.errors import DataFolderError


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ListRecord(_Part):
    """One subscription list on one day."""

    name: str
    mode: Mode
    meaning: str = Field(default="", description="a digest of what config.yaml says of it")
    hours: tuple[tuple[AwareDatetime, AwareDatetime], ...] = Field(description="from … up to, one after the other")
    tokens: tuple[int, ...] = Field(description="all that were wanted at some time of the day")
    left_out: tuple[int, ...] = Field(default=(), description="those of them that found no room on a connection")
    problems: tuple[str, ...] = Field(default=(), description="one for each name that means no instrument, in words")


class DayRecord(_Part):
    """What the service meant to capture on one IST day."""

    date: dt.date
    lists: tuple[ListRecord, ...] = ()
    accounts: dict[str, str | None] = Field(
        default_factory=dict, description="what is wrong with the account's token of the day, in words; null: nothing"
    )
    reported_at: AwareDatetime | None = Field(default=None, description="when the report was made; null: not yet")


def record_path(data: Path, date: dt.date) -> Path:
    """Where a data folder keeps the record of a day."""
    return data / "days" / f"{date.isoformat()}.json"


def write_record(data: Path, record: DayRecord) -> None:
    """Write the record in the place of the one before, whole or not at all. Raises DataFolderError."""
    path = record_path(data, record.date)
    new = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(record.model_dump_json(), encoding="utf-8")
        new.replace(path)
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
