"""`make bench`: every benchmark, one after the other, into benchmarks/RESULTS.md.

    python -m benchmarks.suite [--quick] [--only NAME …] [--list]

Each script `benchmarks/bench_NAME.py` is a process of its own. One that fails costs its own figures only: RESULTS.md
says so, and the exit status is 1 at the end.

What each found stays in build/bench. With `--only` these scripts are run anew, as after a change, or because something
else ran beside them; of the others RESULTS.md has what they found last, if that was on this machine with the same
versions. It says when each was run.
"""

import argparse
import datetime as dt
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from benchmarks.results import Findings, LeftOut, Table, machine, results_text
from storage.clock import IST

FOLDER: Final = Path(__file__).parent
ROOT: Final = FOLDER.parent
PEERS: Final = {
    "kiteconnect": "peers/client",
    "pandas": "peers/client",
    "picows": "peers/picows",
    "nautilus-trader": "adapters/nautilus",
}
"""What is in environments of their own, and which lock names its version."""
HEADLINE: Final = "end_to_end"
RESULTS: Final = FOLDER / "RESULTS.md"
KEPT: Final = ROOT / "build" / "bench"
SECONDS: Final = {
    "adapters": 270,
    "capture": 210,
    "decode": 25,
    "disk": 135,
    "end_to_end": 490,
    "feed": 320,
    "growth": 545,
    "helpers": 200,
    "instruments": 30,
    "journal": 5,
    "paper": 35,
    "parquet": 10,
    "placement": 10,
    "plan": 45,
    "query": 25,
    "replay": 65,
    "seal": 155,
    "store": 60,
    "stream": 440,
    "tail": 75,
    "writer": 120,
}
"""About how long each takes on two cores, so that whoever waits knows; a new one counts as a minute."""
USUAL_SECONDS: Final = 60


@dataclass(frozen=True)
class Run:
    """A run of a script: on which machine, when (IST), how busy that was before, for how long, and what it found."""

    machine: Mapping[str, str]
    began: str
    load: float
    seconds: float
    found: Findings

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError, KeyError or TypeError for what is not of this form."""
        read = json.loads(text)
        return cls(**read | {"found": Findings.from_json(json.dumps(read["found"]))})


def kept(folder: Path, about: Mapping[str, str]) -> dict[str, Run]:
    """The runs in a folder that were on this machine, as it is."""
    found = {}
    for name in names():
        try:
            run = Run.from_json((folder / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if run.machine == about:
            found[name] = run
    return found


def text_of(about: Mapping[str, str], runs: Mapping[str, Run]) -> str:
    """RESULTS.md of these runs."""
    scripts = {
        "time taken": minutes(sum(run.seconds for run in runs.values())),
        "scripts": f"{len(runs)} of {len(names())}",
    }
    rows: list[list[float | str | None]] = [
        [name, run.began, round(run.seconds), run.load] for name, run in runs.items()
    ]
    when = Table("When each was run", ["benchmark", "began (IST)", "seconds", "load before"], rows)
    found = {name: run.found for name, run in runs.items()}
    return results_text({**about, **scripts}, {**found, "": Findings(tables=[when])})


def names() -> list[str]:
    """The whole way first, then the others by name."""
    found = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))
    return sorted(found, key=lambda name: name != HEADLINE)


def run(name: str, *, quick: bool) -> tuple[Findings, bool]:
    """What the script found, and whether it ended well."""
    with tempfile.TemporaryDirectory() as folder:
        file, log = Path(folder) / "found.json", Path(folder) / "log"
        command = [sys.executable, "-m", f"benchmarks.bench_{name}", "--json", str(file), *["--quick"] * quick]
        with log.open("w") as output:
            status = subprocess.run(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
            ).returncode
        if status == 0 and file.exists():
            return Findings.from_json(file.read_text(encoding="utf-8")), True
        said = log.read_text(encoding="utf-8").strip()
        print(said, file=sys.stderr)
        last = (said.splitlines() or ["it said nothing"])[-1]
        return Findings(left_out=[LeftOut("the whole benchmark", f"failed with status {status}: {last}")]), False


def peers() -> str:
    """The locked versions of peers; two are for two versions of Python."""
    said = []
    for name, lock in PEERS.items():
        text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
        said.append(f"{name} {' or '.join(re.findall(rf'^{name}==([^ ]+)', text, re.MULTILINE))}")
    return ", ".join(said)


def minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="each in its small form")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these anew; the others as they were found last")
    parser.add_argument("--list", action="store_true", help="say which there are, and run none")
    parser.add_argument("--out", type=Path, default=RESULTS, help="in place of benchmarks/RESULTS.md")
    parser.add_argument("--kept", type=Path, default=KEPT, help="where findings are kept, in place of build/bench")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name:16}about {minutes(SECONDS.get(name, USUAL_SECONDS))}" for name in names()))
        return 0
    chosen = [name.removeprefix("bench_") for name in options.only or names()]
    if unknown := sorted(set(chosen) - set(names())):
        parser.error(f"there is no {', '.join(unknown)}; expected some of {', '.join(names())}")
    about = machine() | {"peers": peers(), "command": "python -m benchmarks.suite"}
    if options.quick:
        about["quick form"] = "a few seconds each, to show that they work: these figures say nothing of speed"
    options.kept.mkdir(parents=True, exist_ok=True)
    runs = kept(options.kept, about) if options.only and not options.quick else {}
    well = True
    left = sum(SECONDS.get(name, USUAL_SECONDS) for name in chosen)
    for number, name in enumerate(chosen, 1):
        usual = SECONDS.get(name, USUAL_SECONDS)
        times = "" if options.quick else f", about {minutes(usual)}; {minutes(left)} to the end"
        print(f"[{number}/{len(chosen)}] {name}{times}", flush=True)
        left -= usual
        start, began, load = time.monotonic(), f"{dt.datetime.now(IST):%Y-%m-%d %H:%M}", os.getloadavg()[0]
        found, is_well = run(name, quick=options.quick)
        well &= is_well
        seconds = time.monotonic() - start
        print(f"      {'done' if is_well else 'FAILED'} in {seconds:.0f} s", flush=True)
        runs[name] = Run(about, began, load, seconds, found)
        if is_well and not options.quick:
            (options.kept / f"{name}.json").write_text(runs[name].to_json(), encoding="utf-8")
        text = text_of(about, {name: runs[name] for name in names() if name in runs})
        options.out.write_text(text, encoding="utf-8")  # after each, for whoever ends it early
    print(f"\n{text}\n{options.out} is written.")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
