"""The service's schedule under a faked clock: starts that come late, sleeps of the machine, and a clock that is set."""

from pathlib import Path

import pytest

import kitelake
from storage.clock import IST
from tests.support.november import METALS, NOVEMBER, OPTIONS, simulator
from tests.support.schedule import EQUITIES, Trial, clock_at, config_of, run
from tests.support.simulation import Simulation

__all__ = ["simulator"]  # the fixture

pytestmark = pytest.mark.slow


async def nothing(trial: Trial) -> None:
    """It is started and stopped."""


def test_a_late_start_captures_at_once_and_then_does_once_what_was_due(tmp_path: Path, simulator: Simulation) -> None:
    """By the list of Friday, until today's is there. Friday, when it was stopped in mid-session, is reported, too."""
    settings = config_of(tmp_path, simulator, EQUITIES)
    with clock_at("2026-11-06T10:00") as clock:
        run(settings, simulator, clock, nothing)

    async def scenario(trial: Trial) -> None:
        assert await trial.streamed() == ["equities"]
        await trial.wait_for(lambda: trial.service.progress().packets > 0)
        await trial.until("2026-11-09T16:00")

    with clock_at("2026-11-09T11:00") as clock:
        diary = run(settings, simulator, clock, scenario)
    assert diary.told == [
        "Mon 09 11:00 equities started",
        "Mon 09 11:00 planned by 2026-11-06",
        "Mon 09 11:00 planned by 2026-11-09",
        "Mon 09 11:00 reported 2026-11-06",
        "Mon 09 11:00 service started",
        "Mon 09 11:00 tokens: good",
        "Mon 09 15:35 equities stopped",
        "Mon 09 15:40 reported 2026-11-09",
        "Mon 09 16:00 service stopped",
    ]
    assert diary.in_order.index("equities started") < diary.in_order.index("planned by 2026-11-09")
    assert diary.ran == [
        "Mon 09 11:00 begin",
        *(f"Mon 09 {hour}:50 seal hours" for hour in range(11, 15)),
        "Mon 09 15:35 stop equities",
        "Mon 09 15:40 end of day",
        "Mon 09 15:42 seal",
    ]
    with kitelake.open(tmp_path) as lake:
        (ticks,) = lake.sql("select min(received_at) as first from ticks where date = '2026-11-09'").arrow().to_pylist()
    assert ticks["first"].astimezone(IST).hour == 11


def test_a_start_in_the_evening_captures_nothing_and_reports_the_day(tmp_path: Path, simulator: Simulation) -> None:
    """It was stopped in mid-session on Monday; Tuesday is a holiday."""
    settings = config_of(tmp_path, simulator, EQUITIES)
    with clock_at("2026-11-09T14:00") as clock:
        run(settings, simulator, clock, nothing)

    async def scenario(trial: Trial) -> None:
        assert await trial.streamed() == []
        status = trial.service.status()
        assert (status.phase, status.doing) == ("waiting", "waiting: the next list starts on Wed 11 Nov at 09:00")
        await trial.until("2026-11-11T08:00")

    with clock_at("2026-11-09T20:00") as clock:
        diary = run(settings, simulator, clock, scenario)
    assert diary.told == [
        "Mon 09 20:00 planned by 2026-11-09",
        "Mon 09 20:00 planned by 2026-11-09",
        "Mon 09 20:00 reported 2026-11-09",
        "Mon 09 20:00 service started",
        "Mon 09 20:00 tokens: good",
        "Wed 11 08:00 service stopped",
    ]
    assert diary.ran == ["Mon 09 20:00 begin"]


def test_after_a_sleep_across_the_open_everything_is_done_once_and_at_once(
    tmp_path: Path, simulator: Simulation
) -> None:
    async def scenario(trial: Trial) -> None:
        await trial.until("2026-11-09T08:01")
        await trial.jump_to("2026-11-09T10:30")
        assert await trial.streamed() == ["equities", "metals"]
        await trial.until("2026-11-09T16:00")
        assert await trial.streamed() == ["metals"]

    with clock_at("2026-11-09T08:00") as clock:
        diary = run(config_of(tmp_path, simulator, EQUITIES, METALS), simulator, clock, scenario)
    assert diary.told == [
        "Mon 09 08:00 planned by 2026-11-09",
        "Mon 09 08:00 service started",
        "Mon 09 08:00 tokens: good",
        "Mon 09 10:30 clock jumped by 149 min",
        "Mon 09 10:30 equities started",
        "Mon 09 10:30 metals started",
        "Mon 09 10:30 planned by 2026-11-09",
        "Mon 09 10:30 planned by 2026-11-09",
        "Mon 09 10:30 tokens: good",
        "Mon 09 15:35 equities stopped",
        "Mon 09 16:00 service stopped",
    ]
    assert diary.ran == [
        "Mon 09 08:00 begin",
        "Mon 09 10:30 check tokens",
        "Mon 09 10:30 fetch instruments",
        "Mon 09 10:30 make plan",
        "Mon 09 10:30 start equities",
        "Mon 09 10:30 start metals",
        *(f"Mon 09 {hour}:50 seal hours" for hour in range(10, 15)),
        "Mon 09 15:35 stop equities",
        "Mon 09 15:50 seal hours",
    ]


def test_after_a_sleep_over_the_weekend_friday_is_ended_and_monday_begun(tmp_path: Path, simulator: Simulation) -> None:
    async def scenario(trial: Trial) -> None:
        await trial.until("2026-11-13T18:00")
        assert await trial.streamed() == ["metals"]
        await trial.jump_to("2026-11-16T08:40")
        assert await trial.streamed() == []
        await trial.until("2026-11-16T09:00")
        assert await trial.streamed() == ["equities", "metals"]

    with clock_at("2026-11-13T15:00") as clock:
        diary = run(
            config_of(tmp_path, simulator, EQUITIES, METALS, calendar={"hours": NOVEMBER["hours"]}),
            simulator,
            clock,
            scenario,
        )
    assert diary.told == [
        "Fri 13 15:00 equities started",
        "Fri 13 15:00 metals started",
        "Fri 13 15:00 planned by 2026-11-13",
        "Fri 13 15:00 service started",
        "Fri 13 15:00 tokens: good",
        "Fri 13 15:35 equities stopped",
        "Mon 16 08:40 clock jumped by 3760 min",
        "Mon 16 08:40 metals stopped",
        "Mon 16 08:40 planned by 2026-11-16",
        "Mon 16 08:40 reported 2026-11-13",
        "Mon 16 08:40 tokens: good",
        "Mon 16 08:50 planned by 2026-11-16",
        "Mon 16 08:50 tokens: good",
        "Mon 16 09:00 equities started",
        "Mon 16 09:00 metals started",
        "Mon 16 09:00 service stopped",
    ]


def test_a_clock_that_is_set_in_mid_session_changes_what_is_streamed_and_repeats_nothing_needless(
    tmp_path: Path, simulator: Simulation
) -> None:
    """An hour forward and back, first within the session, then across its end. A time that comes again is met again."""

    async def scenario(trial: Trial) -> None:
        await trial.until("2026-11-09T10:01")
        await trial.wait_for(lambda: len(trial.service.today.lists["options"].tokens) > 0)
        await trial.until("2026-11-09T11:30")
        await trial.jump_to("2026-11-09T12:30")
        assert await trial.streamed() == ["equities", "options"]
        await trial.jump_to("2026-11-09T11:30")
        assert await trial.streamed() == ["equities", "options"]
        await trial.until("2026-11-09T15:20")
        await trial.jump_to("2026-11-09T16:20")
        assert await trial.streamed() == []
        await trial.jump_to("2026-11-09T15:20")
        assert await trial.streamed() == ["equities", "options"]
        await trial.until("2026-11-09T15:35")
        assert await trial.streamed() == []
        await trial.until("2026-11-09T23:00")

    with clock_at("2026-11-09T10:00") as clock:
        settings = config_of(tmp_path, simulator, EQUITIES, OPTIONS)
        diary = run(settings, simulator, clock, scenario)
    assert diary.told == [
        "Mon 09 10:00 equities started",
        "Mon 09 10:00 options started",
        "Mon 09 10:00 planned by 2026-11-09",
        "Mon 09 10:00 service started",
        "Mon 09 10:00 tokens: good",
        "Mon 09 11:30 clock jumped by -60 min",
        "Mon 09 12:30 clock jumped by 60 min",
        "Mon 09 15:20 clock jumped by -60 min",
        "Mon 09 15:20 equities started",
        "Mon 09 15:20 options started",
        "Mon 09 15:35 equities stopped",
        "Mon 09 15:35 options stopped",
        "Mon 09 15:40 reported 2026-11-09",
        "Mon 09 16:20 clock jumped by 60 min",
        "Mon 09 16:20 equities stopped",
        "Mon 09 16:20 options stopped",
        "Mon 09 16:20 reported 2026-11-09",
        "Mon 09 23:00 service stopped",
    ]
    assert diary.ran == [
        "Mon 09 10:00 begin",
        "Mon 09 10:50 seal hours",
        "Mon 09 11:50 seal hours",
        "Mon 09 12:00 resolve options anew",
        "Mon 09 12:30 resolve options anew",
        "Mon 09 12:30 seal hours",
        *(f"Mon 09 {hour}:50 seal hours" for hour in range(12, 15)),
        "Mon 09 15:00 resolve options anew",
        "Mon 09 15:35 stop equities",
        "Mon 09 15:35 stop options",
        "Mon 09 15:40 end of day",
        "Mon 09 15:42 seal",
        "Mon 09 16:20 end of day",
        "Mon 09 16:20 seal",
        "Mon 09 16:20 stop equities",
        "Mon 09 16:20 stop options",
    ]
