"""What Tab offers, in a lake of a few names and in one that is there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import kitelake
from kitelake.lake import Lake
from kitelake.shell.commands import COMMANDS
from kitelake.shell.completion import offers
from kitelake.shell.vocabulary import Names, Vocabulary
from tests.support.by_hand import list_instruments

NAMES = Names(
    {
        "quotes": {"symbol": "VARCHAR", "bid": "DOUBLE", "seq": "BIGINT"},
        "ticks": {"symbol": "VARCHAR", "seq": "BIGINT", "last_price": "DOUBLE"},
    },
    {"bars": ["symbols VARCHAR, width := '1 minute', start := NULL", "symbols VARCHAR[], width := '1 minute'"]},
    ["BSE:INFY", "NFO:NIFTY26NOVFUT", "NSE:INFY", "NSE:NIFTY 50", "NSE:NIFTY BANK", "NSE:Nifty GS"],
)


def offered(text: str) -> list[str]:
    """What is offered where the text has its `|`."""
    before, _, after = text.partition("|")
    return [each.text for each in offers(before, after, NAMES, COMMANDS)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from t|", ["ticks"]),
        ("select * from |", ["quotes", "ticks", "bars("]),
        ("from ticks t join q|", ["quotes"]),
        ("from ticks, q|", ["quotes"]),
        ("select last| from ticks", ["last_price", "last"]),
        ("select last|", ["last_price", "last"]),
        ("select last| from quotes", ["last"]),
        ("select q.| from ticks t join quotes as q", ["symbol", "bid", "seq"]),
        ("select ticks.l| from ticks", ["last_price"]),
        ("from bars('NSE:INFY', w|", ["width := ", "when", "where", "window", "with"]),
        ("from bars('NSE:INFY (', st|", ["start := "]),
        ("from bars('NSE:INFY') st|", []),
        ("SEL|", ["SELECT"]),
        ("select 1; fro|", ["from"]),
        ("from bars('inf|", ["NSE:INFY", "BSE:INFY"]),
        ("from bars(['NSE:INFY', 'NSE:nifty |", ["NSE:NIFTY 50", "NSE:NIFTY BANK"]),
        ("from bars('NSE:Nif|", ["NSE:Nifty GS", "NSE:NIFTY 50", "NSE:NIFTY BANK"]),
        ("from bars('NFO:|", ["NFO:NIFTY26NOVFUT"]),
        (".t|", [".tables", ".timer"]),
        (".schema q|", ["quotes"]),
        (".once q|", []),
    ],
)
def test_offers(text: str, expected: list[str]) -> None:
    assert offered(text) == expected


def test_what_is_offered_stands_instead_of_what_was_typed() -> None:
    for text in ("select last", "from bars('NSE:inf", ".ti", "from "):
        assert {each.length for each in offers(text, "", NAMES, COMMANDS)} == {len(text.split(" ")[-1].split("'")[-1])}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A lake of one instrument list."""
    (tmp_path / "data" / "journal").mkdir(parents=True)
    list_instruments(tmp_path / "data", "2024-11-25", "408065,1594,INFY,INFOSYS,0,,0,0.05,1,EQ,NSE,NSE")
    return tmp_path / "data"


@pytest.fixture(params=[False, True], ids=["free", "restricted"])
def lake(root: Path, request: pytest.FixtureRequest) -> Iterator[Lake]:
    with kitelake.open(root, restricted=request.param) as opened:
        yield opened


def test_the_names_of_a_lake(lake: Lake) -> None:
    names = Vocabulary(lake).names(symbols=True)
    assert set(lake.tables) == set(names.relations)
    assert names.relations["quotes"]["received_at"] == "TIMESTAMP WITH TIME ZONE"
    assert names.parameters("bars")[:3] == ["width", "start", "stop"]
    assert names.symbols == ["NSE:INFY"]
    assert not Vocabulary(lake).names(symbols=False).symbols


def test_what_the_user_makes_has_a_name_too(root: Path) -> None:
    with kitelake.open(root) as lake:
        vocabulary = Vocabulary(lake)
        assert "mine" not in vocabulary.names(symbols=False).relations
        lake.sql("create temp table mine as select 1 as x")
        vocabulary.forget()
        assert vocabulary.names(symbols=False).relations["mine"] == {"x": "INTEGER"}


def test_a_newer_list_is_the_one_in_force(root: Path) -> None:
    with kitelake.open(root) as lake:
        vocabulary = Vocabulary(lake)
        assert vocabulary.names(symbols=True).symbols == ["NSE:INFY"]
        list_instruments(root, "2024-11-26", "2953217,11536,TCS,TATA,0,,0,0.05,1,EQ,NSE,NSE")
        list_instruments(root, "2099-11-26", "1,1,OTHER,OTHER,0,,0,0.05,1,EQ,NSE,NSE")
        assert vocabulary.names(symbols=True).symbols == ["NSE:TCS"]
