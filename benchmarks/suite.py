"""`make bench`: every benchmark, one after the other, into benchmarks/RESULTS.md.

    python -m benchmarks.suite [--quick] [--only NAME …] [--list]

Each script `benchmarks/bench_NAME.py` is a process of its own. One that fails costs its own figures only: RESULTS.md
says so, and the exit status is 1 at the end.
"""

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.results import Findings, LeftOut, machine, results_text

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
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these alone: RESULTS.md has no others then")
    parser.add_argument("--list", action="store_true", help="say which there are, and run none")
    parser.add_argument("--out", type=Path, default=RESULTS, help="in place of benchmarks/RESULTS.md")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name:16}about {minutes(SECONDS.get(name, USUAL_SECONDS))}" for name in names()))
        return 0
    chosen = [name.removeprefix("bench_") for name in options.only or names()]
    if unknown := sorted(set(chosen) - set(names())):
        parser.error(f"there is no {', '.join(unknown)}; expected some of {', '.join(names())}")
    about = machine() | {"peers": peers(), "command": f"python -m benchmarks.suite {shlex.join(sys.argv[1:])}".strip()}
    if options.quick:
        about["quick form"] = "a few seconds each, to show that they work: these figures say nothing of speed"
    found, well, began = {}, True, time.monotonic()
    left = sum(SECONDS.get(name, USUAL_SECONDS) for name in chosen)
    for number, name in enumerate(chosen, 1):
        usual = SECONDS.get(name, USUAL_SECONDS)
        times = "" if options.quick else f", about {minutes(usual)}; {minutes(left)} to the end"
        print(f"[{number}/{len(chosen)}] {name}{times}", flush=True)
        left -= usual
        start = time.monotonic()
        found[name], is_well = run(name, quick=options.quick)
        well &= is_well
        print(f"      {'done' if is_well else 'FAILED'} in {time.monotonic() - start:.0f} s", flush=True)
        about["time taken"] = minutes(time.monotonic() - began)
        about["scripts"] = f"{number} of {len(chosen)}"
        text = results_text(about, found)
        options.out.write_text(text, encoding="utf-8")  # after each, for whoever ends it early
    print(f"\n{text}\n{options.out} is written.")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
