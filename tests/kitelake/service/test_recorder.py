"""What is behind the sockets: what the service says of itself, and the writer, which is started until it runs."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kitelake.config import Config
from kitelake.errors import StartError, WriterError
from kitelake.processes.child import Child
from kitelake.service import recorder as module
from kitelake.service.recorder import Recorder
from storage.errors import DiskFullError
from storage.journal import Kind, SegmentReader
from storage.layout import DataLayout
from tests.support.waiting import until

STREAM = "20261123T034500-aaaaaa"
Alarms = list[tuple[str, str]]


class Writing(Child):
    """A writer that has committed everything once the journal is sealed."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        await until(lambda: self._recorder.journal.closed)
        nothing: tuple[dict[str, Any], ...] = ()
        for line in nothing:
            yield line

    async def wait(self) -> int:
        return 0


@pytest.fixture
def alarms() -> Alarms:
    return []


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alarms: Alarms) -> Recorder:
    monkeypatch.setattr(module, "_WRITER_RESTART_SECONDS", (0.0, 0.0))
    config = Config.model_validate(
        {
            "data": tmp_path,
            "accounts": [{"name": "one", "api_key": "key", "access_token": "token"}],
            "subscriptions": [{"name": "a", "instruments": ["NSE:INFY"]}],
            "journal": {"reserve_bytes": 1 << 16},
        }
    )
    return Recorder(config, DataLayout(tmp_path), STREAM, alarm=lambda title, text: alarms.append((title, text)))


@pytest.fixture
def starts(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[str]]:
    """Has the first so many starts of a writer fail; what it gives are the modules that were tried so far."""

    def fail_first(failures: int) -> list[str]:
        tried: list[str] = []

        async def start(name: str, *_: object, **__: object) -> Child:
            tried.append(name)
            if len(tried) <= failures:
                raise StartError(f"{name}: no memory")
            return Writing(recorder)

        monkeypatch.setattr(Child, "start", start)
        return tried

    return fail_first


async def test_a_writer_that_cannot_be_started_is_tried_again_and_said(
    recorder: Recorder, starts: Callable[[int], list[str]], alarms: Alarms
) -> None:
    tried = starts(3)
    async with recorder:
        await until(lambda: len(tried) == 4)
        assert recorder.writer_problem == "kitelake.processes.writer: no memory"
        assert alarms[-1] == (
            "the writer cannot commit what is journalled",
            "It failed 3 times in a row: kitelake.processes.writer: no memory",
        )


async def test_one_that_never_starts_leaves_what_was_received_to_the_next_start(
    recorder: Recorder, starts: Callable[[int], list[str]]
) -> None:
    tried = starts(10**9)
    with pytest.raises(WriterError, match="the next start takes it up"):
        async with recorder:
            await until(lambda: tried)


async def test_what_happened_may_be_said_of_anything_by_its_name(recorder: Recorder, tmp_path: Path) -> None:
    """An account may be named so."""
    said: dict[str, str] = dict.fromkeys(("self", "event", "message", "data"), "good")
    recorder.event("tokens checked", None, **said)
    recorder.journal.close()
    with SegmentReader(DataLayout(tmp_path).segment(STREAM, recorder.journal.segment)) as reader:
        (payload,) = [bytes(payload) for block in reader.read() for _, payload in block.payloads(Kind.EVENT)]
    assert json.loads(payload) == {"event": "tokens checked", "message": None, "data": said}


async def test_what_the_disk_lacks_is_said_until_it_is_mended(
    recorder: Recorder, starts: Callable[[int], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise DiskFullError("no room")

    starts(0)
    assert recorder._reserve.keep()
    said = [recorder.disk_problem]
    with monkeypatch.context() as patched:
        patched.setattr(recorder.journal, "flush", full)
        for _ in range(2):
            recorder._write()
            said.append(recorder.disk_problem)
        recorder.sink.full = True
        said.append(recorder.disk_problem)
    recorder.sink.full = False
    recorder._write()
    said.append(recorder.disk_problem)
    assert [each and each.partition(":")[0] for each in said] == [
        None,
        "the disk has too little room, and what there is is for the journal",
        "the journal cannot be written",
        "memory for what cannot be written is used up",
        "the disk has too little room, and what there is is for the journal",
    ]
    async with recorder:
        await until(lambda: recorder.disk_problem is None)
