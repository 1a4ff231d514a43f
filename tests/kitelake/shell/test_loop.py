"""The shell in a terminal of its own: typing, completing, interrupting, terminals that can little."""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.by_hand import list_instruments
from tests.support.terminal import CTRL_C, CTRL_D, ENTER, ROOT, TAB, UP, Terminal
from tests.support.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.slow

ENDLESS = "select sum(hash(a.range * b.range)) from range(1_000_000) a, range(1_000_000) b;"
PROMPT = "kitelake>"
WIDE = "select " + ", ".join(f"'value {n}' as a_column_{n}" for n in range(12)) + " from range({});"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of one instrument list."""
    root = tmp_path_factory.mktemp("lake") / "data"
    (root / "journal").mkdir(parents=True)
    list_instruments(
        root,
        "2024-11-25",
        "408065,1594,INFY,INFOSYS,0,,0,0.05,1,EQ,NSE,NSE",
        "2953217,11536,TCS,TATA,0,,0,0.05,1,EQ,NSE,NSE",
    )
    return root


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path / "state"), "PAGER": "cat"}


@pytest.fixture
def terminal(root: Path, environment: dict[str, str]) -> Iterator[Terminal]:
    with Terminal("sql", "--data", root, environment=environment) as opened:
        opened.see(PROMPT)
        yield opened


def say(terminal: Terminal, *lines: str) -> None:
    """Type them, each with Enter."""
    for line in lines:
        terminal.press(line + ENTER)


def ask(terminal: Terminal, statement: str, *shown: str) -> None:
    """Type a statement; wait for what it shows, and for the next prompt."""
    say(terminal, statement)
    for each in shown:
        terminal.see(each)
    terminal.see(" s\n")
    terminal.see(PROMPT)


def give_up(terminal: Terminal) -> None:
    """Drop what is typed, and wait for the next prompt: keys that are pressed between two may be lost."""
    terminal.press(CTRL_C)
    terminal.see(PROMPT)  # the old one is drawn once more, in grey
    terminal.see(PROMPT)


def ended(terminal: Terminal) -> str:
    """End it as people do. Returns all that it had shown."""
    terminal.press(CTRL_D)
    assert terminal.end() == 0
    assert "Traceback" not in terminal.text
    assert "leaked" not in terminal.text
    return terminal.text


def test_typing_and_completing(terminal: Terminal, tmp_path: Path) -> None:
    ask(terminal, "select 40 + 2 as answer;", "answer\n──────\n    42\n1 row\n")
    # Over several lines: Enter begins one until the statement ends.
    say(terminal, "select '", "नमस्ते 漢")
    ask(terminal, '\' as "शब्द";', "शब्द", "\\nनमस्ते 漢\\n", "1 row")
    # Tab: a table, a column, and in quotes a symbol; an only offer is taken.
    terminal.press("select count(*) as n, max(expi" + TAB)
    terminal.see("ry")
    ask(terminal, ") as last from instruments where symbol = 'NSE:TCS';", "n  last\n", "1  NULL\n")
    terminal.press("select count(*) as n from bars('tc" + TAB)
    terminal.see("NSE:TCS")
    give_up(terminal)
    # A mistake ends nothing; nor does what was typed before.
    say(terminal, "select nonsense from instruments;")
    terminal.see("Candidate bindings")
    terminal.see(PROMPT)
    terminal.press(UP + UP)
    terminal.see("TCS")
    give_up(terminal)
    ask(terminal, "create temp table mine as select 7 as x;", "1 row")
    ask(terminal, "from mine;", "7")
    ended(terminal)
    kept = (tmp_path / "state" / "kitelake" / "sql-history").read_text()
    assert "+select 40 + 2 as answer;" in kept
    assert "+नमस्ते 漢\n" in kept


def test_ctrl_c_ends_the_query_and_not_the_shell(terminal: Terminal) -> None:
    for _ in range(2):
        say(terminal, ENDLESS)
        terminal.see("s, Ctrl-C ends it")
        terminal.press(CTRL_C)
        terminal.see("interrupted")
        terminal.see(PROMPT)
    ask(terminal, "select 43 as still;", "43")
    terminal.press("select 'what is typed")
    terminal.see("typed")
    give_up(terminal)
    ended(terminal)
    assert "\r\x1b[K" in terminal.raw  # how far it was is cleared


def test_results_that_do_not_fit(terminal: Terminal) -> None:
    ask(terminal, WIDE.format(2), "─ 1 ──", "a_column_11  value 11", "─ 2 ──", "a_column_11  value 11", "2 rows")
    ask(terminal, WIDE.format(20), "20 rows; 8 of 12 columns fit")
    terminal.resize(40, 12)
    ask(terminal, "select 'a' as first, repeat('b', 30) as second, 3 as third;", "third   3")
    ended(terminal)


def test_a_pager_has_what_is_longer_than_the_terminal(root: Path, environment: dict[str, str]) -> None:
    pager = {**environment, "PAGER": "sed 's/^/paged /'"}
    with Terminal("sql", "--data", root, rows=10, environment=pager) as terminal:
        terminal.see(PROMPT)
        ask(terminal, "from range(9);", "paged ", "paged     8", "paged 9 rows")
        ask(terminal, "from range(3);", "\n    2\n3 rows")
        ask(terminal, "from range(20_000);", "paged  9999", "the first 10,000 rows; .once FILE has all")
        ended(terminal)
    with Terminal("sql", "--data", root, rows=10, environment={**environment, "PAGER": "true"}) as terminal:
        terminal.see(PROMPT)
        ask(terminal, "select repeat('x', 60) as x from range(10_000);")  # a pager that reads nothing
        ended(terminal)
    with Terminal("sql", "--data", root, rows=10, environment={**environment, "PAGER": "no-such-pager"}) as terminal:
        terminal.see(PROMPT)
        ask(terminal, "from range(50);", "\n   49\n50 rows")
        ended(terminal)


def test_commands(terminal: Terminal, root: Path, tmp_path: Path) -> None:
    say(terminal, ".help")
    terminal.see(".schema [NAME]")
    say(terminal, ".tables")
    terminal.see("quotes\n")
    terminal.see("bars(symbols VARCHAR, width := '1 minute'")
    say(terminal, ".schema instruments")
    terminal.see("tradingsymbol")
    terminal.see("varchar\n")
    out = tmp_path / "out.csv"
    say(terminal, f".once {out}")
    ask(terminal, "select symbol from instruments order by symbol;")
    with out.open() as file:
        assert list(csv.reader(file)) == [["symbol"], ["NSE:INFY"], ["NSE:TCS"]]
    say(terminal, ".mode json")
    ask(terminal, "select 1 as one;", '{"one":1}')
    script = tmp_path / "script.sql"
    script.write_text(".mode record\nselect 5 as five;\nselect 6\n as six")
    say(terminal, f".read {script}")
    terminal.see("five  5")
    terminal.see("six  6")
    script.write_text(f".read {script}")
    for wrong, message in (
        (f".read {script}", "cannot have others read"),
        (f".read {script}.no", "cannot be read"),
        (".mode tabel", "got tabel, expected table or record or csv or json"),
        (".once", "expected .once FILE"),
        (".nothing", "there is no such command"),
        (".schema nothing", "does not exist"),
        (f".once {root}/x.csv", "got a place in the data folder"),
    ):
        say(terminal, wrong)
        terminal.see(message)
    say(terminal, ".timer off", "select 8 as eight;")
    terminal.see("eight  8")
    say(terminal, ".quit")
    assert terminal.end() == 0
    assert "Traceback" not in terminal.text


@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
def test_a_tiny_terminal(root: Path, environment: dict[str, str], term: str) -> None:
    size = {"columns": 20, "rows": 5}
    with Terminal("sql", "--data", root, environment={**environment, "TERM": term}, **size) as terminal:
        terminal.see(">")
        ask_in_little_room(terminal, "select 44 as n;", "44")
        terminal.resize(12, 2)
        ask_in_little_room(terminal, "select 45 as n;", "45")
        terminal.resize(80, 20)
        ask_in_little_room(terminal, "select 46 as n;", "46")
        ended(terminal)
    if term == "dumb":
        assert "\x1b" not in terminal.raw


def ask_in_little_room(terminal: Terminal, statement: str, shown: str) -> None:
    """The same, whatever the prompt looks like."""
    say(terminal, statement)
    terminal.see(f"\n{shown}\n")
    terminal.see(" s\n")
    terminal.see(">")


def test_without_colour(root: Path, environment: dict[str, str]) -> None:
    with Terminal("sql", "--data", root, environment={**environment, "NO_COLOR": "1"}) as terminal:
        terminal.see(PROMPT)
        ask(terminal, "select 'x' as word;", "word")
        ended(terminal)
    assert "\x1b[3" not in terminal.raw.replace("\x1b[38D", "")
    assert "38;5" not in terminal.raw


def test_it_is_as_restricted_as_a_query(root: Path, environment: dict[str, str]) -> None:
    with Terminal("sql", "--data", root, "--restricted", environment=environment) as terminal:
        terminal.see(PROMPT)
        say(terminal, "create table t as select 1;")
        terminal.see("restricted")
        ask(terminal, "select count(*) as n from instruments;", "2")
        ended(terminal)


def test_a_plain_query_says_how_far_it_is(root: Path, environment: dict[str, str]) -> None:
    with Terminal("sql", ENDLESS, "--data", root, environment=environment) as terminal:
        terminal.see("% ")
        terminal.see("s, Ctrl-C ends it")
        terminal.press(CTRL_C)
        assert terminal.end() == 130
    assert terminal.raw.endswith("\r\x1b[K")


def test_no_other_command_loads_what_a_prompt_is_made_of(root: Path) -> None:
    text = "import sys; from kitelake.cli.app import run_command; run_command(); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", text, "sql", "select 1", "--data", str(root)],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert "kitelake.shell.running" in done.stderr.split()
    assert not {"prompt_toolkit", "kitelake.shell.loop"} & set(done.stderr.split())
