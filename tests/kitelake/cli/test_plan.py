"""`kitelake plan`: its numbers add up, the least important is left out, and the exit status tells."""

import datetime as dt
import re
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest
import time_machine

from ingest.simulator import build_universe, to_csv
from storage.clock import IST
from tests.support.command import (
    ACCOUNTS,
    COMMODITIES,
    DAY,
    INDICES,
    OPTIONS,
    REST,
    Run,
    command,
    listed,
    write_config,
    write_instruments,
)

__all__ = ["command", "listed"]  # the fixtures


def number(text: str) -> int:
    return int(text.replace(",", ""))


def lists_of(out: str) -> dict[str, int]:
    """Instruments of each list that is captured, from the first table; "in all" is among them."""
    row = re.compile(
        r"^(\S.*?)  +(?:\w+ +(?:\w+ )?\d\d:\d\d-\d\d:\d\d(?::\d\d)? +\d+ +)?([\d,]+) +~?[\d,]+ +~?[\d.,]+ \wi?B$",
        re.MULTILINE,
    )
    return {match[1]: number(match[2]) for match in row.finditer(out)}


def connections_of(out: str) -> list[tuple[str, list[int]]]:
    """Connection, and ltp, quote, full, in all, free; for each phase after the other."""
    row = re.compile(r"^(\w/\d) +([\d,]+) +([\d,]+) +([\d,]+) +([\d,]+) +([\d,]+)$", re.MULTILINE)
    return [(match[1], [number(text) for text in match.groups()[1:]]) for match in row.finditer(out)]


@pytest.mark.parametrize(
    ("size", "options", "room", "accounts", "left_out"),
    [
        (3_000, 32, 100, 2, True),
        (3_000, 32, 100, 3, False),
        pytest.param(100_000, 2 * 41 * 2, 3_000, 2, True, marks=pytest.mark.soak),
        pytest.param(100_000, 2 * 41 * 2, 3_000, 3, False, marks=pytest.mark.soak),
    ],
)
def test_a_plan_adds_up(
    command: Run, tmp_path: Path, size: int, options: int, room: int, accounts: int, left_out: bool
) -> None:
    """Indices, options around spot and commodities come first; of the rest of NSE as much as there is room for."""
    csv = write_instruments(tmp_path / "instruments.csv", size)
    lists = (REST, INDICES, OPTIONS, COMMODITIES)
    write_config(tmp_path, *lists, accounts=ACCOUNTS[:accounts], capture={"instruments_per_connection": room})

    def plan(*more: str) -> str:
        ended = command("plan", "--instruments", csv, "--date", DAY.isoformat(), *more)
        assert (ended.status, ended.err) == (int(left_out), "")
        return ended.out

    out, lines = plan(), [line.split("\t") for line in plan("--list").splitlines()]
    assert f"({size:,} instruments)" in out
    assert "options: NIFTY around 24,512.35 of NSE:NIFTY 50 (the instrument list)" in out
    check_lists(lists_of(out), lines, options=options, rest=size // 5)
    check_connections(connections_of(out), lines, accounts * 3, room)

    # What is left out, and that it is of the list of the largest priority only.
    morning = [line for line in lines if line[0] == "08:55-16:15"]
    without = [line for line in lines if line[4] == "left out"]
    assert {line[5] for line in without} == ({"rest"} if left_out else set())
    assert {line[0] for line in without} <= {"08:55-16:15"}
    capacity = accounts * 3 * room
    assert len(without) == max(0, len(morning) - capacity)
    said = f"left out: {len(without):,} of {len(morning):,} instruments, since the connections have {capacity:,} places"
    assert (said in out) is left_out
    of_rest = f"  rest (priority 9): {len(without):,} of {lists_of(out)['rest']:,}"
    assert (of_rest in out) is left_out


PHASES: Final = ["08:40-08:55", "08:55-16:15", "16:15-16:25", "16:25-24:00"]


def check_lists(lists: dict[str, int], lines: list[list[str]], *, options: int, rest: int) -> None:
    """The lines name each instrument once a phase, as many of each list as the table says."""
    assert lists["indices"] == 3
    assert lists["options"] == options
    assert lists["rest"] > rest
    assert lists.pop("in all") == sum(lists.values())
    early, morning, closing, evening = dict.fromkeys(line[0] for line in lines)
    assert [early, morning, closing, evening] == PHASES
    of_lists = Counter(name for line in lines if line[0] == morning for name in line[5].split(", "))
    assert of_lists - Counter({"options": 2}) == lists  # the index and its next future come along, for their price
    assert len({(line[0], line[2]) for line in lines}) == len(lines)
    assert all(line[5] == "commodities" for line in lines if line[0] in (early, evening))
    assert {line[5] for line in lines if line[0] == closing} == {"commodities", "options"}


def check_connections(shown: list[tuple[str, list[int]]], lines: list[list[str]], connections: int, room: int) -> None:
    """Each phase's connections have what its lines place on them."""
    placed = Counter((line[0], line[4]) for line in lines if line[4] != "left out")
    assert len(shown) == len(PHASES) * connections
    for place, phase in enumerate(PHASES):
        rows = shown[place * connections : (place + 1) * connections]
        for name, (ltp, quote, full, total, free) in rows:
            assert ltp + quote + full == total == placed[phase, name]
            assert total + free == room


def test_a_plan_in_which_all_is_well(command: Run, listed: Path, tmp_path: Path) -> None:
    write_config(tmp_path, INDICES, COMMODITIES)
    result = command("plan", "--instruments", listed, "--date", DAY.isoformat())
    assert (result.status, result.err) == (0, "")
    assert "Plan for Wednesday 25 November 2026" in result.out
    assert "08:40-08:55: 1 list\n" in result.out
    assert "08:55-16:15: 2 lists" in result.out
    assert "16:15-24:00: 1 list\n" in result.out
    assert "Problems" not in result.out
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("date", "title"),
    [
        ([], "Monday 23 November 2026"),
        (["--date", "today"], "Monday 23 November 2026"),
        (["--date", "tomorrow"], "Tuesday 24 November 2026"),
        (["--date", "yesterday"], "Sunday 22 November 2026"),
    ],
)
def test_days_by_their_names_are_days_of_ist(
    command: Run, listed: Path, tmp_path: Path, date: list[str], title: str
) -> None:
    write_config(tmp_path, INDICES)
    with time_machine.travel(dt.datetime(2026, 11, 23, 0, 30, tzinfo=IST)):  # still Sunday in UTC
        assert f"Plan for {title}" in command("plan", "--instruments", listed, *date).out


@pytest.mark.parametrize(
    ("date", "why"),
    [
        ("2026-12-25", "not on this day (holiday: Christmas"),
        ("2026-11-28", "not on this day (weekend)"),
        ("2026-11-27", "not on this day (config.yaml: a wedding)"),
    ],
)
def test_a_day_on_which_a_list_is_not_captured_says_why(
    command: Run, listed: Path, tmp_path: Path, date: str, why: str
) -> None:
    special = {"date": dt.date(2026, 11, 27), "exchanges": "NSE", "hours": "closed", "note": "a wedding"}
    write_config(tmp_path, REST, calendar={"special_days": [special]})
    result = command("plan", "--instruments", listed, "--date", date)
    assert why in result.out
    assert (result.status, connections_of(result.out)) == (0, [])
    assert command("plan", "--instruments", listed, "--date", date, "--list").out == ""


@pytest.mark.parametrize(
    ("days", "date", "why"),
    [
        ([dt.date(2026, 11, 26)], "2026-11-25", "its days: 2026-11-26"),
        ([dt.date(2026, 11, 26)], "2026-12-25", "holiday: Christmas Day"),
        (
            [dt.date(2026, 12, day) for day in (4, 3, 2, 1, 7)],
            "2026-11-25",
            "its days: 2026-12-01, 2026-12-02, 2026-12-03 and 2 more",
        ),
        ("weekdays", "2026-11-28", "its days: weekdays"),
        ("CDS", "2026-11-28", "its days: CDS"),
        ("NSE", "2026-11-29", "weekend"),
    ],
)
def test_where_the_exchange_is_open_the_reason_is_the_days_of_the_list(
    command: Run, listed: Path, tmp_path: Path, days: Any, date: str, why: str
) -> None:
    open_on_saturday = {"date": dt.date(2026, 11, 28), "exchanges": "NSE", "hours": "open"}
    write_config(tmp_path, REST | {"days": days}, calendar={"special_days": [open_on_saturday]})
    result = command("plan", "--instruments", listed, "--date", date)
    assert result.status == 0
    assert f"not on this day ({why})" in result.out


def test_a_data_folder_with_a_name_that_is_too_long_ends_with_a_message(command: Run, tmp_path: Path) -> None:
    data = f"/tmp/{'a' * 300}"
    write_config(tmp_path, INDICES, data=data)
    result = command("plan", "--date", DAY.isoformat())
    assert (result.status, result.out) == (1, "")
    assert result.err == f"kitelake: table {data}/instruments: cannot read its log: File name too long\n"


def test_without_an_instrument_list_it_says_what_to_do(command: Run, tmp_path: Path) -> None:
    write_config(tmp_path, INDICES)
    result = command("plan", "--date", DAY.isoformat())
    assert result.status == 2
    assert f"{tmp_path / 'data'} has no instrument list of 2026-11-25 or before: start `kitelake run`" in result.err
    assert "--instruments" in result.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "instruments.csv: cannot be read: No such file or directory"),
        (b"", "instruments.csv: the instrument list is empty"),
        (b"<html>Bad Gateway</html>", "lacks instrument_token"),
        (b"instrument_token,tradingsymbol\n1,INFY\n", "lacks"),
    ],
)
def test_an_instrument_file_that_is_none(command: Run, tmp_path: Path, content: bytes | None, message: str) -> None:
    write_config(tmp_path, INDICES)
    if content is not None:
        (tmp_path / "instruments.csv").write_bytes(content)
    result = command("plan", "--instruments", "instruments.csv")
    assert result.status == 2
    assert message in result.err
    assert result.out == ""


def test_what_is_unknown_is_named_with_what_is_near_and_the_rest_is_planned(
    command: Run, listed: Path, tmp_path: Path
) -> None:
    names = {"name": "mine", "instruments": ["NSE:INFI", "NSE:RELIANCE"]}
    write_config(tmp_path, names, OPTIONS | {"select": {"underlying": "NSE:NIFTI 50"}})
    result = command("plan", "--instruments", listed, "--date", DAY.isoformat())
    assert result.status == 1
    assert "mine: not in the instrument list of 2026-11-25: NSE:INFI (did you mean NSE:INFY" in result.out
    assert "options: not in the instrument list of 2026-11-25: derivatives of NSE:NIFTI 50 (did you mean" in result.out
    assert lists_of(result.out)["mine"] == 1


def test_a_problem_of_a_list_that_is_not_captured_that_day_is_none_of_that_day(
    command: Run, listed: Path, tmp_path: Path
) -> None:
    write_config(tmp_path, INDICES, {"name": "mine", "instruments": ["NSE:INFI"], "days": [dt.date(2026, 11, 26)]})
    assert command("plan", "--instruments", listed, "--date", "2026-11-25").status == 0
    assert command("plan", "--instruments", listed, "--date", "2026-11-26").status == 1


def test_a_calendar_file_that_is_out_of_date_is_a_warning(command: Run, listed: Path, tmp_path: Path) -> None:
    (tmp_path / "special.csv").write_text("date,exchanges,hours,note\n2024-11-01,,18:00-19:15,Muhurat\n")
    write_config(tmp_path, INDICES, calendar={"file": "special.csv"})
    result = command("plan", "--instruments", listed, "--date", DAY.isoformat())
    assert result.status == 0
    assert f"{tmp_path / 'special.csv'}: holds no day of 2026 or later, it may be out of date" in " ".join(
        result.out.split()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "nowhere.yaml"], "nowhere.yaml: there is no such file"),
        (["--date", "someday"], "expected YYYY-MM-DD, today, tomorrow or yesterday"),
        (["--date", "9999-12-31"], "expected a date from 2000-01-01 to 2099-12-31"),
        (["--date", "1999-12-31"], "expected a date from 2000-01-01 to 2099-12-31"),
        (["--instruments", "instruments.csv"], "special.csv: line 2: hours: expected hours of one day in IST"),
    ],
)
def test_what_cannot_be_planned_ends_with_a_message(
    command: Run, listed: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "special.csv").write_text("date,exchanges,hours,note\n2026-12-25,NSE,canary,\n")
    (tmp_path / "instruments.csv").write_bytes(listed.read_bytes())
    write_config(tmp_path, INDICES, calendar={"file": "special.csv"})
    result = command("plan", *arguments)
    assert result.status == 2
    assert message in result.err


@pytest.mark.parametrize("date", ["2000-01-01", "2099-12-31"])
def test_the_first_and_the_last_date_can_be_planned(command: Run, listed: Path, tmp_path: Path, date: str) -> None:
    write_config(tmp_path, INDICES)
    assert command("plan", "--instruments", listed, "--date", date).status == 0


def test_a_price_that_the_stream_will_bring_is_no_problem(command: Run, tmp_path: Path) -> None:
    csv = tmp_path / "instruments.csv"
    csv.write_text(to_csv(build_universe(3_000, 1, DAY).instruments))  # without a price of the index
    select = {"underlying": "NSE:NIFTY 50", "symbols": ["GONE", "NIFTY*"], "strikes": {"around": "spot", "count": 20}}
    unknown = {"name": "unknown", "select": select}
    write_config(tmp_path, INDICES, OPTIONS)
    result = command("plan", "--instruments", csv, "--date", DAY.isoformat())
    assert result.status == 0
    assert "options: no price to choose strikes around, so none are selected: NIFTY (NSE:NIFTY 50" in result.out
    assert "the service streams what is named, and selects them when a price has come" in " ".join(result.out.split())
    assert "Problems" not in result.out
    write_config(tmp_path, INDICES, unknown)
    result = command("plan", "--instruments", csv, "--date", DAY.isoformat())
    assert result.status == 1
    assert result.out.count("no price to choose strikes") == 1
    assert "unknown: not in the instrument list of 2026-11-25: symbol GONE" in result.out


def test_the_head_of_a_plan_fits_into_80_columns(
    command: Run, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write_config(tmp_path, INDICES)
    with time_machine.travel(dt.datetime(2026, 11, 23, 9, tzinfo=IST)):
        lines = command("plan", "--instruments", listed).out.splitlines()
    assert lines[1:3] == ["by the instrument list of 2026-11-23 (3,000 instruments)", ""]


def test_names_are_no_markup(command: Run, listed: Path, tmp_path: Path) -> None:
    write_config(tmp_path, INDICES | {"name": "[b]indices [/]"}, REST | {"name": "[x]", "days": [dt.date(2026, 1, 1)]})
    result = command("plan", "--instruments", listed, "--date", DAY.isoformat())
    assert (result.status, result.err) == (0, "")
    assert "[b]indices [/]" in result.out
    assert "[x] " in result.out
