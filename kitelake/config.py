"""config.yaml as frozen models: every option, its unit and its bounds.

What the file says, the environment overrides: `KITELAKE_DATA=/srv/ticks`, `KITELAKE_JOURNAL__SEGMENT_SECONDS=30`.
An unknown key is an error, and so is a secret that is not there. Relative paths start at the file's own folder.
No error text holds a value from the file, since the value might be a secret.
"""

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from ingest.manager import ManagerSettings
from ingest.wire import Mode
from kitelake.errors import ConfigError
from kitelake.secrets import resolve_secret

Secret = Annotated[SecretStr, BeforeValidator(resolve_secret)]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


def _instrument(given: Any) -> str | int:
    if isinstance(given, str | int) and not isinstance(given, bool):
        return given
    raise ValueError("expected a name such as NSE:INFY, or a token")


Instrument = Annotated[str | int, PlainValidator(_instrument)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class SimulatorSection(_Section):
    """The embedded simulator. Without this section the service speaks to the broker."""

    seed: int = Field(default=1, ge=0, description="the same seed gives the same market")
    instruments: int = Field(default=10_000, ge=100, le=100_000, description="size of the simulated market")
    rate: float = Field(default=1.0, gt=0, le=100, description="activity: 2.0 ticks twice as often")
    port: int = Field(default=0, ge=0, le=65_535, description="WebSocket port on loopback; 0 takes a free one")
    api_port: int = Field(default=0, ge=0, le=65_535, description="REST port on loopback; 0 takes a free one")
    record: Path | None = Field(default=None, description="a folder for every frame that it sends, to compare with")


class Endpoints(_Section):
    """Where the broker is."""

    ws: str = Field(default="wss://ws.kite.trade", pattern=r"^wss?://")
    api: str = Field(default="https://api.kite.trade", pattern=r"^https?://")


class AccountSection(_Section):
    """One Kite Connect app and its access token of the day."""

    name: Name
    api_key: Secret
    access_token: Secret


class Select(_Section):
    """Instruments picked from the day's list; what is left out does not restrict."""

    exchange: str | None = Field(default=None, description="as in NSE, NFO, MCX")
    segment: str | None = Field(default=None, description="as in INDICES, NFO-OPT")
    types: tuple[Literal["EQ", "FUT", "CE", "PE"], ...] = ()
    names: tuple[str, ...] = Field(default=(), description="the `name` column: the underlying of a derivative")
    expiries: int | None = Field(default=None, ge=1, description="the nearest n expiries of each name")

    @model_validator(mode="after")
    def _not_everything(self) -> Self:
        if not (self.exchange or self.segment or self.types or self.names):
            raise ValueError("select: expected at least one of exchange, segment, types, names")
        return self


class SubscriptionList(_Section):
    """A list of instruments and the mode to stream them in."""

    name: str = Field(min_length=1)
    mode: Mode | None = Field(default=None, description="None: `capture.default_mode`")
    instruments: tuple[Instrument, ...] = Field(default=(), description="`EXCHANGE:TRADINGSYMBOL`, or bare tokens")
    select: Select | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.instruments) == (self.select is not None):
            raise ValueError("expected either `instruments` or `select`")
        return self


class JournalSection(_Section):
    """The journal: what is received is in it before anything else happens to it."""

    flush_milliseconds: float = Field(
        default=10, gt=0, le=1000, description="at most this old when handed to the system"
    )
    sync_milliseconds: float = Field(
        default=100, gt=0, le=10_000, description="at most this old when synced to the disk"
    )
    segment_seconds: float = Field(default=60, gt=0, le=3600, description="a segment becomes Parquet at this age …")
    segment_bytes: int = Field(
        default=64 * 2**20, ge=2**16, le=2**30, description="… or at this size, whichever is first"
    )
    keep_hours: float = Field(
        default=24, ge=1, description="how long segments are kept once their rows are in the tables"
    )


class InstrumentsSection(_Section):
    """The broker's instrument list, fetched at every start and once a day."""

    fetch_at: dt.time = Field(default=dt.time(8, 35), description="IST")


class LogSection(_Section):
    """Logs go to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class Config(BaseSettings):
    """The whole of config.yaml."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, env_prefix="KITELAKE_", env_nested_delimiter="__"
    )

    data: Path
    accounts: tuple[AccountSection, ...]
    subscriptions: tuple[SubscriptionList, ...]
    simulator: SimulatorSection | None = None
    kite: Endpoints = Endpoints()
    capture: ManagerSettings = ManagerSettings()
    journal: JournalSection = JournalSection()
    instruments: InstrumentsSection = InstrumentsSection()
    log: LogSection = LogSection()

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

    def secrets(self) -> list[str]:
        """Everything in it that must not be seen."""
        return [
            secret.get_secret_value() for account in self.accounts for secret in (account.api_key, account.access_token)
        ]

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
        return self


def load_config(path: Path) -> Config:
    """Read and check config.yaml.

    Raises `ConfigError`, which names every mistake by its path in the file and says what is allowed there.
    """
    document = _read(path)
    try:
        config = Config(**document)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {line}" for line in _explain(error))) from None
    except SettingsError as error:  # an environment variable that is not the JSON that it must be
        raise ConfigError(f"{path}: {error}") from None
    changes: dict[str, Any] = {"data": _below(path, config.data)}
    if config.simulator is not None and config.simulator.record is not None:
        record = _below(path, config.simulator.record)
        changes["simulator"] = config.simulator.model_copy(update={"record": record})
    return config.model_copy(update=changes)


def data_folder(path: Path) -> Path:
    """The data folder that config.yaml names, without asking for its secrets. Raises `ConfigError`."""
    data = os.environ.get("KITELAKE_DATA") or _read(path).get("data")
    if not isinstance(data, str) or not data:
        raise ConfigError(f"{path}: data: expected the path of a folder")
    return _below(path, Path(data))


def _below(path: Path, data: Path) -> Path:
    return (path.parent / data.expanduser()).absolute()


def _read(path: Path) -> dict[str, Any]:
    """The file as a mapping with text for keys."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file. Name one with --config, or `kitelake init` writes one that runs as it is"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}"
        ) from None
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 (it is the safe loader, made stricter)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{path}: {where}not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {type(error).__name__}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected keys such as data, accounts, subscriptions; got {_kind(document)}")
    unusable = [key for key in document if not isinstance(key, str)]
    if unusable:
        raise ConfigError(f"{path}: every key must be text; got {', '.join(map(repr, unusable))}")
    return document


class _Loader(yaml.SafeLoader):
    """The safe loader, which also refuses a key that stands twice: YAML itself lets the last one win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key.value, str) else None)
        return super().construct_mapping(node, deep)


def _kind(value: object) -> str:
    names = {type(None): "an empty file", list: "a list", str: "text", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)


def _explain(error: ValidationError) -> Iterator[str]:
    for entry in error.errors(include_url=False, include_input=False, include_context=True):
        place = ""
        for part in entry["loc"]:
            place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
        if entry["type"] == "extra_forbidden":
            allowed = ", ".join(_allowed(entry["loc"][:-1]))
            yield f"{place}: unknown key; allowed here: {allowed}"
        elif entry["type"] == "missing":
            yield f"{place}: missing"
        else:
            message = entry["msg"].removeprefix("Value error, ")
            yield f"{place}: {message}" if place else message


def _allowed(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the model at this place of the file knows."""
    model: Any = Config
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation)
    return list(model.model_fields)


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in getattr(annotation, "__args__", ()) if (found := _model_in(part))), None)
