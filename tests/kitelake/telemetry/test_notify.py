"""Notifications arrive over real sockets, are not repeated, and leave no secret in any log."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from email import message_from_bytes, policy
from typing import Any

import pytest
from pydantic import ValidationError

from kitelake.config.notifications import NotificationTarget
from kitelake.telemetry import notify
from kitelake.telemetry.logs import configure_logs
from kitelake.telemetry.notify import Notifier
from tests.support.webhook import CANARY, Webhook

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise's import of it


def target_at(url: str, **options: Any) -> NotificationTarget:
    return NotificationTarget.model_validate({"url": url, **options})


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    yield webhook
    webhook.close()


@pytest.fixture(autouse=True)
def logs() -> Iterator[io.StringIO]:
    """All logs of the process at the lowest level, which nobody redacts."""
    stream = io.StringIO()
    configure_logs("debug", "json", stream=stream)
    logging.getLogger().setLevel(1)
    yield stream
    assert CANARY not in stream.getvalue()


def warnings(logs: io.StringIO) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, logs.getvalue().splitlines()) if line["level"] == "warning"]


async def test_each_target_gets_what_it_wants(webhook: Webhook) -> None:
    notifier = Notifier([webhook.target(about=["problems"]), webhook.target(about=["report"]), webhook.target()])
    await notifier.send("problems", "no token", "asha has none")
    assert [(post["title"], post["message"]) for post in webhook.posts] == [("no token", "asha has none")] * 2
    assert webhook.paths == [f"/{CANARY}"] * 2
    await notifier.send("report", "24 Nov", "all well")
    assert len(webhook.posts) == 4


async def test_nobody_to_tell_is_no_error(webhook: Webhook, logs: io.StringIO) -> None:
    await Notifier([webhook.target(about=["report"])]).send("problems", "title", "body")
    await Notifier([]).send("problems", "title", "body")
    assert webhook.posts == []
    assert warnings(logs) == []


async def test_a_mail_is_plain_text_with_its_line_breaks() -> None:
    mails: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """As much of SMTP (RFC 5321) as one mail needs."""
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                writer.write(b"354 go on\r\n")
                mails.append(await reader.readuntil(b"\r\n.\r\n"))
            writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        url = f"mailto://127.0.0.1:{port}/?smtp=127.0.0.1&mode=insecure&from=kitelake@example.com&to=me@example.com"
        await Notifier([target_at(url)]).send("report", "24 Nov: all well", "rows: 5\n  NSE <all>")
    (mail,) = mails
    message = message_from_bytes(mail, policy=policy.default)
    assert message["Subject"] == "24 Nov: all well"
    assert message["To"] == "me@example.com"
    text = message.get_body(("plain",))
    assert text is not None
    assert "rows: 5\n  NSE <all>" in text.get_content().replace("\r\n", "\n")


async def test_what_is_told_is_not_waited_for_and_a_slow_server_not_for_long(webhook: Webhook) -> None:
    notifier = Notifier([webhook.target()])
    webhook.open.clear()
    notifier.tell("problems", "the network is gone", "body")
    await notifier.settle(0.05)
    assert webhook.posts == []
    webhook.open.set()
    await notifier.settle(60)
    assert [post["title"] for post in webhook.posts] == ["the network is gone"]
    await notifier.settle(60)  # there is nothing to wait for


async def test_the_same_title_waits_and_is_counted(webhook: Webhook) -> None:
    now = 5.0
    notifier = Notifier([webhook.target()], clock=lambda: now)
    for _ in range(4):
        await notifier.send("problems", "the network is gone", "body")
    await notifier.send("problems", "something else", "body")
    assert [post["title"] for post in webhook.posts] == ["the network is gone", "something else"]
    now += 899
    await notifier.send("problems", "the network is gone", "body")
    assert len(webhook.posts) == 2
    now += 2
    await notifier.send("problems", "the network is gone", "body")
    now += 901
    await notifier.send("problems", "the network is gone", "body")
    assert [post["message"] for post in webhook.posts[2:]] == [
        "body\n\nHeld back since the last notification with this title: 4 more.",
        "body",
    ]


async def test_a_title_that_was_not_delivered_is_not_held_back(webhook: Webhook, logs: io.StringIO) -> None:
    notifier = Notifier([webhook.target()])
    webhook.status = 500
    await notifier.send("problems", "title", "body")
    (warning,) = warnings(logs)
    assert warning["target"] == "notifications[0]"
    assert warning["reason"] == "the server of this json:// address refused it or could not be reached"
    webhook.status = 200
    await notifier.send("problems", "title", "body")
    await notifier.send("problems", "title", "body")
    assert len(webhook.posts) == 2


async def test_one_target_that_fails_does_not_keep_it_from_the_others(webhook: Webhook, logs: io.StringIO) -> None:
    closed = target_at(f"json://127.0.0.1:1/{CANARY}")
    unknown = target_at(f"nope://{CANARY}")
    await Notifier([closed, unknown, webhook.target()]).send("problems", "title", "body")
    assert len(webhook.posts) == 1
    reasons = {warning["target"]: warning["reason"] for warning in warnings(logs)}
    assert reasons == {
        "notifications[0]": "the server of this json:// address refused it or could not be reached",
        "notifications[1]": "not an address that Apprise knows",
    }


async def test_a_server_that_hangs_is_given_up_and_does_not_block(
    webhook: Webhook, logs: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "SEND_SECONDS", 0.2)
    webhook.open.clear()
    notifier = Notifier([webhook.target()])
    sending = asyncio.create_task(notifier.send("problems", "title", "body"))
    await asyncio.sleep(0)
    assert not sending.done()  # the loop goes on meanwhile
    await sending
    (warning,) = warnings(logs)
    assert "longer than" in warning["reason"]
    assert webhook.posts == []


async def test_a_plugin_that_raises_is_a_warning_without_its_text(
    webhook: Webhook, logs: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(CANARY)

    monkeypatch.setattr("apprise.Apprise.notify", broken)
    await Notifier([webhook.target()]).send("problems", "title", "body")
    assert warnings(logs)[0]["reason"] == "OSError"


def test_addresses_that_apprise_does_not_know_are_named_by_their_place() -> None:
    targets = [
        target_at("json://127.0.0.1/"),
        target_at(f"nope://{CANARY}"),
        target_at(f"tgram://{CANARY}/1"),
        target_at(CANARY),
    ]
    notifier = Notifier(targets)
    problems = notifier.problems_with_targets()
    assert [problem.partition(":")[0] for problem in problems] == [
        "notifications[1].url",
        "notifications[2].url",
        "notifications[3].url",
    ]
    assert not any(CANARY in problem for problem in problems)
    assert notifier.secrets() == [target.url.get_secret_value() for target in targets]
    assert CANARY not in repr(targets)


def test_a_url_comes_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITE_MAIL", "json://127.0.0.1/")
    target = NotificationTarget.model_validate({"url": {"env": "KITE_MAIL"}})
    assert target.url.get_secret_value() == "json://127.0.0.1/"
    assert target.about == ("problems", "report")


@pytest.mark.parametrize("wrong", [{"about": []}, {"about": ["weather"]}, {"url": ""}, {"to": "me"}])
def test_what_a_target_may_not_say(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        NotificationTarget.model_validate({"url": f"json://host/{CANARY}"} | wrong)
    assert CANARY not in str(raised.value)
