"""What the service notes of a day while it goes on: each list's parts, their hours, and what had no room."""

import datetime as dt
import json
from pathlib import Path

import pytest

from ingest.wire import Mode
from kitelake.config.calendar import CalendarSection
from kitelake.config.subscriptions import SubscriptionList
from kitelake.plan.plan import ListPlan
from kitelake.report import read_record, record_path
from kitelake.schedule.calendar import Calendar
from kitelake.schedule.windows import ListHours, windows_of
from kitelake.service import day_record as module
from kitelake.service.day_record import DayRecorder
from storage.errors import DataFolderError
from storage.market.sessions import InstrumentKind
from tests.support.reports import DAY, INFY, TCS, at


def plan_of(**exchange_of: str) -> ListPlan:
    tokens = {int(token.removeprefix("t")): exchange for token, exchange in exchange_of.items()}
    spec = SubscriptionList.model_validate({"name": "mine", "mode": "ltp", "instruments": ["NSE:INFY"]})
    return ListPlan(spec, Mode.LTP, tuple(tokens), exchange_of=tokens)


def test_the_record_has_the_sessions_by_which_it_was_captured(tmp_path: Path) -> None:
    calendar = Calendar(CalendarSection())
    date = dt.date(2026, 8, 3)
    now = at("10:00:00", date)
    day_recorder, plan = DayRecorder(tmp_path), plan_of(t408065="NSE", t119553031="MCX")
    hours = ListHours(windows_of("trading", None, ["NSE", "MCX"], calendar, date))
    day_recorder.note_lists(now, {"mine": plan}, [plan], {"mine": hours}, ())
    day_recorder.note_sessions(date, calendar)
    day_recorder.keep()
    document = json.loads(record_path(tmp_path, date).read_text())
    assert document["exchanges"]["NSE"]["sessions"]["share with derivatives"] == [
        ["pre-open", "09:00-09:15"],
        ["continuous", "09:15-15:15"],
        ["auction", "15:15-15:35"],
        ["post-close", "15:40-16:00"],
    ]
    assert document["exchanges"]["MCX"]["sessions"]["future"] == [["continuous", "09:00-23:30"]]
    record = read_record(tmp_path, date)
    assert record is not None
    assert {one.exchange: one.tokens for one in record.lists[0].parts} == {"NSE": (408065,), "MCX": (119553031,)}
    assert set(record.exchanges["NSE"].sessions) == set(InstrumentKind)


def test_a_record_from_before_exchanges_had_hours_of_their_own_is_gone_on_with(tmp_path: Path) -> None:
    """The service was updated in mid-day: each instrument counts once, with its exchange as soon as that is known."""
    text = (
        '{"date":"2025-11-24","lists":[{"name":"mine","mode":"ltp","meaning":"","left_out":[],"problems":[],'
        '"hours":[["2025-11-24T09:00:00+05:30","2025-11-24T23:55:00+05:30"]],"tokens":[408065,2953217,119553031]}],'
        '"accounts":{},"reported_at":null}'
    )
    record_path(tmp_path, DAY).parent.mkdir()
    record_path(tmp_path, DAY).write_text(text)
    day_recorder, plan = DayRecorder(tmp_path), plan_of(t408065="NSE", t119553031="MCX")
    hours = {"mine": ListHours(windows_of("trading", None, ["NSE", "MCX"], Calendar(CalendarSection()), DAY))}
    day_recorder.note_lists(at("12:00:00"), {}, [], {}, ())
    day_recorder.note_lists(at("12:01:00"), {"mine": plan}, [plan], hours, ())
    (one,) = day_recorder.today(DAY).lists
    assert [(part.exchange, part.tokens, [f"{a:%H:%M}-{b:%H:%M}" for a, b in part.hours]) for part in one.parts] == [
        ("", (TCS,), ["09:00-12:00"]),
        ("NSE", (408065,), ["08:55-16:15"]),
        ("MCX", (119553031,), ["08:40-00:00"]),
    ]
    later = plan_of(t408065="NSE", t2953217="NSE", t119553031="MCX")
    day_recorder.note_lists(at("12:02:00"), {"mine": later}, [later], hours, ())
    assert [part.exchange for part in day_recorder.today(DAY).lists[0].parts] == ["NSE", "MCX"]


def test_a_day_of_which_no_instrument_is_known_is_reported_all_the_same(tmp_path: Path) -> None:
    """By the hours of the list, as long as it has none."""
    day_recorder, nothing, plan = DayRecorder(tmp_path), plan_of(), plan_of(t408065="NSE")
    hours = {"mine": ListHours(windows_of("trading", None, ["NSE"], Calendar(CalendarSection()), DAY))}
    day_recorder.note_lists(at("12:00:00"), {"mine": nothing}, [nothing], hours, ())
    assert day_recorder.due(at("16:14:00"), dt.timedelta()) == []
    assert [record.date for record in day_recorder.due(at("16:15:00"), dt.timedelta())] == [DAY]
    day_recorder.note_lists(at("12:01:00"), {"mine": plan}, [plan], hours, ())
    (part,) = day_recorder.today(DAY).lists[0].parts
    assert (part.exchange, part.tokens) == ("NSE", (408065,))
    day_recorder = DayRecorder(tmp_path / "other")
    day_recorder.note_lists(at("12:00:00"), {"mine": nothing}, [nothing], hours, ())
    day_recorder.note_lists(at("13:00:00"), {}, [], {}, ())  # it is taken out of config.yaml
    assert [record.date for record in day_recorder.due(at("13:00:00"), dt.timedelta())] == [DAY]


def test_what_had_no_room_is_not_forgotten_when_its_exchange_closes(tmp_path: Path) -> None:
    """The list goes on with MCX, and there is room then."""
    day_recorder, plan = DayRecorder(tmp_path), plan_of(t408065="NSE", t2953217="NSE", t119553031="MCX")
    hours = {"mine": ListHours(windows_of("trading", None, ["NSE", "MCX"], Calendar(CalendarSection()), DAY))}
    day_recorder.note_lists(at("12:00:00"), {"mine": plan}, [plan], hours, (INFY, TCS, 119553031))
    day_recorder.note_lists(at("13:00:00"), {"mine": plan}, [plan], hours, (TCS, 119553031))  # there is room for one
    day_recorder.note_lists(at("20:00:00"), {"mine": plan}, [plan.of({"MCX"})], hours, ())
    (one,) = day_recorder.today(DAY).lists
    assert one.left_out == (TCS,)


def test_a_part_that_is_over_stays_in_the_record_with_its_hours(tmp_path: Path) -> None:
    calendar = Calendar(CalendarSection())
    day_recorder, plan = DayRecorder(tmp_path), plan_of(t408065="NSE", t119553031="MCX")
    hours = {"mine": ListHours(windows_of("trading", None, ["NSE", "MCX"], calendar, DAY))}
    day_recorder.note_lists(at("12:00:00"), {"mine": plan}, [plan], hours, ())
    day_recorder.note_lists(at("20:00:00"), {"mine": plan}, [plan.of({"MCX"})], hours, ())
    (one,) = day_recorder.today(DAY).lists
    assert [(part.exchange, part.tokens, [f"{a:%H:%M}-{b:%H:%M}" for a, b in part.hours]) for part in one.parts] == [
        ("NSE", (408065,), ["08:55-16:15"]),
        ("MCX", (119553031,), ["08:40-00:00"]),
    ]
    day_recorder.note_lists(at("21:00:00"), {}, [], {}, ())  # the list is taken out of config.yaml
    (one,) = day_recorder.today(DAY).lists
    assert [part.hours[0][1] for part in one.parts] == [at("16:15:00"), at("21:00:00")]


def test_what_cannot_be_written_of_a_day_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what was wanted, when the next day begins, nor that it was reported: once, then, and not again."""

    def no_room(*_: object) -> None:
        raise DataFolderError("no room")

    next_day = DAY + dt.timedelta(days=1)
    day_recorder, plan = DayRecorder(tmp_path), plan_of(t408065="NSE")
    hours = {"mine": ListHours(windows_of("trading", None, ["NSE"], Calendar(CalendarSection()), DAY))}
    with monkeypatch.context() as patched:
        patched.setattr(module, "write_record", no_room)
        day_recorder.note_lists(at("12:00:00"), {"mine": plan}, [plan], hours, ())
        day_recorder.keep()
        day_recorder.today(next_day)
        now = at("08:00:00", next_day)
        (record,) = day_recorder.due(now, dt.timedelta())
        assert record.lists[0].tokens == (INFY,)
        day_recorder.mark_reported(record, now)
        assert day_recorder.due(now, dt.timedelta()) == []
        assert read_record(tmp_path, DAY) is None
    day_recorder.keep()
    assert read_record(tmp_path, DAY) == record.model_copy(update={"reported_at": now})
    assert DayRecorder(tmp_path).due(now, dt.timedelta()) == []


def test_nor_is_that_today_was_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise DataFolderError("no room")

    day_recorder, plan, now = DayRecorder(tmp_path), plan_of(t408065="NSE"), at("17:00:00")
    hours = {"mine": ListHours(windows_of("trading", None, ["NSE"], Calendar(CalendarSection()), DAY))}
    day_recorder.note_lists(at("12:00:00"), {"mine": plan}, [plan], hours, ())
    with monkeypatch.context() as patched:
        patched.setattr(module, "write_record", no_room)
        (record,) = day_recorder.due(now, dt.timedelta())
        day_recorder.mark_reported(record, now)
        assert day_recorder.due(now, dt.timedelta()) == []
    day_recorder.keep()
    kept = read_record(tmp_path, DAY)
    assert kept is not None
    assert kept.reported_at == now
