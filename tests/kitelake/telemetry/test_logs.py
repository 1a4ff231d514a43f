"""Logs hold no secret, whoever writes them, and carry IST times."""

import io
import json
import logging
from typing import Literal

import pytest
import structlog

from ingest.accounts.account import Account
from kitelake.telemetry.logs import LogRedactor, configure_logs

CANARY = "canary-7f3a9c"


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_secret_in_any_record(style: Literal["text", "json"]) -> None:
    stream = io.StringIO()
    configure_logs("debug", style, secrets=[CANARY], stream=stream)
    structlog.get_logger().info("connecting", url=f"wss://host/?access_token={CANARY}", token=CANARY)
    logging.getLogger("some.library").warning("GET /?api_key=k&access_token=%s", CANARY)
    try:
        raise ValueError(f"bad {CANARY}")
    except ValueError:
        structlog.get_logger().exception("failed")
        logging.getLogger("some.library").exception("failed too")
    text = stream.getvalue()
    assert CANARY not in text
    assert text.count("***") >= 4
    assert "ValueError" in text
    assert "api_key=k&" not in text


@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize("secret", ['begin"end', "begin\\end", "begin'end", "begin\"'\\end", "beginéend"])
def test_a_secret_is_masked_however_it_is_escaped(style: Literal["text", "json"], secret: str) -> None:
    stream = io.StringIO()
    configure_logs("info", style, secrets=[secret], stream=stream)
    log = structlog.get_logger()
    log.info("said", plain=secret, quoted=f'it\'s "{secret}"', inside={"a": [secret]}, url=f"?access_token={secret}")
    try:
        raise KeyError(secret)
    except KeyError as error:
        log.exception("failed", why=str(error), error=error)
    assert "***" in stream.getvalue()
    assert "begin" not in stream.getvalue()
    assert "end" not in stream.getvalue()


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_token_that_an_account_gets_later_is_masked_too(style: Literal["text", "json"]) -> None:
    stream = io.StringIO()
    account = Account("one", "key")
    configure_logs("info", style, redactors=[account.redactor(), Account("two", "key").redactor()], stream=stream)
    account.replace_token(CANARY)
    structlog.get_logger().info("a library says", text=f"Bearer {CANARY}")
    assert CANARY not in stream.getvalue()
    assert "Bearer ***" in stream.getvalue()


def test_unknown_secrets_are_masked_by_where_they_stand() -> None:
    redact = LogRedactor()
    assert redact("wss://h/?api_key=abc&access_token=xyz'") == "wss://h/?api_key=***&access_token=***'"
    assert redact("Authorization: token abc:xyz") == "Authorization: token ***"
    assert redact("nothing here") == "nothing here"


def test_json_lines_with_ist_times() -> None:
    stream = io.StringIO()
    configure_logs("info", "json", stream=stream)
    structlog.get_logger().info("sealed", records=7)
    structlog.get_logger().debug("not at this level")
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert record["event"] == "sealed"
    assert record["records"] == 7
    assert record["time"].endswith("+05:30")
