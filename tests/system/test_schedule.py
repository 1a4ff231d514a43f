"""The service's schedule under a faked clock, by days and weeks: what happens when, on days of every kind."""

import datetime as dt
from pathlib import Path

import pytest

from tests.support.november import METALS, NOVEMBER, OPTIONS, simulator
from tests.support.schedule import EQUITIES, Trial, clock_at, config_of, ist, run
from tests.support.simulation import Simulation

__all__ = ["simulator"]  # the fixture

pytestmark = pytest.mark.slow


def usual(date: dt.date) -> list[str]:
    """A day on which NSE and MCX are open as usual."""
    day, next_day = f"{date:%a %d}", f"{date + dt.timedelta(days=1):%a %d}"
    return [
        f"{day} 08:30 tokens: good",
        f"{day} 08:35 planned by {date}",
        f"{day} 08:50 planned by {date}",
        f"{day} 08:50 tokens: good",
        f"{day} 09:00 equities started",
        f"{day} 09:00 metals started",
        f"{day} 09:00 options started",
        f"{day} 15:35 equities stopped",
        f"{day} 15:35 options stopped",
        f"{day} 23:55 metals stopped",
        f"{next_day} 00:00 reported {date}",
    ]


@pytest.mark.parametrize(
    ("end", "more_days"),
    [
        pytest.param("2026-11-11T01:00", [], id="days"),
        pytest.param("2026-11-21T13:00", [11, 12, 13, 16, 17, 18, 19, 20], id="weeks", marks=pytest.mark.soak),
    ],
)
def test_days_of_every_kind_with_a_saturday_muhurat_a_holiday_and_an_evening_session(
    tmp_path: Path, simulator: Simulation, end: str, more_days: list[int]
) -> None:
    """Everything that the service did from Saturday to the end, and nothing else: one day of each kind, or weeks."""

    async def scenario(trial: Trial) -> None:
        jobs = {job.name: f"{job.next_at:%a %d %H:%M}" for job in trial.jobs().values() if job.next_at}
        assert jobs == {
            "retention": "Sat 07 08:20",
            "check tokens": "Sat 07 08:30",
            "fetch instruments": "Sat 07 08:35",
            "make plan": "Sat 07 08:50",
            "start equities": "Sat 07 09:15",
            "start options": "Sat 07 09:15",
            "start metals": "Sun 08 17:45",
            "stop equities": "Sat 07 10:25",
            "stop options": "Sat 07 10:25",
            "stop metals": "Sun 08 19:15",
            "end of day": "Sat 07 12:45",
            "seal": "Sat 07 12:47",
            "seal hours": "Sat 07 10:50",
            "resolve options anew": "Mon 09 12:00",
        }
        assert await trial.streamed() == []
        await trial.until("2026-11-07T09:16")  # as soon as there is a price, there are strikes around it
        await trial.wait_for(lambda: len(trial.service.today.lists["options"].tokens) > 0)
        await trial.until("2026-11-07T11:00")
        assert await trial.streamed() == []
        await trial.until("2026-11-07T12:00")
        assert await trial.streamed() == ["equities", "options"]
        await trial.until("2026-11-08T17:45")
        assert await trial.streamed() == ["equities", "options", "metals"]
        await trial.until("2026-11-10T12:00")
        assert await trial.streamed() == []
        await trial.until("2026-11-10T20:00")
        assert await trial.streamed() == ["metals"]
        if more_days:
            await trial.until("2026-11-19T15:34")
            assert await trial.streamed() == ["equities", "options", "metals"]
            await trial.until("2026-11-19T15:35")
            assert await trial.streamed() == ["metals"]
        await trial.until(end)
        assert all(job.outcome == "done" for job in trial.jobs().values())

    with clock_at("2026-11-07T08:00") as clock:
        diary = run(
            config_of(tmp_path, simulator, EQUITIES, OPTIONS, METALS, calendar=NOVEMBER), simulator, clock, scenario
        )
    more = [dt.date(2026, 11, day) for day in more_days]
    assert diary.told == [
        "Sat 07 08:00 planned by 2026-11-07",
        "Sat 07 08:00 service started",
        "Sat 07 08:00 tokens: good",
        "Sat 07 08:30 tokens: good",
        "Sat 07 08:35 planned by 2026-11-07",
        "Sat 07 08:50 planned by 2026-11-07",
        "Sat 07 09:05 tokens: good",
        "Sat 07 09:15 equities started",
        "Sat 07 09:15 options started",
        "Sat 07 10:25 equities stopped",
        "Sat 07 10:25 options stopped",
        "Sat 07 11:20 tokens: good",
        "Sat 07 11:30 equities started",
        "Sat 07 11:30 options started",
        "Sat 07 12:40 equities stopped",
        "Sat 07 12:40 options stopped",
        "Sat 07 12:45 reported 2026-11-07",
        "Sun 08 08:30 tokens: good",
        "Sun 08 08:35 planned by 2026-11-08",
        "Sun 08 08:50 planned by 2026-11-08",
        "Sun 08 17:35 tokens: good",
        "Sun 08 17:45 equities started",
        "Sun 08 17:45 metals started",
        "Sun 08 17:45 options started",
        "Sun 08 19:15 equities stopped",
        "Sun 08 19:15 metals stopped",
        "Sun 08 19:15 options stopped",
        "Sun 08 19:20 reported 2026-11-08",
        *usual(dt.date(2026, 11, 9)),
        "Tue 10 08:30 tokens: good",
        "Tue 10 08:35 planned by 2026-11-10",
        "Tue 10 08:50 planned by 2026-11-10",
        "Tue 10 16:50 tokens: good",
        "Tue 10 17:00 metals started",
        "Tue 10 23:55 metals stopped",
        "Wed 11 00:00 reported 2026-11-10",
        *(line for day in more for line in usual(day)),
        f"{ist(end):%a %d %H:%M} service stopped",
    ]
    resolved = [line for line in diary.ran if "anew" in line]
    days = [dt.date(2026, 11, 9), *more]
    assert resolved == [f"{day:%a %d} {hour}:00 resolve options anew" for day in days for hour in (12, 15)]
    assert [line for line in diary.ran if line.startswith(("Sat 07", "Mon 09", "Tue 10"))] == [
        "Sat 07 08:00 begin",
        "Sat 07 08:30 check tokens",
        "Sat 07 08:35 fetch instruments",
        "Sat 07 08:50 make plan",
        "Sat 07 09:05 check tokens",
        "Sat 07 09:15 start equities",
        "Sat 07 09:15 start options",
        "Sat 07 10:25 stop equities",
        "Sat 07 10:25 stop options",
        "Sat 07 10:50 seal hours",
        "Sat 07 11:20 check tokens",
        "Sat 07 11:30 start equities",
        "Sat 07 11:30 start options",
        "Sat 07 11:50 seal hours",
        "Sat 07 12:40 stop equities",
        "Sat 07 12:40 stop options",
        "Sat 07 12:45 end of day",
        "Sat 07 12:47 seal",
        "Mon 09 08:30 check tokens",
        "Mon 09 08:35 fetch instruments",
        "Mon 09 08:50 check tokens",
        "Mon 09 08:50 make plan",
        "Mon 09 09:00 start equities",
        "Mon 09 09:00 start metals",
        "Mon 09 09:00 start options",
        *(f"Mon 09 {hour}:50 seal hours" for hour in range(10, 12)),
        "Mon 09 12:00 resolve options anew",
        *(f"Mon 09 {hour}:50 seal hours" for hour in range(12, 15)),
        "Mon 09 15:00 resolve options anew",
        "Mon 09 15:35 stop equities",
        "Mon 09 15:35 stop options",
        *(f"Mon 09 {hour}:50 seal hours" for hour in range(15, 24)),
        "Mon 09 23:55 stop metals",
        "Tue 10 00:00 end of day",
        "Tue 10 00:02 seal",
        "Tue 10 08:30 check tokens",
        "Tue 10 08:35 fetch instruments",
        "Tue 10 08:50 make plan",
        "Tue 10 16:50 check tokens",
        "Tue 10 17:00 start metals",
        *(f"Tue 10 {hour}:50 seal hours" for hour in range(18, 24)),
        "Tue 10 23:55 stop metals",
    ]
    hours = (ist(end) - ist("2026-11-07T08:00")) / dt.timedelta(hours=1)
    assert len(diary.retention) == hours // 4 + 1, "at 20 minutes past each fourth hour"


@pytest.mark.parametrize("host_zone", ["America/New_York", "Pacific/Kiritimati"], indirect=True)
def test_a_day_of_equities_wherever_the_host_is(tmp_path: Path, simulator: Simulation, host_zone: str) -> None:
    async def scenario(trial: Trial) -> None:
        assert trial.jobs()["start equities"].next_at == ist("2026-11-11T09:00")
        await trial.until("2026-11-11T15:34")
        assert await trial.streamed() == ["equities"]
        await trial.until("2026-11-11T16:00")
        assert await trial.streamed() == []

    with clock_at("2026-11-10T22:00") as clock:
        diary = run(config_of(tmp_path, simulator, EQUITIES), simulator, clock, scenario)
    assert diary.told == [
        "Tue 10 22:00 planned by 2026-11-10",
        "Tue 10 22:00 service started",
        "Tue 10 22:00 tokens: good",
        "Wed 11 08:30 tokens: good",
        "Wed 11 08:35 planned by 2026-11-11",
        "Wed 11 08:50 planned by 2026-11-11",
        "Wed 11 08:50 tokens: good",
        "Wed 11 09:00 equities started",
        "Wed 11 15:35 equities stopped",
        "Wed 11 15:40 reported 2026-11-11",
        "Wed 11 16:00 service stopped",
    ]


def test_a_list_until_midnight_goes_on_and_its_day_is_reported_on_the_next(
    tmp_path: Path, simulator: Simulation
) -> None:
    async def scenario(trial: Trial) -> None:
        for midnight in ("2026-11-10T00:00", "2026-11-11T00:00"):
            await trial.until(midnight)
            assert await trial.streamed() == ["equities"]
        await trial.until("2026-11-11T01:00")

    with clock_at("2026-11-09T22:00") as clock:
        settings = config_of(tmp_path, simulator, EQUITIES, calendar={"always_open": True})
        diary = run(settings, simulator, clock, scenario)
    assert diary.told == [
        "Mon 09 22:00 equities started",
        "Mon 09 22:00 planned by 2026-11-09",
        "Mon 09 22:00 service started",
        "Mon 09 22:00 tokens: good",
        "Tue 10 00:05 reported 2026-11-09",
        "Tue 10 08:30 tokens: good",
        "Tue 10 08:35 planned by 2026-11-10",
        "Tue 10 08:50 planned by 2026-11-10",
        "Wed 11 00:05 reported 2026-11-10",
        "Wed 11 01:00 service stopped",
    ]


def test_jobs_that_lie_too_far_ahead_are_added_when_they_come_nearer(tmp_path: Path, simulator: Simulation) -> None:
    """A scheduler that finds no moment within 40 days has no next time for a job."""

    async def scenario(trial: Trial) -> None:
        assert trial.jobs()["start equities"].next_at is None
        assert trial.service.status().doing == "waiting: no list is captured within the next 40 days"
        await trial.jump_to("2026-11-20T12:00")
        jobs = {name: job.next_at for name, job in trial.jobs().items()}
        assert jobs == {
            "retention": ist("2026-11-20T12:20"),
            "check tokens": ist("2026-12-28T08:30"),
            "fetch instruments": ist("2026-12-28T08:35"),
            "make plan": ist("2026-12-28T08:50"),
            "start equities": ist("2026-12-28T09:00"),
            "stop equities": ist("2026-12-28T15:35"),
            "end of day": ist("2026-12-28T15:40"),
            "seal": ist("2026-12-28T15:42"),
            "seal hours": ist("2026-12-28T10:50"),
        }
        await trial.jump_to("2026-12-28T08:45")
        await trial.until("2026-12-28T09:00")
        assert await trial.streamed() == ["equities"]

    with clock_at("2026-11-09T12:00") as clock:
        far = EQUITIES | {"days": [dt.date(2026, 12, 28)]}
        run(config_of(tmp_path, simulator, far), simulator, clock, scenario)


@pytest.mark.parametrize("seal", [{"hourly": False}, {"enabled": False}])
def test_no_hours_are_sealed_if_config_yaml_does_not_want_it(
    tmp_path: Path, simulator: Simulation, seal: dict[str, bool]
) -> None:
    async def scenario(trial: Trial) -> None:
        assert trial.jobs().keys() >= {"check tokens", "seal"}
        assert "seal hours" not in trial.jobs()

    with clock_at("2026-11-09T08:00") as clock:
        run(config_of(tmp_path, simulator, EQUITIES, seal=seal), simulator, clock, scenario)


def test_each_exchange_of_a_list_is_streamed_in_its_own_hours_also_on_a_holiday_of_the_other(
    tmp_path: Path, simulator: Simulation
) -> None:
    """By what the names turn out to mean, and without any configuration of hours; from a first start without a list."""
    mixed = {"name": "mixed", "mode": "ltp", "select": {"symbols": ["NSE:INFY", "GOLD*"], "types": ["EQ", "FUT"]}}

    async def scenario(trial: Trial) -> None:
        async def exchanges() -> set[str]:
            await trial.streamed()
            listed = trial.service.today.instruments
            assert listed is not None
            placed = {token for there in trial.service.cycle.reconciler.manager.placement().values() for token in there}
            return {str(listed.symbol(token)).partition(":")[0] for token in placed}

        for time, expected in [
            ("2026-12-24T08:39", set()),
            ("2026-12-24T08:41", {"MCX"}),
            ("2026-12-24T08:56", {"NSE", "MCX"}),
            ("2026-12-24T16:14", {"NSE", "MCX"}),
            ("2026-12-24T16:16", {"MCX"}),
            ("2026-12-24T23:59", {"MCX"}),
            ("2026-12-25T00:01", set()),
            ("2026-12-25T12:00", {"MCX"}),  # Christmas: MCX may be open
            ("2026-12-26T12:00", set()),
        ]:
            await trial.until(time)
            assert await exchanges() == expected, time

    with clock_at("2026-12-24T08:00") as clock:
        diary = run(config_of(tmp_path, simulator, mixed, calendar={}), simulator, clock, scenario)
    assert [line for line in diary.told if "mixed" in line] == [
        "Thu 24 08:40 mixed started",
        "Fri 25 00:00 mixed stopped",
        "Fri 25 08:40 mixed started",
        "Sat 26 00:00 mixed stopped",
    ]
    assert [line for line in diary.ran if "mixed" in line and "24" in line] == [
        "Thu 24 08:40 start mixed",
        "Thu 24 08:55 start mixed",
        "Thu 24 16:15 stop mixed",
    ]
