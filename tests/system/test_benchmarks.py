"""Benchmarks in their small form: they work, and say what they are to say."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.results import Findings

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def test_the_suite_writes_results(tmp_path: Path) -> None:
    """Of two scripts that need no environment of a peer's."""
    command = [sys.executable, "-m", "benchmarks.suite", "--quick", "--only", "decode", "bench_journal"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "RESULTS.md"), "--kept", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    claims = [row for row in rows if row[-1] in ("decode", "journal")]
    assert {row[-1] for row in claims} == {"decode", "journal"}
    assert all(row[4].endswith(" ×") for row in claims), "each has a peer in the same run"
    assert "Left out" not in text
    assert "quick form" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["RESULTS.md"], "quick figures are not kept"


@pytest.mark.soak
def test_the_whole_way_arrives_once_and_has_its_figures(tmp_path: Path) -> None:
    """The script fails unless every number that was sent is in one row."""
    command = [sys.executable, "-m", "benchmarks.bench_end_to_end", "--quick", "--only", "full-speed,day"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "found.json")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = Findings.from_json((tmp_path / "found.json").read_text(encoding="utf-8"))
    named = {claim.what.partition(": ")[2]: claim for claim in found.claims}
    assert {"socket to commit", "CPU of the service, a packet", "CPU of the writer, a packet"} <= named.keys()
    assert {"CPU of the service", "CPU of the writer", "durable after receipt, 99 %"} <= named.keys()
    assert all(claim.figure > 0 for what, claim in named.items() if "CPU" not in what), named
    assert [claim.what for claim in found.claims if claim.figure < 0] == []
