"""Bad input in config.yaml: every mistake is named by its place, in plain words, and without a value of the file."""

import datetime as dt
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from pydantic import BaseModel

from ingest.instruments.criteria import Expiries, LotSize, Select, Strikes
from kitelake.config.accounts import AccountSection, LoginSection
from kitelake.config.calendar import CalendarSection, SpecialDay
from kitelake.config.config import ScheduleSection, load_config
from kitelake.config.notifications import NotificationTarget
from kitelake.config.subscriptions import SubscriptionList
from kitelake.errors import ConfigError
from kitelake.schedule.calendar import Calendar

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
EXCHANGES: Final = "NSE, BSE, NFO, BFO, CDS, BCD, MCX, NCO, NSEIX, GLOBAL"
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
        ("file: x, every: 9s", ".every: expected 10s to 6h"),
        ("file: x, every: 7h", ".every: expected 10s to 6h"),
        ("file: x, every: soon", f".every: {STRETCH}"),
        ("file: x, drop: true", ".drop: expected it together with `every`"),
        ("file: x, drop: maybe", ".drop: expected true or false"),
        ("file: x, window: 9-10", f".window: {HOURS}"),
        ("file: x, window: '15:00-09:00'", f".window: {LATER}"),
        ("file: x, days: sundays", DAYS),
        ("file: x, days: []", DAYS),
        ("file: x, days: [monday]", DAYS),
        (
            "file: x, session: lse",
            f".session: expected one or more exchanges as the instrument list has them: {EXCHANGES}",
        ),
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


@pytest.mark.parametrize("name", ["x \x1b[31m", "two\nlines", "tab\there", "next\x85", "line\u2028separator"])
def test_the_name_of_a_list_does_nothing_to_a_terminal(tmp_path: Path, name: str) -> None:
    spec = {"name": name, "instruments": ["NSE:INFY"]}
    said = refusal(tmp_path / "c.yaml", subscriptions=[spec])
    assert said == "subscriptions[0].name: expected text without line breaks and control characters"


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
        ("schedule: {end_of_day_after: 13h}", "schedule.end_of_day_after: must be less than or equal to 12 hours"),
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
DAY: Final = {"date": dt.date(2026, 12, 25), "hours": "closed"}
WRONG: Final[tuple[Any, ...]] = (
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


def selected(select: dict[str, Any]) -> dict[str, Any]:
    return {"subscriptions": [{"name": "a", "select": select}]}


@pytest.mark.slow
@pytest.mark.parametrize(("place", "model", "document"), PLACES, ids=lambda value: value if type(value) is str else "")
def test_whatever_an_option_is_given_its_place_is_named_in_plain_words(
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    model: type[BaseModel],
    document: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    """The document as it is once it is read: writing and reading thousands of files says nothing more."""
    path = Path("c.yaml")
    refused = 0
    for option, value in itertools.product(model.model_fields, WRONG):
        whole = {"data": "ticks", "accounts": ACCOUNTS, "subscriptions": [LIST], **document({option: value})}
        monkeypatch.setattr("kitelake.config.config.read_document", {path: whole}.__getitem__)
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
