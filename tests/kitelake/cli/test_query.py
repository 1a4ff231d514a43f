"""`kitelake sql` where the world is not as it should be: full disks, closed streams, other alphabets, Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lake import CRUDE, INFY, Feed, ToyWriter

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
ENDLESS = "select sum(hash(a.range * b.range)) from range(1_000_000) a, range(1_000_000) b"


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    with Feed(tmp_path / "data", "20261123T034500-aaaaaa") as feed:
        feed.tick((INFY, 1), (CRUDE, 2))
        feed.roll()
        ToyWriter(tmp_path / "data").commit_all()
        yield tmp_path / "data"


def command(data: Path, query: str | bytes, *more: str) -> list[str | bytes]:
    return [sys.executable, "-m", "kitelake", "sql", query, "--data", str(data), *more]


@pytest.mark.parametrize("output_format", ["table", "csv", "json", "arrow", "parquet"])
def test_a_full_disk_is_one_line(data: Path, output_format: str) -> None:
    with Path("/dev/full").open("wb") as full:
        arguments = command(data, "from ticks", "-f", output_format)
        done = subprocess.run(arguments, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    message = "kitelake: the standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr.decode()) == (2, message)


def test_a_closed_standard_output_is_one_line(data: Path) -> None:
    arguments = ["sh", "-c", 'exec "$@" >&-', "sh", *command(data, "from ticks")]
    done = subprocess.run(arguments, cwd=ROOT, stderr=subprocess.PIPE, timeout=60, check=False)
    message = "kitelake: the standard output is closed; to write to a file: --output FILE\n"
    assert (done.returncode, done.stderr.decode()) == (2, message)


@pytest.mark.parametrize(
    ("query", "output_format", "message"),
    [
        ("select interval 1 day as i", "parquet", "Parquet has no type for: i"),
        ("select if(range = 250_000, error('no more'), range) from range(300_000), ticks", "csv", "no more"),
        (b"select '\xff'", "csv", "the query is not valid text"),
    ],
)
def test_an_error_is_one_line(data: Path, tmp_path: Path, query: str | bytes, output_format: str, message: str) -> None:
    arguments = command(data, query, "-f", output_format, "-o", str(tmp_path / "out"))
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "latin-1"}],
)
@pytest.mark.parametrize("query", ["select chr(2344) as word", "explain select 1"])
def test_a_terminal_that_knows_few_characters(data: Path, environment: dict[str, str], query: str) -> None:
    import pty

    ours, theirs = pty.openpty()
    try:
        arguments = command(data, query)
        done = subprocess.run(
            arguments,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=theirs,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
        os.close(theirs)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"?" in os.read(ours, 65536)
    finally:
        os.close(ours)


@pytest.mark.parametrize(
    ("query", "more"), [(ENDLESS, []), (ENDLESS, ["-f", "csv", "-o", "out"]), (f"create temp table t as {ENDLESS}", [])]
)
def test_ctrl_c_is_quiet(data: Path, tmp_path: Path, query: str, more: list[str]) -> None:
    begun = tmp_path / "begun"  # what the query says first: no guess at how long a start takes
    process = subprocess.Popen(
        command(data, f"copy (select 1) to '{begun}'; {query}", *more),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        while not (begun.exists() and begun.stat().st_size) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"")
    begun.unlink(missing_ok=True)  # DuckDB takes it back if it was about to close it
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
