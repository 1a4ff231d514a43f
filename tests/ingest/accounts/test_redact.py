"""Secrets in texts of others: masked in every form, and in whatever a library logs."""

import json
import logging

import pytest
from pydantic import SecretStr

from ingest.accounts.redact import MASK, RedactingLogger, Redactor


def test_redactor_takes_out_every_form() -> None:
    redact = Redactor([SecretStr("a+b/c d"), SecretStr("a+b"), SecretStr("")])
    text = "a+b/c d a%2Bb/c%20d a%2Bb%2Fc%20d a%2Bb%2Fc+d a+b a%2Bb plain"
    assert redact(text) == " ".join([MASK] * 6 + ["plain"])
    assert Redactor([])("anything") == "anything"


@pytest.mark.parametrize("secret", ["it's", 'a"b', "a\\b", "a\"b'c\\d", "é"])
def test_redactor_takes_out_what_is_escaped(secret: str) -> None:
    redact = Redactor([SecretStr(secret)])
    marked = f"<{secret}>"
    for text in (repr(marked), repr(f"{marked}'"), repr(f'{marked}"'), repr(f"{marked}'\""), json.dumps(repr(marked))):
        assert f"<{MASK}>" in redact(text)


def test_a_redactor_learns_and_shows_nothing() -> None:
    redact = Redactor([SecretStr("canaryOne")])
    redact.learn(SecretStr("canaryTwo"), SecretStr("canaryTwoAndMore"))
    assert redact("canaryOne canaryTwo canaryTwoAndMore") == f"{MASK} {MASK} {MASK}", "the longest first"
    assert "canary" not in repr(redact)


def test_a_logger_for_libraries_masks_and_is_never_below_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logger = RedactingLogger(logging.getLogger("tests.redact"), Redactor([SecretStr("canaryOne")]))
    logger.debug("GET /?access_token=%s", "canaryOne")
    logger.info("connected with %s", "canaryOne")
    try:
        raise RuntimeError("no answer to canaryOne")
    except RuntimeError:
        logger.exception("failed")
    assert [(record.levelname, record.getMessage(), record.exc_info) for record in caplog.records] == [
        ("INFO", f"connected with {MASK}", None),
        ("ERROR", f"failed: RuntimeError: no answer to {MASK}", None),
    ]
