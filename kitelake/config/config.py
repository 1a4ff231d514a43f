"""config.yaml as frozen models: every option, its unit and its bounds.

What the file says, the environment overrides: `KITELAKE_DATA=/srv/ticks`, `KITELAKE_JOURNAL__SEGMENT_SECONDS=30`.
An unknown key is an error, and so is a secret that is not there. Relative paths start at the file's own folder.
No error text holds a value from the file, since the value might be a secret.
"""

import datetime as dt
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from ingest.settings import ManagerSettings, RestSeconds, Strategy
from kitelake.config.accounts import AccountSection, LoginSection
from kitelake.config.calendar import CalendarSection, date_of
from kitelake.config.document import (
    ENV_DELIMITER,
    ENV_PREFIX,
    explain,
    explain_variable,
    read_document,
    unknown_variables,
)
from kitelake.config.notifications import NotificationTarget
from kitelake.config.subscriptions import SubscriptionList
from kitelake.config.values import Section, address_of, is_of_broker, is_one_line, path_of, stretch_of_time
from kitelake.errors import ConfigError
from storage.datafolder import TickSource
from storage.market import time_of_day

OTHER_VARIABLES: Final = frozenset({"KITELAKE_CONFIG"})  # of the command line; every other KITELAKE_… is an option

_ENCODED: Final = re.compile(r"%[0-9A-Fa-f]{2}")  # see storage.tables.log
Folder = Annotated[Path, BeforeValidator(path_of)]
Stretch = Annotated[dt.timedelta, BeforeValidator(stretch_of_time)]
TimeOfDay = Annotated[dt.time, BeforeValidator(time_of_day)]


class SimulatorSection(Section):
    """The embedded simulator. Without this section the service speaks to the broker."""

    seed: int = Field(default=1, ge=0, description="the same seed gives the same market")
    instruments: int = Field(default=10_000, ge=100, le=100_000, description="size of the simulated market")
    rate: float = Field(default=1.0, gt=0, le=100, description="activity: 2.0 ticks twice as often")
    port: int = Field(default=0, ge=0, le=65_535, description="WebSocket port on loopback; 0 takes a free one")
    api_port: int = Field(default=0, ge=0, le=65_535, description="REST port on loopback; 0 takes a free one")
    record: Folder | None = Field(default=None, description="a folder for every frame that it sends, to compare with")


class Endpoints(Section):
    """Where the broker is, or a replay of a captured day in its place."""

    ws: str = "wss://ws.kite.trade"
    api: str = "https://api.kite.trade"
    replay: Annotated[dt.date, PlainValidator(date_of)] | None = Field(
        default=None, description="the replayed day, if both addresses are those of a replay; null: they are not"
    )

    @field_validator("ws", mode="before")
    @classmethod
    def _streams(cls, given: Any) -> str:
        return address_of(given, ("wss", "ws"))

    @field_validator("api", mode="before")
    @classmethod
    def _answers(cls, given: Any) -> str:
        return address_of(given, ("https", "http"))

    @model_validator(mode="after")
    def _replayed_elsewhere(self) -> Self:
        """What the broker sends must never pass for a replay: it would be taken for ticks of that day."""
        for name, address in (("ws", self.ws), ("api", self.api)):
            if self.replay is not None and is_of_broker(address):
                raise ValueError(
                    "replay: expected `ws` and `api` of the replay with it, as `kitelake replay` prints them; "
                    f"{name} is the broker's"
                )
        return self


class CaptureSection(ManagerSettings):
    """How the sockets are kept. Nobody waits for a packet of the service's, so a busy socket rests longer."""

    rest_seconds: RestSeconds = 0.008


class JournalSection(Section):
    """The journal: what is received is in it before anything else happens to it."""

    flush_milliseconds: float = Field(
        default=20, gt=0, le=1000, description="at most this old when handed to the system"
    )
    sync_milliseconds: float = Field(
        default=100, gt=0, le=10_000, description="at most this old when synced to the disk"
    )
    segment_seconds: float = Field(default=60, gt=0, le=3600, description="a segment becomes Parquet at this age …")
    segment_bytes: int = Field(
        default=64 * 2**20, ge=2**16, le=2**30, description="… or at this size, whichever is first"
    )
    buffer_bytes: int = Field(
        default=512 * 2**20, ge=2**20, description="what may wait in memory; what comes beyond it is lost"
    )
    reserve_bytes: int = Field(
        default=256 * 2**20, ge=0, description="room on the disk that is kept for the journal; 0: none"
    )


class SealSection(Section):
    """Many small files become few sorted ones."""

    enabled: bool = Field(default=True, description="after the end of the day; `kitelake seal` does it by hand")
    hourly: bool = Field(default=True, description="also what there is of a day that goes on")
    memory_bytes: int = Field(
        default=2 * 2**30, ge=2**28, description="at most; with less, a day is sorted in shorter stretches"
    )
    grace: Stretch = Field(
        default=dt.timedelta(hours=1),
        description="how long replaced files are kept for readers; today's until midnight",
    )


class RetentionSection(Section):
    """How long what was captured is kept."""

    journal: Stretch = Field(
        default=dt.timedelta(days=7), description="segments, compressed, once their rows are in the tables and verified"
    )
    days: int | None = Field(default=None, ge=2, description="so many days of the tables; null: all")
    disk_bytes: int | None = Field(
        default=None, ge=2**30, description="or as many as fit into so much disk; null: no limit"
    )


class InstrumentsSection(Section):
    """The broker's instrument list, fetched once a day."""

    fetch_at: TimeOfDay = Field(default=dt.time(8, 35), description="IST")
    least_share: float = Field(
        default=0.7, ge=0, le=1, description="a list with a smaller share of the rows of the one before is refused"
    )


class ScheduleSection(Section):
    """When the service does what it does every day; in IST, on days on which a list is captured."""

    tokens_at: TimeOfDay = Field(
        default=dt.time(8, 30), description="every account's token is checked, and again shortly before each start"
    )
    plan_at: TimeOfDay = Field(default=dt.time(8, 50), description="the day's plan is made, told and kept")
    end_of_day_after: Stretch = Field(
        default=dt.timedelta(minutes=5),
        le=dt.timedelta(hours=12),
        description="so long after the last list has stopped the day is reported",
    )


class MetricsSection(Section):
    """A page for Prometheus, over plain HTTP and open to whoever reaches it."""

    port: int | None = Field(default=None, ge=0, le=65_535, description="null: no page; 0 takes a free one")
    host: str = Field(default="127.0.0.1", min_length=1, description="the address to listen on")


class LogSection(Section):
    """Logs go to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class DataOption(BaseSettings):
    """The one option that queries need; the rest of the file may be unusable to them, without its secrets."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_default=False,
        defer_build=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
    )

    data: Folder

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment over the file, and nothing else."""
        return env_settings, init_settings


class Config(DataOption):
    """The whole of config.yaml."""

    accounts: tuple[AccountSection, ...]
    subscriptions: tuple[SubscriptionList, ...]
    simulator: SimulatorSection | None = None
    kite: Endpoints = Endpoints()
    capture: CaptureSection = CaptureSection()
    journal: JournalSection = JournalSection()
    seal: SealSection = SealSection()
    retention: RetentionSection = RetentionSection()
    instruments: InstrumentsSection = InstrumentsSection()
    calendar: CalendarSection = CalendarSection()
    schedule: ScheduleSection = ScheduleSection()
    notifications: tuple[NotificationTarget, ...] = ()
    login: LoginSection = LoginSection()
    metrics: MetricsSection = MetricsSection()
    log: LogSection = LogSection()

    @property
    def source(self) -> TickSource:
        """Where ticks come from."""
        if self.simulator is not None:
            return "simulator"
        return "kite" if self.kite.replay is None else "replay"

    def market_day(self, date: dt.date) -> dt.date:
        """The market's day while it is this one here: the replayed day, where one is replayed."""
        return self.kite.replay or date

    def secrets(self) -> list[str]:
        """Everything in it that must not be seen."""
        targets = [target.url.get_secret_value() for target in self.notifications]
        return [secret for account in self.accounts for secret in account.secrets()] + targets

    @field_validator("simulator", mode="before")
    @classmethod
    def _not_empty(cls, given: Any) -> Any:
        """Nothing after `simulator:` may mean with it or without it; real ticks are too dear to guess."""
        if given is None:
            raise ValueError(
                "it is empty: delete the line to connect to Kite, or give it options (`simulator: {}` for the defaults)"
            )
        return given

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.simulator is not None and self.kite.replay is not None:
            raise ValueError(
                "simulator and kite.replay: expected one of them; delete the section `simulator` to capture a replay"
            )
        return self

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        for what, names in (
            ("accounts", [account.name for account in self.accounts]),
            ("subscriptions", [entry.name for entry in self.subscriptions]),
        ):
            if not names:
                raise ValueError(f"{what}: expected at least one")
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what}: each name may stand once; twice here: {', '.join(twice)}")
        keys = [account.api_key.get_secret_value() for account in self.accounts]
        alike = [account.name for account, key in zip(self.accounts, keys, strict=True) if keys.count(key) > 1]
        if alike:
            raise ValueError(
                f"accounts: each has an api_key of its own; some of these have the same: {', '.join(alike)}"
            )
        return self

    @model_validator(mode="after")
    def _lists_that_fit(self) -> Self:
        self.check_lists()
        return self

    def check_lists(self) -> None:
        """Raises ValueError if the lists do not fit the accounts, or either of them `capture`."""
        names = [account.name for account in self.accounts]
        for place, entry in enumerate(self.subscriptions):
            where = f"subscriptions[{place}]"
            if unknown := [name for name in entry.accounts if name not in names]:
                raise ValueError(
                    f"{where}.accounts: there is no account {', '.join(unknown)}; expected some of {', '.join(names)}"
                )
            if entry.copies is not None and entry.copies > len(names):
                raise ValueError(f"{where}.copies: expected at most {len(names)}, the number of accounts")
            if self.capture.strategy is Strategy.MANUAL and not entry.accounts:
                raise ValueError(f"{where}.accounts: expected some, since capture.strategy is manual")
        if self.capture.strategy is Strategy.REDUNDANT and self.capture.copies > len(names):
            raise ValueError(f"capture.copies: expected at most {len(names)}, the number of accounts")


Model = TypeVar("Model", bound=DataOption)


def load_config(path: Path) -> Config:
    """Read and check config.yaml.

    Raises `ConfigError`, which names every mistake by its path in the file and says what is allowed there.
    """
    document = read_document(path)
    config = _load(Config, path, document, _pointed(document))
    changes: dict[str, Any] = {"data": _data_below(path, config.data)}
    if config.simulator is not None and config.simulator.record is not None:
        record = _below(path, config.simulator.record)
        changes["simulator"] = config.simulator.model_copy(update={"record": record})
    if config.calendar.file is not None:
        changes["calendar"] = config.calendar.model_copy(update={"file": _below(path, config.calendar.file)})
    changes["subscriptions"] = tuple(
        entry if entry.file is None else entry.model_copy(update={"file": _below(path, entry.file)})
        for entry in config.subscriptions
    )
    return config.model_copy(update=changes)


def data_folder(path: Path) -> Path:
    """The data folder that config.yaml names, without asking for its secrets. Raises `ConfigError`."""
    document = read_document(path)
    only = {key: document[key] for key in DataOption.model_fields if key in document}
    return _data_below(path, _load(DataOption, path, only, _pointed(document)).data)


def _load(model: type[Model], path: Path, document: Mapping[str, Any], pointed: set[str]) -> Model:
    """The environment over the document, as this model."""
    mistakes = list(unknown_variables(Config, OTHER_VARIABLES | pointed))
    if not is_one_line(str(path.absolute())):  # relative paths begin there, and messages name it
        mistakes.append("expected a place whose absolute path is UTF-8 without line breaks and control characters")
    # A leading underscore would reach pydantic-settings as an argument of its own.
    mistakes += [f"{key}: unknown key; none begins with an underscore" for key in document if key.startswith("_")]
    if not mistakes:
        try:
            return model(**document)
        except ValidationError as error:
            mistakes.extend(explain(error, model))
        except SettingsError as error:
            mistakes.append(explain_variable(error))
    raise ConfigError("\n".join(f"{path}: {mistake}" for mistake in mistakes))


def _pointed(document: Mapping[str, Any]) -> set[str]:
    """The environment variables that accounts and notifications point to for their secrets: they may have any name."""
    sections = [section for key in ("accounts", "notifications") for section in _listed(document.get(key))]
    secrets = [secret for section in sections if isinstance(section, dict) for secret in section.values()]
    return {str(secret["env"]) for secret in secrets if isinstance(secret, dict) and "env" in secret}


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else []


def _data_below(path: Path, data: Path) -> Path:
    folder = _below(path, data)
    if _ENCODED.search(str(folder)):
        raise ConfigError(
            f"{path}: data: expected a folder without `%` and two hex digits anywhere in its absolute path, "
            "which the tables' format would decode"
        )
    return folder


def _below(path: Path, folder: Path) -> Path:
    return (path.parent / folder).absolute()
