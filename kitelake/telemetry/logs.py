"""Logs: structlog over the standard library's, to standard error, with IST times and without secrets.

Every record of every library passes one filter, which masks known secrets and whatever stands behind
`access_token=`. Nothing is logged per tick.
"""

import datetime as dt
import logging
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from ingest.accounts import MASK, Redactor
from storage.clock import IST

if TYPE_CHECKING:
    from pydantic import SecretStr

_IN_URLS = re.compile(
    r"((?:access_token|api_key|request_token|checksum|enctoken)=)[^&\s'\"]+|(Authorization:?\s*token\s+)\S+",
    re.IGNORECASE,
)

CHATTY: Final = ("asyncio", "apscheduler", "filelock", "httpx", "httpcore", "websockets")
"""Libraries that are heard from warnings on."""


class LogRedactor:
    """Masks secrets in text: those it was told, and those that a URL or a header gives away by where they stand."""

    def __init__(self, secrets: Iterable[str] = (), redactors: Iterable[Redactor] = ()) -> None:
        self._known = (*redactors, Redactor(map(_secret, secrets)))

    def __call__(self, text: str) -> str:
        for redact in self._known:  # first: by where it stands, a secret ends at a quote
            text = redact(text)
        return _IN_URLS.sub(lambda match: f"{match[1] or match[2]}{MASK}", text)


def _secret(text: str) -> "SecretStr":
    # Loaded with the first one: a child knows none, and mostly starts without pydantic.
    from pydantic import SecretStr

    return SecretStr(text)


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Renders a record and redacts the result, tracebacks included."""

    def __init__(self, redact: LogRedactor, **options: Any) -> None:
        super().__init__(**options)
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact(super().format(record))


def _ist_time(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event["time"] = dt.datetime.now(IST).isoformat(sep=" ", timespec="milliseconds")
    return event


def configure_logs(
    level: str = "info",
    style: Literal["text", "json"] = "text",
    *,
    secrets: Iterable[str] = (),
    redactors: Iterable[Redactor] = (),
    stream: TextIO | None = None,
) -> None:
    """Send the logs of this process to standard error (or `stream`), as lines of text or as JSON.

    `secrets` and what `redactors` know, now or later, are masked.
    """
    stream = stream or sys.stderr
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        _ist_time,
    ]
    render: structlog.typing.Processor
    if style == "json":
        shared.append(structlog.processors.format_exc_info)
        render = structlog.processors.JSONRenderer(default=str)
    else:
        render = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
        )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        _Formatter(
            LogRedactor(secrets, redactors),
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
