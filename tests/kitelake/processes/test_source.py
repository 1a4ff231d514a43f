"""Whether there is at config.yaml's addresses what it says is there."""

import datetime as dt
import json
from pathlib import Path

import pytest

from kitelake.config.config import Config
from kitelake.errors import StartError
from kitelake.processes.source import STATUS, open_source
from tests.support.broker import Answer, Broker, Handler, broker, failing, nothing, plain

__all__ = ["broker"]  # the fixture

WS = "ws://127.0.0.1:1"


def replaying(day: object) -> Answer:
    return plain(json.dumps({"day": day, "speed": 1}).encode())


def config_of(folder: Path, api: str, replay: str | None) -> Config:
    return Config.model_validate(
        {
            "data": folder,
            "accounts": [{"name": "one", "api_key": "any", "access_token": "any"}],
            "subscriptions": [{"name": "a", "instruments": [408065]}],
            "kite": {"ws": WS, "api": api, "replay": replay},
        }
    )


async def opened(config: Config) -> tuple[str, str]:
    async with open_source(config) as source:
        return source.ws, source.api


@pytest.mark.parametrize(
    ("answer", "replay"),
    [
        (replaying("2026-11-24"), "2026-11-24"),
        (failing, None),  # no replay
        (plain(b"hello"), None),
        (plain(b"[]"), None),
        (replaying(20261124), None),
        (nothing, None),  # it has broken down, or is not there yet
        (nothing, "2026-11-24"),
    ],
)
async def test_what_is_as_was_said_is_opened(
    tmp_path: Path, broker: Broker, answer: Answer, replay: str | None
) -> None:
    broker.answer = answer
    assert await opened(config_of(tmp_path, broker.url, replay)) == (WS, broker.url)


@pytest.mark.parametrize(
    ("answer", "replay", "message"),
    [
        (replaying("2026-11-24"), None, "is a replay of 2026-11-24, and config.yaml does not say `replay`: write"),
        (replaying("2026-11-24"), "2026-11-25", "a replay of 2026-11-24, and config.yaml says `replay: 2026-11-25`"),
        (failing, "2026-11-24", r"kite\.replay: http://127\.0\.0\.1:\d+ is no replay: its answer to /replay/status is"),
        (plain(b"{}"), "2026-11-24", "is no replay"),
    ],
)
async def test_what_is_not_as_was_said_is_refused(
    tmp_path: Path, broker: Broker, answer: Answer, replay: str | None, message: str
) -> None:
    broker.answer = answer
    with pytest.raises(StartError, match=message):
        await opened(config_of(tmp_path, broker.url, replay))


async def test_it_is_asked_at_its_own_address(tmp_path: Path, broker: Broker) -> None:
    asked: list[str] = []

    def answer(handler: Handler) -> None:
        asked.append(handler.path)
        replaying("2026-11-24")(handler)

    broker.answer = answer
    config = config_of(tmp_path, f"{broker.url}/", "2026-11-24")
    assert config.kite.replay == dt.date(2026, 11, 24)
    await opened(config)
    assert asked == [STATUS]


async def test_the_broker_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("httpx.AsyncClient", None)  # it would fail
    assert await opened(config_of(tmp_path, "https://api.kite.trade", None)) == (WS, "https://api.kite.trade")
