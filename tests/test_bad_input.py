"""Bad input: every mistake in config.yaml, in what it points to and in the clock is named, and costs itself alone."""

import datetime as dt
import itertools
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import time_machine
import yaml
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from pydantic import BaseModel

from ingest.criteria import Expiries, LotSize, Select, Strikes
from ingest.instruments import Instruments, parse_instruments
from ingest.wire import Mode
from kitelake.accounts import AccountSection, LoginSection
from kitelake.calendar import Calendar, CalendarSection, SpecialDay
from kitelake.config import ScheduleSection, load_config
from kitelake.errors import ConfigError
from kitelake.jobs import ClockWatch, Entry, set_jobs
from kitelake.notify import NotificationTarget
from kitelake.plan import ListPlan
from kitelake.resolver import Resolver
from kitelake.subscriptions import SubscriptionList
from storage.layout import DataLayout
from storage.schema import IST
from tests.test_keeper import Answer, Broker, broker, failing, nothing, plain
from tests.test_plan import CSV, INFY, RELIANCE

__all__ = ["broker"]  # the fixture

CANARY: Final = "canary-7f3a9c"
ACCOUNTS: Final = [
    {"name": "one", "api_key": "key-1", "access_token": "token-1"},
    {"name": "two", "api_key": "key-2", "access_token": "token-2"},
]
LIST: Final = {"name": "a", "instruments": ["NSE:INFY"]}


def refusal(path: Path, text: str | None = None, **changes: Any) -> str:
    """What is said of this config.yaml, without the file's name; it must be refused, and without a secret."""
    document = {"data": "ticks", "accounts": ACCOUNTS, "subscriptions": [LIST], **changes}
    path.write_text(yaml.safe_dump(document, sort_keys=False) + (text or ""), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    said = str(caught.value)
    for secret in (CANARY, "token-1", "key-1", "token-2", "key-2"):
        assert secret not in said
    lines = said.split("\n")
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert len(set(lines)) == len(lines)
    return said.replace(f"{path}: ", "")


# Each mistake, and exactly what is said of it

ONE_WAY: Final = ": expected either `instruments`, `file`, `url` or `select`, one of them"
A_NAME: Final = ".instruments[0]: expected a name such as NSE:INFY, or a token"
AN_ADDRESS: Final = ".url: expected https://HOST/PATH or http://HOST/PATH, without user and fragment"
HOURS: Final = 'expected hours of one day in IST: "HH:MM-HH:MM", such as "09:00-15:35"'
LATER: Final = 'expected hours of one day in IST that end after they begin, such as "09:00-15:35"'
EXCHANGES: Final = "NSE, BSE, NFO, BFO, CDS, BCD, MCX, NCO"
DAYS: Final = (
    f".days: expected trading, weekdays, all, an exchange (its trading days: {EXCHANGES}), "
    "or a list of dates such as [2026-11-27]"
)
STRETCH: Final = "expected a stretch of time such as 30s, 15m, 6h or 7d"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("mode: full", ONE_WAY),
        ("instruments: [NSE:INFY], file: x.csv", ONE_WAY),
        ("url: 'https://h/l', select: {exchange: NSE}", ONE_WAY),
        ("instruments: NSE:INFY", ".instruments: expected a list"),
        ("instruments: ['']", A_NAME),
        ("instruments: [1.5]", A_NAME),
        ("instruments: [-5]", A_NAME),
        ("instruments: [true]", A_NAME),
        ("file: ''", ".file: expected the path of a file"),
        (f"url: 'ftp://{CANARY}/y'", AN_ADDRESS),
        (f"url: 'https://me:{CANARY}@host/l.csv'", AN_ADDRESS),
        (f"url: 'https://host/l.csv#{CANARY}'", AN_ADDRESS),
        ("file: x, shoes: 1", ".shoes: unknown key; allowed here: " + ", ".join(SubscriptionList.model_fields)),
        ("file: x, mode: fill", ".mode: must be 'ltp', 'quote' or 'full'"),
        ("instruments: [1], every: 15m", ".every: names stay what they are; expected it with file, url or select only"),
        ("file: x, every: 9s", ".every: expected 10s or more"),
        ("file: x, every: soon", f".every: {STRETCH}"),
        ("file: x, drop: true", ".drop: expected it together with `every`"),
        ("file: x, drop: maybe", ".drop: expected true or false"),
        ("file: x, window: 9-10", f".window: {HOURS}"),
        ("file: x, window: '15:00-09:00'", f".window: {LATER}"),
        ("file: x, days: sundays", DAYS),
        ("file: x, days: []", DAYS),
        ("file: x, days: [monday]", DAYS),
        ("file: x, session: LSE", f".session: expected one or more of {EXCHANGES}"),
        ("file: x, accounts: [three]", ".accounts: there is no account three; expected some of one, two"),
        ("file: x, accounts: [5]", ".accounts[0]: expected text: put it in quotes"),
        ("file: x, copies: 0", ".copies: must be greater than or equal to 1"),
        ("file: x, copies: 3", ".copies: expected at most 2, the number of accounts"),
        (
            "file: x, accounts: one, copies: 2",
            ".copies: expected no more than the accounts that are named, since each goes to another",
        ),
        ("file: x, priority: -1", ".priority: must be greater than or equal to 0"),
        ("file: x, priority: 1001", ".priority: must be less than or equal to 1000"),
        ("file: x, priority: high", ".priority: expected a whole number"),
    ],
)
def test_a_mistake_in_a_list(tmp_path: Path, given: str, said: str) -> None:
    spec = {"name": "b", **yaml.safe_load(f"{{{given}}}")}
    assert refusal(tmp_path / "c.yaml", subscriptions=[LIST, spec]) == f"subscriptions[1]{said}"


SOMETHING: Final = ": expected at least one of exchange, segment, types, names, underlying, symbols"
BARE_SIZE: Final = ".lot_size: expected a number of units, or keys with values: min, max"
BARE_COUNT: Final = ".expiries: expected how many of the nearest, 1 or more, or keys with values: nearest, kind, before"
STRIKE_WIDTH: Final = ".strikes: expected either `count` or `percent` with `around`"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{}", SOMETHING),
        ("{exchange: []}", SOMETHING),
        ("{exclude: X}", SOMETHING),
        ("NSE", ": expected keys with values; allowed here: " + ", ".join(Select.model_fields)),
        ("{exchnge: NSE}", ".exchnge: unknown key; allowed here: " + ", ".join(Select.model_fields)),
        ("{exchange: 5}", ".exchange: expected a list"),
        ("{exchange: [NSE, 5]}", ".exchange[1]: expected text: put it in quotes"),
        ("{exchange: ''}", ".exchange[0]: expected some text"),
        ("{types: [EQ, OPT]}", ".types[1]: must be 'EQ', 'FUT', 'CE' or 'PE'"),
        ("{underlying: NIFTY}", ".underlying[0]: expected EXCHANGE:TRADINGSYMBOL, such as NSE:NIFTY 50"),
        ("{names: X, lot_size: many}", BARE_SIZE),
        ("{names: X, lot_size: -1}", BARE_SIZE),
        ("{names: X, lot_size: {mn: 5}}", ".lot_size.mn: unknown key; allowed here: min, max"),
        ("{names: X, lot_size: {min: 5, max: 1}}", ".lot_size: expected a `min` that is not greater than `max`"),
        ("{names: X, expiries: all}", BARE_COUNT),
        ("{names: X, expiries: 0}", BARE_COUNT),
        ("{names: X, expiries: {}}", ".expiries: expected at least one of nearest, kind, before"),
        ("{names: X, expiries: {kind: daily}}", ".expiries.kind: must be 'weekly' or 'monthly'"),
        ("{names: X, expiries: {before: soon}}", ".expiries.before: expected a date such as 2026-11-24"),
        ("{names: X, strikes: {}}", ".strikes: expected at least one of around, min, max"),
        ("{names: X, strikes: {around: spot}}", STRIKE_WIDTH),
        ("{names: X, strikes: {around: spot, count: 5, percent: 3}}", STRIKE_WIDTH),
        ("{names: X, strikes: {min: 5, count: 5}}", ".strikes: expected `around` with `count` or `percent`"),
        ("{names: X, strikes: {min: 5, max: 1}}", ".strikes: expected a `min` that is not greater than `max`"),
        ("{names: X, strikes: {around: sport, count: 5}}", ".strikes.around: expected `spot` or a price in rupees"),
        ("{names: X, strikes: {around: spot, percent: 5%}}", ".strikes.percent: expected a number"),
        ("{names: X, strikes: {arund: spot}}", ".strikes.arund: unknown key; allowed here: around, count, percent, "),
    ],
)
def test_a_mistake_in_a_selection(tmp_path: Path, given: str, said: str) -> None:
    spec = {"name": "b", "select": yaml.safe_load(given)}
    assert refusal(tmp_path / "c.yaml", subscriptions=[spec]).startswith(f"subscriptions[0].select{said}")


SPECIAL_HOURS: Final = '; or "closed", or "open" (the usual hours)'
A_SOURCE: Final = ": expected {env: NAME}, {file: PATH}, {command: WORDS} or the text itself"
A_SECRET: Final = ": expected {env: NAME}, {file: PATH} or the text itself"
A_TIME: Final = ': expected a time of day in IST, in quotes and without a zone: "HH:MM", such as "08:35"'


def special(*entries: str) -> str:
    return f"calendar: {{special_days: [{', '.join(f'{{{entry}}}' for entry in entries)}]}}"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (special("date: soon, hours: open"), r"calendar.special_days[0].date: expected a date: YYYY-MM-DD"),
        (special("hours: open"), "calendar.special_days[0].date: missing"),
        (special("date: 2026-12-25"), "calendar.special_days[0].hours: missing"),
        (special("date: 2026-12-25, hours: shut"), f"calendar.special_days[0].hours: {HOURS}{SPECIAL_HOURS}"),
        (
            special("date: 2026-12-25, hours: '10:00-09:00'"),
            f"calendar.special_days[0].hours: {LATER}{SPECIAL_HOURS}",
        ),
        (
            special("date: 2026-12-25, hours: ['09:00-10:00', '09:30-11:00']"),
            "calendar.special_days[0].hours: expected hours that do not overlap",
        ),
        (
            special("date: 2026-12-25, hours: closed, exchanges: LSE"),
            f"calendar.special_days[0].exchanges: expected one or several of {EXCHANGES}",
        ),
        (
            special("date: 2026-12-25, hours: closed", "date: 2026-12-25, exchanges: MCX, hours: open"),
            "calendar: special_days[0] and special_days[1] are both of MCX on 2026-12-25; expected one entry",
        ),
        ("calendar: {special_days: closed}", "calendar.special_days: expected a list"),
        ("calendar: {file: 5}", "calendar.file: expected the path of a file"),
        ("calendar: {always_open: maybe}", "calendar.always_open: expected true or false"),
        ("calendar: {hours: [NSE]}", "calendar.hours: expected keys with values"),
        ("calendar: {hours: {LSE: '09:00-10:00'}}", "calendar.hours.LSE: this key must be 'NSE', 'BSE', 'NFO', "),
        ("calendar: {hours: {NSE: 9}}", f"calendar.hours.NSE: {HOURS}"),
        ("calendar:", "calendar: expected keys with values; allowed here: special_days, file, always_open, hours"),
        ("schedule: {tokens_at: 8:30}", f"schedule.tokens_at{A_TIME}"),
        ("schedule: {plan_at: noon}", f"schedule.plan_at{A_TIME}"),
        ("schedule: {end_of_day_after: 5}", f"schedule.end_of_day_after: {STRETCH}"),
        ("schedule: {end_of_day: 5m}", "schedule.end_of_day: unknown key; allowed here: tokens_at, plan_at, "),
        (f"notifications: mailto://{CANARY}", "notifications: expected a list"),
        (
            f"notifications: [mailto://{CANARY}]",
            "notifications[0]: expected keys with values; allowed here: url, about",
        ),
        ("notifications: [{}]", "notifications[0].url: missing"),
        (f"notifications: [{{url: {{vault: {CANARY}}}}}]", f"notifications[0].url{A_SECRET}"),
        (f"notifications: [{{url: {CANARY}, about: []}}]", "notifications[0].about: expected at least one of problems"),
        (f"notifications: [{{url: {CANARY}, about: [all]}}]", "notifications[0].about[0]: must be 'problems' or "),
        ("login: {folder: logins}", "login.folder: expected an absolute path, or one that begins with ~"),
        ("login: {port: 0}", "login.port: must be greater than or equal to 1"),
        (f"login: {{page: 'https://host/?key={CANARY}'}}", "login.page: expected https://HOST[:PORT] or http://HOST"),
    ],
)
def test_a_mistake_in_another_section(tmp_path: Path, given: str, said: str) -> None:
    text = refusal(tmp_path / "c.yaml", given)
    assert text.startswith(said)
    assert "\n" not in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (f"{{vault: {CANARY}}}", A_SOURCE),
        (f"[{CANARY}]", A_SOURCE),
        ("5", A_SOURCE),
        ("{env: A, file: /b}", A_SOURCE),
        (f'{{command: "show \'{CANARY}"}}', ": expected {command: WORDS}: text as for a shell, or a list of words; "),
        (f"{{command: [{CANARY}, 7]}}", ": expected {command: WORDS}: text as for a shell, or a list of words"),
        ("''", ": it is empty"),
        ("null", ": it is empty: delete the key to use what `kitelake login` stores"),
        (f"{CANARY} {CANARY}", ": it holds spaces, control characters or letters beyond ASCII"),
    ],
)
def test_an_access_token_that_cannot_be(tmp_path: Path, given: str, said: str) -> None:
    account = {**ACCOUNTS[1], "access_token": yaml.safe_load(given)}
    text = refusal(tmp_path / "c.yaml", accounts=[ACCOUNTS[0], account])
    assert text.startswith(f"accounts[1].access_token{said}")
    assert "\n" not in text


# Every option with every kind of value

JARGON: Final = re.compile(
    r"function-|tagged|union|\bInput\b|tuple|\bTuple\b|pydantic|validat|instance of|Mapping|Section|Error\b|\bstr\b|"
    r"\bdict\b|\[key\]|is_|parse|interpret",
    re.IGNORECASE,
)
WRONG: Final = (
    *(None, CANARY, "", 5, -1, 10**400, 1.5, float("nan"), True, [], [CANARY], [5], [None], [[]], {}, {CANARY: CANARY}),
    *({"min": CANARY}, [{CANARY: []}], dt.date(2026, 11, 24), {"env": CANARY}, {"command": [CANARY]}),
)
PLACES: Final[Sequence[tuple[str, type[BaseModel], Callable[[dict[str, Any]], dict[str, Any]]]]] = [
    ("accounts[0]", AccountSection, lambda it: {"accounts": [{**ACCOUNTS[0], **it}]}),
    ("subscriptions[0]", SubscriptionList, lambda it: {"subscriptions": [{"name": "a", **it}]}),
    ("subscriptions[0].select", Select, lambda it: selected({"names": "X", **it})),
    ("subscriptions[0].select.lot_size", LotSize, lambda it: selected({"names": "X", "lot_size": it})),
    ("subscriptions[0].select.expiries", Expiries, lambda it: selected({"names": "X", "expiries": it})),
    ("subscriptions[0].select.strikes", Strikes, lambda it: selected({"names": "X", "strikes": it})),
    ("calendar", CalendarSection, lambda it: {"calendar": it}),
    ("calendar.special_days[0]", SpecialDay, lambda it: {"calendar": {"special_days": [DAY | it]}}),
    ("schedule", ScheduleSection, lambda it: {"schedule": it}),
    ("notifications[0]", NotificationTarget, lambda it: {"notifications": [{"url": "json://h", **it}]}),
    ("login", LoginSection, lambda it: {"login": it}),
]
DAY: Final = {"date": dt.date(2026, 12, 25), "hours": "closed"}


def selected(select: dict[str, Any]) -> dict[str, Any]:
    return {"subscriptions": [{"name": "a", "select": select}]}


@pytest.mark.parametrize(("place", "model", "document"), PLACES, ids=lambda value: value if type(value) is str else "")
def test_whatever_an_option_is_given_its_place_is_named_in_plain_words(
    tmp_path: Path, place: str, model: type[BaseModel], document: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    path = tmp_path / "c.yaml"
    refused = 0
    for option, value in itertools.product(model.model_fields, WRONG):
        whole = {"data": "ticks", "accounts": ACCOUNTS, "subscriptions": [LIST], **document({option: value})}
        path.write_text(yaml.safe_dump(whole), encoding="utf-8")
        try:
            load_config(path)
        except ConfigError as error:
            refused += 1
            for line in str(error).replace(f"{path}: ", "").split("\n"):
                where, _, said = line.partition(": ")
                assert place.startswith(where) or where.startswith((place, f"{place}.{option}")), line
                # The environment variable of {env: NAME} and a key of the file are named; no value is.
                allowed = line.replace(f"variable {CANARY}", "").replace(f".{CANARY}: ", "")
                assert CANARY not in allowed, line
                assert said
                assert not JARGON.search(said), line
    assert refused >= len(model.model_fields)


def test_a_calendar_file_with_a_mistake_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "special.csv"
    path.write_text(f"date,exchanges,hours,note\n2026-12-25,NSE,closed,\n2026-12-26,{CANARY},open,\n")
    with pytest.raises(ConfigError, match=r"special\.csv: line 3: exchanges: expected one or several of NSE") as caught:
        Calendar(CalendarSection(file=path))
    assert CANARY not in str(caught.value)


# Lists that cannot be read


@pytest.fixture(scope="module")
def instruments() -> Instruments:
    return Instruments(parse_instruments(CSV, date=dt.date(2026, 11, 23)))


def unreadable(folder: Path, kind: str) -> Path:
    path = folder / kind
    content = {"empty": b"", "malformed": b"company,isin\nInfosys,INE\n", "binary": b"NSE:INFY\n\xff\xfe\n"}
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(content[kind])
    return path


async def resolved(
    folder: Path, instruments: Instruments, *specs: dict[str, Any], before: dict[str, ListPlan] | None = None
) -> dict[str, ListPlan]:
    """The specs, between two lists that are good."""
    whole = [{"name": "first", "instruments": ["NSE:INFY"]}, *specs, {"name": "last", "select": {"names": "NIFTY"}}]
    plans = await Resolver(DataLayout(folder / "data"), online=True).resolve(
        [SubscriptionList.model_validate(spec) for spec in whole],
        instruments,
        default_mode=Mode.QUOTE,
        before=before,
    )
    found = {plan.name: plan for plan in plans}
    assert found["first"].tokens == (INFY,)
    assert len(found["last"].tokens) == 5
    assert not found["first"].problems
    assert not found["last"].problems
    return found


UNREADABLE: Final = {
    "missing": "cannot be read: No such file or directory",
    "empty": "it names no instrument; expected UTF-8 text",
    "malformed": ", line 1: the columns are company, isin; expected UTF-8 text: CSV with a column symbol",
    "binary": ", line 2: this is not UTF-8",
    "folder": "cannot be read: Is a directory",
}


@pytest.mark.parametrize("kind", UNREADABLE)
async def test_a_file_that_cannot_be_read_costs_its_own_list_alone(
    tmp_path: Path, instruments: Instruments, kind: str
) -> None:
    path = unreadable(tmp_path, kind)
    plan = (await resolved(tmp_path, instruments, {"name": "bad", "file": path}))["bad"]
    assert plan.tokens == ()
    (problem,) = plan.problems
    assert problem.startswith(str(path))
    assert UNREADABLE[kind] in problem


@pytest.mark.parametrize("kind", UNREADABLE)
async def test_a_file_that_becomes_bad_keeps_what_it_meant(tmp_path: Path, instruments: Instruments, kind: str) -> None:
    path = tmp_path / kind
    path.write_text("NSE:INFY\nNSE:RELIANCE\n")
    spec = {"name": "bad", "file": path}
    before = await resolved(tmp_path, instruments, spec)
    assert before["bad"].tokens == (INFY, RELIANCE)
    path.unlink()
    unreadable(tmp_path, kind)
    after = (await resolved(tmp_path, instruments, spec, before=before))["bad"]
    assert after.tokens == (INFY, RELIANCE)
    (problem,) = after.problems
    assert UNREADABLE[kind] in problem
    assert problem.endswith("; what it meant before goes on")
    again = (await resolved(tmp_path, instruments, spec, before={"bad": after}))["bad"]
    assert again == after  # the problem is not said twice


ANSWERS: Final[list[tuple[Answer, str]]] = [
    (failing, ": it answered 500, expected 200; there is no copy"),
    (plain(b"<!DOCTYPE html><p>NSE:INFY"), ": this is a web page; expected UTF-8 text"),
    (plain(b""), ": it names no instrument"),
    (nothing, ": the call failed: RemoteProtocolError"),
]


@pytest.mark.parametrize(("answer", "said"), ANSWERS)
async def test_an_address_that_answers_badly_costs_its_own_list_alone(
    tmp_path: Path, instruments: Instruments, broker: Broker, answer: Answer, said: str
) -> None:
    broker.answer = answer
    spec = {"name": "bad", "url": f"{broker.url}/list?key={CANARY}"}
    plan = (await resolved(tmp_path, instruments, spec))["bad"]
    assert plan.tokens == ()
    (problem,) = plan.problems
    assert problem.startswith("http://127.0.0.1")
    assert said in problem
    assert CANARY not in problem


@pytest.mark.parametrize(("answer", "said"), ANSWERS)
async def test_an_address_that_answers_badly_later_is_served_by_its_copy(
    tmp_path: Path, instruments: Instruments, broker: Broker, answer: Answer, said: str
) -> None:
    spec = {"name": "bad", "url": f"{broker.url}/list?key={CANARY}"}
    broker.answer = plain(b"symbol\nINFY\n")
    assert (await resolved(tmp_path, instruments, spec))["bad"].tokens == (INFY,)
    broker.answer = answer
    plan = (await resolved(tmp_path, instruments, spec))["bad"]  # also after a restart
    assert plan.tokens == (INFY,)
    (problem,) = plan.problems
    assert said.partition(";")[0] in problem
    assert problem.endswith(" serves")
    assert CANARY not in problem


# A clock that is set


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The monotonic clock, set by hand: its first number."""
    seconds = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    yield seconds


async def nothing_to_do() -> None: ...


@pytest.mark.parametrize(
    ("wall", "elapsed", "jump"),
    [
        (1, 1, 0.0),
        (2.5, 1, 0.0),  # a step of NTP
        (0.2, 1, 0.0),
        (3601, 1, 3600.0),
        (-3599, 1, -3600.0),
        (60, 60, 0.0),  # a look that came late
        (61.5, 60, 0.0),
    ],
)
async def test_a_clock_that_jumps_is_noticed_once(
    monotonic: list[float], wall: float, elapsed: float, jump: float
) -> None:
    scheduler = AsyncIOScheduler(timezone=IST)
    scheduler.start(paused=True)
    with time_machine.travel(dt.datetime(2026, 11, 23, 10, tzinfo=IST), tick=False) as clock:
        watch = ClockWatch(scheduler)
        clock.shift(wall)
        monotonic[0] += elapsed
        assert watch.look() == pytest.approx(jump, abs=1e-6)
        assert watch.look() == 0.0
    scheduler.shutdown()


async def test_after_a_jump_back_the_next_run_of_each_job_is_right_again(monotonic: list[float]) -> None:
    """Else a daily job that was reckoned after the jump forward would leave out a day."""

    def daily(date: dt.date) -> list[dt.datetime]:
        return [dt.datetime.combine(date, dt.time(10, 30), IST)]

    scheduler = AsyncIOScheduler(timezone=IST)

    def next_run() -> str:
        return f"{scheduler.get_job('daily').next_run_time.astimezone(IST):%a %H:%M}"

    with time_machine.travel(dt.datetime(2026, 11, 23, 10, tzinfo=IST), tick=False) as clock:
        scheduler.start(paused=True)
        watch = ClockWatch(scheduler)
        clock.shift(3600)
        set_jobs(scheduler, [Entry("daily", nothing_to_do, daily)])
        retry = dt.datetime(2026, 11, 23, 11, 5, tzinfo=IST)
        scheduler.add_job(nothing_to_do, "date", run_date=retry, id="retry")
        assert watch.look() == pytest.approx(3600)
        assert next_run() == "Tue 10:30"
        clock.shift(-3600)
        assert watch.look() == pytest.approx(-3600)
        assert next_run() == "Mon 10:30"
        assert scheduler.get_job("retry").next_run_time == retry
    scheduler.shutdown()


async def test_jobs_that_are_set_anew_leave_a_retry_alone() -> None:
    def daily(date: dt.date) -> list[dt.datetime]:
        return [dt.datetime.combine(date, dt.time(10, 30), IST)]

    scheduler = AsyncIOScheduler(timezone=IST)
    scheduler.start(paused=True)
    set_jobs(scheduler, [Entry(name, nothing_to_do, daily) for name in ("old", "kept")])
    scheduler.add_job(nothing_to_do, "date", run_date=dt.datetime.now(IST) + dt.timedelta(minutes=5), id="retry")
    set_jobs(scheduler, [Entry(name, nothing_to_do, daily) for name in ("kept", "new")])
    assert sorted(job.id for job in scheduler.get_jobs()) == ["kept", "new", "retry"]
    scheduler.shutdown()
