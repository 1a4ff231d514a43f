"""`kitelake sql`: every format, errors, and a world that is not as it should be: full disks, closed streams, Ctrl-C.

What a result looks like, tests/kitelake/views/test_output.py has. A process of its own is started where it is the
process that is tested: its end, its streams, its signals.
"""

import io
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Run, command
from tests.support.lake import CRUDE, INFY, Feed, ToyWriter
from tests.support.waiting import PATIENCE_SECONDS

__all__ = ["command"]  # the fixture

ROOT = Path(__file__).parents[3]
ENDLESS = "select sum(hash(a.range * b.range)) from range(1_000_000) a, range(1_000_000) b"


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    with Feed(tmp_path / "data", "20261123T034500-aaaaaa") as feed:
        feed.tick((INFY, 1), (CRUDE, 2))
        feed.roll()
        ToyWriter(tmp_path / "data").commit_all()
        yield tmp_path / "data"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A lake in which nothing was captured yet."""
    (tmp_path / "data" / "journal").mkdir(parents=True)
    return tmp_path / "data"


def process(data: Path, query: str | bytes, *more: str) -> list[str | bytes]:
    return [sys.executable, "-m", "kitelake", "sql", query, "--data", str(data), *more]


def test_without_a_lake_it_says_what_to_do(command: Run, tmp_path: Path) -> None:
    ended = command("sql", "select 1", "--data", tmp_path / "nowhere")
    assert ended.status == 2
    assert "kitelake demo" in ended.err


def test_the_data_folder_is_that_of_config_yaml_or_of_the_option(command: Run, data: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("data: data\n")
    for more in ([], ["--data", data]):
        assert command("sql", "select count(*) as n from ticks", "-f", "csv", *more).out == "n\n2\n"


@pytest.mark.parametrize(
    ("output_format", "expected"),
    [
        ("table", b"answer  word\n"),
        ("csv", b'answer,word\n42,"a,b"\n'),
        ("json", b'{"answer":42,"word":"a,b"}\n'),
        ("arrow", b"\xff\xff\xff\xff"),
        ("parquet", b"PAR1"),
    ],
)
def test_every_format(
    command: Run, empty: Path, monkeypatch: pytest.MonkeyPatch, output_format: str, expected: bytes
) -> None:
    arguments = ("sql", "select 42 as answer, 'a,b' as word", "--data", empty, "--format", output_format)
    piped = empty.parent / "piped"
    with piped.open("w") as output, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", output)
        assert command(*arguments).status == 0
    assert command(*arguments, "--output", "out").status == 0
    written = (empty.parent / "out").read_bytes()
    assert written == piped.read_bytes() or output_format == "parquet"
    assert piped.read_bytes().startswith(expected)
    assert written.startswith(expected)


def test_of_several_statements_the_last_result_is_printed(command: Run, empty: Path) -> None:
    query = "create temp table a as select 41 as x; select 1 as y; select x + 1 as z from a"
    ended = command("sql", query, "--data", empty, "--format", "csv")
    assert (ended.status, ended.out) == (0, "z\n42\n")


def test_a_query_is_read_from_a_file_or_the_standard_input(
    command: Run, empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "create temp table a as select 'é漢' as x;\nselect x from a; -- no more\n"
    (tmp_path / "query.sql").write_text(query, encoding="utf-8")
    asked = ("sql", "--data", empty, "--format", "csv")
    for more in (["--file", "query.sql"], ["-"], []):
        monkeypatch.setattr(sys, "stdin", io.StringIO(query))
        ended = command(*asked, *more)
        assert (ended.status, ended.out) == (0, 'x\n"é漢"\n'), ended.err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["select 1", "--file", "query.sql"], "got a query and --file query.sql"),
        (["--file", "nowhere.sql"], "nowhere.sql: cannot be read as SQL"),
        ([], "the standard input is closed"),
    ],
)
def test_what_can_be_no_query_is_one_line(
    command: Run, empty: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], message: str
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    ended = command("sql", "--data", empty, *more)
    assert (ended.status, len(ended.err.splitlines())) == (2, 1)
    assert message in ended.err


def test_a_mistake_in_sql_is_duckdbs_message(command: Run, empty: Path) -> None:
    ended = command("sql", "select lastprice from ticks", "--data", empty)
    assert ended.status == 1
    assert 'Candidate bindings: "last_price"' in ended.err


@pytest.mark.parametrize(
    ("query", "output_format", "status", "message"),
    [
        ("select interval 1 day as i", "parquet", 2, "Parquet has no type for: i"),
        ("select if(range = 250_000, error('no more'), range) from range(300_000), ticks", "csv", 1, "no more"),
        (os.fsdecode(b"select '\xff'"), "csv", 1, "the query is not valid text"),
    ],
)
def test_an_error_is_one_line(
    command: Run, data: Path, query: str, output_format: str, status: int, message: str
) -> None:
    ended = command("sql", query, "--data", data, "-f", output_format, "-o", "out")
    assert ended.status == status
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("asked", [("sql", "select 1"), ("latest",)])
def test_nothing_is_written_into_the_data_folder(command: Run, empty: Path, asked: tuple[str, ...]) -> None:
    before = sorted(empty.rglob("*"))
    done = command(*asked, "--data", empty, "--format", "csv", "--output", empty / "journal" / ".." / "kitelake.json")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "got a place in the data folder" in done.err
    assert sorted(empty.rglob("*")) == before


@pytest.mark.slow
def test_restricted_answers_questions_and_nothing_else(command: Run, data: Path) -> None:
    ended = command("sql", "select count(*) as n from ticks", "--data", data, "-f", "csv", "--restricted")
    assert (ended.status, ended.out) == (0, "n\n2\n")
    for output_format in ("table", "json", "arrow", "parquet"):
        ended = command("sql", "from ticks", "--data", data, "-f", output_format, "-o", "out", "--restricted")
        assert ended.status == 0, ended.err
    for query in ("copy ticks to 'x.csv'", "from 'out'", "select 1; select 2"):
        ended = command("sql", query, "--data", data, "--restricted")
        assert ended.status == 1
        assert "restricted" in ended.err
        assert len(ended.err.splitlines()) == 1


@pytest.mark.slow
def test_a_query_is_ended_in_time(command: Run, data: Path) -> None:
    for more in ([], ["--restricted"]):
        ended = command("sql", ENDLESS, "--data", data, "--timeout", "0.05", *more)
        assert ended.status == 1
        assert "its limit of 0.05 s" in ended.err
    ended = command("sql", "select 1", "--data", data, "--timeout", "0")
    assert "expected seconds above 0" in ended.err


@pytest.mark.slow
def test_a_full_disk_is_one_line(data: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            process(data, "from ticks"),
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    message = "kitelake: the standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr.decode()) == (2, message)


@pytest.mark.slow
def test_a_closed_standard_output_is_one_line(data: Path) -> None:
    arguments = ["sh", "-c", 'exec "$@" >&-', "sh", *process(data, "from ticks")]
    done = subprocess.run(arguments, cwd=ROOT, stderr=subprocess.PIPE, timeout=PATIENCE_SECONDS, check=False)
    message = "kitelake: the standard output is closed; to write to a file: --output FILE\n"
    assert (done.returncode, done.stderr.decode()) == (2, message)


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(data: Path) -> None:
    arguments = process(data, "select range, repeat('x', 50) from range(500_000)", "-f", "csv")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.read(100)
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(PATIENCE_SECONDS) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "environment"),
    [
        ("select chr(2344) as word", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        ("explain select 1", {"PYTHONIOENCODING": "latin-1"}),
    ],
)
def test_a_terminal_that_knows_few_characters(data: Path, environment: dict[str, str], query: str) -> None:
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            process(data, query),
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=theirs,
            stderr=subprocess.PIPE,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        os.close(theirs)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"?" in os.read(ours, 65536)
    finally:
        os.close(ours)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "more"), [(ENDLESS, []), (ENDLESS, ["-f", "csv", "-o", "out"]), (f"create temp table t as {ENDLESS}", [])]
)
def test_ctrl_c_is_quiet(data: Path, tmp_path: Path, query: str, more: list[str]) -> None:
    begun = tmp_path / "begun"  # what the query says first: no guess at how long a start takes
    running = subprocess.Popen(
        process(data, f"set threads = 1; copy (select 1) to '{begun}'; {query}", *more),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with running:
        while not (begun.exists() and begun.stat().st_size) and running.poll() is None:
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=PATIENCE_SECONDS)
    assert (running.returncode, out, err) == (130, b"", b"")
    begun.unlink(missing_ok=True)  # DuckDB takes it back if it was about to close it
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
