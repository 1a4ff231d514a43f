"""The upkeep as the service runs it: stopped for lack of room it is no failure, and else what it ends with is one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

from kitelake.config import Config
from kitelake.errors import StartError, UpkeepError
from kitelake.processes import UpkeepRunner, upkeep_runner
from kitelake.processes.child import Child
from tests.support.waiting import PATIENCE_SECONDS

KILLED = -9


class Working(Child):
    """A process that works until it is stopped, and is killed for that; or ends at once with a status of its own."""

    def __init__(self, status: int | None) -> None:
        self._status = status
        self._ended = asyncio.Event()
        if status is not None:
            self._ended.set()

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        await self._ended.wait()
        nothing: tuple[dict[str, Any], ...] = ()
        for line in nothing:
            yield line

    async def wait(self) -> int:
        await self._ended.wait()
        return KILLED if self._status is None else self._status

    async def stop(self, patience_seconds: float = 5.0) -> int:
        self._ended.set()
        return await self.wait()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs an upkeep that ends with `status`; `short` says, look after look, whether the disk lacks room."""
    monkeypatch.setattr(upkeep_runner, "LOOK_SECONDS", 0)
    monkeypatch.setattr(upkeep_runner, "NOTICED_SECONDS", 0.1)
    account = {"name": "one", "api_key": "key", "access_token": "token"}
    lists = [{"name": "a", "instruments": ["NSE:INFY"]}]
    config = Config.model_validate({"data": tmp_path, "accounts": [account], "subscriptions": lists})

    async def run(status: int | StartError | None, *short: bool) -> None:
        async def start(*_: object, **__: object) -> Child:
            if isinstance(status, StartError):
                raise status
            return Working(status)

        monkeypatch.setattr(Child, "start", start)
        looks = chain(short, repeat(short[-1]))
        await UpkeepRunner(lambda: next(looks), lambda _name, _data: None).run(config, seal_before=None)

    return run


async def test_it_is_stopped_when_room_is_lacking_and_that_is_no_failure(run: Callable[..., Any]) -> None:
    """Not even if there is room again once it has ended."""
    await run(None, False, False, True, False)


async def test_a_failure_when_there_is_no_room_is_none(run: Callable[..., Any]) -> None:
    await run(1, False, True)


async def test_nor_if_the_journal_notices_only_then(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep_runner, "NOTICED_SECONDS", PATIENCE_SECONDS)
    await run(1, *[False] * 20, True)


@pytest.mark.parametrize("short", [(False,), (True,)])
async def test_another_failure_is_one(run: Callable[..., Any], short: tuple[bool, ...]) -> None:
    """Also of one that was only to remove what is old, since there was no room from the beginning."""
    with pytest.raises(UpkeepError, match="ended with status 1"):
        await run(1, *short)


async def test_one_that_cannot_be_started_is_a_failure(run: Callable[..., Any]) -> None:
    with pytest.raises(UpkeepError, match="no memory"):
        await run(StartError("no memory"), False)
