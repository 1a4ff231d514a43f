"""Lists from files and addresses: one that cannot be read costs its own instruments alone, and keeps what it meant."""

import datetime as dt
from pathlib import Path
from typing import Any, Final

import pytest

from ingest.instruments.listing import Instruments, parse_instruments
from ingest.wire import Mode
from kitelake.config.subscriptions import SubscriptionList
from kitelake.plan.plan import ListPlan
from kitelake.plan.resolver import Resolver
from storage.layout import DataLayout
from tests.support.broker import Answer, Broker, broker, failing, nothing, plain
from tests.support.lists import OF_PLANS

__all__ = ["broker"]  # the fixture

INFY, RELIANCE = 408065, 738561
CANARY: Final = "canary-7f3a9c"


@pytest.fixture(scope="module")
def instruments() -> Instruments:
    return Instruments(parse_instruments(OF_PLANS, date=dt.date(2026, 11, 23)))


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
