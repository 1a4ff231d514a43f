"""The accounts of config.yaml, and where their access tokens come from."""

import contextlib
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, field_validator

from kitelake.config.secrets import Command, Variable, resolve_secret, token_source_of
from kitelake.config.values import Section, address_of, path_of
from kitelake.errors import ConfigError

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]

Secret = Annotated[SecretStr, BeforeValidator(resolve_secret)]

TokenSetting = Annotated[SecretStr | Variable | Path | Command | None, BeforeValidator(token_source_of)]


def state_folder() -> Path:
    """Where what this program remembers of its user is kept. Raises RuntimeError if there is no home folder."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (state if state.is_absolute() else Path.home() / ".local" / "state") / "kitelake"


class LoginSection(Section):
    """`kitelake login`: how the browser goes there and back, and where logins are kept."""

    folder: Path | None = Field(
        default=None, description="null: kitelake/logins below XDG_STATE_HOME or ~/.local/state"
    )
    port: int = Field(
        default=8710, ge=1, le=65_535, description="of http://127.0.0.1:8710/, the redirect URL of the Kite app"
    )
    page: str = Field(default="https://kite.zerodha.com/connect/login", description="the broker's login page")

    @field_validator("folder", mode="before")
    @classmethod
    def _absolute(cls, given: Any) -> Path | None:
        folder = None if given is None else path_of(given)
        if folder is not None and not folder.is_absolute():
            raise ValueError("expected an absolute path, or one that begins with ~")
        return folder

    @field_validator("page", mode="before")
    @classmethod
    def _address(cls, given: Any) -> str:
        return address_of(given, ("https", "http"))

    def logins(self) -> Path:
        """The folder of the stored logins. Raises ConfigError if it is below a home folder that is not there."""
        if self.folder is not None:
            return self.folder
        try:
            return state_folder() / "logins"
        except RuntimeError:
            raise ConfigError("there is no home folder for stored logins: set login.folder in config.yaml") from None


class AccountSection(Section):
    """One Kite Connect app, and where its access token of the day comes from."""

    name: Name
    api_key: Secret
    api_secret: Secret | None = Field(default=None, description="of the app; for `kitelake login` only")
    access_token: TokenSetting = Field(default=None, description="absent: what `kitelake login` stored")

    def secrets(self) -> list[str]:
        """What config.yaml or the environment says and nobody may see."""
        given = [self.api_key, self.api_secret, self.access_token]
        held = [secret.get_secret_value() for secret in given if isinstance(secret, SecretStr)]
        if isinstance(self.access_token, Variable):
            with contextlib.suppress(ValueError):
                held.append(self.access_token())
        return held
