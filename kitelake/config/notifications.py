"""Where notifications go."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator

from kitelake.config.secrets import resolve_secret
from kitelake.config.values import Section

About = Literal["problems", "report"]


def _list_of_one(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


class NotificationTarget(Section):
    """Somewhere to send notifications to."""

    url: Annotated[SecretStr, BeforeValidator(resolve_secret)] = Field(
        description="an Apprise URL, as in mailto://… or tgram://…: {env: NAME}, {file: PATH} or the text itself"
    )
    about: Annotated[tuple[About, ...], BeforeValidator(_list_of_one)] = Field(
        default=("problems", "report"), description="problems as they come, the report of each day"
    )

    @field_validator("about")
    @classmethod
    def _something(cls, given: tuple[About, ...]) -> tuple[About, ...]:
        if not given:
            raise ValueError("expected at least one of problems, report")
        return given
