"""Which connection an instrument is shown from where several were asked for it."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

import kitelake
from queries.lake import state, views
from tests.support.captured import INFY, NIFTY_FUT, Captured, Line, us_of

pytestmark = pytest.mark.slow  # tables are made for each test


@pytest.fixture
def captured(tmp_path: Path) -> Iterator[Captured]:
    with Captured(tmp_path / "data") as captured:
        captured.instruments()
        yield captured


def prices(captured: Captured, table: str = "ticks", token: int = INFY) -> list[float]:
    captured.flush()
    with kitelake.open(captured.root) as lake:
        query = f"SELECT last_price FROM {table} WHERE instrument_token = {token} ORDER BY received_at"
        found: list[float] = lake.sql(query).arrow().column(0).to_pylist()
        return found


def both(captured: Captured) -> tuple[Line, Line]:
    """Two connections, of which the first was asked first."""
    run = captured.run("09:00")
    first, second = run.line("asha"), run.line("ravi")
    first.begin("09:01", INFY)
    second.begin("09:02", INFY, NIFTY_FUT)
    return first, second


def test_the_one_that_was_asked_first_is_shown(captured: Captured) -> None:
    first, second = both(captured)
    for second_of in range(4):
        second.ltp(f"09:15:0{second_of}.1", INFY, 200 + second_of)
        first.ltp(f"09:15:0{second_of}.2", INFY, 100 + second_of)
        second.ltp(f"09:15:0{second_of}.3", NIFTY_FUT, 300 + second_of)
        if second_of == 1:
            captured.commit()
    assert prices(captured) == [100, 101, 102, 103]
    assert prices(captured, token=NIFTY_FUT) == [300, 301, 302, 303]
    assert prices(captured, "ticks_all") == [200, 100, 201, 101, 202, 102, 203, 103]


@pytest.mark.parametrize("how", ["closed", "unsubscribed", "silent"])
def test_when_it_ends_the_next_is_shown_and_the_change_over_is_marked(captured: Captured, how: str) -> None:
    first, second = both(captured)
    for second_of in range(10, 16):
        if second_of < 13:
            first.ltp(f"09:15:{second_of}", INFY, 100 + second_of)
        second.ltp(f"09:15:{second_of}.5", INFY, 200 + second_of)
        if second_of == 13:
            match how:
                case "closed":
                    first.closed("09:15:13.7")
                case "unsubscribed":
                    first.unsubscribed("09:15:13.7", INFY)
                case _:
                    first.silent("09:15:13.7", 1.7)
    first.begin("09:15:16", INFY)
    first.ltp("09:15:17", INFY, 117)
    second.ltp("09:15:17.5", INFY, 217)  # it stays: of those that are open it was asked first
    silent = [212, 213] if how == "silent" else []  # the first's last packet came at the moment from which it counts
    kept = [110, 111] if how == "silent" else [110, 111, 112]
    assert prices(captured) == [*kept, *silent, 214, 215, 217]
    with kitelake.open(captured.root) as lake:
        since = lake.sql("SELECT source_since FROM ticks WHERE instrument_token = $token ORDER BY received_at",
                         {"token": INFY}).arrow().column(0).to_pylist()  # fmt: skip
    shown = [f"{each:%H:%M:%S.%f}"[:10] for each in since]
    changed = "09:15:12.0" if how == "silent" else "09:15:13.7"
    assert shown == ["09:01:00.0"] * len(kept) + [changed] * (len(shown) - len(kept))


def test_after_a_kill_it_is_the_next_runs(captured: Captured) -> None:
    first, second = both(captured)
    first.ltp("09:15:01", INFY, 101)
    second.ltp("09:15:01.5", INFY, 201)
    run = captured.run("09:16")  # nothing says that the run before has ended
    line = run.line("ravi")
    line.begin("09:16:01", INFY)
    line.ltp("09:16:02", INFY, 301)
    assert prices(captured) == [101, 301]


def test_what_was_asked_for_lasts_over_midnight(captured: Captured) -> None:
    first, second = both(captured)
    first.ltp("23:59:59", INFY, 101)
    second.ltp("23:59:59.5", INFY, 201)
    captured.on("2026-11-25")
    first.ltp("00:00:01", INFY, 102)
    second.ltp("00:00:01.5", INFY, 202)
    assert prices(captured) == [101, 102]


def test_a_packet_that_no_event_tells_of_is_shown(captured: Captured) -> None:
    first, second = both(captured)
    first.ltp("09:00:59", INFY, 100)
    first.closed("09:30")
    second.closed("09:30:01")
    second.ltp("09:30:02", INFY, 200)
    assert prices(captured) == [100, 200]


def test_contents_are_never_compared(captured: Captured) -> None:
    first, _ = both(captured)
    for second_of in range(3):
        first.ltp(f"09:15:0{second_of}", INFY, 100)
    assert prices(captured) == [100, 100, 100]


def test_with_one_source_nothing_is_filtered_nor_is_a_filter_in_the_plan(captured: Captured) -> None:
    run = captured.run("09:00")
    line, other = run.line("asha"), run.line("ravi")
    line.begin("09:01", INFY)
    other.begin("09:01", NIFTY_FUT)
    line.ltp("09:15", INFY, 100)
    line.closed("09:16")
    other.subscribed("09:16:01", INFY)  # one after the other
    other.ltp("09:16:02", INFY, 101)
    assert prices(captured) == [100, 101]
    plan = plan_of(captured)
    assert "FILTER" not in plan.upper()
    assert "JOIN" not in plan.upper()
    other.begin("09:17", INFY)
    line.begin("09:18", INFY)
    assert "JOIN" in plan_of(captured).upper()


@pytest.mark.slow
def test_of_the_days_that_are_asked_for_it_is_as_of_all(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    days = [f"2026-11-{day}" for day in range(23, 28)]
    for number, day in enumerate(days):
        captured.on(day)
        first, second = both(captured)
        for second_of in range(3):
            first.ltp(f"09:15:0{second_of}", INFY, 100 * number + second_of)
            if number % 2:
                second.ltp(f"09:15:0{second_of}.5", INFY, 100 * number + 50 + second_of)
        if number == 2:
            first.closed("09:16")
            second.ltp("09:16:01", INFY, 300)
        captured.run("16:00").stopped("16:01")
        if number < 4:
            captured.commit()
    captured.flush()
    monkeypatch.setattr(views, "FEW_FILES", 0)
    monkeypatch.setattr(state, "FEW_FILES", 0)
    query = "FROM ticks WHERE date {} ORDER BY ALL"
    with kitelake.open(captured.root) as plain:
        plain.sql("CREATE TEMP TABLE anything AS SELECT 1")  # so that it has all files, and looks at all days
        expected = {day: plain.sql(query.format(f"= '{day}'")).arrow() for day in days}
        several = plain.sql(query.format(f"> '{days[1]}'")).arrow()
    assert [len(rows) for rows in expected.values()] == [3, 3, 4, 3, 3]
    with kitelake.open(captured.root) as lake:
        for day in [*days[::-1], *days]:
            found = lake.look()
            assert lake.sql(query.format(f"= '{day}'")).arrow().equals(expected[day])
            assert found.remembered("sources", (dt.date.fromisoformat(day),), ["events"], list) != []
        assert lake.sql(query.format(f"> '{days[1]}'")).arrow().equals(several)


def test_what_ended_between_the_days_that_are_asked_for_has_ended(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = [f"2026-11-{day}" for day in range(23, 28)]
    captured.on(days[0])
    first, second = both(captured)  # for all days, INFY on both
    first.subscribed("09:01:30", NIFTY_FUT)
    since = {line: {INFY: us_of(captured.day, at)} for line, at in ((first, "09:01"), (second, "09:02"))}
    since[first][NIFTY_FUT] = us_of(captured.day, "09:01:30")
    since[second][NIFTY_FUT] = us_of(captured.day, "09:02")
    for number, day in enumerate(days):
        captured.on(day)
        for line, held in since.items():
            if number:
                line.run.note("00:00:01", line.connection, "held", tokens=[*held], since_us=[*held.values()])
        if day == days[2]:  # it is the second's from now on
            first.unsubscribed("09:10", NIFTY_FUT)
            del since[first][NIFTY_FUT]
        line = first if number < 2 else second
        line.ltp("09:15", NIFTY_FUT, 100 + number)
        captured.commit()
    monkeypatch.setattr(views, "FEW_FILES", 0)
    monkeypatch.setattr(state, "FEW_FILES", 0)
    assert prices(captured, token=NIFTY_FUT) == [100, 101, 102, 103, 104]
    some = f"(FROM ticks WHERE date IN ('{days[0]}', '{days[-1]}'))"
    assert prices(captured, some, NIFTY_FUT) == [100, 104]


def plan_of(captured: Captured) -> str:
    captured.flush()
    with kitelake.open(captured.root) as lake:
        found = lake.sql("EXPLAIN SELECT count(*), min(source_since) FROM ticks").arrow().to_pylist()
    return str(found[0]["explain_value"])
