"""Tokens that are missing or come late, by a clock that the test drives: who captures meanwhile, and who then."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final
from unittest.mock import patch

import pytest

import kitelake
from kitelake.report import read_record
from tests.support.one_day import CANARY, DAY, INDICES, NAMES, accounts_of, is_open, open_sockets, sent, simulator
from tests.support.running import committed_rows
from tests.support.schedule import Trial, clock_at, config_of, run
from tests.support.simulation import Simulation

__all__ = ["sent", "simulator"]  # the fixtures

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),  # Apprise's import of it
]

SHARES: Final = {"one": "NSE:INFY", "two": "NSE:RELIANCE", "three": "NSE:NIFTY 50"}


def give(path: Path, token: str) -> None:
    """Put the token into a file of one's own."""
    path.touch(mode=0o600)
    path.write_text(token + "\n")


def test_tokens_that_come_during_the_session_are_taken_up(
    tmp_path: Path, simulator: Simulation, sent: Callable[[], int]
) -> None:
    """From a file that was not there, and from a command that failed, without a restart. The others go on meanwhile."""
    files = {name: tmp_path / f"token-{name}" for name in ("one", "two")}
    sources = {"one": {"file": str(files["one"])}, "two": {"command": ["cat", str(files["two"])]}}

    async def scenario(trial: Trial) -> None:
        def tokens() -> list[str]:
            return [one.token for one in trial.service.status().accounts]

        await trial.wait_for(lambda: is_open(simulator, "three"))
        await trial.wait_for(lambda: not any(token == "not checked yet" for token in tokens()))
        assert "cannot be read" in tokens()[0]
        assert "ended with status 1" in tokens()[1]
        assert tokens()[2].startswith("good, checked at ")
        for name, path in files.items():
            assert not is_open(simulator, name)
            give(path, f"token-{name}")
            await trial.wait_for(lambda name=name: is_open(simulator, name))  # type: ignore[misc]
        await trial.wait_for(lambda: all(token[:4] == "good" for token in tokens()))
        before = trial.service.progress().packets
        await trial.wait_for(lambda: trial.service.progress().packets > before + 100)

    with clock_at(f"{DAY}T10:00") as clock:
        lists = [{"name": n, "mode": "full", "instruments": [SHARES[n]], "accounts": [n]} for n in NAMES]
        accounts = accounts_of(simulator, *NAMES, **sources)
        run(config_of(tmp_path / "data", simulator, *lists, accounts=accounts), simulator, clock, scenario)
    assert committed_rows(tmp_path / "data") == sent() > 0
    with kitelake.open(tmp_path / "data") as lake:
        symbols = {row["symbol"] for row in lake.sql("select distinct symbol from ticks").arrow().to_pylist()}
    assert symbols == set(SHARES.values())
    record = read_record(tmp_path / "data", DAY)
    assert record is not None
    assert set(record.accounts.values()) == {None}, "the day's report has nothing to complain of"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (f"print('{CANARY}'); raise SystemExit(3)", "ended with status 3; run it by hand to see why"),
        ("import time; time.sleep(600)", None),
    ],
    ids=["fails", "hangs"],
)
def test_a_token_command_that_gives_none_leaves_the_other_account_capturing(
    tmp_path: Path, simulator: Simulation, sent: Callable[[], int], code: str, said: str | None
) -> None:
    async def scenario(trial: Trial) -> None:
        def streamed_by(account: str) -> int:
            return sum(each.instruments for each in trial.service.status().connections if each.account == account)

        await trial.wait_for(lambda: trial.service.progress().packets > 0)
        await trial.wait_for(lambda: streamed_by("two") == 6)  # what was to be on the other one has moved
        status = trial.service.status()
        assert {each.account for each in status.connections if each.packets} == {"two"}
        tokens = {account.name: account.token for account in status.accounts}
        if said is None:
            assert tokens == {"one": "not checked yet", "two": "not checked yet"}
        else:
            assert said in tokens["one"]
            assert tokens["two"].startswith("good, checked at ")
        assert CANARY not in status.model_dump_json()

    pinned = {"name": "pinned", "mode": "ltp", "instruments": ["NSE:INFY", "NSE:RELIANCE"], "accounts": ["two"]}
    anywhere = {"name": "anywhere", "instruments": ["NSE:HDFCBANK", "NSE:TCS", "NSE:ITC", "NSE:SBIN"]}
    accounts = accounts_of(simulator, "one", "two", one={"command": [sys.executable, "-c", code]})
    with clock_at(f"{DAY}T10:00") as clock:
        config = config_of(tmp_path / "data", simulator, pinned, anywhere, accounts=accounts)
        with patch("kitelake.service.day_cycle.TOKEN_SECONDS", 1.0):  # how long a command that hangs is waited for
            run(config, simulator, clock, scenario, settled=said is not None)


@pytest.mark.parametrize("login_needed", [False, True])
def test_a_first_start_without_any_token_waits_for_one(
    tmp_path: Path, simulator: Simulation, sent: Callable[[], int], login_needed: bool
) -> None:
    """The broker gives its instrument list without a login; if it did not, a token would have it fetched at once."""
    if login_needed:
        simulator.fault("rest", path="/instruments", status=403)
    token = tmp_path / "token"

    async def scenario(trial: Trial) -> None:
        def problems() -> str:
            return "\n".join(trial.service.status().problems)

        assert (trial.service.today.instruments is None) == login_needed
        assert "cannot be read" in trial.service.status().accounts[0].token
        assert open_sockets(simulator) == {}
        if login_needed:
            assert "there is no instrument list" in problems()
            assert "fetch again" in trial.jobs()
        else:
            await trial.wait_for(lambda: "instruments wait: their connections are not up" in problems())
            said = f"{token} cannot be read"
            await trial.wait_for(lambda: any(said in reason for reason in trial.service.health().reasons))
        simulator.fault("clear")
        give(token, simulator.account("one").access_token)
        await trial.wait_for(lambda: trial.service.progress().packets > 0)

    accounts = accounts_of(simulator, "one", one={"file": str(token)})
    with clock_at(f"{DAY}T10:00") as clock:
        run(config_of(tmp_path / "data", simulator, INDICES, accounts=accounts), simulator, clock, scenario)
    assert committed_rows(tmp_path / "data") == sent() > 0
