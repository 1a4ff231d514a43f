"""What benchmarks find, in one form: claims, tables, and what was left out; as JSON, and as the text of RESULTS.md.

A script `benchmarks.bench_NAME` makes its parser with `arguments`, and gives what it found to `tell`:

    options = arguments(__doc__).parse_args()
    found = Findings()
    found.claims.append(Claim("decode a full packet", 210, "ns", peer="kiteconnect", peer_figure=9_000, least_ratio=20))
    tell(found, options)
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final

_BEGINS: Final = ("", *"-0123456789")  # what is aligned to the right
LIBRARIES: Final = ("numpy", "pyarrow", "duckdb", "deltalake", "websockets")


@dataclass(frozen=True)
class Claim:
    """A figure, and what it is held against: a peer in the same run, a goal, both, or nothing.

    `goal` is of the figure, in its unit; `least_ratio` of the ratio. `fixed`: the peer's figure is a known number, and
    was not measured in this run.
    """

    what: str
    figure: float
    unit: str
    peer: str | None = None
    peer_figure: float | None = None
    goal: float | None = None
    least_ratio: float | None = None
    smaller_is_better: bool = True
    fixed: bool = False

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer; above 1 is better, whichever way the figure counts."""
        if self.peer_figure is None:
            return None
        above, below = (self.peer_figure, self.figure) if self.smaller_is_better else (self.figure, self.peer_figure)
        return above / below if below else float("inf")

    @property
    def met(self) -> bool | None:
        """Whether all goals are met; None without a goal."""
        held = []
        if self.goal is not None:
            held.append(self.figure <= self.goal if self.smaller_is_better else self.figure >= self.goal)
        if self.least_ratio is not None:
            held.append(self.ratio is not None and self.ratio >= self.least_ratio)
        return all(held) if held else None


@dataclass(frozen=True)
class Table:
    """Figures that belong together: how something grows, or where the time goes. `note`: what of it is not flat."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[float | str | None]]
    note: str = ""


@dataclass(frozen=True)
class LeftOut:
    """A peer, or a whole script, that gave no figure, and why."""

    what: str
    why: str


@dataclass
class Findings:
    """What one script found."""

    claims: list[Claim] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Findings":
        """Raises ValueError, KeyError or TypeError for what is not of this form."""
        read = json.loads(text)
        return cls(
            [Claim(**each) for each in read["claims"]],
            [Table(**each) for each in read["tables"]],
            [LeftOut(**each) for each in read["left_out"]],
        )


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with what every script takes; `description` is its docstring."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small form, in seconds: shows that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found to this file as well")
    return parser


def tell(found: Findings, options: argparse.Namespace) -> None:
    """Print it, and write it where `--json` says."""
    print("\n".join(_findings_text({"": found})))
    if options.json:
        options.json.write_text(found.to_json(), encoding="utf-8")


def machine() -> dict[str, str]:
    """Where this runs."""
    cpuinfo, meminfo = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    cpu = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    model = next((line.partition(": ")[2] for line in cpu if line.startswith("model name")), platform.processor())
    memory = f"{int(meminfo.read_text().split()[1]) / 2**20:.0f} GiB" if meminfo.exists() else "unknown"
    return {
        "processor": f"{model}, {os.cpu_count()} cores",
        "memory": memory,
        "kernel": f"{platform.system()} {platform.release()}",
        "versions": ", ".join(
            [f"{platform.python_implementation()} {platform.python_version()}"]
            + [f"{name} {version(name)}" for name in LIBRARIES]
        ),
    }


def results_text(about: Mapping[str, str], found: Mapping[str, Findings]) -> str:
    """RESULTS.md: `about` is the machine and the run, `found` what each script said, by its name."""
    lines = [
        "# Results of the benchmarks",
        "",
        "Written by `make bench`; do not edit. Each figure is a median, measured in turns with its peer in the same",
        "run. The ratio says how many times better than the peer: above 1 is better, whichever way the figure counts.",
        "",
        *(f"- {name}: {text}" for name, text in about.items()),
        "",
        *_findings_text(found),
    ]
    return "\n".join(lines) + "\n"


def _findings_text(found: Mapping[str, Findings]) -> list[str]:
    lines: list[str] = []
    claims = [(script, claim) for script, each in found.items() for claim in each.claims]
    if claims:
        rows = [
            [
                claim.what,
                _amount(claim.figure, claim.unit),
                "" if claim.peer is None else claim.peer + (" (fixed number)" if claim.fixed else ""),
                "" if claim.peer_figure is None else _amount(claim.peer_figure, claim.unit),
                "" if claim.ratio is None else f"{_number(claim.ratio)} ×",
                _goal_text(claim),
                script,
            ]
            for script, claim in claims
        ]
        titles = ["claim", "figure", "peer", "peer's figure", "ratio", "goal", "benchmark"]
        lines += _grid([*titles[:6], *titles[6:] * any(found)], rows)
    missing = [(script, each) for script, one in found.items() for each in one.left_out]
    if missing:
        lines += ["", "## Left out", ""]
        lines += [f"- {one.what}{f' ({script})' * bool(script)}: {one.why}" for script, one in missing]
    for script, each in found.items():
        for table in each.tables:
            lines += ["", f"## {table.title}{f' ({script})' * bool(script)}", ""]
            lines += _grid(table.columns, [[_cell(value) for value in row] for row in table.rows])
            lines += ["", table.note] * bool(table.note)
    return lines


def _grid(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [[*titles], *([cell.replace("|", "\\|") for cell in row[: len(titles)]] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(titles))]
    numeric = [
        at > 0 and any(row[at] for row in cells[1:]) and all(row[at][:1] in _BEGINS for row in cells[1:])
        for at in range(len(titles))
    ]

    def line(row: Sequence[str]) -> str:
        padded = (
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = ("-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, numeric, strict=True))
    return [line(cells[0]), f"| {' | '.join(rule)} |", *map(line, cells[1:])]


def _goal_text(claim: Claim) -> str:
    parts = []
    if claim.goal is not None:
        parts.append(f"{'≤' if claim.smaller_is_better else '≥'} {_amount(claim.goal, claim.unit)}")
    if claim.least_ratio is not None:
        parts.append(f"ratio ≥ {_number(claim.least_ratio)}")
    return " and ".join(parts) + {True: ": met", False: ": missed", None: ""}[claim.met]


def _amount(figure: float, unit: str) -> str:
    return f"{_number(figure)} {unit}".rstrip()


def _cell(value: float | str | None) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _number(value)


def _number(value: float) -> str:
    """Whole numbers whole, and three digits that count of others."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def main() -> None:
    """Print the tables of files that `--json` wrote."""
    found = {Path(name).stem: Findings.from_json(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:]}
    print("\n".join(_findings_text(found)))


if __name__ == "__main__":
    main()
