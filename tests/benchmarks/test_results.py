"""What a benchmark says, from its script to RESULTS.md."""

import argparse
from pathlib import Path

import pytest

from benchmarks import suite
from benchmarks.results import Claim, Findings, LeftOut, Table, arguments, machine, results_text, tell

FOUND = Findings(
    claims=[
        Claim("decode", 210.4, "ns", "the client", 9_000, least_ratio=20),
        Claim("rate", 600_000, "packets/s", goal=750_000, smaller_is_better=False),
        Claim("read", 2, "s", "a crate", 1.0, fixed=True),
        Claim("size", 0, "bytes"),
    ],
    tables=[Table("Growth", ["instruments", "ms"], [[100, 0.01234], ["all | of them", None]], "It is flat.")],
    left_out=[LeftOut("picows", "no network")],
)


def test_a_ratio_above_one_is_better_whichever_way_the_figure_counts() -> None:
    assert Claim("", 2, "s", "peer", 6).ratio == 3
    assert Claim("", 2, "rows/s", "peer", 6, smaller_is_better=False).ratio == pytest.approx(1 / 3)
    assert Claim("", 2, "s").ratio is None


@pytest.mark.parametrize(
    ("claim", "met"),
    [
        (Claim("", 12, "%", goal=12), True),
        (Claim("", 12.1, "%", goal=12), False),
        (Claim("", 12.1, "rows/s", goal=12, smaller_is_better=False), True),
        (Claim("", 11.9, "rows/s", goal=12, smaller_is_better=False), False),
        (Claim("", 1, "s", "peer", 2, least_ratio=2), True),
        (Claim("", 1.1, "s", "peer", 2, least_ratio=2), False),
        (Claim("", 1.1, "s", "peer", 2, goal=5, least_ratio=2), False),
        (Claim("", 1, "s", least_ratio=2), False),
        (Claim("", 1, "s", "peer", 2), None),
    ],
)
def test_goals(claim: Claim, met: bool | None) -> None:
    assert claim.met is met


def test_what_a_script_writes_is_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = arguments("a benchmark").parse_args(["--quick", "--json", str(tmp_path / "found.json")])
    assert options.quick
    tell(FOUND, options)
    assert Findings.from_json((tmp_path / "found.json").read_text(encoding="utf-8")) == FOUND
    assert "| decode | " in capsys.readouterr().out
    tell(FOUND, argparse.Namespace(json=None))


def test_results_are_one_table_and_what_belongs_to_it() -> None:
    text = results_text({"processor": "a fast one"}, {"decode": FOUND, "other": Findings()})
    table = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    assert table[2:6] == [
        ["decode", "210 ns", "the client", "9,000 ns", "42.8 ×", "ratio ≥ 20: met", "decode"],
        ["rate", "600,000 packets/s", "", "", "", "≥ 750,000 packets/s: missed", "decode"],
        ["read", "2 s", "a crate (fixed number)", "1 s", "0.5 ×", "", "decode"],
        ["size", "0 bytes", "", "", "", "", "decode"],
    ]
    assert table[8:] == [["100", "0.0123"], ["all \\| of them", ""]]
    assert "- processor: a fast one\n" in text
    assert "- picows (decode): no network\n" in text
    assert text.endswith("\nIt is flat.\n")


def test_the_machine_is_named() -> None:
    assert set(machine()) == {"processor", "memory", "kernel", "versions"}
    assert "pyarrow" in machine()["versions"]


def test_a_script_that_fails_is_left_out_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    found, well = suite.run("that_there_is_not", quick=True)
    assert not well
    assert not found.claims
    (left_out,) = found.left_out
    assert "benchmarks.bench_that_there_is_not" in left_out.why
    assert "benchmarks.bench_that_there_is_not" in capsys.readouterr().err


def test_every_script_is_in_the_suite_with_a_time() -> None:
    assert set(suite.SECONDS) <= set(suite.names())


def test_what_was_found_is_kept_for_this_machine_as_it_is(tmp_path: Path) -> None:
    about = {"processor": "a fast one", "versions": "numpy 1"}
    found = Findings([Claim("decode", 210, "ns")], [Table("Growth", ["a"], [["x"], [None]])], [LeftOut("b", "c")])
    one = suite.Run(about, "2026-11-23 09:15", 0.25, 61.5, found)
    (tmp_path / "decode.json").write_text(one.to_json())
    (tmp_path / "disk.json").write_text(one.to_json().replace("numpy 1", "numpy 2"))
    (tmp_path / "feed.json").write_text("{}")
    (tmp_path / "gone.json").write_text(one.to_json())
    assert suite.kept(tmp_path, about) == {"decode": one}
    text = suite.text_of(about, {"decode": one})
    assert "- scripts: 1 of " in text
    (row,) = (line for line in text.splitlines() if line.startswith("| decode") and "2026" in line)
    assert [cell.strip() for cell in row.split("|")[1:-1]] == ["decode", "2026-11-23 09:15", "62", "0.25"]
