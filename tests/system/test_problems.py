"""One running service, beside whose config.yaml things go wrong: the status says so, and what there was goes on.

The tests of this file share the service. Each begins by giving it a configuration.
"""

import asyncio
import contextlib
import datetime as dt
import sys
from pathlib import Path
from typing import Final
from unittest.mock import patch

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ingest.connection.stats import Health, Status
from ingest.instruments.listing import Instruments
from kitelake.cli import app as cli
from storage.clock import IST
from tests.support.reloading import KEPT, Shared, shared
from tests.support.waiting import PATIENCE_SECONDS, until
from tests.support.webhook import Webhook

__all__ = ["shared"]  # the fixture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),  # Apprise's import of it
]

CANARY: Final = "canary-7f3a9c"


async def test_a_look_that_fails_is_in_the_status_until_it_succeeds(shared: Shared) -> None:
    await shared.configure(KEPT)
    token = shared.service.account_set.accounts[0].access_token.get_secret_value()
    failure = RuntimeError(f"a fault of ours, with token={token}")
    text = "a look at the service fails and is tried again: RuntimeError: a fault of ours, with token=***"
    with patch("kitelake.service.service.reread", side_effect=failure):
        shared.path.touch()
        await until(lambda: shared.problems)
        assert shared.problems == (text,)
    shared.path.touch()
    await until(lambda: not shared.problems)


async def test_the_status_says_how_old_an_instrument_list_is_that_serves_for_want_of_the_days_own(
    shared: Shared,
) -> None:
    await shared.configure(KEPT, instruments={"fetch_at": "00:00"})
    assert not shared.problems
    listed = shared.service.today.instruments
    assert listed is not None
    before = pc.subtract(listed.table["date"], pa.scalar(3 * 86_400, pa.duration("s"))).cast(pa.date32())
    older = listed.table.set_column(listed.table.schema.get_field_index("date"), "date", before)
    with patch.object(shared.service.today, "instruments", Instruments(older)):
        problem = "".join(shared.problems)
        assert problem.startswith("the instrument list is 3 days old, of ")
    assert not shared.problems


async def test_an_instrument_list_that_does_not_come_leaves_the_one_before_in_force(shared: Shared) -> None:
    """It is tried again in 5 minutes, also if config.yaml is read again meanwhile, and a person is told."""
    service = shared.service
    with contextlib.closing(Webhook()) as webhook:
        target = {"url": f"json://127.0.0.1:{webhook.server.server_port}/"}
        await shared.configure(KEPT, notifications=[target])
        in_force = service.today.instruments
        assert in_force is not None
        shared.simulator.fault("rest", path="/instruments", status=503, seconds=600)
        now = dt.datetime.now(IST)
        await service.cycle.fetch_instruments()
        assert service.today.instruments is in_force
        await service.reload()
        (again,) = [job for job in service.status().jobs if job.name == "fetch again"]
        assert again.next_at is not None
        assert dt.timedelta(minutes=5) <= again.next_at - now <= dt.datetime.now(IST) - now + dt.timedelta(minutes=5)
        assert service.today.instruments is in_force
        await until(lambda: webhook.posts)
        assert [post["title"] for post in webhook.posts] == ["Kitelake: the day's instrument list was not fetched"]
        await shared.grows()
        shared.simulator.fault("clear")
        await service.cycle.fetch_instruments()
        assert service.today.instruments is not in_force
        await shared.grows()


async def test_a_list_file_that_turns_bad_while_it_is_captured_goes_on_as_it_was(
    shared: Shared, tmp_path: Path
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("NSE:INFY\nNSE:RELIANCE\n")
    await shared.configure({"name": "mine", "mode": "full", "file": str(names)})
    await shared.subscribed(2)
    for content, said in (
        (b"", "it names no instrument"),
        (b"a,b\n", "the columns are a, b"),
        (b"\xff", "not UTF-8"),
    ):
        names.write_bytes(content)
        assert (await shared.problem(said)).endswith("; what it meant before goes on")
        await shared.subscribed(2)
    names.unlink()
    await shared.problem("No such file")
    await shared.grows()
    names.write_text("NSE:INFY\nNSE:RELIANCE\nNSE:HDFCBANK\n")
    await shared.subscribed(3)
    assert not shared.problems


async def test_a_calendar_file_that_is_out_of_date_is_a_problem_and_one_that_turns_bad_is_refused(
    shared: Shared, tmp_path: Path
) -> None:
    special = tmp_path / "special.csv"
    header = "date,exchanges,hours,note\n"
    special.write_text(header + "2024-11-01,,18:00-19:15,Muhurat\n")
    await shared.configure(KEPT, calendar={"file": str(special)})
    day = dt.date(2026, 1, 2)

    def out_of_date() -> bool:
        return any("it may be out of date" in problem for problem in shared.problems)

    assert out_of_date()
    special.write_text(header + "2026-01-02,NSE,closed,\n")
    await until(lambda: not out_of_date())
    assert not shared.refused
    special.write_text(header + f"2026-01-02,{CANARY},closed,\n")
    await until(lambda: shared.refused)
    assert "special.csv: line 2: exchanges: expected one or several of NSE" in shared.refused
    assert CANARY not in shared.service.status().model_dump_json()
    assert shared.service.today.calendar.day("NSE", day).why == "special.csv: closed"
    special.write_text(header + "2026-01-02,NSE,open,\n")
    await until(lambda: not shared.refused)
    assert shared.service.today.calendar.day("NSE", day).why == "special.csv: open"


@pytest.mark.parametrize(
    ("symbols", "status", "exit_status"),
    [(["NSE:GONE"], Status.CRITICAL, 1), (["NSE:GONE", "NSE:INFY"], Status.DEGRADED, 0)],
)
async def test_a_list_that_means_nothing_in_its_hours_is_unhealthy(
    shared: Shared, monkeypatch: pytest.MonkeyPatch, symbols: list[str], status: Status, exit_status: int
) -> None:
    await shared.configure(
        *({"name": name, "instruments": [symbol]} for name, symbol in zip("ab", symbols, strict=False))
    )
    percent = 0.0 if status is Status.CRITICAL else 100.0
    expected = Health(status, percent, ("list a is in its hours, and no instrument is found for it",))
    await until(lambda: shared.service.health() == expected)
    monkeypatch.setattr(sys, "argv", ["kitelake", "status", "--config", str(shared.path)])
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await asyncio.to_thread(cli.run_command) != exit_status:  # the file is written at the next look
            await asyncio.sleep(0.1)
