"""`kitelake check` looks at everything that config.yaml refers to; the commands that need a service say if none is."""

import asyncio
import datetime as dt
import json
import os
from pathlib import Path
from typing import Any, Final

import pytest

from ingest.accounts.account import Account
from ingest.simulator.universe import build_universe, to_csv
from kitelake.plan.instrument_store import InstrumentStore
from storage.clock import IST
from storage.layout import DataLayout
from tests.support.broker import Answer, Broker, Handler, broker, failing, nothing, plain
from tests.support.command import DAY, INDICES, OPTIONS, REST, Run, command, listed, write_config

__all__ = ["broker", "command", "listed"]  # the fixtures

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise's import of it

GOOD: Final = {"name": "file", "file": "names.csv"}


def findings(out: str) -> list[tuple[str, str]]:
    """Sign and text of each."""
    return [
        (sign, text) for sign, _, text in (line.partition("  ") for line in out.replace("ok    ", "ok  ").splitlines())
    ]


def failures(out: str) -> list[str]:
    return [text for sign, text in findings(out) if sign == "FAIL"]


@pytest.fixture(autouse=True)
def _names(tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("symbol\nINFY\nRELIANCE\n")


def test_where_all_is_well_everything_is_ticked(command: Run, listed: Path, tmp_path: Path) -> None:
    write_config(tmp_path, INDICES, GOOD, notifications=[{"url": "json://127.0.0.1:9/canary"}])
    result = command("check", "--instruments", listed)
    assert (result.status, result.err) == (0, "")
    assert failures(result.out) == []
    for text in (
        "config.yaml can be read",
        f"data: {tmp_path / 'data'}, will be made at the first start; ",
        "account a: has an access token; --online asks the broker whether it is good",
        "calendar: NSE today: ",
        f"list file: 2 names in {tmp_path / 'names.csv'}",
        "instrument list: 3,000 instruments of",
        "list indices: 3 instruments",
        "list file: 2 instruments",
        "notifications: 1 targets",
    ):
        assert text in result.out
    assert not (tmp_path / "data").exists()


def test_without_an_instrument_list_names_are_not_looked_up_and_that_is_no_failure(
    command: Run, tmp_path: Path
) -> None:
    write_config(tmp_path, {"name": "mine", "instruments": ["NSE:INFI"]})
    result = command("check")
    assert result.status == 0
    assert "note  instrument list: none is stored yet, so names were not looked up; --instruments FILE" in result.out


@pytest.mark.slow
def test_what_is_wrong_with_an_instrument_list_that_serves_is_a_note(
    command: Run, listed: Path, tmp_path: Path, broker: Broker
) -> None:
    flawed = tmp_path / "flawed.csv"
    row = next(line for line in listed.read_text().splitlines() if ",INFY," in line and line.endswith("NSE"))
    flawed.write_text(f"{listed.read_text()}{row}\n")
    text = "1 of 3,001 rows of the instrument list repeat others, and count once: NSE:INFY"
    write_config(tmp_path, INDICES, GOOD)
    result = command("check", "--instruments", flawed)
    assert (result.status, failures(result.out)) == (0, [])
    assert ("note", f"instrument list: {text}") in findings(result.out)
    assert f"- {text}\n" in command("plan", "--instruments", flawed).out

    broker.answer = plain(flawed.read_bytes())
    store = InstrumentStore(DataLayout(tmp_path / "data"), broker.url, [Account("one", "key1", "canaryToken")])
    assert asyncio.run(store.fetch()) is not None
    assert ("note", f"instrument list: {text}") in findings(command("check").out)
    assert f"- {text}\n" in command("plan").out


def test_a_share_that_has_moved_to_another_series_is_taken_and_a_note(
    command: Run, listed: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved.csv"
    moved.write_text(listed.read_text().replace(",INFY,", ",INFY-BE,"))
    (tmp_path / "names.csv").write_text(
        "Company Name,Industry,Symbol,Series,ISIN Code\nInfosys,IT,INFY,EQ,INE009A01021\n"
    )
    write_config(tmp_path, INDICES, GOOD)
    result = command("check", "--instruments", moved)
    assert (result.status, failures(result.out)) == (0, [])
    note = "shares of another series than the list says: NSE:INFY as NSE:INFY-BE"
    assert ("note", f"list file: {note}") in findings(result.out)
    assert "list file: 1 instruments" in result.out
    result = command("plan", "--date", DAY.isoformat(), "--instruments", moved)
    assert result.status == 0
    assert f"- file: {note}" in result.out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, ": cannot be read: No such file or directory"),
        (b"", ": it names no instrument; expected UTF-8 text: CSV with a column symbol or tradingsymbol, or one name "),
        (b"company,isin\nInfosys,INE\n", ", line 1: the columns are company, isin; expected UTF-8 text"),
        (b"NSE:INFY\n\xff\n", ", line 2: this is not UTF-8"),
    ],
)
def test_a_list_file_that_cannot_be_read_is_said_once_and_the_other_lists_are_looked_at(
    command: Run, listed: Path, tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "names.csv"
    path.unlink() if content is None else path.write_bytes(content)
    write_config(tmp_path, GOOD, INDICES)
    result = command("check", "--instruments", listed)
    assert result.status == 1
    (failure,) = failures(result.out)
    assert failure.startswith(f"list file: {path}{said}")
    assert "list indices: 3 instruments" in result.out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": "/proc/kitelake"}, "data: /proc cannot be written to: "),
        (
            {"notifications": [{"url": "canary://x"}]},
            "notifications: notifications[0].url: not an address that Apprise",
        ),
        ({"calendar": {"file": "special.csv"}}, "special.csv: line 2: exchanges: expected one or several of NSE"),
        ({"calendar": {"file": "nowhere.csv"}}, "nowhere.csv: the calendar's file cannot be read: No such file"),
        (
            {"accounts": [{"name": "a", "api_key": "k", "access_token": {"env": "KITELAKE_TEST_NOT_SET"}}]},
            "account a: the environment variable KITELAKE_TEST_NOT_SET is not set",
        ),
        (
            {"accounts": [{"name": "a", "api_key": "k", "access_token": {"command": "false canary"}}]},
            "account a: the command `false` ended with status 1; run it by hand to see why",
        ),
        (
            {"accounts": [{"name": "a", "api_key": "k"}], "login": {"folder": "/nowhere/logins"}},
            "account a: no stored login: kitelake login a",
        ),
        ({"subscriptions": [{"name": "x", "instruments": ["NSE:INFI"]}]}, "NSE:INFI (did you mean NSE:INFY"),
        (
            {"subscriptions": [REST | {"days": "all"}], "capture": {"instruments_per_connection": 100}},
            "capacity: 46 instruments have no room on ",
        ),
    ],
)
def test_what_has_to_be_mended_is_a_failure(
    command: Run, listed: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    (tmp_path / "special.csv").write_text("date,exchanges,hours,note\n2026-12-25,LSE,closed,\n")
    write_config(tmp_path, INDICES, **changes)
    result = command("check", "--instruments", listed)
    assert result.status == 1
    (failure,) = failures(result.out)
    assert said in failure


def test_a_data_folder_with_a_name_that_is_too_long_is_a_failure(command: Run, tmp_path: Path) -> None:
    data = f"/tmp/{'a' * 300}"
    write_config(tmp_path, INDICES, data=data)
    result = command("check")
    assert (result.status, result.err) == (1, "")
    assert failures(result.out) == [
        f"data: {data} cannot be written to: File name too long",
        f"instrument list: table {data}/instruments: cannot read its log: File name too long",
    ]


def test_a_link_that_leads_nowhere_is_no_data_folder(command: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.symlink_to(tmp_path / "nowhere")
    write_config(tmp_path, INDICES, data=str(data))
    assert f"data: {data} cannot be written to: No such file or directory" in failures(command("check").out)


def test_a_list_whose_days_are_over_is_a_note(command: Run, listed: Path, tmp_path: Path) -> None:
    today = dt.datetime.now(IST).date()
    past = [dt.date(2020, 1, 1), dt.date(2019, 12, 31)]
    over, last = ({**INDICES, "name": name, "days": days} for name, days in (("over", past), ("last", [*past, today])))
    write_config(tmp_path, over, last)
    result = command("check", "--instruments", listed)
    assert result.status == 0
    (note,) = [text for sign, text in findings(result.out) if sign == "note" and text.startswith("list ")]
    assert note == "list over: its days are over: the last was 2020-01-01, so it is never captured"


def test_a_price_that_the_stream_will_bring_is_a_note(command: Run, tmp_path: Path) -> None:
    csv = tmp_path / "instruments.csv"
    csv.write_text(to_csv(build_universe(3_000, 1, DAY).instruments))  # without a price of the index
    write_config(tmp_path, INDICES, OPTIONS)
    result = command("check", "--instruments", csv)
    assert result.status == 0
    (note,) = [text for sign, text in findings(result.out) if sign == "note"]
    assert note.startswith("list options: no price to choose strikes around, so none are selected: NIFTY (NSE:NIFTY 50")
    assert note.endswith("; the service streams what is named, and selects them when a price has come")


def test_a_file_that_would_be_waited_for_is_a_failure(command: Run, listed: Path, tmp_path: Path) -> None:
    for name in ("fifo", "config.fifo"):
        os.mkfifo(tmp_path / name)
    write_config(tmp_path, INDICES, {"name": "piped", "file": "fifo"})
    result = command("check", "--instruments", listed)
    assert result.status == 1
    (failure,) = failures(result.out)
    assert failure == (
        f"list piped: {tmp_path / 'fifo'}: cannot be read: it is a FIFO, a device or a socket, expected a regular file"
    )
    result = command("check", "--config", "config.fifo")
    assert result.status == 2
    assert "config.fifo: cannot be read: it is a FIFO" in result.err


def test_a_calendar_file_that_is_out_of_date_is_a_note(command: Run, listed: Path, tmp_path: Path) -> None:
    (tmp_path / "special.csv").write_text("date,exchanges,hours,note\n2024-11-01,,18:00-19:15,Muhurat\n")
    write_config(tmp_path, INDICES, calendar={"file": "special.csv"})
    result = command("check", "--instruments", listed)
    assert result.status == 0
    year = dt.datetime.now(IST).year
    assert f"note  calendar: {tmp_path / 'special.csv'}: holds no day of {year} or later" in result.out


@pytest.mark.parametrize("config", ["data: [", "accounts: 5", "calendar: {hours: []}"])
def test_a_config_that_cannot_be_used_is_status_2(command: Run, tmp_path: Path, config: str) -> None:
    (tmp_path / "config.yaml").write_text(config)
    result = command("check")
    assert (result.status, result.out) == (2, "")
    assert f"kitelake: {'config.yaml'}: " in result.err


def profile(handler: Handler) -> None:
    """A broker that knows account a alone."""
    if "key-a" in handler.headers["Authorization"]:
        handler.send(json.dumps({"status": "success", "data": {"user_id": "AB1234"}}).encode())
    else:
        error = {"status": "error", "message": "Incorrect token", "error_type": "TokenException"}
        handler.send(json.dumps(error).encode(), status=403)


def test_online_the_broker_is_asked_about_each_token(command: Run, tmp_path: Path, broker: Broker) -> None:
    broker.answer = profile
    write_config(tmp_path, INDICES, kite={"api": broker.url})
    result = command("check", "--online")
    assert result.status == 1
    assert "account a: the broker takes its access token" in result.out
    (failure,) = failures(result.out)
    assert failure.startswith("account b: the broker refuses the access token of account b: put the new one into")
    assert command("check").status == 0


def test_online_a_broker_that_does_not_answer_is_a_note(command: Run, tmp_path: Path, broker: Broker) -> None:
    broker.answer = nothing
    write_config(tmp_path, INDICES, kite={"api": broker.url})
    result = command("check", "--online")
    assert result.status == 0
    assert "note  account a: the access token of account a could not be checked: " in result.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (failing, "it answered 500, expected 200"),
        (plain(b"<html>"), "this is a web page"),
        (plain(b""), "it names no instrument"),
        (nothing, "the call failed"),
    ],
)
def test_online_addresses_are_fetched_and_a_copy_is_a_note(
    command: Run, listed: Path, tmp_path: Path, broker: Broker, answer: Answer, said: str
) -> None:
    tokens = [{"name": "a", "api_key": "key-a", "access_token": "canary-a"}]
    spec = {"name": "mine", "url": f"{broker.url}/list?key=canary"}
    write_config(tmp_path, spec, accounts=tokens, kite={"api": broker.url})

    def answering(handler: Handler) -> None:
        (answer if handler.path.startswith("/list") else profile)(handler)

    broker.answer = answering
    result = command("check", "--online", "--instruments", listed)
    assert result.status == 1
    (failure,) = failures(result.out)
    assert failure.startswith("list mine: http://127.0.0.1: ")
    assert said in failure

    broker.answer = lambda handler: (plain(b"INFY\n") if handler.path.startswith("/list") else profile)(handler)
    assert command("check", "--online", "--instruments", listed).status == 0
    broker.answer = answering
    result = command("check", "--online", "--instruments", listed)
    assert result.status == 0
    assert any(sign == "note" and said in text and "the copy of " in text for sign, text in findings(result.out))
    assert "list mine: 1 instruments" in result.out


# Commands that need more than config.yaml


def test_status_without_a_service(command: Run, tmp_path: Path) -> None:
    write_config(tmp_path, INDICES)
    result = command("status")
    assert (result.status, result.out) == (1, "")
    assert f"no service has captured into {tmp_path / 'data'} yet: `kitelake run` starts one" in result.err
    data = DataLayout(tmp_path / "data").root
    data.mkdir()
    (data / "status.json").write_text("{}")
    result = command("status", "--json")
    assert result.status == 2
    assert "another version of Kitelake wrote it, or it is damaged" in result.err


@pytest.mark.parametrize("date", ["today", "yesterday", "2026-11-20"])
def test_report_without_a_record(command: Run, tmp_path: Path, date: str) -> None:
    write_config(tmp_path, INDICES)
    result = command("report", "--date", date)
    assert (result.status, result.out) == (1, "")
    assert f"{tmp_path / 'data'} has no record of " in result.err
    assert "`kitelake coverage --day 20" in result.err


def test_report_of_a_record_that_is_damaged(command: Run, tmp_path: Path) -> None:
    write_config(tmp_path, INDICES)
    (tmp_path / "data" / "days").mkdir(parents=True)
    (tmp_path / "data" / "days" / "2026-11-20.json").write_text("{")
    result = command("report", "--date", "2026-11-20")
    assert result.status == 2
    assert "2026-11-20.json: got a file with 1 mistakes, expected a day's record" in result.err


@pytest.mark.parametrize("arguments", [["c"], []])
def test_login_asks_for_an_account_that_there_is(command: Run, tmp_path: Path, arguments: list[str]) -> None:
    write_config(tmp_path, INDICES)
    result = command("login", *arguments)
    assert (result.status, result.out) == (2, "")
    assert "expected the name of an account: one of a, b" in result.err


def test_login_is_for_an_account_that_uses_it_and_has_the_secret_of_its_app(command: Run, tmp_path: Path) -> None:
    accounts = [{"name": "a", "api_key": "key-a"}, {"name": "b", "api_key": "key-b", "access_token": "canary-b"}]
    write_config(tmp_path, INDICES, accounts=accounts, login={"folder": str(tmp_path / "logins")})
    for name, message in (("a", "api_secret"), ("b", "delete its access_token from config.yaml to do so")):
        result = command("login", name, "--paste")
        assert result.status == 2
        assert message in result.err
    assert not (tmp_path / "logins").exists()
